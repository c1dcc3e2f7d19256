//! Removes what is no longer needed: tasks whose retention is over, containers, logs and output folders of this worker that no
//! task knows, and images that it pulled and nothing uses. Also watches the disk and the size of the state folder. A result that
//! is not delivered is never removed before its retention is over, and other people's containers are not touched.

mod ages;
mod disk;
mod images;
mod strays;

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, WrapFuture};
use log::{debug, warn};
use tokio::{sync::watch, time::Instant};

pub use self::{
    ages::Ages,
    disk::{no_room, no_room_of_engine},
};
use self::{disk::Used, strays::Strays};
use super::{
    engine_watch::EngineView,
    journal::Records,
    outbox::{DropParked, OutboxActor},
};
use crate::{
    domain::{
        id::{ContainerId, TaskId},
        record::Change,
        shelf::Upkeep,
    },
    failpoint,
    ports::{
        clock::Clock,
        engine::{ContainerEngine, Force, Listed, Ours, Proof},
        holdings::{Holdings, Known},
        journal::Household,
        outputs::OutputStore,
        spool::SpoolStore,
    },
    supervision::{Slot, halt_if_replaced, threads::blocking},
    telemetry::machine::Room,
};

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(30);

/// How long the outbox may take to drop a parked result; else it is asked in the next round.
const ASK: Duration = Duration::from_secs(10);

/// Between two looks at the disk.
const DISK: Duration = Duration::from_secs(2);

/// What is kept, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// How long records and logs of finished tasks, and parked results, are kept.
    pub keep: Duration,
    /// How long containers, logs and output folders that no task knows are left alone: they may belong to a start that is still
    /// under way.
    pub orphan_grace: Duration,
    /// Most bytes of the state folder: over it logs of finished tasks are removed, the oldest first, and if that is not enough
    /// new tasks are refused.
    pub total: u64,
    /// Bytes that must be free on the disk: with less new tasks are refused.
    pub disk_low: u64,
    /// Which images that were pulled for tasks are removed again.
    pub images: Upkeep,
}

/// A number of bytes on the state folder's disk.
pub type DiskFigure = Arc<dyn Fn() -> std::io::Result<u64> + Send + Sync>;

/// The free space on the disk of a folder; for `None`, of the state folder.
pub type RoomFigure = Arc<dyn Fn(Option<&Path>) -> std::io::Result<Room> + Send + Sync>;

/// What the janitor works with.
#[derive(Clone)]
pub struct Tools {
    /// The journal.
    pub records: Records,
    /// Drops parked results whose retention is over.
    pub outbox: Slot<OutboxActor>,
    /// A clock that settings of the machine's time do not move within this process: parked results are dated by it.
    pub clock: Arc<dyn Clock>,
    /// Logs.
    pub spools: Arc<dyn SpoolStore>,
    /// Output folders.
    pub outputs: Arc<dyn OutputStore>,
    /// Logs and output folders, as stores on the disk.
    pub holdings: Vec<Arc<dyn Holdings>>,
    /// Containers.
    pub engine: Arc<dyn ContainerEngine>,
    /// The board about the engine.
    pub view: Arc<EngineView>,
    /// How long ago each finished task finished.
    pub ages: Arc<Ages>,
    /// Measures the free space of a disk.
    pub room: RoomFigure,
    /// Measures the state folder without what is in `holdings`.
    pub own_space: DiskFigure,
    /// Why new tasks are refused for want of room; the registry looks at it.
    pub pressure: Arc<watch::Sender<Option<String>>>,
    /// What is kept, as it is set now.
    pub retention: watch::Receiver<Retention>,
}

/// The actor that cleans up. See the module.
pub struct JanitorActor {
    tools: Tools,
    strangers: HashMap<ContainerId, Instant>,
    /// Containers with this worker's labels that were not made by it.
    left_alone: HashSet<ContainerId>,
    strays: Strays,
    cleaning: bool,
    /// The size of the state folder, as last measured.
    used: Option<Used>,
    looking: bool,
}

