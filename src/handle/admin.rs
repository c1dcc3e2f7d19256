//! The operator's door: [`AdminHandle`] implements `ports::admin::Admin`, for the socket and for HTTP. It translates questions
//! and orders to the supervisor, the registry, the outbox and the boards, and waits at most 2 s for an answer. It keeps no state,
//! and decides only that tasks are not restarted by hand.

mod images;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use log::info;
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, timeout},
};

pub use self::images::{ImageDesk, ParseImage};
use crate::{
    actors::{
        engine_watch::{EngineStatus, EngineView},
        outbox::{DropParked, OutboxActor, RetryParked},
        registry::{CancelTask, RegistryActor, SetCordon},
        session::MasterView,
        task::UsageBoard,
    },
    domain::{
        callers::Caller,
        cordon::Cordon,
        id::{TaskId, WorkerId},
        text,
    },
    ports::{
        admin::{
            ActorKind, ActorSpec, ActorState, ActorTree, ActorView, Admin, AdminError, ImageView,
            LogLevel, LogOrder, PullSteps, Reload, TaskView,
        },
        clock::Clock,
        master::RunningTask,
        status::{EngineContact, MasterContact, Room, WorkerStatus},
        worker::CancelAnswer,
    },
    supervision::{ChildError, ChildState, ChildView, Placement, Slot, SupervisorHandle},
    telemetry::{self, operator},
};

/// How long to wait for an answer. The actors asked answer at once, unless they are in deep trouble.
const ANSWER: Duration = Duration::from_secs(2);

/// Most bytes that are passed on of an actor's last reason, or the master's: ten thousand tasks must fit into one answer.
const REASON_LIMIT: usize = 512;

/// Why offers are refused just after the start, as `status` says it.
const COMPARING: &str =
    "the engine's containers are being compared with the journal; that is over in a moment";

/// The operator's door, cheap to clone. See the module.
#[derive(Clone)]
pub struct AdminHandle {
    worker: WorkerId,
    supervisor: watch::Receiver<Option<SupervisorHandle>>,
    asked: Asked,
    boards: Boards,
    clock: Arc<dyn Clock>,
    begun: Instant,
    certificate_until: CertificateUntil,
}

/// Tells the time until which the worker's certificate is good; `None`: it has none.
pub type CertificateUntil = Arc<dyn Fn() -> Option<SystemTime> + Send + Sync>;

/// The boards that show what an operator is told without an actor being asked.
#[derive(Clone)]
pub struct Boards {
    /// The tasks that this worker holds.
    pub tasks: watch::Receiver<Arc<Vec<RunningTask>>>,
    /// What their containers use of the machine.
    pub usage: Arc<UsageBoard>,
    /// The contact with the master.
    pub master: Arc<MasterView>,
    /// The contact with the engine.
    pub engine: Arc<EngineView>,
    /// The address of the engine.
    pub engine_address: String,
    /// Why offers are refused for want of room on the disk; `None` while there is enough.
    pub pressure: watch::Receiver<Option<String>>,
    /// The operator's order to refuse offers; `None` without one.
    pub cordon: watch::Receiver<Option<Cordon>>,
    /// Whether the engine's containers have been compared with the journal.
    pub reconciled: watch::Receiver<bool>,
    /// The cores, memory and GPUs for tasks. The number of tasks in it does not count: `max_tasks` does.
    pub room: Room,
    /// How many tasks may run at once; a reload can change it.
    pub max_tasks: watch::Receiver<usize>,
}

/// The receivers of an operator's questions and orders.
#[derive(Clone)]
pub struct Asked {
    /// For results that wait for the master.
    pub outbox: Slot<OutboxActor>,
    /// For images.
    pub images: ImageDesk,
    /// For tasks, and for the cordon.
    pub registry: Slot<RegistryActor>,
    /// Reads the configuration anew, and applies what can change at run time.
    pub configuration: Arc<dyn Fn() -> Reload + Send + Sync>,
    /// Changes which lines the log shows.
    pub log: fn(LogOrder) -> LogLevel,
}

