//! The edge between a call and the worker: how many at once, how long, and what becomes of a panic. Owns the counters of calls
//! in flight; knows nothing of what is asked.
//!
//! Each kind of call has its own counter, so that a flood of offers never keeps a cancel out. A call runs in a task of its own:
//! a caller that hangs up in the middle does not take half of it back.

use std::{sync::Arc, time::Duration};

use log::error;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::super::{listener::Limits, status::Denied};
use crate::{domain::text, ports::worker::LogsError};

/// How long the worker may take to answer: a backstop, since it does so within a second. Half of the 10 s after which a master
/// takes an offer for failed, and everybody's submissions wait meanwhile.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long a move may take: the master's own deadline for MasterRegister is 3 s at the least.
const REGISTER_WITHIN: Duration = Duration::from_secs(2);

/// Why the worker did not answer. The text goes to the master, which asks again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Unanswered {
    /// Too many calls of this kind are in flight.
    #[error("this worker is busy with other calls, try again")]
    Busy,
    /// The call's own code failed.
    #[error("this worker failed at the call, try again")]
    Panicked,
    /// The worker takes too long.
    #[error("this worker did not answer in time, try again")]
    TimedOut,
}

impl From<Unanswered> for Denied {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Busy => Self::Busy,
            Unanswered::Panicked => Self::Panicked,
            Unanswered::TimedOut => Self::Logs(LogsError::Unavailable),
        }
    }
}

/// The calls in flight.
pub(super) struct Calls {
    offers: Arc<Semaphore>,
    cancels: Arc<Semaphore>,
    moves: Arc<Semaphore>,
    logs: Arc<Semaphore>,
}

impl Calls {
    pub(super) fn new(limits: &Limits) -> Self {
        let calls = || Arc::new(Semaphore::new(limits.calls));
        Self {
            offers: calls(),
            cancels: calls(),
            moves: calls(),
            logs: calls(),
        }
    }

    /// Asks the worker about an offer.
    pub(super) async fn assign<F>(&self, call: F) -> Result<F::Output, Unanswered>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let slot = take(&self.offers)?;
        ask("AssignTask", ANSWER_WITHIN, (slot, call)).await
    }

    /// Asks the worker for a cancel.
    pub(super) async fn cancel<F>(&self, call: F) -> Result<F::Output, Unanswered>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let slot = take(&self.cancels)?;
        ask("CancelTask", ANSWER_WITHIN, (slot, call)).await
    }

    /// Tells the worker where its master is.
    pub(super) async fn follow_master<F>(&self, call: F) -> Result<F::Output, Unanswered>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let slot = take(&self.moves)?;
        ask("MasterRegister", REGISTER_WITHIN, (slot, call)).await
    }

    /// Asks the worker for a log.
    pub(super) async fn open_log<F>(&self, call: F) -> Result<F::Output, Unanswered>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let slot = take(&self.logs)?;
        ask("StreamTaskLogs", ANSWER_WITHIN, (slot, call)).await
    }
}

fn take(slots: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Unanswered> {
    Arc::clone(slots)
        .try_acquire_owned()
        .map_err(|_| Unanswered::Busy)
}

/// Runs a call in its own task, which keeps `held` until the call's end, not until the caller's patience ends.
async fn ask<H, F>(
    method: &'static str,
    within: Duration,
    (held, call): (H, F),
) -> Result<F::Output, Unanswered>
where
    H: Send + 'static,
    F: Future<Output: Send> + Send + 'static,
{
    let running = tokio::spawn(async move {
        let answer = call.await;
        drop(held);
        answer
    });
    match tokio::time::timeout(within, running).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(panic)) => {
            error!(method, error:% = text::escape(&panic.to_string(), 512); "a call to the worker panicked");
            Err(Unanswered::Panicked)
        }
        Err(_) => {
            error!(method, seconds = within.as_secs(); "the worker did not answer a call");
            Err(Unanswered::TimedOut)
        }
    }
}
