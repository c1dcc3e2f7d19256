//! Handles the news that the registry gets of its tasks, and of answers that were lost on their way to a master.

use actix::{ActorFutureExt, AsyncContext, Context, StreamHandler, WrapFuture};
use log::{debug, warn};
use tokio::time::Instant;

use super::{Readiness, RegistryActor, TELL, entry::TaskNews};
use crate::{
    actors::{
        outbox::hand_over,
        task::{ResultDelivered, ResultSealed},
    },
    domain::{
        id::TaskId,
        outcome::{Failure, Outcome},
        record::{Change, Ending, Outputs, Phase, TaskRecord},
        task::{Stage, StopReason},
    },
    failpoint,
    ports::journal::Known,
};

/// How many actors a task is given, one after the other, each with a restart budget of its own: one that runs the task, and a last
/// one that delivers its failure and cleans up.
const ACTORS_OF_A_TASK: u32 = 2;

impl StreamHandler<TaskNews> for RegistryActor {
    fn handle(&mut self, news: TaskNews, ctx: &mut Context<Self>) {
        failpoint!("registry.TaskNews", news);
        match news {
            TaskNews::Moved(task, stage) => self.moved(&task, stage),
            TaskNews::Uploading(task) => self.moved(&task, Stage::Uploading),
            TaskNews::Sealed(task) => self.sealed(&task, ctx),
            TaskNews::Delivered(task) => self.delivered(&task, ctx),
            TaskNews::Done(task) => self.release(&task),
            TaskNews::GaveUp(task, reason) => self.gave_up(task, reason, ctx),
            TaskNews::CancelKept(task) => self.cancel_kept(task, ctx),
            TaskNews::OfferLost(task) => self.offer_lost(task, ctx),
        }
    }
}

impl RegistryActor {
    fn moved(&mut self, task: &TaskId, stage: Stage) {
        let entry = self.tasks.get_mut(task);
        if entry.is_some_and(|entry| entry.move_to(stage)) {
            self.show();
        }
    }

    /// Frees the place of a sealed task, and tells its actor, which removes the container while the result is delivered.
    fn sealed(&mut self, task: &TaskId, ctx: &mut Context<Self>) {
        self.moved(task, Stage::Sealed);
        let Some(slot) = self.tasks.get(task).and_then(|entry| entry.slot.clone()) else {
            return;
        };
        let tell = async move {
            failpoint!("registry.tell_sealed");
            // A task that is being restarted reads the same in the journal.
            let _ = slot
                .ask_idempotent(ResultSealed, Instant::now() + TELL)
                .await;
        };
        ctx.spawn(tell.into_actor(self));
    }

    /// Tells the task's actor that the result is delivered, so that it cleans up. A task without an actor is closed here.
    pub(super) fn delivered(&mut self, task: &TaskId, ctx: &mut Context<Self>) {
        let Some(entry) = self.tasks.get(task) else {
            return;
        };
        if entry.is_impossible || entry.actors_lost >= ACTORS_OF_A_TASK {
            self.close_without_actor(task.clone(), ctx);
            return;
        }
        let Some(slot) = entry.slot.clone() else {
            return;
        };
        let tell = async move {
            failpoint!("registry.tell_delivered");
            // A task that is being restarted reads the same in the journal.
            let _ = slot
                .ask_idempotent(ResultDelivered, Instant::now() + TELL)
                .await;
        };
        ctx.spawn(tell.into_actor(self));
    }

    /// Fails a task whose actor failed too often, and has that delivered like any other end: by a last actor, which also cleans up,
    /// or without an actor where the last one failed too.
    fn gave_up(&mut self, task: TaskId, reason: String, ctx: &mut Context<Self>) {
        let Some(entry) = self.tasks.get_mut(&task) else {
            return;
        };
        entry.actors_lost += 1;
        let records = self.peers.records.clone();
        let change = Change::Ended {
            task: task.clone(),
            ending: Box::new(failed(Failure::Internal(reason))),
        };
        let read = async move {
            failpoint!("registry.gave_up");
            // The journal refuses this where the task had ended before: then that end stands.
            let _ = records.keep(vec![change]).await;
            records.find(&task, Instant::now() + TELL).await
        };
        ctx.spawn(read.into_actor(self).map(|known, actor, ctx| match known {
            Ok(Some(Known::Record(record))) => actor.finish_given_up(record, ctx),
            Ok(Some(Known::Retired(_) | Known::Unreadable) | None) => {}
            Err(error) => {
                warn!(error:%; "a task that failed internally cannot be read from the journal")
            }
        }));
    }

    fn finish_given_up(&mut self, record: Box<TaskRecord>, ctx: &mut Context<Self>) {
        let task = record.spec.id.clone();
        let lost = self.tasks.get(&task).map(|entry| entry.actors_lost);
        match lost {
            None => {}
            Some(lost) if lost < ACTORS_OF_A_TASK => self.launch_again(&record, ctx),
            Some(_) if record.phase >= Phase::Delivered => self.close_without_actor(task, ctx),
            Some(_) => self.deliver_without_actor(*record, ctx),
        }
    }

    pub(super) fn deliver_without_actor(&self, record: TaskRecord, ctx: &mut Context<Self>) {
        let outbox = self.peers.outbox.clone();
        let deliver = async move {
            failpoint!("registry.deliver_without_actor");
            hand_over(&outbox, record).await;
        };
        ctx.spawn(deliver.into_actor(self));
    }

    /// Marks a task without an actor as done; the janitor removes what is left of its container and files.
    fn close_without_actor(&mut self, task: TaskId, ctx: &mut Context<Self>) {
        let records = self.peers.records.clone();
        let done = Change::Done {
            task: task.clone(),
            at: self.peers.clock.now(),
        };
        let close = async move {
            failpoint!("registry.close_without_actor");
            let _ = records.keep(vec![done]).await;
        };
        ctx.spawn(
            close
                .into_actor(self)
                .map(move |(), actor, _| actor.release(&task)),
        );
    }

    /// Carries out a cancel that was made durable while the registry could not be asked.
    fn cancel_kept(&mut self, task: TaskId, ctx: &mut Context<Self>) {
        if let Some(entry) = self.tasks.get_mut(&task) {
            entry.cancelled = true;
            self.launch_unrepeated(&task, ctx);
            self.stop(&task, StopReason::Cancelled, ctx);
        } else if self.readiness() != Readiness::Ready {
            self.remember_cancel(task);
        }
    }

    /// Withdraws a task whose offer the master was told is refused, if it waits for a repeat: the master may take it elsewhere.
    pub(super) fn offer_lost(&mut self, task: TaskId, ctx: &mut Context<Self>) {
        match self.tasks.get(&task) {
            Some(entry) if entry.unrepeated.is_some() => self.withdraw_lost(&task, ctx),
            // The task was accepted, by this offer or an earlier one, and stays.
            Some(_) => debug!(task:%; "an answer was lost on its way to the master"),
            None if self.readiness() == Readiness::Loading => {
                self.lost_offers.insert(task, ());
            }
            None => {}
        }
    }

    pub(super) fn withdraw_lost(&mut self, task: &TaskId, ctx: &mut Context<Self>) {
        if let Some(entry) = self.tasks.get_mut(task) {
            entry.unrepeated = None;
            entry.standing = super::Standing::Accepting;
        }
        self.withdraw(task.clone(), ctx);
    }
}

/// The ending of a task that failed without a container.
pub(super) fn failed(failure: Failure) -> Ending {
    Ending {
        outcome: Outcome::Failed(failure),
        exit: None,
        outputs: Outputs::default(),
        notes: Vec::new(),
    }
}
