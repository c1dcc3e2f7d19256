//! The worker as its operator sees it: its actors, and what can be done to them. `handle` implements it over the supervisor
//! and the outbox, `grpc::admin` carries it through the socket in the state folder, and the commands of `cli` are its callers.
//! What happened to the actors before is not here: the history lies in files, and is read from them.

use std::{
    fmt,
    path::PathBuf,
    pin::Pin,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use futures_util::Stream;
use thiserror::Error;

use super::status::WorkerStatus;
use crate::domain::{
    callers::Caller,
    id::WorkerId,
    restart::{Budget, RestartType},
    usage::Use,
};

/// The operator's questions and orders. Every method answers within seconds, or fails.
#[async_trait]
pub trait Admin: Send + Sync {
    /// All actors.
    ///
    /// # Errors
    /// The supervisor does not answer, or nobody does.
    async fn actors(&self) -> Result<ActorTree, AdminError>;

    /// One actor by its name; for a task its id will do.
    ///
    /// # Errors
    /// As above, or there is no actor of that name.
    async fn actor(&self, name: &str) -> Result<ActorView, AdminError>;

    /// The tasks that are not done, as the worker holds them at this moment.
    ///
    /// # Errors
    /// Nobody answers.
    async fn tasks(&self) -> Result<Vec<TaskView>, AdminError>;

    /// How the worker stands.
    ///
    /// # Errors
    /// Nobody answers.
    async fn status(&self) -> Result<WorkerStatus, AdminError>;

    /// Stops a subsystem and starts it again, without charge to its restart budget; does not wait for either.
    ///
    /// # Errors
    /// As above, or the actor is not one to be restarted by hand.
    async fn restart(&self, name: &str) -> Result<(), AdminError>;

    /// Sends all parked results again now: those that the master refused, or left without an answer. Returns how many. Does not
    /// wait for the master.
    ///
    /// # Errors
    /// The outbox does not answer, or nobody does.
    async fn retry_outbox(&self) -> Result<u64, AdminError>;

    /// Lets go of a task's parked result: nobody tries to deliver it any more.
    ///
    /// # Errors
    /// As above, or no result of that task is parked.
    async fn drop_result(&self, task: &str) -> Result<(), AdminError>;

    /// Takes the worker out of service until [`Admin::uncordon`]: new tasks are refused, also by the next process on its state
    /// folder. Those that are here run to their end, or are stopped after `stop_after`. Does not wait for them. Behind a socket the
    /// worker sees by itself who calls, and takes that for `caller`.
    ///
    /// # Errors
    /// The order could not be made durable, or nobody answers.
    async fn cordon(&self, caller: &Caller, stop_after: Option<Duration>)
    -> Result<(), AdminError>;

    /// Takes the worker back into service.
    ///
    /// # Errors
    /// As of [`Admin::cordon`].
    async fn uncordon(&self) -> Result<(), AdminError>;

    /// Has the worker read its configuration anew, and take what can change while it runs.
    ///
    /// # Errors
    /// Nobody answers.
    async fn reload(&self) -> Result<Reload, AdminError>;

    /// Says which lines the worker's log shows, after having changed that where it is asked to. A change for a while ends by
    /// itself; a restart forgets each.
    ///
    /// # Errors
    /// Nobody answers.
    async fn log_level(&self, order: LogOrder) -> Result<LogLevel, AdminError>;

    /// Brings one task to its end; the master hears that it was cancelled, and by whom. Does not wait for it.
    ///
    /// # Errors
    /// No such task is under way, or nobody answers.
    async fn cancel(&self, caller: &Caller, task: &str) -> Result<(), AdminError>;

    /// The images that its engine has, and what the worker knows of them.
    ///
    /// # Errors
    /// The engine or the journal does not answer, or nobody does.
    async fn images(&self) -> Result<Vec<ImageView>, AdminError>;

    /// Has the engine pull an image as if a task wanted it; returns the pull's steps. Dropping them lets go of the pull.
    ///
    /// # Errors
    /// Nobody answers.
    async fn pull(&self, caller: &Caller, image: &str) -> Result<PullSteps, AdminError>;
}

/// The steps of a pull; the last one is its end.
pub type PullSteps = Pin<Box<dyn Stream<Item = Result<PullStep, AdminError>> + Send>>;

/// One step of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullStep {
    /// A line for people.
    Line(String),
    /// The image is there: which one, by its digest where it has one.
    Here(String),
    /// The image cannot be had: the engine's or the registry's words.
    Failed(String),
}

/// An image at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageView {
    /// Its names, such as `docker.io/library/busybox:latest`.
    pub names: Vec<String>,
    /// The image as results of tasks name it: a registry's digest where that is known, else the engine's id.
    pub told: String,
    /// The engine's id.
    pub id: String,
    /// Bytes that it takes on the disk, with those that it shares with others.
    pub bytes: u64,
    /// How many tasks that are not done want it.
    pub tasks: u64,
    /// When this worker has pulled it, and when a task of it began or was done last; `None`: it is somebody else's.
    pub ours: Option<(SystemTime, SystemTime)>,
}