impl AdminHandle {
    /// A door for operators. The supervisor of `worker` may not have started yet: until it has, calls are answered `Unavailable`.
    #[must_use]
    pub fn new(
        worker: WorkerId,
        supervisor: watch::Receiver<Option<SupervisorHandle>>,
        asked: Asked,
        boards: Boards,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            worker,
            supervisor,
            asked,
            boards,
            clock,
            begun: Instant::now(),
            certificate_until: Arc::new(|| None),
        }
    }

    /// Tells of a certificate too.
    #[must_use]
    pub fn with_certificate(self, certificate_until: CertificateUntil) -> Self {
        Self {
            certificate_until,
            ..self
        }
    }

    async fn set_cordon(&self, cordon: Option<Cordon>) -> Result<(), AdminError> {
        let deadline = Instant::now() + ANSWER;
        let set = SetCordon { cordon, deadline };
        let asked = self.asked.registry.ask_idempotent(set, deadline).await;
        asked
            .map_err(|_| AdminError::Unavailable)?
            .map_err(|error| AdminError::Lost(error.to_string()))
    }

    fn supervisor(&self) -> Result<SupervisorHandle, AdminError> {
        let supervisor = self.supervisor.borrow().clone();
        supervisor.ok_or(AdminError::Unavailable)
    }

    async fn children(&self) -> Result<Vec<ChildView>, AdminError> {
        let supervisor = self.supervisor()?;
        let children = timeout(ANSWER, supervisor.children())
            .await
            .map_err(|_| AdminError::Unavailable)?;
        // Only a supervisor that has ended has no children.
        if children.is_empty() {
            return Err(AdminError::Stopping);
        }
        Ok(children)
    }

    async fn find(&self, name: &str) -> Result<ChildView, AdminError> {
        let children = self.children().await?;
        find(children, name).ok_or_else(|| AdminError::UnknownActor(name.to_owned()))
    }
}

#[async_trait]
impl Admin for AdminHandle {
    async fn actors(&self) -> Result<ActorTree, AdminError> {
        let children = self.children().await?;
        Ok(ActorTree {
            worker: self.worker.clone(),
            process: std::process::id(),
            actors: children.into_iter().map(actor).collect(),
        })
    }

    async fn actor(&self, name: &str) -> Result<ActorView, AdminError> {
        self.find(name).await.map(actor)
    }

    async fn tasks(&self) -> Result<Vec<TaskView>, AdminError> {
        let tasks = Arc::clone(&self.boards.tasks.borrow());
        Ok(tasks
            .iter()
            .map(|task| TaskView {
                task: task.task.as_str().to_owned(),
                stage: task.status.to_owned(),
                cpu: task.cpu,
                memory: task.memory,
                gpu: task.gpu,
                used: self.boards.usage.of(&task.task),
            })
            .collect())
    }

    async fn status(&self) -> Result<WorkerStatus, AdminError> {
        Ok(WorkerStatus {
            worker: self.worker.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            uptime: self.begun.elapsed(),
            master: self.boards.master_contact(),
            engine: self.boards.engine_contact(),
            refusing: self.boards.refusing(),
            room: Room {
                tasks: *self.boards.max_tasks.borrow() as u64,
                ..self.boards.room
            },
            certificate_until: (self.certificate_until)(),
            errors: telemetry::errors::last(),
        })
    }

