//! Cancels of tasks: made durable, acknowledged at once, and carried out afterwards.

use std::time::Duration;

use actix::{
    ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, WrapFuture,
};
use log::{debug, warn};
use tokio::time::Instant;

use super::{Readiness, RegistryActor, TELL};
use crate::{
    actors::{journal::CommitError, task::StopTask},
    domain::{
        id::{TaskId, check_safe_name},
        outcome::StatusWord,
        record::{Change, TaskRecord},
        task::StopReason,
    },
    failpoint,
    ports::{
        journal::{Known, Refused},
        worker::CancelAnswer,
    },
    telemetry::operator,
};

/// How long a cancel waits for the journal before it is answered without it: the master holds a lock over its whole cluster until
/// then.
const PATIENCE: Duration = Duration::from_millis(900);

/// Cancels a task, as a master or an operator asked. Idempotent.
#[derive(Debug, Clone, Message)]
#[rtype(result = "CancelAnswer")]
pub struct CancelTask {
    /// The task to cancel.
    pub task: TaskId,
    /// The operator who asked, for the text of the task's result; `None`: the master.
    pub by: Option<String>,
}

type Answer = ResponseActFuture<RegistryActor, CancelAnswer>;

impl Handler<CancelTask> for RegistryActor {
    type Result = Answer;

    fn handle(&mut self, cancel: CancelTask, _: &mut Self::Context) -> Self::Result {
        let CancelTask { task, by } = cancel;
        failpoint!("registry.CancelTask", task);
        if let Some(entry) = self.tasks.get_mut(&task) {
            // From here on an outcome that is being sealed is 'cancelled', even if the cancel cannot be made durable.
            let is_first = !std::mem::replace(&mut entry.cancelled, true);
            if is_first {
                entry.cancelled_by = by;
            }
            // For the master a sealed task is over: a cancel of it comes too late as a rule, and is not announced.
            if is_first && !entry.sealed {
                operator::task_cancelling(&task);
            }
            // Durable first: if the task's actor dies while it carries the cancel out, its next incarnation reads the cancel.
            let recorded = self.record_cancel(task.clone());
            return Box::pin(recorded.map(move |answer, actor, ctx| {
                actor.launch_unrepeated(&task, ctx);
                actor.stop(&task, StopReason::Cancelled, ctx);
                answer
            }));
        }
        match self.readiness() {
            // The task may still be found in the journal or on the engine.
            Readiness::Loading | Readiness::Reconciling => {
                debug!(task:%; "a cancel came before it is known whether there is such a task");
                self.remember_cancel(task.clone());
                self.record_cancel(task)
            }
            Readiness::Ready => self.answer_finished(task),
        }
    }
}

impl RegistryActor {
    /// Keeps a cancel for a task that may become known later; not if the id is no safe name, as such a task never runs.
    pub(super) fn remember_cancel(&mut self, task: TaskId) {
        if check_safe_name(task.as_str()).is_ok() {
            self.early_cancels.insert(task, ());
        }
    }

    fn record_cancel(&self, task: TaskId) -> Answer {
        let records = self.peers.records.clone();
        let deadline = Instant::now() + PATIENCE;
        let commit = async move {
            failpoint!("registry.record_cancel");
            match records
                .commit(vec![Change::CancelRequested(task.clone())], deadline)
                .await
            {
                Ok(()) => CancelAnswer::Accepted,
                Err(CommitError::Refused(Refused::Past)) => {
                    match records.find(&task, deadline).await {
                        Ok(Some(known)) => {
                            finished_answer(&known).unwrap_or(CancelAnswer::Accepted)
                        }
                        Ok(None) | Err(_) => CancelAnswer::Accepted,
                    }
                }
                // The cancel is not durable, but it is carried out, and so acknowledged all the same.
                Err(error) => {
                    warn!(task:%, error:%; "a cancel is carried out, but could not be made durable");
                    CancelAnswer::Accepted
                }
            }
        };
        Box::pin(commit.into_actor(self))
    }

    fn answer_finished(&self, task: TaskId) -> Answer {
        let records = self.peers.records.clone();
        let find = async move {
            failpoint!("registry.answer_finished");
            match records.find(&task, Instant::now() + PATIENCE).await {
                Ok(Some(known)) => finished_answer(&known).unwrap_or(CancelAnswer::NotFound),
                Ok(None) => {
                    debug!(task:%; "a cancel of a task that is not here");
                    CancelAnswer::NotFound
                }
                Err(error) => {
                    warn!(task:%, error:%; "whether a task has finished cannot be read");
                    CancelAnswer::NotFound
                }
            }
        };
        Box::pin(find.into_actor(self))
    }

    /// Tells a task's actor to stop its task. An actor that is being restarted is told when it is up, or reads a cancel in the
    /// journal.
    pub(super) fn stop(&self, task: &TaskId, reason: StopReason, ctx: &mut Context<Self>) {
        let Some(slot) = self.tasks.get(task).and_then(|entry| entry.slot.clone()) else {
            return;
        };
        let task = task.clone();
        let tell = async move {
            failpoint!("registry.stop_task");
            slot.ask_idempotent(StopTask(reason), Instant::now() + TELL)
                .await
        };
        ctx.spawn(tell.into_actor(self).map(move |told, _, _| {
            if let Err(error) = told {
                warn!(task:%, error:%; "a task's actor did not hear of its cancel");
            }
        }));
    }
}

/// The answer to a cancel of a task whose verdict is fixed; `None`: it is not fixed, or its row cannot be read.
#[must_use]
pub fn finished_answer(known: &Known) -> Option<CancelAnswer> {
    let word: Option<StatusWord> = match known {
        Known::Record(record) => sealed_word(record),
        Known::Retired(stone) => Some(stone.verdict.outcome.word()),
        Known::Unreadable => None,
    };
    word.map(CancelAnswer::AlreadyFinished)
}

fn sealed_word(record: &TaskRecord) -> Option<StatusWord> {
    record
        .verdict
        .as_ref()
        .map(|verdict| verdict.outcome.word())
}
