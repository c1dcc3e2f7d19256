//! Offers: accepted durably, recognised as repeats, or refused for now. The answer is there before the message's deadline.

use std::time::Duration;

use actix::{
    ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, WrapFuture,
};
use log::warn;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{
    Readiness, RegistryActor,
    entry::{Entry, Standing},
};
use crate::{
    actors::{
        engine_watch::EngineStatus, journal::CommitError, outbox::DeliverAgain,
        task::container_name,
    },
    domain::{
        id::{PayloadDigest, ResultId, TaskId},
        record::{Change, Phase, TaskRecord},
        spec::Offer,
    },
    failpoint,
    ports::{
        journal::{Known, Refused},
        worker::AssignAnswer,
    },
    telemetry::operator,
};

/// After this an answer has been handed over, or the connection is gone.
const RECORD_ANSWER: Duration = Duration::from_millis(300);

/// A master offers a task. Idempotent by id and digest.
#[derive(Debug, Clone, Message)]
#[rtype(result = "AssignAnswer")]
pub struct AssignTask {
    /// What.
    pub offer: Offer,
    /// When the answer must be there.
    pub deadline: Instant,
}

type Answer = ResponseActFuture<RegistryActor, AssignAnswer>;

fn refused(why: impl Into<String>) -> AssignAnswer {
    AssignAnswer::Refused(why.into())
}

impl Handler<AssignTask> for RegistryActor {
    type Result = Answer;

    fn handle(
        &mut self,
        AssignTask { offer, deadline }: AssignTask,
        ctx: &mut Self::Context,
    ) -> Self::Result {
        failpoint!("registry.AssignTask", offer);
        operator::task_received(&offer.spec);
        match self
            .known_answer(&offer, ctx)
            .or_else(|| self.refusal(&offer))
        {
            Some(answer) => Box::pin(async { answer }.into_actor(self)),
            None => self.accept(offer, deadline),
        }
    }
}

impl RegistryActor {
    /// The answer to an offer of a task that is active.
    fn known_answer(&mut self, offer: &Offer, ctx: &mut Context<Self>) -> Option<AssignAnswer> {
        let entry = self.tasks.get_mut(&offer.spec.id)?;
        if entry.digest != offer.digest {
            return Some(refused(OTHER_PAYLOAD));
        }
        if entry.standing == Standing::Accepting {
            return Some(refused("the same offer is being accepted at this moment"));
        }
        // The settle time counts from the last acknowledgement: the master writes 'running' after each.
        entry.acknowledged = Instant::now();
        if entry.sealed {
            self.find_and_deliver_again(offer.spec.id.clone(), ctx);
        }
        Some(AssignAnswer::AlreadyAccepted)
    }

    /// Its result may have left before this acknowledgement, and be overwritten by what the master writes after it.
    fn find_and_deliver_again(&self, task: TaskId, ctx: &mut Context<Self>) {
        let records = self.peers.records.clone();
        let find = async move { records.find(&task, Instant::now() + super::TELL).await };
        ctx.spawn(find.into_actor(self).map(|known, actor, ctx| {
            failpoint!("registry.find_again");
            if let Ok(Some(Known::Record(record))) = known {
                actor.deliver_again(record, ctx);
            }
        }));
    }

    /// Why no new task is taken now, if so. A task that can never run here is taken, and fails at once.
    fn refusal(&self, offer: &Offer) -> Option<AssignAnswer> {
        match &self.readiness {
            Readiness::Loading => {
                return Some(refused("the worker is starting: its journal is being read"));
            }
            Readiness::Reconciling => return Some(refused(self.not_reconciled())),
            Readiness::Draining(why) => return Some(refused(why.clone())),
            Readiness::Ready => {}
        }
        if let EngineStatus::Away { since, why } = &*self.peers.engine.status().borrow()
            && since.elapsed() >= self.rules.engine_patience
        {
            return Some(refused(format!("the container engine is away: {why}")));
        }
        if let Some(pressure) = &*self.peers.pressure.borrow() {
            return Some(refused(pressure.clone()));
        }
        if offer.spec.check(&self.rules.totals).is_err() {
            return None;
        }
        self.ledger
            .admit(&offer.spec.wants)
            .err()
            .map(|no_room| refused(no_room.to_string()))
    }

    fn not_reconciled(&self) -> String {
        match &*self.peers.engine.status().borrow() {
            EngineStatus::Away { why, .. } => format!("the container engine is away: {why}"),
            EngineStatus::Unknown | EngineStatus::Here(_) => {
                "the worker is starting: the engine's containers are not known yet".into()
            }
        }
    }

    fn accept(&mut self, offer: Offer, deadline: Instant) -> Answer {
        let mut entry = Entry::of_offer(&offer);
        entry.cancelled = self.early_cancels.remove(&entry.task);
        let cancelled = entry.cancelled;
        self.hold(entry);
        let mut record = TaskRecord::accepted(
            offer.spec.clone(),
            offer.digest,
            ResultId(Uuid::now_v7().to_string()),
            container_name(&self.peers.worker, &offer.spec.id, 1),
            self.peers.clock.now(),
        );
        record.cancel_requested = cancelled;
        let records = self.peers.records.clone();
        let change = Change::Accept(Box::new(record.clone()));
        failpoint!("registry.accept");
        let commit =
            async move { timeout_at(deadline, records.commit(vec![change], deadline)).await };
        Box::pin(commit.into_actor(self).then(move |committed, actor, ctx| {
            actor.committed(
                committed.unwrap_or(Err(CommitError::Unavailable)),
                record,
                deadline,
                ctx,
            )
        }))
    }