impl JanitorActor {
    /// A janitor with these tools.
    #[must_use]
    pub fn new(tools: Tools) -> Self {
        Self {
            tools,
            strangers: HashMap::new(),
            left_alone: HashSet::new(),
            strays: Strays::default(),
            cleaning: false,
            used: None,
            looking: false,
        }
    }

    fn round(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.cleaning, true) {
            // The last round is still waiting for the journal or the engine.
            return;
        }
        let tools = self.tools.clone();
        let retire = async move {
            failpoint!("janitor.round");
            let household = tools.records.household().await;
            tools.retire(&household).await;
            tools.collect_images(&household).await;
            household
        };
        ctx.spawn(
            retire
                .into_actor(self)
                .then(|household, actor, _| {
                    failpoint!("janitor.orphans");
                    let orphans = actor.orphans(&household);
                    let known = actor.known(household);
                    let (tools, strays) = (actor.tools.clone(), actor.strays.clone());
                    let remove = async move {
                        tools.remove_orphans(orphans).await;
                        match known {
                            Some(known) => tools.remove_strays(known, strays).await,
                            None => strays,
                        }
                    };
                    remove.into_actor(actor)
                })
                .map(|strays, actor, _| {
                    actor.strays = strays;
                    actor.cleaning = false;
                }),
        );
    }

    /// Containers of this worker that no unfinished task knows, seen for longer than the grace. Others with this worker's labels
    /// are logged once, and left alone.
    fn orphans(&mut self, household: &Household) -> Vec<Listed> {
        let listing = self.tools.view.listing().borrow().clone();
        let (strangers, others) = nobodys(&listing.containers, household);
        self.leave_alone(&others);
        self.strangers
            .retain(|id, _| strangers.iter().any(|listed| listed.id == *id));
        let grace = self.tools.retention().orphan_grace;
        let mut orphans = Vec::new();
        for listed in strangers {
            let seen = *self
                .strangers
                .entry(listed.id.clone())
                .or_insert_with(Instant::now);
            if seen.elapsed() >= grace {
                orphans.push(listed.clone());
            }
        }
        orphans
    }

    fn leave_alone(&mut self, others: &[&Listed]) {
        self.left_alone
            .retain(|id| others.iter().any(|listed| listed.id == *id));
        for listed in others {
            if self.left_alone.insert(listed.id.clone()) {
                let task = listed.ours.task.escape_debug().to_string();
                warn!(container:% = listed.id, task; "a container has the labels of this worker and was not made by it: a copy of one, or one of another state folder; it is left alone");
            }
        }
    }

    /// The tasks that logs and output folders may belong to; `None` while the engine's containers are not known, since a lost
    /// journal is rebuilt from those.
    fn known(&self, household: Household) -> Option<Known> {
        let listing = self.tools.view.listing().borrow().clone();
        let listed = listing.containers.iter();
        let of_containers = listed.filter_map(|listed| TaskId::new(listed.ours.task.clone()).ok());
        let finished = household.finished.into_iter().map(|(task, _)| task);
        let unfinished = household.unfinished.into_iter().chain(of_containers);
        (listing.number > 0).then(|| Known {
            unfinished: unfinished.collect(),
            finished: finished.collect(),
        })
    }

    fn look_at_disk(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.looking, true) {
            return;
        }
        let (tools, used) = (self.tools.clone(), self.used);
        let look = async move {
            failpoint!("janitor.disk");
            tools.look_at_disk(used).await
        };
        ctx.spawn(look.into_actor(self).map(|used, actor, _| {
            actor.used = used;
            actor.looking = false;
        }));
    }
}

impl Actor for JanitorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        failpoint!("janitor.started");
        self.look_at_disk(ctx);
        ctx.run_interval(DISK, Self::look_at_disk);
        let grace = self.tools.retention().orphan_grace;
        ctx.run_interval(ROUND.min(grace), Self::round);
    }
}

