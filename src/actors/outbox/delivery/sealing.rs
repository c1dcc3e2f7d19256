//! The verdict of a task: when it may be fixed, and what it says. Whoever seals twice tells the same: the journal keeps the
//! first verdict, and that is the one that is told.

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
    /// Waits out the settle time, then fixes what is told. The journal is the judge between a verdict and a late cancel: it
    /// refuses a verdict that ignores one.
    pub(super) async fn seal(&mut self) {
        let (cancelled, by) = self.settled().await;
        self.note(by.map(|by| format!("cancelled at the worker by {by}")));
        failpoint!("outbox.seal");
        self.fix(cancelled).await;
    }

    /// Whether it was cancelled, as far as the registry knows when the settle time is over; and who did that at this worker.
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

    /// Makes the verdict durable. Where the journal has another one, that is told.
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
                // Sealed before: what is there is the truth, and what is told.
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

/// What the journal says is told.
fn verdict_of(known: Known) -> Option<Verdict> {
    match known {
        Known::Record(record) => record.verdict,
        Known::Retired(stone) => Some(stone.verdict),
        Known::Unreadable => None,
    }
}

#[cfg(test)]
mod tests;
