//! The settings of a supervisor, with their defaults and the reasons for them.

use std::{fmt, io, sync::Arc, time::Duration};

use actix::Arbiter;

use super::spec::Placement;
use crate::domain::restart::{Budget, RestartPolicy, Restarts, Strategy};

/// Makes the arbiters of children. A process with one shared runtime gives `|| Arbiter::try_with_tokio_rt(|| Ok(runtime))`, which costs no
/// descriptors; the default gives every arbiter a runtime of its own.
pub type ArbiterFactory = Arc<dyn Fn() -> io::Result<Arbiter> + Send + Sync>;

/// The times by which hung children are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PingOptions {
    /// Time between two looks at the pings of all static children and pool arbiters.
    pub interval: Duration,
    /// A child whose ping is older than this at a look is hung; time in which its thread waited for a core does not count. A
    /// mailbox that is never empty looks like a hang, so this is also the longest burst of messages that a child may handle.
    pub deadline: Duration,
    /// The deadline of the first ping, which waits for the factory and `started`.
    pub start_deadline: Duration,
}

impl Default for PingOptions {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(500),
            deadline: Duration::from_secs(1),
            start_deadline: Duration::from_secs(5),
        }
    }
}

/// The settings of a supervisor.
#[derive(Clone)]
pub struct SupervisorOptions {
    /// The children that are restarted together with a failed static one.
    pub strategy: Strategy,
    /// Whether static children are restarted.
    pub restarts: Restarts,
    /// Budget and delays of a static child without its own, and of the group where the strategy restarts groups.
    pub policy: RestartPolicy,
    /// Budget and delays of a dynamic child without its own.
    pub dynamic_policy: RestartPolicy,
    /// The times by which hung children are found.
    pub ping: PingOptions,
    /// Where children run whose spec does not say; `None`: static ones on arbiters of their own, dynamic ones in the pool.
    pub placement: Option<Placement>,
    /// Arbiters of the pool; they are opened as they are needed. At least 1.
    pub pool_arbiters: usize,
    /// Blocked arbiters that may be left behind at a time; one more escalates, since each holds a thread and all that the thread
    /// holds.
    pub abandoned_limit: usize,
    /// Makes arbiters for children.
    pub arbiters: ArbiterFactory,
}

impl Default for SupervisorOptions {
    fn default() -> Self {
        Self {
            strategy: Strategy::OneForOne,
            restarts: Restarts::Automatic,
            policy: RestartPolicy::with_budget(Budget::SUBSYSTEM),
            dynamic_policy: RestartPolicy::with_budget(Budget::TASK),
            ping: PingOptions::default(),
            placement: None,
            pool_arbiters: 2,
            abandoned_limit: 8,
            arbiters: Arc::new(Arbiter::try_new),
        }
    }
}

impl fmt::Debug for SupervisorOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorOptions")
            .field("strategy", &self.strategy)
            .field("restarts", &self.restarts)
            .field("policy", &self.policy)
            .field("dynamic_policy", &self.dynamic_policy)
            .field("ping", &self.ping)
            .field("placement", &self.placement)
            .field("pool_arbiters", &self.pool_arbiters)
            .field("abandoned_limit", &self.abandoned_limit)
            .finish_non_exhaustive()
    }
}
