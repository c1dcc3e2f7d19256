//! Writes who changed what into the audit book, on a thread of its own, so that no call waits for the disk. Entries that come
//! faster than they can be written are left out, and the next entry tells how many.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use log::warn;

use crate::{
    domain::{callers::Caller, text::escape},
    ports::{
        audit::{Audit, Deed},
        clock::Clock,
    },
    telemetry::history::{Book, History, HistoryEvent},
};

/// Most entries that wait for the thread: some MiB at most.
const AHEAD: usize = 4_096;

/// Most bytes that are kept of a name or an address.
const KEPT: usize = 1_024;

/// The audit book. See the module.
pub(super) struct AuditBook {
    entries: SyncSender<HistoryEvent>,
    missing: AtomicU64,
    clock: Arc<dyn Clock>,
}

impl AuditBook {
    pub(super) fn open(folder: &Path, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let book = History::open(folder, Book::Audit)?;
        let (entries, queue) = sync_channel::<HistoryEvent>(AHEAD);
        thread::Builder::new().name("audit".into()).spawn(move || {
            for entry in queue {
                if let Err(error) = book.append(&entry) {
                    warn!(error:%; "who changed what is not in the history");
                }
            }
        })?;
        Ok(Self {
            entries,
            missing: AtomicU64::new(0),
            clock,
        })
    }

    fn entry(&self, caller: &Caller, deed: Deed) -> HistoryEvent {
        let time = jiff::Timestamp::try_from(self.clock.now()).unwrap_or_default();
        let (event, actor, cause) = words(deed);
        HistoryEvent {
            ts: time.to_string(),
            actor: escape(&actor, KEPT),
            event: event.to_owned(),
            cause: cause.map(|cause| escape(&cause, KEPT)),
            peer: caller.address.map(|address| {
                let ip = address.ip().to_canonical();
                std::net::SocketAddr::new(ip, address.port()).to_string()
            }),
            certificate: caller.certificate.clone(),
            user: caller.user,
            ..HistoryEvent::default()
        }
    }
}

impl Audit for AuditBook {
    fn record(&self, caller: &Caller, deed: Deed) {
        let missing = self.missing.swap(0, Ordering::Relaxed);
        let entry = HistoryEvent {
            missing: (missing > 0).then_some(missing),
            ..self.entry(caller, deed)
        };
        if self.entries.try_send(entry).is_err() {
            self.missing.fetch_add(missing + 1, Ordering::Relaxed);
        }
    }
}

/// The words for a deed: what was done, to what, and further detail.
fn words(deed: Deed) -> (&'static str, String, Option<String>) {
    match deed {
        Deed::Assigned(task) => ("assign", format!("task({task})"), None),
        Deed::Cancelled(task) => ("cancel", format!("task({task})"), None),
        Deed::Moved(address) => ("move", "session".to_owned(), Some(address)),
        Deed::Restarted(actor) => ("restart", actor, None),
        Deed::Retried => ("retry", "outbox".to_owned(), None),
        Deed::Dropped(task) => ("drop", format!("task({task})"), None),
        Deed::Cordoned(stop_after) => (
            "cordon",
            "registry".to_owned(),
            stop_after.map(|time| {
                let time = humantime::format_duration(time);
                format!("what runs is stopped after {time}")
            }),
        ),
        Deed::Pulled(image) => ("pull", "images".to_owned(), Some(image)),
        Deed::Uncordoned => ("uncordon", "registry".to_owned(), None),
        Deed::Reloaded(taken) => (
            "reload",
            "configuration".to_owned(),
            (!taken.is_empty()).then(|| taken.join(", ")),
        ),
        Deed::LogLevel(said) => ("loglevel", "log".to_owned(), Some(said)),
    }
}

#[cfg(test)]
mod tests {
    use crate::{domain::id::TaskId, ports::clock::SystemClock, telemetry::history::Follower};

    use super::*;

    #[test]
    fn the_book_tells_who_had_what_done() {
        let folder = tempfile::tempdir().unwrap();
        let audit = AuditBook::open(folder.path(), Arc::new(SystemClock)).unwrap();
        let mut book = Follower::open(folder.path(), Book::Audit).unwrap();
        let master = Caller {
            address: Some("[::ffff:10.0.0.1]:7".parse().unwrap()),
            certificate: vec!["m.example".into()],
            user: None,
        };
        let operator = Caller {
            user: Some(0),
            ..Caller::default()
        };

        audit.record(&master, Deed::Assigned(TaskId::new("a").unwrap()));
        audit.record(&master, Deed::Moved("b:1".into()));
        audit.record(&operator, Deed::Dropped("a\nb".into()));

        let mut told = Vec::new();
        while told.len() < 3 {
            told.extend(book.more().unwrap());
        }
        let told: Vec<_> = told
            .iter()
            .map(|entry| {
                let (peer, cause) = (entry.peer.as_deref(), entry.cause.as_deref());
                (
                    entry.event.as_str(),
                    entry.actor.as_str(),
                    peer,
                    entry.user,
                    cause,
                )
            })
            .collect();
        let peer = Some("10.0.0.1:7");
        assert_eq!(
            told,
            [
                ("assign", "task(a)", peer, None, None),
                ("move", "session", peer, None, Some("b:1")),
                ("drop", "task(a\\nb)", None, Some(0), None),
            ]
        );
    }
}
