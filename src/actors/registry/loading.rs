//! Loads what a new incarnation of the registry has to know before it judges offers: the journal's tasks first, then the engine's
//! containers. Tasks that run are not touched by this; tasks without an actor get one.

use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use log::warn;
use tokio::time::{Instant, timeout_at};

use super::{Readiness, RegistryActor, entry::Entry};
use crate::{
    actors::{
        engine_watch::{EngineStatus, Listing},
        journal::Records,
    },
    domain::{
        id::TaskId,
        record::{Change, Ending, Phase, Snapshot, TaskRecord},
        task::StopReason,
    },
    failpoint,
    ports::engine::Proof,
    telemetry::operator,
};

/// How long a task waits for its offer to be repeated. A master repeats an offer whose answer it did not get every 5 s.
const REPEATED_OFFER: Duration = Duration::from_secs(15);

/// The time before an offer's deadline that is kept for telling why it is refused.
const WORDS: Duration = Duration::from_millis(100);

impl RegistryActor {
    pub(super) fn load(&mut self, ctx: &mut Context<Self>) {
        let records = self.peers.records.clone();
        ctx.spawn(
            async move { records.unfinished().await }
                .into_actor(self)
                .map(|snapshot, actor, ctx| {
                    failpoint!("registry.load");
                    actor.take_in_all(snapshot, ctx);
                }),
        );
    }

    fn take_in_all(&mut self, snapshot: Snapshot, ctx: &mut Context<Self>) {
        self.take_in_cordon(&snapshot.settings, ctx);
        for task in snapshot.early_cancels {
            self.early_cancels.insert(task, ());
        }
        for record in snapshot.tasks {
            self.take_in(record, ctx);
        }
        for task in snapshot.redeliveries {
            // The earlier incarnation may have died before it told the outbox.
            self.deliver_again(task, None, ctx);
        }
        self.readiness.send_replace(Readiness::Reconciling);
        self.show();
        self.reconcile(ctx);
    }

    /// Holds a task of the journal, and starts its actor, unless its offer has to be repeated first.
    fn take_in(&mut self, mut record: TaskRecord, ctx: &mut Context<Self>) {
        let task = record.spec.id.clone();
        // A cancel that came while the journal was being read may be younger than the record.
        record.cancel_requested |= self.early_cancels.remove(&task).is_some();
        self.hold(Entry::of_record(&record));
        if has_not_begun(&record)
            && !record.answered
            && !record.cancel_requested
            && self.peers.directory.find(&task).is_none()
        {
            self.await_repeat(record, ctx);
            return;
        }
        self.launch_again(&record, ctx);
        // A task that ran on while the registry was replaced may not have heard of a cancel or a delivery that is durable.
        if record.cancel_requested && record.phase < Phase::Ended {
            self.stop(&task, StopReason::Cancelled, ctx);
        }
        if record.phase == Phase::Delivered {
            self.delivered(&task, ctx);
        }
    }

    /// Lets a task wait for its offer to be repeated, since it is not known whether the master has the worker's answer: without it
    /// the master offers the task again. Where the master was told that the offer is refused, the task is withdrawn, as it may run
    /// elsewhere.
    fn await_repeat(&mut self, record: TaskRecord, ctx: &mut Context<Self>) {
        let task = record.spec.id.clone();
        if let Some(entry) = self.tasks.get_mut(&task) {
            entry.unrepeated = Some(Box::new(record));
        }
        if self.lost_offers.remove(&task).is_some() {
            self.withdraw_lost(&task, ctx);
            return;
        }
        ctx.run_later(REPEATED_OFFER, move |actor, ctx| {
            failpoint!("registry.unrepeated_offer");
            actor.launch_unrepeated(&task, ctx);
        });
    }

    /// Starts the task, if it waits for its offer to be repeated.
    pub(super) fn launch_unrepeated(&mut self, task: &TaskId, ctx: &mut Context<Self>) {
        let entry = self.tasks.get_mut(task);
        if let Some(record) = entry.and_then(|entry| entry.unrepeated.take()) {
            self.launch_again(&record, ctx);
        }
    }

    /// Compares the engine's containers with the journal, and only then lets offers be judged: a container whose task the journal
    /// does not know (the journal was lost) is adopted from its labels, so that a repeated offer starts no second copy.
    fn reconcile(&mut self, ctx: &mut Context<Self>) {
        let compare = self.listed_after(0).into_actor(self);
        let compare = compare.then(|listing, actor, _| {
            failpoint!("registry.compare");
            actor.unknown_of(listing).into_actor(actor)
        });
        ctx.spawn(compare.map(|(number, adopted), actor, ctx| {
            failpoint!("registry.reconcile");
            actor.adopt(adopted, ctx);
            actor.readiness.send_replace(Readiness::Ready);
            actor.say_ready(ctx);
            actor.show();
            actor.reconcile_again(number, ctx);
        }));
    }

