//! Judges offers: accepts them durably, recognises repeats, or refuses them for now. Every offer is answered before its deadline.

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

/// How long after an acceptance it is recorded that its answer was handed over: by then the answer has left, or the connection is
/// gone.
const RECORD_ANSWER: Duration = Duration::from_millis(300);

/// How long an offer that killed the journal's actor is refused without asking the journal: a master repeats it every 5 s.
const POISON: Duration = Duration::from_secs(600);

/// A master offers a task. Idempotent by id and digest.
#[derive(Debug, Clone, Message)]
#[rtype(result = "AssignAnswer")]
pub struct AssignTask {
    /// The offered task.
    pub offer: Offer,
    /// When the answer must be there.
    pub deadline: Instant,
}

/// Accepts an offer that killed the registry twice, and fails its task at once with this reason. Idempotent as [`AssignTask`] is.
#[derive(Debug, Clone, Message)]
#[rtype(result = "AssignAnswer")]
pub struct FailOffer {
    /// The offered task.
    pub offer: Offer,
    /// Why the task fails.
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
                // An earlier incarnation accepted the offer, but died before it answered.
                return actor.answer_active(&offer, deadline, ctx);
            }
            actor.fail(&offer, reason, deadline)
        }))
    }
}

impl RegistryActor {
    fn judge(&mut self, offer: Offer, deadline: Instant, ctx: &mut Context<Self>) -> Answer {
        if deadline <= Instant::now() {
            // The caller has stopped waiting, and told the master that the offer is refused.
            self.offer_lost(offer.spec.id, ctx);
            return self.answer(refused("the offer was not judged in time"));
        }
        if self.readiness() == Readiness::Loading {
            // An earlier incarnation may have made the acceptance durable.
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

    /// Answers a repeated offer of an active task.
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

    /// Judges an offer whose first copy is being accepted or taken back at this moment, once that is done.
    fn judge_after(
        &self,
        settled: impl Future<Output = ()> + 'static,
        offer: Offer,
        deadline: Instant,
    ) -> Answer {
        // At the deadline it goes on all the same: `judge` then treats the offer as lost.
        let settled = async move { drop(timeout_at(deadline, settled).await) };
        Box::pin(settled.into_actor(self).then(move |(), actor, ctx| {
            failpoint!("registry.judge_after");
            actor.judge(offer, deadline, ctx)
        }))
    }

    /// Has a task's result sent once more, durably, since the master may overwrite it: the master writes 'running' after each
    /// acknowledgement, and the result may have left before this one.
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
                        // The change may become durable all the same, and then the result is owed, whether the master offers
                        // again or not.
                        actor.deliver_once_settled(task, ctx);
                    }
                    refused(format!("its result cannot be sent again now: {error}"))
                }
            }
        }))
    }

    /// The refusal of a new task, if there is a reason for one. A task that can never run here needs no room on the machine, but a
    /// turn among the results of impossible tasks.
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

    /// Makes an offer durable as a task; with an ending, as one that has failed already, in the same commit.
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

    /// Accepts an offer that kills each registry that judges it, and fails its task.
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
            // The caller has stopped waiting, and told the master that the offer is refused.
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

    /// Records that the answer to an offer was handed over. Without this record a task waits, after a restart, for its offer to be
    /// repeated, since its answer may never have left. Later phases say the same, so a quick task saves the commit.
    fn record_answer(&self, task: TaskId, ctx: &mut Context<Self>) {
        ctx.run_later(RECORD_ANSWER, move |actor, ctx| {
            failpoint!("registry.record_answer");
            let entry = actor.tasks.get(&task);
            if entry.is_some_and(Entry::wants_answer_recorded) {
                let records = actor.peers.records.clone();
                // The journal refuses this where the task was withdrawn meanwhile.
                let keep = async move { drop(records.keep(vec![Change::Answered(task)]).await) };
                ctx.spawn(keep.into_actor(actor));
            }
        });
    }

    /// Takes a refused offer out of the journal, where it may become durable all the same, before its id is free again.
    pub(super) fn withdraw(&mut self, task: TaskId, ctx: &mut Context<Self>) {
        let records = self.peers.records.clone();
        let change = Change::Withdraw(task.clone());
        ctx.spawn(async move { records.keep(vec![change]).await }.into_actor(self).map(move |kept, actor, _| {
            failpoint!("registry.withdrawn");
            actor.release(&task);
            match kept {
                Ok(()) => info!(task:%; "an offer that was refused is taken back"),
                // The offer never became durable.
                Err(refused) => debug!(task:%, refused:%; "an offer that was refused is not in the journal"),
            }
        }));
    }

    /// Answers an offer of a task that is in the journal but not active: if it is done, its result is sent once more; if not, it
    /// is taken up. An offer of the same id with another payload is refused.
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

    /// Takes up an unfinished task that the registry does not hold: it was accepted by a commit whose answer was lost.
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
                // The journal has the redelivery, and the outbox reads it at its next start.
                warn!(error:%; "a result that is wanted again waits for the outbox's next start");
            }
        };
        ctx.spawn(ask.into_actor(self));
    }
}

const LOADING: &str = "the worker is starting: its journal is being read";

const OTHER_PAYLOAD: &str = "another task with this id is known here; its payload is not the same";
