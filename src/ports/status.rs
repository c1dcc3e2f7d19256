//! A worker at one moment, as its operator is told: `ports::admin::Admin::status` asks for it.

mod reasons;

use std::time::{Duration, SystemTime};

pub use self::reasons::Reason;
use crate::domain::id::WorkerId;

/// A worker at one moment. Ages are counted back from the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerStatus {
    /// The worker's id.
    pub worker: WorkerId,
    /// The version of its program.
    pub version: String,
    /// Its process id.
    pub process: u32,
    /// How long ago its process began.
    pub uptime: Duration,
    /// The master that it works for.
    pub master: MasterContact,
    /// The engine that runs its containers.
    pub engine: EngineContact,
    /// Why new tasks are refused now although there is room, if they are.
    pub refusing: Option<String>,
    /// The cores, memory, GPUs and places that it has for tasks.
    pub room: Room,
    /// The time until which this worker's certificate is good; `None`: it has none.
    pub certificate_until: Option<SystemTime>,
    /// The last errors that it logged, the newest first; at most three.
    pub errors: Vec<LoggedError>,
}

/// An error of a worker's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedError {
    /// Time since it was logged.
    pub ago: Duration,
    /// The module that logged it, and its words.
    pub text: String,
}

/// How the master has answered this worker's calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MasterContact {
    /// The master's address.
    pub address: String,
    /// How long ago it registered this worker; `None`: it has not, or has forgotten it.
    pub registered_for: Option<Duration>,
    /// How long ago it last took a heartbeat.
    pub beat_ago: Option<Duration>,
    /// How long the answer to that heartbeat took.
    pub beat_took: Option<Duration>,
    /// For how long it has not answered, or refused this worker.
    pub failing_for: Option<Duration>,
    /// Why, in the words of the last call. Untrusted.
    pub failure: Option<String>,
}

/// Whether the engine is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineContact {
    /// The engine's address.
    pub address: String,
    /// Its version; `None`: it does not answer.
    pub version: Option<String>,
    /// For how long it has not answered.
    pub away_for: Option<Duration>,
    /// Why it does not answer, or why no task could be run on it.
    pub failure: Option<String>,
}

/// What all tasks together may have.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Room {
    /// Cores.
    pub cpu: f64,
    /// GiB.
    pub memory: f64,
    /// GPUs.
    pub gpu: f64,
    /// How many tasks may be here at once.
    pub tasks: u64,
}