crate::answers_pings!(JanitorActor);

/// The containers that no unfinished task knows: those that may be removed, and those that may not. One that carries this state
/// folder's mark may be; one that is only older than the mark may be if the journal knows its task, which has finished then.
fn nobodys<'a>(
    containers: &'a [Listed],
    household: &Household,
) -> (Vec<&'a Listed>, Vec<&'a Listed>) {
    let finished = household.finished.iter();
    let finished: HashSet<&str> = finished.map(|(task, _)| task.as_str()).collect();
    let is_removable = |ours: &Ours| match ours.proof {
        Proof::Mark => true,
        Proof::Age => finished.contains(ours.task.as_str()),
        Proof::Name | Proof::Copy | Proof::None => false,
    };
    let unfinished = household.unfinished.iter();
    let active: HashSet<&str> = unfinished.map(TaskId::as_str).collect();
    // A copy has the task's labels too, but not its name; a renamed container still has its id.
    let is_known = |listed: &Listed| {
        let is_named =
            listed.ours.proof >= Proof::Name || household.containers.contains(&listed.id);
        is_named && active.contains(listed.ours.task.as_str())
    };
    let unknown = containers.iter().filter(|listed| !is_known(listed));
    unknown.partition(|listed| is_removable(&listed.ours))
}

impl Tools {
    /// The retention in force now.
    fn retention(&self) -> Retention {
        *self.retention.borrow()
    }

    async fn retire(&self, household: &Household) {
        failpoint!("janitor.retire");
        self.ages.keep_those_of(household);
        self.let_go(household).await;
        let mut over = self.used_bytes().await > self.retention().total;
        for (task, _) in &household.finished {
            if over || self.ages.of_done(task) >= self.retention().keep {
                self.forget(task).await;
                over = over && self.used_bytes().await > self.retention().total;
            }
        }
    }

    /// Drops parked results that are older than the retention: their tasks end like those with delivered results.
    async fn let_go(&self, household: &Household) {
        let now = self.clock.now();
        let overdue = household.parked.iter().filter(|(_, since)| {
            let age = now.duration_since(*since).unwrap_or_default();
            age >= self.retention().keep
        });
        for (task, _) in overdue {
            let drop = DropParked {
                task: task.clone(),
                why: "its retention is over".into(),
            };
            // If the outbox does not answer, it is asked in the next round.
            let _ = self.outbox.ask_idempotent(drop, Instant::now() + ASK).await;
        }
    }

    /// Retires a finished task. The record goes first: a log without a record is harmless, but a record must not promise a log
    /// that is gone.
    async fn forget(&self, task: &TaskId) {
        if let Err(refused) = self.records.keep(vec![Change::Retire(task.clone())]).await {
            warn!(task:%, refused:%; "a finished task could not be retired");
            return;
        }
        let (spools, outputs, name) = (
            Arc::clone(&self.spools),
            Arc::clone(&self.outputs),
            task.clone(),
        );
        let removed =
            blocking(move || spools.remove(&name).and_then(|()| outputs.remove(&name))).await;
        match removed {
            Ok(Ok(())) => {
                debug!(task:%; "the log of a finished task was removed; its retention is over")
            }
            Ok(Err(error)) => {
                warn!(task:%, error:%; "the log of a finished task could not be removed")
            }
            Err(error) => warn!(task:%, error:%; "the log of a finished task could not be removed"),
        }
    }

    async fn remove_orphans(&self, orphans: Vec<Listed>) {
        for orphan in orphans {
            let task = orphan.ours.task.escape_debug().to_string();
            halt_if_replaced().await;
            match self.engine.remove(&orphan.id, Force::Yes).await {
                Ok(()) => {
                    warn!(container:% = orphan.id, task; "a container of ours that no task knows was removed")
                }
                Err(error) => {
                    warn!(container:% = orphan.id, task, error:%; "an orphan could not be removed")
                }
            }
        }
    }
}
