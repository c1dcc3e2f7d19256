//! The register of tasks: admission, resources held, duplicate offers, routing of cancels. Holds what is active alone;
//! what is finished is the journal's to remember. One decision at a time: its mailbox is where an offer, a cancel and the
//! sealing of an outcome meet.

mod admit;
mod cancel;
mod entry;
mod launch;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, MessageResult, StreamHandler,
    WrapFuture,
};
use log::warn;
use tokio::{sync::watch, time::Instant};

use self::entry::{Entry, Standing};
pub use self::{admit::AssignTask, cancel::CancelTask, entry::TaskNews, launch::TaskDirectory};
use super::{
    engine_watch::EngineView,
    journal::Records,
    news::NewsDesk,
    outbox::OutboxActor,
    task::{ResultDelivered, TaskEnv},
};
use crate::{
    domain::{
        admission::Ledger,
        id::{TaskId, WorkerId},
        outcome::{Failure, Outcome},
        record::{Change, Ending, Outputs, Phase, Snapshot},
        settle::SettleTime,
        spec::MachineTotals,
        task::StopReason,
    },
    failpoint,
    ports::{clock::Clock, journal::Known, master::RunningTask},
    supervision::{Slot, SupervisorHandle},
    telemetry::operator,
};

/// A master repeats an offer whose answer it did not get every 5 s.
const REPEATED_OFFER: Duration = Duration::from_secs(15);

/// How long a task's actor may take to hear something.
const TELL: Duration = Duration::from_secs(30);

/// Asks whether the outcome of a task may be sealed now. The answer holds until the next message: the journal decides in the
/// end.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Sealing")]
pub struct GetSealing(pub TaskId);

/// Whether an outcome may be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealing {
    /// The settle time after the last acknowledgement of its offer is not over.
    NotBefore(Instant),
    /// It may.
    Now {
        /// A cancel was acknowledged: the outcome is 'cancelled'.
        cancelled: bool,
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

/// Every task shall end: the worker's operator stops it, and its tasks with it. Idempotent.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct StopAll;

/// What the registry decides by.
#[derive(Debug, Clone, Copy)]
pub struct AdmissionRules {
    /// What the machine has.
    pub totals: MachineTotals,
    /// `--max-tasks`.
    pub max_tasks: usize,
    /// How long the engine may be away before offers are refused.
    pub engine_patience: Duration,
}

/// Whom the registry works with.
#[derive(Clone)]
pub struct RegistryPeers {
    /// Who we are.
    pub worker: WorkerId,
    /// What is durable.
    pub records: Records,
    /// Where results that are wanted again go.
    pub outbox: Slot<OutboxActor>,
    /// Whether the engine is there, and what it holds.
    pub engine: Arc<EngineView>,
    /// Who starts tasks; there once the supervisor runs.
    pub supervisor: watch::Receiver<Option<SupervisorHandle>>,
    /// Where running tasks are found.
    pub directory: Arc<TaskDirectory>,
    /// What every task works with.
    pub env: Arc<TaskEnv>,
    /// How long reports wait after an acknowledgement.
    pub settle: Arc<Mutex<SettleTime>>,
    /// For records.
    pub clock: Arc<dyn Clock>,
    /// Why new tasks are refused although there is room (the disk is full, ...), if they are.
    pub pressure: watch::Receiver<Option<String>>,
}

/// What heartbeats tell of the tasks: kept beside the actor.
pub type Board = Arc<watch::Sender<Arc<Vec<RunningTask>>>>;

/// See the module.
pub struct RegistryActor {
    peers: RegistryPeers,
    rules: AdmissionRules,
    board: Board,
    desk: NewsDesk<TaskNews>,
    ledger: Ledger,
    tasks: HashMap<TaskId, Entry>,
    /// Cancels of ids that were not known when they came.
    early_cancels: HashSet<TaskId>,
    readiness: Readiness,
}

/// Whether offers can be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Readiness {
    /// The journal has not been read yet.
    Loading,
    /// The engine's containers have not been compared with the journal yet.
    Reconciling,
    /// Yes.
    Ready,
    /// No more offers are taken, and why.
    Draining(String),
}

