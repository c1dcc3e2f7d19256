//! Offers: accepted durably, recognised as repeats, or refused for now. The answer is there before the message's deadline.

use std::time::Duration;

use actix::{
    ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, WrapFuture,
};
use log::{debug, info, warn};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{
    Readiness, RegistryActor,
    entry::{Entry, Standing},
    news::failed,
};
use crate::{
    actors::{engine_watch::EngineStatus, journal::CommitError, outbox::DeliverAgain},
    domain::{
        id::{PayloadDigest, ResultId, TaskId},
        outcome::Failure,
        record::{Change, Ending, Phase, TaskRecord},
        spec::Offer,
    },
    failpoint,
    ports::{
        engine::container_name,
        journal::{Known, Refused},
        worker::AssignAnswer,
    },
    telemetry::operator,
};

/// After this an answer has been handed over, or the connection is gone.
const RECORD_ANSWER: Duration = Duration::from_millis(300);

/// How long an offer that the journal dies of is refused unseen: it is offered every 5 s.
const POISON: Duration = Duration::from_secs(600);

/// A master offers a task. Idempotent by id and digest.
#[derive(Debug, Clone, Message)]
#[rtype(result = "AssignAnswer")]
pub struct AssignTask {
    /// What.
    pub offer: Offer,
    /// When the answer must be there.
    pub deadline: Instant,
}

/// An offer that killed the registry twice: accepted, and failed at once with that reason. Idempotent as [`AssignTask`] is.
#[derive(Debug, Clone, Message)]
#[rtype(result = "AssignAnswer")]
pub struct FailOffer {
    /// What.
    pub offer: Offer,
    /// Why it fails.
    pub reason: String,
    /// When the answer must be there.
    pub deadline: Instant,
}

type Answer = ResponseActFuture<RegistryActor, AssignAnswer>;

fn refused(why: impl Into<String>) -> AssignAnswer {
    AssignAnswer::Refused(why.into())
}

impl Handler<AssignTask> for RegistryActor {
    type Result = Answer;

    fn handle(&mut self, assign: AssignTask, ctx: &mut Self::Context) -> Self::Result {
        failpoint!("registry.AssignTask", assign.offer);
        let AssignTask { offer, deadline } = assign;
        if self.readiness() == Readiness::Ready {
            return self.judge(offer, deadline, ctx);
        }
        let settled = self.settled(deadline).into_actor(self);
        Box::pin(settled.then(move |(), actor, ctx| {
            failpoint!("registry.settled");
            actor.judge(offer, deadline, ctx)
        }))
    }
}

impl Handler<FailOffer> for RegistryActor {
    type Result = Answer;

    fn handle(&mut self, fail: FailOffer, _: &mut Self::Context) -> Self::Result {
        failpoint!("registry.FailOffer");
        let FailOffer {
            offer,
            reason,
            deadline,
        } = fail;
        let settled = self.settled(deadline).into_actor(self);
        Box::pin(settled.then(move |(), actor, ctx| {
            if actor.tasks.contains_key(&offer.spec.id) {
                // The incarnation before came to its acceptance, and not to the answer.
                return actor.answer_active(&offer, deadline, ctx);
            }
            actor.fail(&offer, reason, deadline)
        }))
    }
}

impl RegistryActor {
    fn judge(&mut self, offer: Offer, deadline: Instant, ctx: &mut Context<Self>) -> Answer {
        if deadline <= Instant::now() {
            // Whoever asked has been told that it is refused.
            self.offer_lost(offer.spec.id, ctx);
            return self.answer(refused("the offer was not judged in time"));
        }
        if self.readiness() == Readiness::Loading {
            // The incarnation before may have made it durable.
            self.offer_lost(offer.spec.id, ctx);
            return self.answer(refused(LOADING));
        }
        if self.tasks.contains_key(&offer.spec.id) {
            return self.answer_active(&offer, deadline, ctx);
        }
        let excess = offer.excess.as_ref().map(ToString::to_string);
        let impossible = excess.or_else(|| self.peers.env.impossible(&offer.spec));
        if let Some(answer) = self.refusal(&offer, impossible.is_some()) {
            return self.answer(answer);
        }
        let ending = impossible.map(|why| failed(Failure::Impossible(why)));
        self.accept(&offer, ending, deadline)
    }

    fn answer(&self, answer: AssignAnswer) -> Answer {
        Box::pin(async { answer }.into_actor(self))
    }

    /// The answer to an offer of a task that is active.
    fn answer_active(
        &mut self,
        offer: &Offer,
        deadline: Instant,
        ctx: &mut Context<Self>,
    ) -> Answer {
        let task = &offer.spec.id;
        let Some(entry) = self.tasks.get_mut(task) else {
            return self.answer(refused("the task has ended at this moment"));
        };
        if entry.digest != offer.digest {
            return self.answer(refused(OTHER_PAYLOAD));
        }
        if entry.standing == Standing::Accepting {
            let settled = entry.when_settled();
            return self.judge_after(settled, offer.clone(), deadline);
        }
        // The settle time counts from the last acknowledgement: the master writes 'running' after each.
        entry.acknowledged = Instant::now();
        if entry.sealed {
            return self.wanted_again(task.clone(), deadline);
        }
        if entry.unrepeated.is_some() {
            self.launch_unrepeated(task, ctx);
            self.record_answer(task.clone(), ctx);
        }
        self.answer(AssignAnswer::AlreadyAccepted)
    }