    /// Tells the operator that the worker takes tasks, as soon as it is registered, has no cordon, no pressure and its engine.
    fn say_ready(&self, ctx: &mut Context<Self>) {
        let mut registered = self.peers.registered.clone();
        let mut pressure = self.peers.pressure.clone();
        let mut engine = self.peers.engine.status();
        let mut cordon = self.peers.cordon.subscribe();
        let ready = async move {
            failpoint!("registry.say_ready");
            // Before the first look at the disk there is no pressure, even if the disk is full.
            let _ = pressure.changed().await;
            loop {
                let open = async {
                    registered.wait_for(|registered| *registered).await.ok()?;
                    pressure.wait_for(Option::is_none).await.ok()?;
                    cordon.wait_for(Option::is_none).await.ok()?;
                    let here = |status: &EngineStatus| matches!(status, EngineStatus::Here(_));
                    engine.wait_for(here).await.ok().map(drop)
                };
                // The boards live as long as the process.
                if open.await.is_none() {
                    return;
                }
                let is_here = matches!(*engine.borrow(), EngineStatus::Here(_));
                let is_free = pressure.borrow().is_none() && cordon.borrow().is_none();
                if *registered.borrow() && is_free && is_here {
                    return operator::ready();
                }
            }
        };
        ctx.spawn(ready.into_actor(self));
    }

    /// Compares every further listing too: the engine may have come back with containers that it did not show before.
    fn reconcile_again(&mut self, number: u64, ctx: &mut Context<Self>) {
        let listed = self.listed_after(number);
        let compare = listed.into_actor(self).then(|listing, actor, _| {
            failpoint!("registry.reconcile_again");
            actor.unknown_of(listing).into_actor(actor)
        });
        ctx.spawn(compare.map(|(number, adopted), actor, ctx| {
            if !adopted.is_empty() {
                actor.adopt(adopted, ctx);
                actor.show();
            }
            actor.reconcile_again(number, ctx);
        }));
    }

    /// The tasks of a listing that the journal did not know, made durable now; with the listing's number.
    fn unknown_of(&self, listing: Listing) -> impl Future<Output = (u64, Vec<TaskRecord>)> + use<> {
        let strangers: Vec<_> = labelled(&listing)
            .filter(|record| !self.tasks.contains_key(&record.spec.id))
            .collect();
        let records = self.peers.records.clone();
        async move {
            let mut unknown = Vec::new();
            for record in strangers {
                // The container of a finished task is removed by the janitor.
                if records.find_in_the_end(&record.spec.id).await.is_none() {
                    unknown.push(record);
                }
            }
            (listing.number, accept_all(unknown, &records).await)
        }
    }

    /// Waits for a listing with a higher number.
    fn listed_after(&self, number: u64) -> impl Future<Output = Listing> + use<> {
        let mut listing = self.peers.engine.listing();
        async move {
            match listing.wait_for(|listing| listing.number > number).await {
                Ok(listing) => listing.clone(),
                // Cannot happen: the sender lives as long as the engine's view, which the registry holds.
                Err(_) => std::future::pending().await,
            }
        }
    }

    fn adopt(&mut self, adopted: Vec<TaskRecord>, ctx: &mut Context<Self>) {
        for record in adopted {
            warn!(task:% = record.spec.id; "a container that the journal does not know is adopted from its labels");
            self.take_in(record, ctx);
        }
    }

    /// Waits until the journal has been read.
    pub(super) fn loaded(&self) -> impl Future<Output = ()> + use<> {
        let mut readiness = self.readiness.subscribe();
        async move {
            // An error cannot happen: the sender lives as long as the actor, which outlives this future.
            let _ = readiness.wait_for(|now| *now > Readiness::Loading).await;
        }
    }

    /// Waits until offers can be judged, which takes a moment after a restart: until shortly before `deadline` at most, and not for
    /// an engine that is away.
    pub(super) fn settled(&self, deadline: Instant) -> impl Future<Output = ()> + use<> {
        let mut readiness = self.readiness.subscribe();
        let status = self.peers.engine.status();
        async move {
            let known = readiness.wait_for(|readiness| match readiness {
                Readiness::Loading => false,
                Readiness::Reconciling => matches!(*status.borrow(), EngineStatus::Away { .. }),
                Readiness::Ready => true,
            });
            // If that takes too long, the offer is judged all the same, and refused in time with the reason.
            let _ = timeout_at(deadline - WORDS, known).await;
        }
    }
}

/// Whether nothing was done for the task that could not be taken back.
fn has_not_begun(record: &TaskRecord) -> bool {
    let is_impossible = record.ending.as_ref().is_some_and(Ending::is_impossible);
    record.phase == Phase::Accepted || (record.phase == Phase::Ended && is_impossible)
}

/// The records rebuilt from the labels of a listing, of those containers whose labels are believed: made from this state folder, or
/// older than it (its predecessor was lost).
fn labelled(listing: &Listing) -> impl Iterator<Item = TaskRecord> {
    let containers = listing.containers.iter();
    let believed = containers.filter(|listed| listed.ours.proof >= Proof::Age);
    believed.filter_map(|listed| listed.record.as_deref().cloned())
}

/// Makes unknown records durable, and returns those that the journal took: of two containers of one task, the first.
async fn accept_all(unknown: Vec<TaskRecord>, records: &Records) -> Vec<TaskRecord> {
    let mut accepted = Vec::new();
    for record in unknown {
        let accept = Change::Accept(Box::new(record.clone()));
        if records.keep(vec![accept]).await.is_ok() {
            accepted.push(record);
        }
    }
    accepted
}
