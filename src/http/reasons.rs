//! Why a worker is not ready, from how it stands. Pure.

use serde_json::{Value, json};

use crate::ports::{admin::AdminError, status::WorkerStatus};

/// One reason, by a word for programs and in words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reason {
    what: &'static str,
    why: String,
}

impl Reason {
    fn new(what: &'static str, why: impl Into<String>) -> Self {
        Self {
            what,
            why: why.into(),
        }
    }

    /// The worker itself does not answer.
    pub(super) fn of_worker(error: &AdminError) -> Self {
        Self::new("worker", error.to_string())
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        json!({ "what": self.what, "why": self.why })
    }
}

/// None: the worker is ready.
pub(super) fn not_ready(status: &WorkerStatus) -> Vec<Reason> {
    let (engine, master) = (&status.engine, &status.master);
    let mut reasons = Vec::new();
    match (&engine.version, &engine.failure) {
        (Some(_), None) => {}
        (_, Some(why)) => reasons.push(Reason::new("engine", why)),
        (None, None) => reasons.push(Reason::new("engine", "it has not answered yet")),
    }
    if master.registered_for.is_none() {
        let why = master.failure.as_deref();
        let why = why.unwrap_or("it has not registered this worker yet");
        reasons.push(Reason::new("master", why));
    }
    if let Some(why) = &status.refusing {
        reasons.push(Reason::new("refusing", why));
    }
    reasons
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        domain::id::WorkerId,
        ports::status::{EngineContact, MasterContact, Room},
    };

    fn ready() -> WorkerStatus {
        WorkerStatus {
            worker: WorkerId::new("w").unwrap(),
            version: "1".into(),
            process: 1,
            uptime: Duration::ZERO,
            master: MasterContact {
                registered_for: Some(Duration::ZERO),
                ..MasterContact::default()
            },
            engine: EngineContact {
                version: Some("29".into()),
                ..EngineContact::default()
            },
            refusing: None,
            room: Room::default(),
        }
    }

    fn whats(status: &WorkerStatus) -> Vec<&'static str> {
        not_ready(status).iter().map(|reason| reason.what).collect()
    }

    #[test]
    fn each_reason_is_told_by_its_word() {
        assert!(not_ready(&ready()).is_empty());

        let mut status = ready();
        status.engine.failure = Some("no cgroups".into());
        assert_eq!(whats(&status), ["engine"]);
        status.engine = EngineContact::default();
        status.master = MasterContact::default();
        status.refusing = Some("cordoned".into());
        assert_eq!(whats(&status), ["engine", "master", "refusing"]);
    }

    #[test]
    fn a_master_that_fails_now_and_has_us_registered_is_no_reason() {
        let mut status = ready();
        status.master.failure = Some("a heartbeat was lost".into());

        assert!(not_ready(&status).is_empty());
    }
}
