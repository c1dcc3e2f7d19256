//! The registry of tasks: admission, room held, repeated offers, routing of cancels. Holds active tasks only; the journal remembers
//! the finished ones. It decides one thing at a time, so that an offer, a cancel and the sealing of an outcome cannot overtake each
//! other.

mod admit;
mod cancel;
mod cordon;
mod entry;
mod launch;
mod loading;
mod news;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, WrapFuture,
};
use tokio::{sync::watch, time::Instant};

use self::entry::{Entry, Standing};
pub use self::{
    admit::{AssignTask, FailOffer},
    cancel::{CancelTask, finished_answer},
    cordon::SetCordon,
    entry::TaskNews,
    launch::TaskDirectory,
};
use super::{
    engine_watch::EngineView, journal::Records, news::NewsDesk, outbox::OutboxActor, task::TaskEnv,
};
use crate::{
    domain::{
        admission::Ledger,
        cordon::Cordon,
        id::{TaskId, WorkerId},
        limits,
        recent::Recent,
        settle::SettleTime,
        spec::MachineTotals,
        task::StopReason,
    },
    failpoint,
    ports::{clock::Clock, master::RunningTask},
    supervision::{self, Slot, SupervisorHandle},
};

/// How long a message to a task's actor or to the outbox may wait for its answer.
const TELL: Duration = Duration::from_secs(30);

/// Asks whether the outcome of a task may be sealed now. The answer holds until the next message: the journal decides in the
/// end.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Sealing")]
pub struct GetSealing(pub TaskId);

/// Whether an outcome may be sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sealing {
    /// The settle time after the last acknowledgement of its offer is not over.
    NotBefore(Instant),
    /// The outcome may be sealed.
    Now {
        /// A cancel was acknowledged: the outcome is 'cancelled'.
        cancelled: bool,
        /// The operator who cancelled the task at this worker, if one did and this process knows it.
        by: Option<String>,
    },
}

/// Asks whether a task is active: accepted, and not yet the journal's alone.
#[derive(Debug, Clone, Message)]
#[rtype(result = "bool")]
pub struct GetStanding(pub TaskId);

/// Refuses every further offer, with that reason. Running tasks go on.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Drain(pub String);

/// Stops every task, since the operator stops the worker and its tasks with it. Idempotent.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct StopAll;

/// The rules by which the registry admits tasks.
#[derive(Debug, Clone)]
pub struct AdmissionRules {
    /// The amounts that tasks can be given in all.
    pub totals: MachineTotals,
    /// The most tasks at once (`--max-tasks`); a reload may change it.
    pub max_tasks: watch::Receiver<usize>,
    /// How long the engine may be away before offers are refused.
    pub engine_patience: Duration,
}

/// The actors, boards and ports that the registry works with.
#[derive(Clone)]
pub struct RegistryPeers {
    /// This worker's id.
    pub worker: WorkerId,
    /// The journal's records.
    pub records: Records,
    /// The outbox: results that a master wants again go there.
    pub outbox: Slot<OutboxActor>,
    /// Whether the engine answers, and which containers it has.
    pub engine: Arc<EngineView>,
    /// The supervisor, which starts tasks' actors; `None` until it runs.
    pub supervisor: watch::Receiver<Option<SupervisorHandle>>,
    /// The slots of running tasks.
    pub directory: Arc<TaskDirectory>,
    /// The ports and rules that every task's actor works with.
    pub env: Arc<TaskEnv>,
    /// How long a report waits after the last acknowledgement of its offer.
    pub settle: Arc<Mutex<SettleTime>>,
    /// The time of day, for records.
    pub clock: Arc<dyn Clock>,
    /// Why new tasks are refused although there is room (the disk is full, ...), if they are.
    pub pressure: watch::Receiver<Option<String>>,
    /// Why new tasks are refused for good, if they are.
    pub draining: Draining,
    /// The operator's order to refuse new tasks, if there is one.
    pub cordon: CordonBoard,
    /// Shows whether the engine's containers were compared with the journal since the start: new tasks are taken from then on.
    pub reconciled: Arc<watch::Sender<bool>>,
    /// Whether this worker is registered with the master.
    pub registered: watch::Receiver<bool>,
}

/// The running tasks for heartbeats, kept outside of the actor so that they outlive its incarnations.
pub type Board = Arc<watch::Sender<Arc<Vec<RunningTask>>>>;

/// The registry's actor; see the module.
pub struct RegistryActor {
    peers: RegistryPeers,
    rules: AdmissionRules,
    board: Board,
    desk: NewsDesk<TaskNews>,
    /// The active tasks, sorted by id so that every run goes through them in the same order.
    tasks: BTreeMap<TaskId, Entry>,
    /// Ids whose cancels came before their tasks were known.
    early_cancels: Recent<TaskId>,
    /// Ids of offers that a master was told are refused before it was known whether they had been accepted.
    lost_offers: Recent<TaskId>,
    /// Ids of offers that killed the journal's actor, each with the time when they did.
    poison: Recent<TaskId, Instant>,
    readiness: watch::Sender<Readiness>,
}

