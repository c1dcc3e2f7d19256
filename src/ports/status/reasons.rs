//! Why a worker is not ready for tasks: the same answer at every door that is asked (HTTP, gRPC). Pure.

use crate::ports::{admin::AdminError, status::WorkerStatus};

/// One reason why a worker is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// The part that is not ready, as a word for programs: `engine`, `master`, `refusing` or `worker`.
    pub what: &'static str,
    /// The cause, in words for people.
    pub why: String,
}

impl Reason {
    fn new(what: &'static str, why: impl Into<String>) -> Self {
        Self {
            what,
            why: why.into(),
        }
    }

    /// The worker itself did not answer the question.
    #[must_use]
    pub fn of_worker(error: &AdminError) -> Self {
        Self::new("worker", error.to_string())
    }
}

impl WorkerStatus {
    /// Why a task that is offered now would not be taken, whatever it asks for; empty for a worker that is ready.
    #[must_use]
    pub fn not_ready(&self) -> Vec<Reason> {
        let (engine, master) = (&self.engine, &self.master);
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
        if let Some(why) = &self.refusing {
            reasons.push(Reason::new("refusing", why));
        }
        reasons
    }
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
            certificate_until: None,
            errors: Vec::new(),
        }
    }

    fn whats(status: &WorkerStatus) -> Vec<&'static str> {
        status
            .not_ready()
            .iter()
            .map(|reason| reason.what)
            .collect()
    }

    #[test]
    fn each_reason_is_told_by_its_word() {
        assert!(ready().not_ready().is_empty());

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

        assert!(status.not_ready().is_empty());
    }
}
