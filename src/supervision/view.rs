//! What an operator sees of a child, in the words of supervisorctl.

use std::{fmt, sync::Arc, time::Duration};

use super::spec::Placement;
use crate::domain::restart::{Budget, RestartType};

/// The state of a child as an operator sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChildState {
    /// Its turn to start has not come, or it is not up yet.
    Starting,
    /// It runs.
    Running,
    /// It waits for its restart.
    Backoff,
    /// It was asked to stop, or its turn to stop has not come.
    Stopping,
    /// It ended in order and stays down.
    Stopped,
    /// It failed and stays down.
    Fatal,
}

impl fmt::Display for ChildState {
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

/// One child at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct ChildView {
    /// The child's name.
    pub name: Arc<str>,
    /// True for children that were added while the supervisor ran.
    pub dynamic: bool,
    /// The child's state.
    pub state: ChildState,
    /// How long it has been running; `None` while it does not run.
    pub uptime: Option<Duration>,
    /// Its incarnations so far, the present one included.
    pub generation: u64,
    /// Restarts after failures, over its whole life.
    pub restarts: u64,
    /// Time since the last of those restarts.
    pub last_restart: Option<Duration>,
    /// Asks that wait for an answer.
    pub depth: u64,
    /// Asks answered, over all incarnations.
    pub handled: u64,
    /// Type name of the message asked last; empty before the first.
    pub last_message: &'static str,
    /// Share of its lifetime in which its code ran, 0.0 to 1.0.
    pub busy: f64,
    /// How its last incarnation ended, if one did.
    pub last_reason: Option<String>,
    /// On which ends it is restarted.
    pub restart: RestartType,
    /// The restart budget that counts for it: its own, or its group's.
    pub budget: Budget,
    /// Restarts that the budget still allows now.
    pub budget_left: u32,
    /// How long it may take to stop.
    pub shutdown: Duration,
    /// The kind of thread that it runs on.
    pub placement: Placement,
}