    /// The same offer is being accepted, or taken back, at this moment: this one has the answer to what comes of that.
    fn judge_after(
        &self,
        settled: impl Future<Output = ()> + 'static,
        offer: Offer,
        deadline: Instant,
    ) -> Answer {
        // Too late: whoever asked has been told that it is refused.
        let settled = async move { drop(timeout_at(deadline, settled).await) };
        Box::pin(settled.into_actor(self).then(move |(), actor, ctx| {
            failpoint!("registry.judge_after");
            actor.judge(offer, deadline, ctx)
        }))
    }

    /// Its result may have left before this acknowledgement, and be overwritten by what the master writes after it: it is
    /// sent once more, whatever happens to us meanwhile.
    fn wanted_again(&self, task: TaskId, deadline: Instant) -> Answer {
        let records = self.peers.records.clone();
        let change = Change::Redeliver(task.clone());
        let commit = async move {
            failpoint!("registry.wanted_again");
            records.commit(vec![change], deadline).await
        };
        Box::pin(commit.into_actor(self).map(move |committed, actor, ctx| {
            failpoint!("registry.answer_again");
            match committed {
                Ok(()) => {
                    actor.deliver_once_settled(task, ctx);
                    AssignAnswer::AlreadyAccepted
                }
                Err(error) => {
                    if matches!(error, CommitError::Unavailable | CommitError::Poisoned) {
                        // The commit may come yet, or is there already, and then the result is owed, whether the master offers again or not.
                        actor.deliver_once_settled(task, ctx);
                    }
                    refused(format!("its result cannot be sent again now: {error}"))
                }
            }
        }))
    }

    /// Why no new task is taken now, if so. A task that can never run here is taken, fails at once, and needs no room but
    /// among its like.
    fn refusal(&self, offer: &Offer, is_impossible: bool) -> Option<AssignAnswer> {
        let poisoned = self.poison.get(&offer.spec.id);
        if poisoned.is_some_and(|since| since.elapsed() < POISON) {
            return Some(refused(CommitError::Poisoned.to_string()));
        }
        if let Some(why) = self.peers.draining.get() {
            return Some(refused(why.as_str()));
        }
        if let Some(cordon) = &*self.peers.cordon.borrow() {
            return Some(refused(cordon.to_string()));
        }
        if let Some(pressure) = &*self.peers.pressure.borrow() {
            return Some(refused(pressure.clone()));
        }
        match self.readiness() {
            Readiness::Loading => return Some(refused(LOADING)),
            Readiness::Reconciling => return Some(refused(self.not_reconciled())),
            Readiness::Ready => {}
        }
        if let EngineStatus::Away { since, why } = &*self.peers.engine.status().borrow()
            && since.elapsed() >= self.rules.engine_patience
        {
            return Some(refused(format!("the container engine is away: {why}")));
        }
        if let Some(lack) = self.peers.engine.lack() {
            return Some(refused(lack));
        }
        let ledger = self.ledger();
        let admitted = match is_impossible {
            true => ledger.admit_impossible(),
            false => ledger.admit(&offer.spec.wants),
        };
        admitted.err().map(|no_room| refused(no_room.to_string()))
    }

    fn not_reconciled(&self) -> String {
        match &*self.peers.engine.status().borrow() {
            EngineStatus::Away { why, .. } => format!("the container engine is away: {why}"),
            EngineStatus::Unknown | EngineStatus::Here(_) => {
                "the worker is starting: the engine's containers are not known yet".into()
            }
        }
    }

    /// Makes it durable; with an ending, one that has failed already: both in one commit.
    fn accept(&mut self, offer: &Offer, ending: Option<Ending>, deadline: Instant) -> Answer {
        let mut record = self.record_of(offer);
        record.cancel_requested = self.early_cancels.remove(&record.spec.id).is_some();
        let mut changes = vec![Change::Accept(Box::new(record.clone()))];
        if let Some(ending) = ending {
            record.phase = Phase::Ended;
            record.ending = Some(ending.clone());
            changes.push(Change::Ended {
                task: record.spec.id.clone(),
                ending: Box::new(ending),
            });
        }
        self.hold(Entry::of_offer(&record));
        let records = self.peers.records.clone();
        failpoint!("registry.accept");
        let commit = async move { timeout_at(deadline, records.commit(changes, deadline)).await };
        Box::pin(commit.into_actor(self).then(move |committed, actor, ctx| {
            actor.committed(
                committed.unwrap_or(Err(CommitError::Unavailable)),
                record,
                deadline,
                ctx,
            )
        }))
    }

