//! The record behind its lock, and the way to wait for a fact in it. Every change wakes every waiter; nobody polls or
//! sleeps. Nothing is awaited while the lock is held.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::record::Record;

/// A fact that did not come true in time, and what was seen instead. Its `Debug` is its text, so that an `unwrap` in a test
/// reads well.
#[derive(Clone, thiserror::Error, PartialEq, Eq)]
#[error("not seen within {} s: {wanted}\n{seen}", .within.as_secs_f64())]
pub struct NotSeen {
    /// The fact that was waited for.
    pub wanted: String,
    /// How long it was waited for.
    pub within: Duration,
    /// What the record had when the time was over.
    pub seen: String,
}

impl fmt::Debug for NotSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The record and the bell that rings at every change.
#[derive(Debug)]
pub(super) struct Ledger {
    record: Mutex<Record>,
    changed: watch::Sender<()>,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self {
            record: Mutex::new(Record::new()),
            changed: watch::Sender::new(()),
        }
    }

    /// Changes the record and wakes all who wait.
    pub(super) fn write<T>(&self, change: impl FnOnce(&mut Record) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.send_replace(());
        result
    }

    pub(super) fn read<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        look(&self.lock())
    }

    /// Waits until `look` finds something. The record is looked at once before waiting, and after every change.
    pub(super) async fn until<T>(
        &self,
        wanted: &str,
        within: Duration,
        mut look: impl FnMut(&Record) -> Option<T>,
    ) -> Result<T, NotSeen> {
        let mut changed = self.changed.subscribe();
        let search = async {
            loop {
                if let Some(found) = self.read(&mut look) {
                    return found;
                }
                // The sender lives in `self`, so this cannot fail while we are here.
                let _still_open = changed.changed().await;
            }
        };
        tokio::time::timeout(within, search)
            .await
            .map_err(|_elapsed| NotSeen {
                wanted: wanted.to_owned(),
                within,
                seen: self.read(|record| record.story()),
            })
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_wakes_who_waits_for_it() {
        let ledger = Ledger::new();

        let (found, ()) = tokio::join!(
            ledger.until("a mark", Duration::from_secs(5), |record| record
                .marks
                .first()
                .map(|mark| mark.why.clone())),
            async { ledger.write(|record| record.mark("here")) },
        );

        assert_eq!(found.unwrap(), "here");
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_comes_is_told_with_what_was_there() {
        let ledger = Ledger::new();
        ledger.write(|record| {
            record.submitted(crate::proto::Task {
                task_id: "t1".to_owned(),
                ..Default::default()
            })
        });

        let missed = ledger
            .until("a report of t1", Duration::from_secs(5), |_| None::<()>)
            .await
            .unwrap_err();

        assert!(missed.to_string().contains("a report of t1"), "{missed}");
        assert!(missed.seen.contains("task t1: pending"), "{missed}");
    }
}
