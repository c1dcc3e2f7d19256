//! One child in the supervisor's books: its spec, its state, its figures, and the steps between its states. It decides nothing.

use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use super::{
    event::{Edge, LifecycleEvent, RestartsUsed},
    incarnation::{ChildKey, Incarnation},
    launch::Launch,
    options::SupervisorOptions,
    places::PlaceId,
    spec::{ChildSpec, OnGaveUp, Placement},
    timers::TimerId,
    view::{ChildState, ChildView},
};
use crate::domain::restart::{Budget, ChildKind, RestartHistory, RestartPolicy, RestartType};

/// A living incarnation.
pub(super) struct Life {
    pub(super) incarnation: Arc<Incarnation>,
    /// When it was sent to its arbiter.
    pub(super) since: Instant,
    /// When it was up; `None` before.
    pub(super) up_since: Option<Instant>,
    /// When the ping was sent that it has not answered yet.
    pub(super) pinged: Option<Instant>,
    /// How long its thread had waited for a core when that ping was sent.
    pub(super) waited: Duration,
}

/// What follows the end of an incarnation that was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The child starts again, in its turn.
    Start,
    /// The child stays down.
    Rest,
}

/// ```text
/// Pending ─► Starting ─► Running ─► (Leaving ─►) Stopping ─► Down or Pending
///    ▲           │          │
///    └─ Backoff ◄┴──────────┴─► Down
/// ```
pub(super) enum State {
    /// Starts when its turn comes; `ordered` children wait until those before them are up.
    Pending { ordered: bool },
    /// Sent to its arbiter, not up yet.
    Starting(Life),
    /// Up: it has answered a ping, or `started` of a dynamic child has run.
    Running(Life),
    /// Failed, and waits for its restart.
    Backoff { timer: TimerId },
    /// Will be asked to stop when its turn comes.
    Leaving(Life, Next),
    /// Was asked to stop.
    Stopping {
        life: Life,
        since: Instant,
        timer: TimerId,
        next: Next,
    },
    /// Stays down.
    Down { fatal: bool },
}

pub(super) struct Child {
    pub(super) key: ChildKey,
    pub(super) name: Arc<str>,
    pub(super) kind: ChildKind,
    pub(super) restart: RestartType,
    pub(super) shutdown: Duration,
    pub(super) placement: Placement,
    pub(super) policy: RestartPolicy,
    pub(super) on_gave_up: Option<OnGaveUp>,
    pub(super) launch: Box<dyn Launch>,
    pub(super) state: State,
    pub(super) generation: u64,
    pub(super) place: Option<PlaceId>,
    pub(super) history: RestartHistory,
    pub(super) restarts: u64,
    pub(super) last_restart: Option<Instant>,
    pub(super) last_reason: Option<String>,
    /// Since when it has been failing; `None` while it runs without trouble.
    pub(super) outage_since: Option<Instant>,
    /// Tell those who wait for it that the child is down.
    pub(super) waiting: Vec<oneshot::Sender<()>>,
}

/// A life that was taken out of its state, with what the state told of its end.
pub(super) struct Ended {
    pub(super) life: Life,
    /// What is to follow; `None` when it was not asked to end.
    pub(super) errand: Option<Next>,
    /// When it was asked to stop.
    pub(super) stopping_since: Option<Instant>,
    pub(super) timer: Option<TimerId>,
}

impl Child {
    pub(super) fn new(
        key: ChildKey,
        kind: ChildKind,
        spec: ChildSpec,
        options: &SupervisorOptions,
    ) -> Self {
        let ChildSpec {
            name,
            terms,
            launch,
        } = spec;
        let (restart, placement, policy) = match kind {
            ChildKind::Static => (
                RestartType::Permanent,
                Placement::OwnArbiter,
                options.policy,
            ),
            ChildKind::Dynamic => (
                RestartType::Transient,
                Placement::Pool,
                options.dynamic_policy,
            ),
        };
        Self {
            key,
            name,
            kind,
            restart: terms.restart.unwrap_or(restart),
            shutdown: terms.shutdown,
            placement: terms.placement.or(options.placement).unwrap_or(placement),
            policy: terms.policy.unwrap_or(policy),
            on_gave_up: terms.on_gave_up,
            launch,
            state: State::Pending { ordered: true },
            generation: 0,
            place: None,
            history: RestartHistory::default(),
            restarts: 0,
            last_restart: None,
            last_reason: None,
            outage_since: None,
            waiting: Vec::new(),
        }
    }

    pub(super) fn life(&self) -> Option<&Life> {
        match &self.state {
            State::Starting(life)
            | State::Running(life)
            | State::Leaving(life, _)
            | State::Stopping { life, .. } => Some(life),
            State::Pending { .. } | State::Backoff { .. } | State::Down { .. } => None,
        }
    }