    fn record_of(&self, offer: &Offer) -> TaskRecord {
        TaskRecord::accepted(
            offer.spec.clone(),
            offer.digest,
            ResultId(Uuid::now_v7().to_string()),
            container_name(self.peers.worker.as_str(), offer.spec.id.as_str(), 1),
            self.peers.clock.now(),
        )
    }

    /// Accepts an offer that no registry survives, and ends its task.
    fn fail(&mut self, offer: &Offer, reason: String, deadline: Instant) -> Answer {
        if self.readiness() == Readiness::Loading {
            return self.answer(refused(LOADING));
        }
        self.accept(offer, Some(failed(Failure::Internal(reason))), deadline)
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
            // Whoever asked has been told that it is refused.
            Ok(()) if deadline <= Instant::now() => {
                self.withdraw(task, ctx);
                refused("the worker's journal did not answer in time")
            }
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
            Err(error @ CommitError::Poisoned) => {
                self.release(&task);
                self.poison.insert(task, Instant::now());
                refused(error.to_string())
            }
        };
        self.answer(answer)
    }

    fn accepted(&mut self, record: &TaskRecord, ctx: &mut Context<Self>) {
        operator::task_received(&record.spec);
        if let Some(entry) = self.tasks.get_mut(&record.spec.id) {
            entry.settle();
        }
        if let Some(ending) = &record.ending {
            operator::task_ended(&record.spec.id, &ending.outcome);
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
            let entry = actor.tasks.get(&task);
            if entry.is_some_and(Entry::wants_answer_recorded) {
                let records = actor.peers.records.clone();
                // Refused: it was withdrawn meanwhile.
                let keep = async move { drop(records.keep(vec![Change::Answered(task)]).await) };
                ctx.spawn(keep.into_actor(actor));
            }
        });
    }

    /// The offer was refused, but its row may become durable all the same: take it out again before the id is free.
    pub(super) fn withdraw(&mut self, task: TaskId, ctx: &mut Context<Self>) {
        let records = self.peers.records.clone();
        let change = Change::Withdraw(task.clone());
        ctx.spawn(async move { records.keep(vec![change]).await }.into_actor(self).map(move |kept, actor, _| {
            failpoint!("registry.withdrawn");
            actor.release(&task);
            match kept {
                Ok(()) => info!(task:%; "an offer that was refused is taken back"),
                // It never became durable.
                Err(refused) => debug!(task:%, refused:%; "an offer that was refused is not in the journal"),
            }
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
        Box::pin(find.into_actor(self).then(move |known, actor, ctx| {
            failpoint!("registry.found_in_journal");
            match known {
                Ok(Some(Known::Record(record))) if record.digest == digest => {
                    if record.phase == Phase::Done {
                        return actor.wanted_again(record.spec.id, deadline);
                    }
                    actor.take_up(record, ctx);
                    actor.answer(AssignAnswer::AlreadyAccepted)
                }
                Ok(Some(Known::Retired(stone))) if stone.digest == digest => {
                    actor.wanted_again(stone.task, deadline)
                }
                Ok(Some(Known::Unreadable)) => actor.answer(refused(
                    "the task has ended here, and its row in the worker's journal is damaged",
                )),
                Ok(Some(_)) => actor.answer(refused(OTHER_PAYLOAD)),
                Ok(None) => actor.answer(refused(
                    "the worker's journal does not know the task any more",
                )),
                Err(error) => actor.answer(refused(error.to_string())),
            }
        }))
    }

    /// An unfinished one that nobody holds: its acceptance was made durable by a commit whose answer was lost.
    fn take_up(&mut self, record: Box<TaskRecord>, ctx: &mut Context<Self>) {
        if !self.tasks.contains_key(&record.spec.id) {
            self.hold(Entry::of_record(&record));
            self.launch_again(&record, ctx);
            self.show();
        }
    }

    fn deliver_once_settled(&self, task: TaskId, ctx: &mut Context<Self>) {
        let not_before = Instant::now() + self.settle_time();
        self.deliver_again(task, Some(not_before), ctx);
    }

    pub(super) fn deliver_again(
        &self,
        task: TaskId,
        not_before: Option<Instant>,
        ctx: &mut Context<Self>,
    ) {
        let outbox = self.peers.outbox.clone();
        let again = DeliverAgain { task, not_before };
        let ask = async move {
            failpoint!("registry.deliver_again");
            if let Err(error) = outbox
                .ask_idempotent(again, Instant::now() + super::TELL)
                .await
            {
                // The journal has it.
                warn!(error:%; "a result that is wanted again waits for the outbox's next start");
            }
        };
        ctx.spawn(ask.into_actor(self));
    }
}

const LOADING: &str = "the worker is starting: its journal is being read";

const OTHER_PAYLOAD: &str = "another task with this id is known here; its payload is not the same";
