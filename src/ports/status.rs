//! How a worker stands at one moment, as its operator is told: `ports::admin::Admin::status` asks for it.

mod reasons;

use std::time::Duration;

pub use self::reasons::Reason;
use crate::domain::id::WorkerId;

/// See the module. Ages are counted back from the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerStatus {
    /// Whose.
    pub worker: WorkerId,
    /// Of the program.
    pub version: String,
    /// Its process id.
    pub process: u32,
    /// Since it began.
    pub uptime: Duration,
    /// Whom it works for.
    pub master: MasterContact,
    /// What runs its containers.
    pub engine: EngineContact,
    /// Why new tasks are refused now although there is room, if they are.
    pub refusing: Option<String>,
    /// What there is for tasks.
    pub room: Room,
}

/// What has come of the calls to the master.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MasterContact {
    /// Where it is.
    pub address: String,
    /// Since it registered this worker; `None`: it has not, or has forgotten it.
    pub registered_for: Option<Duration>,
    /// Since it last took a heartbeat.
    pub beat_ago: Option<Duration>,
    /// From that heartbeat to its answer.
    pub beat_took: Option<Duration>,
    /// Since when it does not answer, or refuses this worker.
    pub failing_for: Option<Duration>,
    /// Why, in the words of the last call. Untrusted.
    pub failure: Option<String>,
}

/// Whether the engine is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineContact {
    /// Where it is.
    pub address: String,
    /// Its version; `None`: it does not answer.
    pub version: Option<String>,
    /// Since when it does not.
    pub away_for: Option<Duration>,
    /// Why it does not, or why no task could be run on it.
    pub failure: Option<String>,
}

/// What tasks share.
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
