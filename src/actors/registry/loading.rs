//! What a new incarnation has to know before it judges: the journal's tasks first, then the engine's containers. Tasks that
//! run are not touched by it; those that nobody runs are taken up.

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

/// A master repeats an offer whose answer it did not get every 5 s.
const REPEATED_OFFER: Duration = Duration::from_secs(15);

/// What is kept of an offer's time to say why it is refused.
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
            // The incarnation before may not have come to it.
            self.deliver_again(task, None, ctx);
        }
        self.readiness.send_replace(Readiness::Reconciling);
        self.show();
        self.reconcile(ctx);
    }

    /// Holds a task of the journal, and sees to it that somebody runs it.
    fn take_in(&mut self, mut record: TaskRecord, ctx: &mut Context<Self>) {
        let task = record.spec.id.clone();
        // A cancel that came while the journal was being read may be younger than what was read.
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
        // A task that ran on while the registry was replaced may not have heard of what is durable.
        if record.cancel_requested && record.phase < Phase::Ended {
            self.stop(&task, StopReason::Cancelled, ctx);
        }
        if record.phase == Phase::Delivered {
            self.delivered(&task, ctx);
        }
    }

    /// Nobody knows whether the master has our answer: if not, it offers the task again, or takes it elsewhere if it was told
    /// so.
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

    /// Starts a task that waits for its offer to be repeated, if this is one.
    pub(super) fn launch_unrepeated(&mut self, task: &TaskId, ctx: &mut Context<Self>) {
        let entry = self.tasks.get_mut(task);
        if let Some(record) = entry.and_then(|entry| entry.unrepeated.take()) {
            self.launch_again(&record, ctx);
        }
    }

    /// Offers are judged once the engine's containers were compared with the journal: a container that the journal does not
    /// know (it was lost) is adopted from its labels, so that a repeated offer starts no second copy.
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

    /// Says that tasks are taken, once that is so: the master knows us, and nothing is in the way.
    fn say_ready(&self, ctx: &mut Context<Self>) {
        let mut registered = self.peers.registered.clone();
        let mut pressure = self.peers.pressure.clone();
        let mut engine = self.peers.engine.status();
        let mut cordon = self.peers.cordon.subscribe();
        let ready = async move {
            failpoint!("registry.say_ready");
            // Until the disk was looked at for the first time, nobody knows.
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

    /// The same at every further listing: the engine may have come back with containers that it did not show before.
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

    /// What the journal does not know of a listing, and is told; with the listing's number.
    fn unknown_of(&self, listing: Listing) -> impl Future<Output = (u64, Vec<TaskRecord>)> + use<> {
        let strangers: Vec<_> = labelled(&listing)
            .filter(|record| !self.tasks.contains_key(&record.spec.id))
            .collect();
        let records = self.peers.records.clone();
        async move {
            let mut unknown = Vec::new();
            for record in strangers {
                // One that is finished is the janitor's.
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
                // The sender lives as long as the registry's view of it, and so as long as this.
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
            // The sender lives as long as the actor, and so as long as this.
            let _ = readiness.wait_for(|now| *now > Readiness::Loading).await;
        }
    }

    /// Waits until offers can be judged, which takes a moment after a restart: not longer than until `deadline`, and not for
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
            // Too late, or never: the offer is judged by what is known, which refuses it, in time to say why.
            let _ = timeout_at(deadline - WORDS, known).await;
        }
    }
}

/// Nothing was done for it that could not be taken back.
fn has_not_begun(record: &TaskRecord) -> bool {
    let is_impossible = record.ending.as_ref().is_some_and(Ending::is_impossible);
    record.phase == Phase::Accepted || (record.phase == Phase::Ended && is_impossible)
}

/// Records that can be rebuilt from labels that are to be believed: made from this state folder, or from the one that was lost
/// before it.
fn labelled(listing: &Listing) -> impl Iterator<Item = TaskRecord> {
    let containers = listing.containers.iter();
    let believed = containers.filter(|listed| listed.ours.proof >= Proof::Age);
    believed.filter_map(|listed| listed.record.as_deref().cloned())
}

/// Makes them durable. Of two containers of one task the journal keeps the first.
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
