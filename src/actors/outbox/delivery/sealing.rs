//! The verdict of a task: when it may be fixed, and what it says. If it is fixed twice both tell the same: the journal keeps the
//! first verdict, and that one is told.

use tokio::time::{Instant, sleep, sleep_until};

use super::{ASK, Delivery};
use crate::{
    actors::registry::{GetSealing, Sealing},
    domain::{
        outcome::{Outcome, Trailer},
        record::{Change, Verdict},
    },
    failpoint,
    ports::journal::{Known, Refused},
    supervision::AskError,
};

impl Delivery {
    /// Waits until the settle time is over, then fixes the verdict. Between a verdict and a late cancel the journal decides: it
    /// refuses a verdict that ignores a cancel.
    pub(super) async fn seal(&mut self) {
        let (cancelled, by) = self.settled().await;
        self.note(by.map(|by| format!("cancelled at the worker by {by}")));
        failpoint!("outbox.seal");
        self.fix(cancelled).await;
    }

    /// Waits for the settle time; whether the task was cancelled by then, as far as the registry knows, and by which operator of
    /// this worker.
    async fn settled(&self) -> (bool, Option<String>) {
        loop {
            let task = self.record.spec.id.clone();
            match self
                .with
                .registry
                .ask_idempotent(GetSealing(task), Instant::now() + ASK)
                .await
            {
                Ok(Sealing::NotBefore(instant)) => sleep_until(instant).await,
                Ok(Sealing::Now { cancelled, by }) => return (cancelled, by),
                // The journal has the last word on cancels.
                Err(AskError::Poisoned) => return (self.record.cancel_requested, None),
                Err(AskError::Unavailable | AskError::Deadline) => {
                    sleep(self.with.patience.backoff.delay(0, fastrand::f64())).await
                }
            }
        }
    }

    /// Makes the verdict durable. If the journal has another verdict already, that one is told.
    async fn fix(&mut self, mut cancelled: bool) {
        loop {
            let verdict = self.verdict(cancelled);
            let change = Change::Sealed {
                task: self.record.spec.id.clone(),
                verdict: verdict.clone(),
            };
            match self.with.records.keep_of(&self.record, change).await {
                Err(Refused::CancelPending) => cancelled = true,
                Ok(()) => {
                    self.record.verdict = Some(verdict);
                    return;
                }
                // The task was sealed before, and that verdict is told.
                Err(
                    Refused::Past
                    | Refused::UnknownTask
                    | Refused::Duplicate
                    | Refused::Early
                    | Refused::TooBig,
                ) => {
                    let known = self.with.records.find_in_the_end(&self.record.spec.id);
                    self.record.verdict = known.await.and_then(verdict_of).or(Some(verdict));
                    return;
                }
            }
        }
    }

    fn verdict(&self, cancelled: bool) -> Verdict {
        let mut ending = self.ending();
        if cancelled && ending.outcome != Outcome::Cancelled {
            ending.notes.insert(
                0,
                format!("cancelled after it had ended: {}", ending.outcome),
            );
            ending.outcome = Outcome::Cancelled;
        }
        ending.notes.extend(
            ending
                .outputs
                .skipped
                .iter()
                .map(|skipped| format!("not uploaded: {skipped}")),
        );
        let trailer = Trailer {
            outcome: &ending.outcome,
            exit: ending.exit.as_ref(),
            notes: &ending.notes,
        }
        .to_string();
        Verdict {
            outcome: ending.outcome,
            trailer,
        }
    }

    pub(super) fn sealed(&self) -> Verdict {
        self.record
            .verdict
            .clone()
            .unwrap_or_else(|| self.verdict(self.record.cancel_requested))
    }
}

/// The verdict that the journal has.
fn verdict_of(known: Known) -> Option<Verdict> {
    match known {
        Known::Record(record) => record.verdict,
        Known::Retired(stone) => Some(stone.verdict),
        Known::Unreadable => None,
    }
}

#[cfg(test)]
mod tests;
