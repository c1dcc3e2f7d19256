//! What happens when a supervised actor ends: restart now, restart later, give up, escalate, and which siblings go with it.
//!
//! The supervisor asks and performs. Nothing here knows an actor, a clock or chance: `now` is the monotonic time since the supervisor
//! started, and `random` is the caller's. The words are those of Erlang/OTP.
//!
//! ```text
//! ended ── restart type wants none ──────────────► Ended (a failure of a temporary child: GiveUp)
//!   │
//!   └─ wants one ─┬─ restarts are off, static ───► Escalate
//!                 ├─ budget spent ───────────────► static: Escalate, dynamic: GiveUp
//!                 └─ budget left ────────────────► Restart { after }, 0 after a quiet time, then the backoff
//! ```

use std::{collections::VecDeque, ops::Range, time::Duration};

use crate::domain::backoff::Backoff;

/// When an ended child is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RestartType {
    /// Always, whatever its end.
    Permanent,
    /// After a failure; an ordinary stop is final.
    Transient,
    /// Never.
    Temporary,
}

/// Whom the failure of a static child concerns. Dynamic children are always alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// The failed child alone.
    OneForOne,
    /// All static children.
    OneForAll,
    /// The failed child and those started after it.
    RestForOne,
}

/// Whether static children are restarted at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Restarts {
    /// As their restart type says.
    Automatic,
    /// Not: the first end that asks for a restart escalates. Dynamic children are restarted all the same.
    Never,
}

/// How a child came into the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChildKind {
    /// Declared when the supervisor was built; has a place in the order of start and stop.
    Static,
    /// Added while it runs; alone, and removed when it ends.
    Dynamic,
}

/// How an incarnation ended, as far as a decision cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// It stopped of its own will.
    Normal,
    /// It panicked, reported a failure, hung, or was dropped with its arbiter.
    Failure,
}

/// How many restarts are allowed in a sliding window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Restarts allowed within any `window`; the failure after them is final. 0 allows none.
    pub intensity: u32,
    /// Length of the window. A restart leaves it when it is exactly this old.
    pub window: Duration,
}

impl Budget {
    /// Five restarts in 30 s: a subsystem whose neighbour was away for a moment recovers, one that cannot start is given up in seconds.
    pub const SUBSYSTEM: Self = Self {
        intensity: 5,
        window: Duration::from_secs(30),
    };
    /// Three restarts in 30 s, for one of many tasks.
    pub const TASK: Self = Self {
        intensity: 3,
        window: Duration::from_secs(30),
    };
}

/// Budget and delays of one child, or of a group that restarts together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RestartPolicy {
    /// How many restarts, in which window.
    pub budget: Budget,
    /// Delays of the second and later restarts of a streak.
    pub backoff: Backoff,
    /// A child that ran this long since its last restart begins a new streak: its next restart comes at once.
    pub quiet: Duration,
}

/// Enough to tell a single crash from a loop: a child that crashes in its first seconds is still in the streak.
pub const QUIET: Duration = Duration::from_secs(10);

impl RestartPolicy {
    /// The policy with this budget and the usual backoff and quiet time.
    #[must_use]
    pub fn with_budget(budget: Budget) -> Self {
        Self {
            budget,
            backoff: Backoff::default(),
            quiet: QUIET,
        }
    }
}

/// What of a child's standing decides over its restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Static or dynamic.
    pub kind: ChildKind,
    /// Its restart type.
    pub restart: RestartType,
    /// Whether static children are restarted at all.
    pub restarts: Restarts,
}

/// The decision over an ended child. `used` counts the restarts within the window, this one included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Its end is final and in order: a dynamic child is removed.
    Ended,
    /// Start it again after this time; zero means now.
    Restart {
        /// Delay before the start.
        after: Duration,
        /// Restarts used, this one included.
        used: u32,
    },
    /// It failed and stays down; nobody else is concerned.
    GiveUp {
        /// Restarts used within the window.
        used: u32,
    },
    /// It failed and must not stay down: the supervisor stops everything and ends.
    Escalate {
        /// Restarts used within the window.
        used: u32,
    },
}

/// The restarts of one child, or of a group. Holds at most `intensity` moments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestartHistory {
    /// Moments of the restarts that may still be in the window, oldest first.
    granted: VecDeque<Duration>,
    /// Restarts since the last quiet time.
    streak: u32,
    /// When the last granted restart took, or will take, effect.
    resumes_at: Option<Duration>,
}

enum Charge {
    Granted { after: Duration, used: u32 },
    Spent { used: u32 },
}

impl RestartHistory {
    /// Restarts within the window that ends `now`.
    #[must_use]
    pub fn used(&self, now: Duration, window: Duration) -> u32 {
        let inside = |at: &&Duration| now.saturating_sub(**at) < window;
        self.granted.iter().filter(inside).count() as u32
    }

    /// Asks for one restart and books it when it is granted.
    fn charge(&mut self, policy: &RestartPolicy, now: Duration, random: f64) -> Charge {
        let Budget { intensity, window } = policy.budget;
        self.granted.retain(|at| now.saturating_sub(*at) < window);
        let used = self.granted.len() as u32;
        if used >= intensity {
            return Charge::Spent { used };
        }
        if self.is_quiet(policy.quiet, now) {
            self.streak = 0;
        }
        let after = match self.streak.checked_sub(1) {
            None => Duration::ZERO,
            Some(attempt) => policy.backoff.delay(attempt, random),
        };
        self.streak = self.streak.saturating_add(1);
        self.resumes_at = Some(now + after);
        self.granted.push_back(now);
        Charge::Granted {
            after,
            used: used + 1,
        }
    }

    fn is_quiet(&self, quiet: Duration, now: Duration) -> bool {
        self.resumes_at.is_none_or(|at| now >= at + quiet)
    }
}

/// Decides over a child that ended by itself at `now`, and books the restart in `history` when it is granted.
pub fn verdict(
    standing: Standing,
    ending: Ending,
    history: &mut RestartHistory,
    policy: &RestartPolicy,
    (now, random): (Duration, f64),
) -> Verdict {
    let used = history.used(now, policy.budget.window);
    if !wants_restart(standing.restart, ending) {
        return match ending {
            Ending::Normal => Verdict::Ended,
            Ending::Failure => Verdict::GiveUp { used },
        };
    }
    if (standing.kind, standing.restarts) == (ChildKind::Static, Restarts::Never) {
        return Verdict::Escalate { used };
    }
    match (history.charge(policy, now, random), standing.kind) {
        (Charge::Granted { after, used }, _) => Verdict::Restart { after, used },
        (Charge::Spent { used }, ChildKind::Static) => Verdict::Escalate { used },
        (Charge::Spent { used }, ChildKind::Dynamic) => Verdict::GiveUp { used },
    }
}

fn wants_restart(restart: RestartType, ending: Ending) -> bool {
    match restart {
        RestartType::Permanent => true,
        RestartType::Transient => ending == Ending::Failure,
        RestartType::Temporary => false,
    }
}

/// Which of `count` static children, in start order, restart when number `failed` does.
#[must_use]
pub fn concerned(strategy: Strategy, failed: usize, count: usize) -> Range<usize> {
    match strategy {
        Strategy::OneForOne => failed..failed + 1,
        Strategy::OneForAll => 0..count,
        Strategy::RestForOne => failed..count,
    }
}