impl RegistryActor {
    /// Registers the tasks of one worker. `desk` brings news of them, `board` shows them to the heartbeat.
    #[must_use]
    pub fn new(
        peers: RegistryPeers,
        rules: AdmissionRules,
        board: Board,
        desk: NewsDesk<TaskNews>,
    ) -> Self {
        let ledger = Ledger::new(rules.totals, rules.max_tasks);
        Self {
            peers,
            rules,
            board,
            desk,
            ledger,
            tasks: HashMap::new(),
            early_cancels: HashSet::new(),
            readiness: Readiness::Loading,
        }
    }

    fn load(&mut self, ctx: &mut Context<Self>) {
        let records = self.peers.records.clone();
        ctx.spawn(
            async move { records.snapshot().await }
                .into_actor(self)
                .map(|snapshot, actor, ctx| {
                    failpoint!("registry.load");
                    actor.loaded(snapshot, ctx);
                }),
        );
    }

    fn loaded(&mut self, snapshot: Snapshot, ctx: &mut Context<Self>) {
        self.early_cancels.extend(snapshot.early_cancels);
        let known = snapshot.tasks.iter().map(|record| record.spec.id.clone());
        let known: HashSet<_> = known
            .chain(snapshot.tombstones.into_iter().map(|stone| stone.task))
            .collect();
        for record in snapshot
            .tasks
            .into_iter()
            .filter(|record| record.phase != Phase::Done)
        {
            self.hold(Entry::of_record(&record));
            if record.phase == Phase::Accepted
                && !record.answered
                && self.peers.directory.find(&record.spec.id).is_none()
            {
                // Nobody knows whether the master has our answer: if not, it offers the task again.
                ctx.run_later(REPEATED_OFFER, move |actor, ctx| {
                    failpoint!("registry.unrepeated_offer");
                    actor.launch_again(&record, ctx)
                });
                continue;
            }
            self.launch_again(&record, ctx);
            if record.cancel_requested && record.phase < Phase::Ended {
                // A task that ran on while the registry was replaced has not heard of it.
                self.stop(&record.spec.id, StopReason::Cancelled, ctx);
            }
        }
        self.readiness = Readiness::Reconciling;
        self.show();
        self.reconcile(known, ctx);
    }

    /// Offers are judged once the engine's containers were compared with the journal: a container that the journal does not
    /// know (it was lost) is adopted from its labels, so that a repeated offer starts no second copy.
    fn reconcile(&mut self, known: HashSet<TaskId>, ctx: &mut Context<Self>) {
        let mut listing = self.peers.engine.listing();
        let records = self.peers.records.clone();
        let adopt = async move {
            let containers = match listing.wait_for(|listing| listing.number > 0).await {
                Ok(listing) => Arc::clone(&listing.containers),
                Err(_) => Arc::default(),
            };
            let labelled = containers
                .iter()
                .filter_map(|listed| listed.record.as_deref());
            let unknown: Vec<_> = labelled
                .filter(|record| !known.contains(&record.spec.id))
                .cloned()
                .collect();
            for record in &unknown {
                // A duplicate is two containers of one task: the journal keeps the first.
                let _ = records
                    .keep(vec![Change::Accept(Box::new(record.clone()))])
                    .await;
            }
            unknown
        };
        ctx.spawn(adopt.into_actor(self).map(|adopted, actor, ctx| {
            failpoint!("registry.reconcile");
            for record in adopted {
                warn!(task:% = record.spec.id; "a container that the journal does not know is adopted from its labels");
                actor.hold(Entry::of_record(&record));
                actor.launch_again(&record, ctx);
            }
            if actor.readiness == Readiness::Reconciling {
                actor.readiness = Readiness::Ready;
                operator::ready();
            }
            actor.show();
        }));
    }

    fn hold(&mut self, entry: Entry) {
        self.ledger.hold(&entry.wants);
        self.tasks.insert(entry.task.clone(), entry);
    }

    fn release(&mut self, task: &TaskId) {
        if let Some(entry) = self.tasks.remove(task) {
            self.ledger.release(&entry.wants);
            self.peers.directory.remove(task);
        }
        self.show();
    }