    fn committed(
        &mut self,
        committed: Result<(), CommitError>,
        record: TaskRecord,
        deadline: Instant,
        ctx: &mut Context<Self>,
    ) -> Answer {
        failpoint!("registry.committed");
        let task = record.spec.id.clone();
        let answer = match committed {
            Ok(()) => {
                self.accepted(&record, ctx);
                AssignAnswer::Accepted
            }
            Err(CommitError::Refused(Refused::Duplicate)) => {
                self.release(&task);
                return self.answer_from_journal(task, record.digest, deadline);
            }
            Err(CommitError::Refused(other)) => {
                self.release(&task);
                refused(other.to_string())
            }
            Err(CommitError::Journal(error)) => {
                self.release(&task);
                refused(error.to_string())
            }
            Err(CommitError::Unavailable) => {
                self.withdraw(task, ctx);
                refused("the worker's journal did not answer in time")
            }
        };
        Box::pin(async { answer }.into_actor(self))
    }

    fn accepted(&mut self, record: &TaskRecord, ctx: &mut Context<Self>) {
        if let Some(entry) = self.tasks.get_mut(&record.spec.id) {
            entry.standing = Standing::Active;
            entry.acknowledged = Instant::now();
        }
        self.launch(record, ctx);
        self.show();
        self.record_answer(record.spec.id.clone(), ctx);
    }

    /// An accepted row without this waits, after a restart, for the offer to be repeated: its answer may never have left.
    /// Later phases say as much, so a task that is quick saves the commit.
    fn record_answer(&self, task: TaskId, ctx: &mut Context<Self>) {
        ctx.run_later(RECORD_ANSWER, move |actor, ctx| {
            failpoint!("registry.record_answer");
            let waits = |entry: &Entry| matches!(entry.word, "accepted" | "pulling" | "creating");
            if actor.tasks.get(&task).is_some_and(waits) {
                let records = actor.peers.records.clone();
                // Refused: it was withdrawn meanwhile.
                let keep = async move { drop(records.keep(vec![Change::Answered(task)]).await) };
                ctx.spawn(keep.into_actor(actor));
            }
        });
    }

    /// The offer was refused, but its row may become durable all the same: take it out again before the id is free.
    fn withdraw(&mut self, task: TaskId, ctx: &mut Context<Self>) {
        let records = self.peers.records.clone();
        let change = Change::Withdraw(task.clone());
        ctx.spawn(async move { records.keep(vec![change]).await }.into_actor(self).map(move |kept, actor, _| {
            failpoint!("registry.withdrawn");
            if let Err(refused) = kept {
                warn!(task:%, refused:%; "an offer that came to nothing is not in the journal");
            }
            actor.release(&task);
        }));
    }

    /// An offer of a task that is not active but known: of one that has ended the result is sent once more, one that has not
    /// is taken up. The same id with another payload is refused.
    fn answer_from_journal(
        &self,
        task: TaskId,
        digest: PayloadDigest,
        deadline: Instant,
    ) -> Answer {
        let records = self.peers.records.clone();
        let find = async move { records.find(&task, deadline).await };
        Box::pin(find.into_actor(self).map(move |known, actor, ctx| {
            failpoint!("registry.found_in_journal");
            match known {
                Ok(Some(Known::Record(record))) if record.digest == digest => {
                    actor.take_up(record, ctx);
                    AssignAnswer::AlreadyAccepted
                }
                Ok(Some(Known::Retired(stone))) if stone.digest == digest => {
                    AssignAnswer::AlreadyAccepted
                }
                Ok(Some(_)) => refused(OTHER_PAYLOAD),
                Ok(None) => refused("the worker's journal does not know the task any more"),
                Err(error) => refused(error.to_string()),
            }
        }))
    }

    /// An unfinished one that nobody holds: its acceptance was made durable by a commit whose answer was lost.
    fn take_up(&mut self, record: Box<TaskRecord>, ctx: &mut Context<Self>) {
        if record.phase >= Phase::Sealed {
            self.deliver_again(record, ctx);
        } else if !self.tasks.contains_key(&record.spec.id) {
            self.hold(Entry::of_record(&record));
            self.launch_again(&record, ctx);
            self.show();
        }
    }

    fn deliver_again(&self, record: Box<TaskRecord>, ctx: &mut Context<Self>) {
        if record.phase < Phase::Sealed {
            return;
        }
        let not_before = Instant::now() + self.settle_time();
        let outbox = self.peers.outbox.clone();
        let again = DeliverAgain { record, not_before };
        let ask = async move {
            failpoint!("registry.deliver_again");
            if let Err(error) = outbox
                .ask_idempotent(again, Instant::now() + super::TELL)
                .await
            {
                warn!(error:%; "a result that is wanted again could not be handed to the outbox");
            }
        };
        ctx.spawn(ask.into_actor(self));
    }
}

const OTHER_PAYLOAD: &str = "another task with this id is known here; its payload is not the same";