/// Why an operator has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AdminError {
    /// No actor has this name.
    #[error("there is no actor named {0}; `worker-node actors` shows those that there are")]
    UnknownActor(String),
    /// No result of this task is parked.
    #[error("no result of {0} is parked; `worker-node state dump` shows those that are")]
    NotParked(String),
    /// No such task is under way.
    #[error("no task {0} is under way here; `worker-node tasks` shows those that are")]
    UnknownTask(String),
    /// A task's actor is not restarted by hand.
    #[error("{0} is a task: its actor is restarted by the supervisor alone")]
    Task(String),
    /// The worker is stopping.
    #[error("the worker is stopping")]
    Stopping,
    /// The supervisor does not answer.
    #[error("the worker does not answer in time")]
    Unavailable,
    /// Nobody serves the socket of this state folder.
    #[error("no worker runs on the state folder {0}; start one there, or give its --state-dir")]
    NoWorker(PathBuf),
    /// The worker is another user's.
    #[error("the worker on the state folder {0} is another user's; run this as that user")]
    Denied(PathBuf),
    /// The connection was lost, or what came through it makes no sense; in the system's words.
    #[error("the worker's answer was lost: {0}")]
    Lost(String),
}

/// What a reload did. Keys are named as the file names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reload {
    /// Keys that have changed, and are taken.
    pub taken: Vec<String>,
    /// Keys that have changed, and count from the next start on.
    pub kept: Vec<String>,
    /// What is wrong with the configuration; then nothing was taken.
    pub faults: Vec<String>,
}

/// What to do about the filter of the worker's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogOrder {
    /// Change nothing.
    Show,
    /// Show more, or less, than at the start.
    Set {
        /// The filter to add, in the words of `RUST_LOG`.
        said: String,
        /// For how long; `None`: until it is taken back.
        lasts: Option<Duration>,
    },
    /// Show the lines that were shown at the start.
    Reset,
}

/// Which lines the worker's log shows, in the words of `RUST_LOG`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogLevel {
    /// The filter at this moment.
    pub in_force: String,
    /// How much longer it is in force; `None`: nobody has said how long.
    pub left: Option<Duration>,
    /// The filter after that; `None`: this is the one of the start.
    pub then: Option<String>,
    /// What is wrong with the order; then nothing was changed.
    pub faults: Vec<String>,
}

/// A task at one moment, as the worker holds it. What it is and how it ended is in the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskView {
    /// Its id.
    pub task: String,
    /// The stage that it is at: the word that heartbeats have.
    pub stage: String,
    /// Cores that it holds.
    pub cpu: f64,
    /// GiB of memory that it holds.
    pub memory: f64,
    /// GPUs that it holds.
    pub gpu: f64,
    /// What its container uses, where one runs and was looked at.
    pub used: Option<Use>,
}

/// All actors of a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct ActorTree {
    /// The worker's id.
    pub worker: WorkerId,
    /// The worker's process id.
    pub process: u32,
    /// Subsystems in start order, then tasks by name.
    pub actors: Vec<ActorView>,
}

/// What part an actor has in the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorKind {
    /// A fixed part of the worker.
    Subsystem,
    /// The keeper of one container.
    Task,
}

/// The state of an actor, in supervisorctl's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActorState {
    /// Its turn to start has not come, or it is not up yet.
    Starting,
    /// It runs.
    Running,
    /// It failed, and waits for its restart.
    Backoff,
    /// It is stopping, or will be.
    Stopping,
    /// It ended in order and stays down.
    Stopped,
    /// It failed and stays down.
    Fatal,
}

impl fmt::Display for ActorState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Backoff => "BACKOFF",
            Self::Stopping => "STOPPING",
            Self::Stopped => "STOPPED",
            Self::Fatal => "FATAL",
        })
    }
}

/// One actor at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct ActorView {
    /// Its name; a task's is `task(ID)`.
    pub name: String,
    /// Its part in the worker.
    pub kind: ActorKind,
    /// Its state.
    pub state: ActorState,
    /// How long it has been up; `None` while it is not.
    pub uptime: Option<Duration>,
    /// How many incarnations it has had so far.
    pub generation: u64,
    /// Restarts after failures.
    pub restarts: u64,
    /// Time since the last of those restarts.
    pub last_restart: Option<Duration>,
    /// Messages that wait for an answer.
    pub mailbox: u64,
    /// Messages answered, over all incarnations.
    pub handled: u64,
    /// Type of the message that came last, without its module.
    pub last_message: Option<String>,
    /// Share of its life that its code ran, 0.0 to 1.0.
    pub busy: f64,
    /// How its last incarnation ended, if one did. Untrusted: a panic may hold anybody's words.
    pub last_reason: Option<String>,
    /// Its child spec.
    pub spec: ActorSpec,
}

/// The child spec of an actor, and what is left of its budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActorSpec {
    /// Its restart type.
    pub restart: RestartType,
    /// How many restarts are allowed.
    pub budget: Budget,
    /// How many of those restarts are left now.
    pub budget_left: u32,
    /// How long it may take to stop.
    pub shutdown: Duration,
    /// The thread or arbiter that it runs on, in words.
    pub runs_on: String,
}