    async fn restart(&self, name: &str) -> Result<(), AdminError> {
        let child = self.find(name).await?;
        if child.dynamic {
            return Err(AdminError::Task(name.to_owned()));
        }
        info!(actor = &*child.name; "restarting an actor: its operator asks for it");
        let supervisor = self.supervisor()?;
        match timeout(ANSWER, supervisor.restart_child(&child.name)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(ChildError::Unknown)) => Err(AdminError::UnknownActor(name.to_owned())),
            Ok(Err(ChildError::ShuttingDown)) => Err(AdminError::Stopping),
            Err(_) => Err(AdminError::Unavailable),
        }
    }

    async fn retry_outbox(&self) -> Result<u64, AdminError> {
        info!("trying the results again that were put aside: the operator asks for it");
        let asked = self
            .asked
            .outbox
            .ask_idempotent(RetryParked, Instant::now() + ANSWER);
        let results = asked.await.map_err(|_| AdminError::Unavailable)?;
        Ok(u64::try_from(results).unwrap_or(u64::MAX))
    }

    async fn drop_result(&self, task: &str) -> Result<(), AdminError> {
        let not_parked = || AdminError::NotParked(task.to_owned());
        let drop = DropParked {
            task: TaskId::new(task).map_err(|_| not_parked())?,
            why: "its operator lets go of it".into(),
        };
        let outbox = &self.asked.outbox;
        let asked = outbox.ask_idempotent(drop, Instant::now() + ANSWER);
        match asked.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(not_parked()),
            Err(_) => Err(AdminError::Unavailable),
        }
    }

    async fn cordon(
        &self,
        caller: &Caller,
        stop_after: Option<Duration>,
    ) -> Result<(), AdminError> {
        let since = self.clock.now();
        let stop_at = stop_after.and_then(|time| since.checked_add(time));
        self.set_cordon(Some(Cordon {
            by: caller.operator(),
            since,
            stop_at,
        }))
        .await
    }

    async fn uncordon(&self) -> Result<(), AdminError> {
        self.set_cordon(None).await
    }

    async fn reload(&self) -> Result<Reload, AdminError> {
        let configuration = Arc::clone(&self.asked.configuration);
        // On a blocking thread: it reads a file.
        let reading = spawn_blocking(move || configuration());
        match timeout(ANSWER, reading).await {
            Ok(Ok(reload)) => Ok(reload),
            Ok(Err(error)) => Err(AdminError::Lost(error.to_string())),
            Err(_) => Err(AdminError::Unavailable),
        }
    }

    async fn log_level(&self, order: LogOrder) -> Result<LogLevel, AdminError> {
        let level = (self.asked.log)(order.clone());
        if order != LogOrder::Show && level.faults.is_empty() {
            operator::log_level(&level);
        }
        Ok(level)
    }

    async fn cancel(&self, caller: &Caller, task: &str) -> Result<(), AdminError> {
        let unknown = || AdminError::UnknownTask(task.to_owned());
        let cancel = CancelTask {
            task: TaskId::new(task).map_err(|_| unknown())?,
            by: Some(caller.operator()),
        };
        // The registry would keep a cancel of an unknown task for an offer that may come; an operator means a task that is here.
        let tasks = Arc::clone(&self.boards.tasks.borrow());
        let is_here = tasks.iter().any(|held| held.task == cancel.task);
        if !is_here {
            return Err(unknown());
        }
        let registry = &self.asked.registry;
        let asked = registry.ask_idempotent(cancel, Instant::now() + ANSWER);
        match asked.await {
            Ok(CancelAnswer::Accepted) => Ok(()),
            Ok(CancelAnswer::NotFound | CancelAnswer::AlreadyFinished(_)) => Err(unknown()),
            Err(_) => Err(AdminError::Unavailable),
        }
    }

    async fn images(&self) -> Result<Vec<ImageView>, AdminError> {
        let views = timeout(ANSWER, self.asked.images.views());
        views.await.map_err(|_| AdminError::Unavailable)?
    }

    async fn pull(&self, caller: &Caller, image: &str) -> Result<PullSteps, AdminError> {
        let deadline = Instant::now() + ANSWER;
        self.asked.images.pull(caller, image, deadline).await
    }
}

