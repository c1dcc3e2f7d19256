//! The child spec: how to make a child, where it runs, when it is restarted, how long it may take to stop.

use std::{fmt, sync::Arc, time::Duration};

use actix::{Actor, Context, Handler};

use super::{
    exit::Exit,
    launch::{Launch, TypedLaunch},
    ping::Ping,
    slot::Seat,
};
use crate::domain::restart::{Budget, RestartPolicy, RestartType};

/// A factory's refusal to make an actor. It counts as a failure of the child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartError(pub String);

impl StartError {
    /// A refusal for this reason, which shows up in events and views.
    pub fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// Where a child runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Placement {
    /// On a thread of its own: a child that blocks holds up no other. The default of static children.
    OwnArbiter,
    /// On one of the pool's arbiters, with many others. The default of dynamic children.
    Pool,
    /// Beside the supervisor. A paused clock holds only its own thread, so tests of time put their children here. Nothing else
    /// does: a child that blocks would hold the supervisor up.
    SupervisorsArbiter,
}

/// The news that a child is down for good after a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GaveUp {
    /// The child's name.
    pub name: Arc<str>,
    /// How its last incarnation ended.
    pub exit: Exit,
    /// Restarts used within the window.
    pub used: u32,
    /// The window.
    pub window: Duration,
}

pub(super) type OnGaveUp = Box<dyn FnOnce(GaveUp) + Send>;

/// The part of a child spec that does not depend on the actor's type. `None` means the default for a static or dynamic child.
pub(super) struct Terms {
    pub(super) restart: Option<RestartType>,
    pub(super) shutdown: Duration,
    pub(super) placement: Option<Placement>,
    pub(super) policy: Option<RestartPolicy>,
    pub(super) on_gave_up: Option<OnGaveUp>,
}

/// How long a child may take to stop: enough to close files and say goodbye. Then it is abandoned.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// How a child is made and kept. Static children default to permanent on their own arbiter, dynamic ones to transient in the pool.
pub struct ChildSpec {
    pub(super) name: Arc<str>,
    pub(super) terms: Terms,
    pub(super) launch: Box<dyn Launch>,
}

impl ChildSpec {
    /// A child that `factory` makes anew at every start, on the child's arbiter, with `seat` as its address. The factory runs inside the
    /// watch: a panic in it is a failed start, as an error is.
    pub fn new<A, F>(seat: Seat<A>, factory: F) -> Self
    where
        A: Actor<Context = Context<A>> + Handler<Ping>,
        F: Fn(&mut Context<A>) -> Result<A, StartError> + Send + Sync + 'static,
    {
        Self {
            name: Arc::clone(&seat.0.name),
            terms: Terms {
                restart: None,
                shutdown: SHUTDOWN,
                placement: None,
                policy: None,
                on_gave_up: None,
            },
            launch: Box::new(TypedLaunch::new(seat, factory)),
        }
    }

    /// Sets when the child is restarted.
    #[must_use]
    pub fn restart(mut self, restart: RestartType) -> Self {
        self.terms.restart = Some(restart);
        self
    }

    /// Sets how long the child may take to stop before it is abandoned; 5 s by default.
    #[must_use]
    pub fn shutdown(mut self, timeout: Duration) -> Self {
        self.terms.shutdown = timeout;
        self
    }

    /// Sets where the child runs.
    #[must_use]
    pub fn placement(mut self, placement: Placement) -> Self {
        self.terms.placement = Some(placement);
        self
    }

    /// Sets a budget of the child's own, with the usual backoff. Where groups restart together, the group's budget counts
    /// instead.
    #[must_use]
    pub fn budget(self, budget: Budget) -> Self {
        self.policy(RestartPolicy::with_budget(budget))
    }

    /// Sets a budget, backoff and quiet time of the child's own.
    #[must_use]
    pub fn policy(mut self, policy: RestartPolicy) -> Self {
        self.terms.policy = Some(policy);
        self
    }

    /// Called once, on the supervisor's arbiter, when the child failed and will not be restarted while its supervisor goes on: its budget
    /// is spent, or it is temporary. It must not block.
    #[must_use]
    pub fn on_gave_up(mut self, callback: impl FnOnce(GaveUp) + Send + 'static) -> Self {
        self.terms.on_gave_up = Some(Box::new(callback));
        self
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("name", &self.name)
            .field("restart", &self.terms.restart)
            .field("shutdown", &self.terms.shutdown)
            .field("placement", &self.terms.placement)
            .field("policy", &self.terms.policy)
            .finish_non_exhaustive()
    }
}