    /// The life that is pinged: one that was asked to stop is judged by its stop deadline instead.
    pub(super) fn pinged_life(&mut self) -> Option<&mut Life> {
        match &mut self.state {
            State::Starting(life) | State::Running(life) => Some(life),
            State::Leaving(..)
            | State::Stopping { .. }
            | State::Pending { .. }
            | State::Backoff { .. }
            | State::Down { .. } => None,
        }
    }

    /// Takes the life out. The caller sets the state that follows; until then the child is pending.
    pub(super) fn take_life(&mut self) -> Option<Ended> {
        let ended = |life, errand, stopping_since, timer| {
            Some(Ended {
                life,
                errand,
                stopping_since,
                timer,
            })
        };
        match std::mem::replace(&mut self.state, State::Pending { ordered: true }) {
            State::Starting(life) | State::Running(life) => ended(life, None, None, None),
            State::Leaving(life, next) => ended(life, Some(next), None, None),
            State::Stopping {
                life,
                since,
                timer,
                next,
            } => ended(life, Some(next), Some(since), Some(timer)),
            lifeless => {
                self.state = lifeless;
                None
            }
        }
    }

    /// Turns a starting child into a running one. `None` for a child in any other state.
    pub(super) fn come_up(&mut self, now: Instant) -> Option<LifecycleEvent> {
        let State::Starting(_) = self.state else {
            return None;
        };
        let mut life = self.take_life()?.life;
        life.up_since = Some(now);
        let mut started = LifecycleEvent::new(Edge::Started, &self.name, self.generation);
        started.duration = Some(now.duration_since(life.since));
        self.state = State::Running(life);
        Some(started)
    }

    /// Marks a living child to be asked to stop when its turn comes.
    pub(super) fn leave(&mut self, next: Next) {
        if let Some(ended) = self.take_life() {
            self.state = State::Leaving(ended.life, next);
        }
    }

    /// Tells those who wait for it that the child is down.
    pub(super) fn tell_waiting(&mut self) {
        for told in self.waiting.drain(..) {
            // The receiver may have been dropped.
            let _ = told.send(());
        }
    }

    pub(super) fn view(&self, now: Instant, budget: RestartsUsed) -> ChildView {
        let statistics = self.launch.statistics();
        let life = self.life();
        let uptime = life
            .and_then(|life| life.up_since)
            .map(|since| now.duration_since(since));
        let busy = life.map_or(Duration::ZERO, |life| life.incarnation.busy());
        let age = life.map_or(Duration::ZERO, |life| now.duration_since(life.since));
        ChildView {
            name: Arc::clone(&self.name),
            dynamic: self.kind == ChildKind::Dynamic,
            state: self.state.word(),
            uptime,
            generation: self.generation,
            restarts: self.restarts,
            last_restart: self.last_restart.map(|at| now.duration_since(at)),
            depth: statistics.in_flight,
            handled: statistics.handled,
            last_message: statistics.last_message,
            busy: share(busy, age),
            last_reason: self.last_reason.clone(),
            restart: self.restart,
            budget: Budget {
                intensity: budget.of,
                window: budget.window,
            },
            budget_left: budget.of.saturating_sub(budget.used),
            shutdown: self.shutdown,
            placement: self.placement,
        }
    }
}

fn share(part: Duration, whole: Duration) -> f64 {
    if whole.is_zero() {
        return 0.0;
    }
    (part.as_secs_f64() / whole.as_secs_f64()).min(1.0)
}

impl State {
    pub(super) fn is_down(&self) -> bool {
        matches!(self, Self::Down { .. })
    }

    /// Whether no step is pending: the child runs or stays down.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self, Self::Running(_) | Self::Down { .. })
    }

    /// Whether the other children of its group must wait with their start.
    pub(super) fn holds_its_group(&self) -> bool {
        matches!(
            self,
            Self::Backoff { .. } | Self::Leaving(..) | Self::Stopping { .. }
        )
    }

    /// What is to follow its end, if it waits for its turn to stop.
    pub(super) fn leaves_for(&self) -> Option<Next> {
        match self {
            Self::Leaving(_, next) => Some(*next),
            Self::Pending { .. }
            | Self::Starting(_)
            | Self::Running(_)
            | Self::Backoff { .. }
            | Self::Stopping { .. }
            | Self::Down { .. } => None,
        }
    }

    fn word(&self) -> ChildState {
        match self {
            Self::Pending { .. } | Self::Starting(_) => ChildState::Starting,
            Self::Running(_) => ChildState::Running,
            Self::Backoff { .. } => ChildState::Backoff,
            Self::Leaving(..) | Self::Stopping { .. } => ChildState::Stopping,
            Self::Down { fatal: false } => ChildState::Stopped,
            Self::Down { fatal: true } => ChildState::Fatal,
        }
    }
}