impl Boards {
    /// How the calls to the master have gone.
    #[must_use]
    pub fn master_contact(&self) -> MasterContact {
        let contact = self.master.contact();
        let (failing_for, failure) = contact
            .failure
            .map(|(since, why)| (since.elapsed(), why))
            .unzip();
        let (beat_ago, beat_took) = contact.beat.map(|(at, took)| (at.elapsed(), took)).unzip();
        MasterContact {
            address: self.master.address().0,
            registered_for: contact.registered_since.map(|since| since.elapsed()),
            beat_ago,
            beat_took,
            failing_for,
            failure: failure.map(|why| text::truncate(&why, REASON_LIMIT).to_owned()),
        }
    }

    /// Whether the engine answers, which version it has, and what is wrong with it.
    #[must_use]
    pub fn engine_contact(&self) -> EngineContact {
        let (version, away_for, failure) = match &*self.engine.status().borrow() {
            EngineStatus::Unknown => (None, None, None),
            EngineStatus::Away { since, why } => (None, Some(since.elapsed()), Some(why.clone())),
            EngineStatus::Here(info) => (Some(info.version.clone()), None, self.engine.lack()),
        };
        EngineContact {
            address: self.engine_address.clone(),
            version,
            away_for,
            failure,
        }
    }

    fn refusing(&self) -> Option<String> {
        let cordon = self.cordon.borrow().as_ref().map(ToString::to_string);
        let pressure = || self.pressure.borrow().clone();
        let engine = self.engine.status();
        let is_here = matches!(&*engine.borrow(), EngineStatus::Here(_));
        // While the engine is away, `status` says that instead.
        let comparing = || (is_here && !*self.reconciled.borrow()).then(|| COMPARING.to_owned());
        cordon.or_else(pressure).or_else(comparing)
    }
}

fn find(children: Vec<ChildView>, name: &str) -> Option<ChildView> {
    // A subsystem's name wins over a task's id: users choose those.
    let task = format!("task({name})");
    let position = children
        .iter()
        .position(|child| *child.name == *name)
        .or_else(|| children.iter().position(|child| *child.name == *task))?;
    children.into_iter().nth(position)
}

fn actor(child: ChildView) -> ActorView {
    ActorView {
        name: child.name.to_string(),
        kind: match child.dynamic {
            true => ActorKind::Task,
            false => ActorKind::Subsystem,
        },
        state: match child.state {
            ChildState::Starting => ActorState::Starting,
            ChildState::Running => ActorState::Running,
            ChildState::Backoff => ActorState::Backoff,
            ChildState::Stopping => ActorState::Stopping,
            ChildState::Stopped => ActorState::Stopped,
            ChildState::Fatal => ActorState::Fatal,
        },
        uptime: child.uptime,
        generation: child.generation,
        restarts: child.restarts,
        last_restart: child.last_restart,
        mailbox: child.depth,
        handled: child.handled,
        last_message: Some(short_type(child.last_message)).filter(|name| !name.is_empty()),
        busy: child.busy,
        last_reason: child
            .last_reason
            .map(|reason| text::truncate(&reason, REASON_LIMIT).to_owned()),
        spec: ActorSpec {
            restart: child.restart,
            budget: child.budget,
            budget_left: child.budget_left,
            shutdown: child.shutdown,
            runs_on: match child.placement {
                Placement::OwnArbiter => "a thread of its own",
                Placement::Pool => "a thread of the pool",
                Placement::SupervisorsArbiter => "the supervisor's thread",
            }
            .to_owned(),
        },
    }
}

/// A type's name without the modules, its parameters included.
fn short_type(name: &str) -> String {
    let mut short = String::new();
    let is_path = |character: char| character.is_alphanumeric() || matches!(character, '_' | ':');
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let length = match is_path(first) {
            true => rest.find(|c| !is_path(c)).unwrap_or(rest.len()),
            false => first.len_utf8(),
        };
        let (part, after) = rest.split_at(length);
        short.push_str(part.rsplit("::").next().unwrap_or(part));
        rest = after;
    }
    short
}

#[cfg(test)]
mod tests;
