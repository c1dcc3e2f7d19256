//! Keeps the house clean: retires tasks whose retention is over, removes containers of ours that no task knows, and watches
//! the disk. Nothing that is not delivered is ever removed, and nobody else's containers are touched.

use std::{collections::HashMap, sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, WrapFuture};
use log::{info, warn};
use tokio::{sync::watch, task::spawn_blocking, time::Instant};

use super::{engine_watch::EngineView, journal::Records};
use crate::{
    domain::{
        id::{ContainerId, TaskId},
        record::{Change, Phase, Snapshot, TaskRecord},
    },
    failpoint,
    ports::{
        clock::Clock,
        engine::{ContainerEngine, Force, Listed},
        outputs::OutputStore,
        spool::SpoolStore,
    },
};

/// Between two rounds.
const ROUND: Duration = Duration::from_secs(30);

/// Between two looks at the disk.
const DISK: Duration = Duration::from_secs(2);

/// What is kept, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// How long records and logs of finished tasks are kept.
    pub keep: Duration,
    /// A container of ours that no task knows may be the work of a create that is still on its way: so long it is left alone.
    pub orphan_grace: Duration,
    /// All logs together take no more than this; the oldest finished go first. In bytes.
    pub spool_total: u64,
    /// With less free space than this new tasks are refused. In bytes.
    pub disk_low: u64,
}

/// Free bytes on the disk of the state folder.
pub type FreeSpace = Arc<dyn Fn() -> std::io::Result<u64> + Send + Sync>;

/// What the janitor works with.
#[derive(Clone)]
pub struct Tools {
    /// What is durable.
    pub records: Records,
    /// Logs.
    pub spools: Arc<dyn SpoolStore>,
    /// Output folders.
    pub outputs: Arc<dyn OutputStore>,
    /// Containers.
    pub engine: Arc<dyn ContainerEngine>,
    /// What is there of ours.
    pub view: Arc<EngineView>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// The disk.
    pub free_space: FreeSpace,
    /// Why new tasks are refused, for the registry.
    pub pressure: Arc<watch::Sender<Option<String>>>,
    /// What is kept.
    pub retention: Retention,
}

/// See the module.
pub struct JanitorActor {
    tools: Tools,
    strangers: HashMap<ContainerId, Instant>,
    cleaning: bool,
}

impl JanitorActor {
    /// Cleans with `tools`.
    #[must_use]
    pub fn new(tools: Tools) -> Self {
        Self {
            tools,
            strangers: HashMap::new(),
            cleaning: false,
        }
    }

    fn round(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.cleaning, true) {
            // The last round waits for the journal or the engine.
            return;
        }
        let tools = self.tools.clone();
        let retire = async move {
            failpoint!("janitor.round");
            let snapshot = tools.records.snapshot().await;
            tools.retire(&snapshot).await;
            snapshot
        };
        ctx.spawn(
            retire
                .into_actor(self)
                .then(|snapshot, actor, _| {
                    failpoint!("janitor.orphans");
                    let orphans = actor.orphans(&snapshot);
                    let tools = actor.tools.clone();
                    async move { tools.remove_orphans(orphans).await }.into_actor(actor)
                })
                .map(|(), actor, _| actor.cleaning = false),
        );
    }

    /// Containers of ours that no unfinished task knows, seen for longer than the grace.
    fn orphans(&mut self, snapshot: &Snapshot) -> Vec<Listed> {
        let active: std::collections::HashSet<&str> = snapshot
            .tasks
            .iter()
            .filter(|record| record.phase != Phase::Done)
            .map(|record| record.spec.id.as_str())
            .collect();
        let listing = self.tools.view.listing().borrow().clone();
        let strangers: Vec<&Listed> = listing
            .containers
            .iter()
            .filter(|listed| !active.contains(listed.ours.task.as_str()))
            .collect();
        self.strangers
            .retain(|id, _| strangers.iter().any(|listed| listed.id == *id));
        let mut orphans = Vec::new();
        for listed in strangers {
            let seen = *self
                .strangers
                .entry(listed.id.clone())
                .or_insert_with(Instant::now);
            if seen.elapsed() >= self.tools.retention.orphan_grace {
                orphans.push(listed.clone());
            }
        }
        orphans
    }

    fn look_at_disk(&mut self, ctx: &mut Context<Self>) {
        let tools = self.tools.clone();
        ctx.spawn(async move { tools.look_at_disk().await }.into_actor(self));
    }
}

impl Actor for JanitorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        failpoint!("janitor.started");
        self.look_at_disk(ctx);
        ctx.run_interval(DISK, Self::look_at_disk);
        ctx.run_interval(ROUND.min(self.tools.retention.orphan_grace), Self::round);
    }
}

crate::answers_pings!(JanitorActor);

impl Tools {
    async fn retire(&self, snapshot: &Snapshot) {
        failpoint!("janitor.retire");
        let now = self.clock.now();
        let done: Vec<&TaskRecord> = snapshot
            .tasks
            .iter()
            .filter(|record| record.phase == Phase::Done)
            .collect();
        let old = |record: &TaskRecord| {
            let age = record
                .done_at
                .and_then(|done| now.duration_since(done).ok());
            age.is_some_and(|age| age >= self.retention.keep)
        };
        for record in done {
            if old(record) || self.spools.total_bytes() > self.retention.spool_total {
                self.forget(&record.spec.id).await;
            }
        }
    }

    /// The record first: a log without a record is harmless, a record without its log is not true.
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
            spawn_blocking(move || spools.remove(&name).and_then(|()| outputs.remove(&name))).await;
        match removed {
            Ok(Ok(())) => {
                info!(task:%; "the log of a finished task was removed; its retention is over")
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

    async fn look_at_disk(&self) {
        failpoint!("janitor.disk");
        let free_space = Arc::clone(&self.free_space);
        let Ok(Ok(free)) = spawn_blocking(move || free_space()).await else {
            return;
        };
        let low = self.retention.disk_low;
        let why = (free < low).then(|| {
            format!(
                "the disk is full: {} MiB are free, {} MiB are needed",
                free / 1_048_576,
                low / 1_048_576
            )
        });
        self.pressure.send_if_modified(|pressure| {
            let changed = pressure.is_some() != why.is_some();
            if changed {
                match &why {
                    Some(why) => warn!(free; "new tasks are refused: {why}"),
                    None => info!(free; "new tasks are taken again: there is room on the disk"),
                }
            }
            *pressure = why;
            changed
        });
    }
}