/// How much the registry knows of the tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Readiness {
    /// The journal has not been read yet.
    Loading,
    /// The engine's containers have not been compared with the journal yet.
    Reconciling,
    /// Journal and engine are read: offers can be judged.
    Ready,
}

/// Why no more offers are taken; empty until a drain begins. Kept outside of the registry, so that its next incarnation obeys it.
pub type Draining = Arc<OnceLock<String>>;

/// The cordon in force, kept outside of the registry for those who show it. The registry alone changes it.
pub type CordonBoard = Arc<watch::Sender<Option<Cordon>>>;

impl RegistryActor {
    /// The registry of one worker's tasks. `desk` brings news of tasks, `board` shows them to the heartbeat.
    #[must_use]
    pub fn new(
        peers: RegistryPeers,
        rules: AdmissionRules,
        board: Board,
        desk: NewsDesk<TaskNews>,
    ) -> Self {
        Self {
            peers,
            rules,
            board,
            desk,
            tasks: BTreeMap::new(),
            early_cancels: Recent::new(limits::UNKNOWN_IDS),
            lost_offers: Recent::new(limits::UNKNOWN_IDS),
            poison: Recent::new(limits::UNKNOWN_IDS),
            readiness: watch::Sender::new(Readiness::Loading),
        }
    }

    fn readiness(&self) -> Readiness {
        *self.readiness.borrow()
    }

    fn hold(&mut self, entry: Entry) {
        self.tasks.insert(entry.task.clone(), entry);
    }

    fn release(&mut self, task: &TaskId) {
        if self.tasks.remove(task).is_some() && supervision::is_current() {
            self.peers.directory.remove(task);
        }
        self.show();
    }

    /// The room that tasks hold right now.
    fn ledger(&self) -> Ledger {
        let holdings = self.tasks.values().map(Entry::holding);
        Ledger::of(&self.rules.totals, *self.rules.max_tasks.borrow(), holdings)
    }

    /// Puts the present state on the heartbeat's board.
    fn show(&self) {
        if !supervision::is_current() {
            return;
        }
        let is_ready = self.readiness() == Readiness::Ready;
        self.peers.reconciled.send_replace(is_ready);
        let running = self
            .tasks
            .values()
            .filter(|entry| entry.standing != Standing::Accepting);
        self.board
            .send_replace(Arc::new(running.map(Entry::as_running).collect()));
    }

    fn settle_time(&self) -> Duration {
        self.peers
            .settle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .now()
    }
}

impl Actor for RegistryActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        failpoint!("registry.started");
        // Outside of supervision, as in tests, there is one incarnation.
        let generation = supervision::current().map_or(1, |child| child.generation);
        ctx.add_stream(self.desk.read(generation));
        self.load(ctx);
    }
}

crate::answers_pings!(RegistryActor);

impl Handler<GetSealing> for RegistryActor {
    type Result = ResponseActFuture<Self, Sealing>;

    fn handle(&mut self, GetSealing(task): GetSealing, _: &mut Self::Context) -> Self::Result {
        failpoint!("registry.GetSealing", task);
        // A registry that has just been restarted does not know yet which offers were acknowledged and which tasks cancelled.
        let loaded = self.loaded().into_actor(self);
        Box::pin(loaded.map(move |(), actor, _| actor.sealing(&task)))
    }
}

impl RegistryActor {
    fn sealing(&mut self, task: &TaskId) -> Sealing {
        let settle = self.settle_time();
        match self.tasks.get_mut(task) {
            Some(entry) if Instant::now() < entry.acknowledged + settle => {
                Sealing::NotBefore(entry.acknowledged + settle)
            }
            Some(entry) => {
                entry.sealed = true;
                Sealing::Now {
                    cancelled: entry.cancelled,
                    by: entry.cancelled_by.clone(),
                }
            }
            None => Sealing::Now {
                cancelled: false,
                by: None,
            },
        }
    }
}

impl Handler<GetStanding> for RegistryActor {
    type Result = ResponseActFuture<Self, bool>;

    fn handle(&mut self, GetStanding(task): GetStanding, _: &mut Self::Context) -> Self::Result {
        failpoint!("registry.GetStanding", task);
        let loaded = self.loaded().into_actor(self);
        Box::pin(loaded.map(move |(), actor, _| {
            let entry = actor.tasks.get(&task);
            entry.is_some_and(|entry| entry.standing != Standing::Accepting)
        }))
    }
}

impl Handler<StopAll> for RegistryActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, _: StopAll, _: &mut Self::Context) -> Self::Result {
        failpoint!("registry.StopAll");
        // A registry that has just been restarted does not know its tasks yet.
        let loaded = self.loaded().into_actor(self);
        Box::pin(loaded.map(|(), actor, ctx| {
            actor.stop_all(StopReason::WorkerStopped, ctx);
        }))
    }
}

impl Handler<Drain> for RegistryActor {
    type Result = ();

    fn handle(&mut self, Drain(reason): Drain, _: &mut Self::Context) {
        failpoint!("registry.Drain");
        let _ = self.peers.draining.set(reason);
    }
}