    /// Puts the present state on the heartbeat's board.
    fn show(&self) {
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
        ctx.add_stream(self.desk.read());
        self.load(ctx);
    }
}

crate::answers_pings!(RegistryActor);

impl StreamHandler<TaskNews> for RegistryActor {
    fn handle(&mut self, news: TaskNews, ctx: &mut Self::Context) {
        failpoint!("registry.TaskNews", news);
        match news {
            TaskNews::Moved(task, word) => self.moved(&task, word),
            TaskNews::Uploading(task) => self.moved(&task, "uploading"),
            TaskNews::Delivered(task) => self.delivered(&task, ctx),
            TaskNews::Done(task) => self.release(&task),
            TaskNews::GaveUp(task, reason) => self.gave_up(task, reason, ctx),
        }
    }
}

impl RegistryActor {
    fn moved(&mut self, task: &TaskId, word: &'static str) {
        if let Some(entry) = self.tasks.get_mut(task) {
            entry.word = word;
            self.show();
        }
    }

    /// Tells the task, which cleans up after itself.
    fn delivered(&mut self, task: &TaskId, ctx: &mut Context<Self>) {
        let Some(slot) = self.tasks.get(task).and_then(|entry| entry.slot.clone()) else {
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

    /// A task's actor failed too often: the task has failed, and that is delivered like any other end. A last actor delivers
    /// it and cleans up.
    fn gave_up(&mut self, task: TaskId, reason: String, ctx: &mut Context<Self>) {
        let records = self.peers.records.clone();
        let ending = Ending {
            outcome: Outcome::Failed(Failure::Internal(reason)),
            exit: None,
            outputs: Outputs::default(),
            notes: Vec::new(),
        };
        let change = Change::Ended {
            task: task.clone(),
            ending: Box::new(ending),
        };
        let read = async move {
            failpoint!("registry.gave_up");
            // Refused: it had ended before, and that end stands.
            let _ = records.keep(vec![change]).await;
            records.find(&task, Instant::now() + TELL).await
        };
        ctx.spawn(read.into_actor(self).map(|known, actor, ctx| match known {
            Ok(Some(Known::Record(record))) => actor.launch_again(&record, ctx),
            Ok(Some(Known::Retired(_)) | None) => {}
            Err(error) => {
                warn!(error:%; "a task that failed internally cannot be read from the journal")
            }
        }));
    }
}

impl Handler<GetSealing> for RegistryActor {
    type Result = MessageResult<GetSealing>;

    fn handle(&mut self, GetSealing(task): GetSealing, _: &mut Self::Context) -> Self::Result {
        failpoint!("registry.GetSealing", task);
        let settle = self.settle_time();
        MessageResult(match self.tasks.get_mut(&task) {
            Some(entry) if Instant::now() < entry.acknowledged + settle => {
                Sealing::NotBefore(entry.acknowledged + settle)
            }
            Some(entry) => {
                entry.sealed = true;
                Sealing::Now {
                    cancelled: entry.cancelled,
                }
            }
            None => Sealing::Now { cancelled: false },
        })
    }
}

impl Handler<GetStanding> for RegistryActor {
    type Result = bool;

    fn handle(&mut self, GetStanding(task): GetStanding, _: &mut Self::Context) -> bool {
        failpoint!("registry.GetStanding", task);
        let entry = self.tasks.get(&task);
        entry.is_some_and(|entry| entry.standing != Standing::Accepting)
    }
}

impl Handler<StopAll> for RegistryActor {
    type Result = ();

    fn handle(&mut self, _: StopAll, ctx: &mut Self::Context) {
        failpoint!("registry.StopAll");
        for task in self.tasks.keys() {
            self.stop(task, StopReason::WorkerStopped, ctx);
        }
    }
}

impl Handler<Drain> for RegistryActor {
    type Result = ();

    fn handle(&mut self, Drain(reason): Drain, _: &mut Self::Context) {
        failpoint!("registry.Drain");
        self.readiness = Readiness::Draining(reason);
    }
}
