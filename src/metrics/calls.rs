//! The calls of the master and those to it, watched: how long each took, and what came of it.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Metrics, Times, logs::CountedCursor};
use crate::{
    domain::{id::TaskId, spec::Offer},
    ports::{
        engine::{CallWatch, EngineError},
        master::{
            Beat, Master, MasterAddress, MasterError, Registration, Report, Upload, Uploaded,
        },
        spool::{LogCursor, LogRange},
        worker::{AssignAnswer, CancelAnswer, LogsError, MoveError, Worker},
    },
};

/// A master whose answers are counted.
pub struct CountedMaster<M> {
    master: M,
    metrics: Arc<Metrics>,
}

impl<M> CountedMaster<M> {
    /// Counts the calls to `master`.
    #[must_use]
    pub fn new(master: M, metrics: Arc<Metrics>) -> Self {
        Self { master, metrics }
    }
}

/// A worker whose answers are counted.
pub struct CountedWorker<W> {
    worker: W,
    metrics: Arc<Metrics>,
}

impl<W> CountedWorker<W> {
    /// Counts the calls to `worker`.
    #[must_use]
    pub fn new(worker: W, metrics: Arc<Metrics>) -> Self {
        Self { worker, metrics }
    }
}

async fn timed<T>(
    times: &Times<2>,
    method: &'static str,
    call: impl Future<Output = T>,
    answer: impl FnOnce(&T) -> &'static str,
) -> T {
    let begun = Instant::now();
    let answered = call.await;
    let labels = [("method", method), ("answer", answer(&answered))];
    let took = begun.elapsed().as_secs_f64();
    times.get_or_create(&labels).observe(took);
    answered
}

fn of_master<T>(answer: &Result<T, MasterError>) -> &'static str {
    match answer {
        Ok(_) => "ok",
        Err(MasterError::Unreachable(_)) => "unreachable",
        Err(MasterError::Lost(_)) => "lost",
        Err(MasterError::Deadline(_)) => "deadline",
        Err(MasterError::Refused(_)) => "refused",
        Err(MasterError::NotRegistered(_)) => "not_registered",
        Err(MasterError::Unacceptable(_)) => "unacceptable",
        Err(MasterError::Source(_)) => "source",
    }
}

#[async_trait]
impl<M: Master> Master for CountedMaster<M> {
    async fn register(
        &self,
        master: &MasterAddress,
        registration: Registration,
    ) -> Result<(), MasterError> {
        let call = self.master.register(master, registration);
        timed(&self.metrics.master, "register", call, of_master).await
    }

    async fn heartbeat(&self, master: &MasterAddress, beat: Beat) -> Result<(), MasterError> {
        let call = self.master.heartbeat(master, beat);
        timed(&self.metrics.master, "heartbeat", call, of_master).await
    }

    async fn upload(
        &self,
        master: &MasterAddress,
        upload: Upload,
    ) -> Result<Uploaded, MasterError> {
        let call = self.master.upload(master, upload);
        timed(&self.metrics.master, "upload", call, of_master).await
    }

    async fn report(&self, master: &MasterAddress, report: Report) -> Result<(), MasterError> {
        let call = self.master.report(master, report);
        timed(&self.metrics.master, "report", call, of_master).await
    }
}

#[async_trait]
impl<W: Worker> Worker for CountedWorker<W> {
    async fn assign(&self, offer: Offer) -> AssignAnswer {
        let call = self.worker.assign(offer);
        let answer = |answer: &AssignAnswer| match answer {
            AssignAnswer::Accepted => "accepted",
            AssignAnswer::AlreadyAccepted => "already_accepted",
            AssignAnswer::Refused(_) => "refused",
        };
        timed(&self.metrics.served, "assign", call, answer).await
    }

    async fn cancel(&self, task: TaskId) -> CancelAnswer {
        let call = self.worker.cancel(task);
        let answer = |answer: &CancelAnswer| match answer {
            CancelAnswer::Accepted => "accepted",
            CancelAnswer::NotFound => "not_found",
            CancelAnswer::AlreadyFinished(_) => "already_finished",
        };
        timed(&self.metrics.served, "cancel", call, answer).await
    }

    async fn open_log(
        &self,
        task: TaskId,
        range: LogRange,
    ) -> Result<Box<dyn LogCursor>, LogsError> {
        let call = self.worker.open_log(task, range);
        let answer = |opened: &Result<_, LogsError>| match opened {
            Ok(_) => "ok",
            Err(LogsError::UnknownTask) => "unknown_task",
            Err(LogsError::Unavailable) => "unavailable",
        };
        let cursor = timed(&self.metrics.served, "logs", call, answer).await?;
        let viewed = self.metrics.viewed.clone();
        Ok(Box::new(CountedCursor::new(cursor, viewed)))
    }

    async fn master_is_at(&self, master: Option<MasterAddress>) -> Result<(), MoveError> {
        let call = self.worker.master_is_at(master);
        let answer = |moved: &Result<(), MoveError>| match moved {
            Ok(()) => "ok",
            Err(MoveError::Unavailable) => "unavailable",
            Err(_) => "refused",
        };
        timed(&self.metrics.served, "move", call, answer).await
    }
}

impl Metrics {
    /// The watch that the engine's adapter tells how each call went.
    #[must_use]
    pub fn engine_watch(self: &Arc<Self>) -> CallWatch {
        let this = Arc::clone(self);
        Arc::new(move |call, took, error| {
            let times = this.engine.get_or_create(&[("call", call)]);
            times.observe(took.as_secs_f64());
            if let Some(error) = error {
                let labels = [("call", call), ("error", kind_of(error))];
                this.engine_failed.get_or_create(&labels).inc();
            }
        })
    }
}

fn kind_of(error: &EngineError) -> &'static str {
    match error {
        EngineError::Away(_) => "away",
        EngineError::Deadline(_) => "deadline",
        EngineError::NotFound(_) => "not_found",
        EngineError::Conflict(_) => "conflict",
        EngineError::Unauthorized(_) => "unauthorized",
        EngineError::Invalid(_) => "invalid",
        EngineError::Failed(_) => "failed",
    }
}
