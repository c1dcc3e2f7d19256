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

/// Which static children restart when one fails. A dynamic child is always alone.
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
    /// Never: the first end that asks for a restart escalates. Dynamic children are restarted all the same.
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

/// What decides over a child's restart, beside how it ended.
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

#[cfg(test)]
mod tests {
    use proptest::{
        prelude::{Just, Strategy as Values, prop},
        prop_assert, prop_assert_eq, prop_oneof, proptest,
        test_runner::Config,
    };

    use super::*;

    const ALONE: Standing = Standing {
        kind: ChildKind::Static,
        restart: RestartType::Permanent,
        restarts: Restarts::Automatic,
    };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn policy(intensity: u32, window: u64, quiet: u64) -> RestartPolicy {
        RestartPolicy {
            budget: Budget {
                intensity,
                window: seconds(window),
            },
            backoff: Backoff {
                first: seconds(1),
                cap: seconds(8),
                jitter: 0.0,
            },
            quiet: seconds(quiet),
        }
    }

    fn fail_at(times: &[u64], policy: &RestartPolicy) -> Vec<Verdict> {
        let mut history = RestartHistory::default();
        let fail = |at: &u64| {
            let moment = (seconds(*at), 0.0);
            verdict(ALONE, Ending::Failure, &mut history, policy, moment)
        };
        times.iter().map(fail).collect()
    }

    fn restart(after: u64, used: u32) -> Verdict {
        Verdict::Restart {
            after: seconds(after),
            used,
        }
    }

    #[test]
    fn the_first_restart_comes_at_once_and_the_next_ones_double() {
        let verdicts = fail_at(&[0, 0, 1, 3], &policy(9, 100, 50));

        assert_eq!(
            verdicts,
            [restart(0, 1), restart(1, 2), restart(2, 3), restart(4, 4)]
        );
    }

    #[test]
    fn a_quiet_time_begins_a_new_streak_but_returns_no_budget() {
        let verdicts = fail_at(&[0, 1, 12], &policy(9, 100, 10));

        assert_eq!(
            verdicts,
            [restart(0, 1), restart(1, 2), restart(0, 3)],
            "quiet is counted from the restart at 2 s"
        );
    }

    #[test]
    fn the_failure_after_a_spent_budget_escalates() {
        let verdicts = fail_at(&[0, 1, 2], &policy(2, 30, 10));

        assert_eq!(verdicts[2], Verdict::Escalate { used: 2 });
    }

    #[test]
    fn a_restart_leaves_the_window_when_it_is_as_old_as_the_window() {
        let before = fail_at(&[0, 20, 29], &policy(2, 30, 5));
        let at = fail_at(&[0, 20, 30], &policy(2, 30, 5));

        assert_eq!(before[2], Verdict::Escalate { used: 2 });
        assert_eq!(at[2], restart(0, 2));
    }

    #[test]
    fn a_budget_of_none_allows_none() {
        assert_eq!(
            fail_at(&[0], &policy(0, 30, 10)),
            [Verdict::Escalate { used: 0 }]
        );
    }

    #[test]
    fn without_restarts_static_children_escalate_and_dynamic_ones_restart() {
        let policy = policy(2, 30, 10);
        let verdict_of = |kind, restart, ending| {
            let standing = Standing {
                kind,
                restart,
                restarts: Restarts::Never,
            };
            let mut history = RestartHistory::default();
            verdict(standing, ending, &mut history, &policy, (seconds(1), 0.0))
        };
        use ChildKind::{Dynamic, Static};
        use RestartType::{Permanent, Temporary, Transient};

        let failure = Ending::Failure;
        assert_eq!(
            verdict_of(Static, Permanent, failure),
            Verdict::Escalate { used: 0 }
        );
        assert_eq!(
            verdict_of(Static, Permanent, Ending::Normal),
            Verdict::Escalate { used: 0 }
        );
        assert_eq!(
            verdict_of(Static, Transient, Ending::Normal),
            Verdict::Ended
        );
        assert_eq!(
            verdict_of(Static, Temporary, failure),
            Verdict::GiveUp { used: 0 }
        );
        assert_eq!(verdict_of(Dynamic, Transient, failure), restart(0, 1));
    }

    #[test]
    fn each_strategy_names_its_siblings() {
        assert_eq!(concerned(Strategy::OneForOne, 1, 4), 1..2);
        assert_eq!(concerned(Strategy::OneForAll, 1, 4), 0..4);
        assert_eq!(concerned(Strategy::RestForOne, 1, 4), 1..4);
    }

    /// The same rules, written down as definitions over the whole past instead of as state.
    #[derive(Default)]
    struct Model {
        /// Failure and resumption of every granted restart.
        past: Vec<(Duration, Duration)>,
    }

    impl Model {
        fn used(&self, now: Duration, policy: &RestartPolicy) -> u32 {
            let mut used = 0;
            for (failed, _) in &self.past {
                if *failed + policy.budget.window > now {
                    used += 1;
                }
            }
            used
        }

        /// Restarts since the last time that a failure came a quiet time or more after the resumption before it.
        fn streak(&self, now: Duration, policy: &RestartPolicy) -> usize {
            let mut failures: Vec<Duration> = self.past.iter().map(|(failed, _)| *failed).collect();
            failures.push(now);
            (0..self.past.len())
                .rev()
                .take_while(|index| failures[index + 1] < self.past[*index].1 + policy.quiet)
                .count()
        }

        fn verdict(
            &mut self,
            standing: Standing,
            ending: Ending,
            policy: &RestartPolicy,
            (now, random): (Duration, f64),
        ) -> Verdict {
            let used = self.used(now, policy);
            let is_static = standing.kind == ChildKind::Static;
            let restarts = match (standing.restart, ending) {
                (RestartType::Temporary, _) | (RestartType::Transient, Ending::Normal) => false,
                (RestartType::Permanent, _) | (RestartType::Transient, Ending::Failure) => true,
            };
            let never = is_static && standing.restarts == Restarts::Never;
            if !restarts && ending == Ending::Normal {
                Verdict::Ended
            } else if restarts && is_static && (never || used >= policy.budget.intensity) {
                Verdict::Escalate { used }
            } else if !restarts || used >= policy.budget.intensity {
                Verdict::GiveUp { used }
            } else {
                let after = match self.streak(now, policy) {
                    0 => Duration::ZERO,
                    earlier => policy.backoff.delay(earlier as u32 - 1, random),
                };
                self.past.push((now, now + after));
                let used = used + 1;
                Verdict::Restart { after, used }
            }
        }
    }

    fn any_standing() -> impl Values<Value = Standing> {
        let kind = prop_oneof![Just(ChildKind::Static), Just(ChildKind::Dynamic)];
        let restart = prop_oneof![
            4 => Just(RestartType::Permanent),
            2 => Just(RestartType::Transient),
            1 => Just(RestartType::Temporary),
        ];
        let restarts = prop_oneof![
            4 => Just(Restarts::Automatic),
            1 => Just(Restarts::Never),
        ];
        (kind, restart, restarts).prop_map(|(kind, restart, restarts)| Standing {
            kind,
            restart,
            restarts,
        })
    }

    proptest! {
        #![proptest_config(Config::with_cases(5_000))]

        #[test]
        fn random_traces_agree_with_the_model(
            standing in any_standing(),
            (intensity, window, quiet) in (0u32..6, 0u64..40, 0u64..20),
            ends in prop::collection::vec((0u64..15_000, 0.0f64..1.0, prop::bool::weighted(0.8)), 1..60),
        ) {
            let policy = RestartPolicy {
                backoff: Backoff { first: Duration::from_millis(300), cap: seconds(8), jitter: 0.4 },
                ..policy(intensity, window, quiet)
            };
            let (mut history, mut model) = (RestartHistory::default(), Model::default());
            let mut now = Duration::ZERO;
            for (lived, random, fails) in ends {
                now += Duration::from_millis(lived);
                let ending = if fails { Ending::Failure } else { Ending::Normal };

                let decided = verdict(standing, ending, &mut history, &policy, (now, random));

                prop_assert_eq!(decided, model.verdict(standing, ending, &policy, (now, random)));
                prop_assert!(history.granted.len() <= intensity as usize, "the history is bounded");
                match decided {
                    Verdict::Restart { after, .. } => now += after,
                    Verdict::Ended | Verdict::GiveUp { .. } | Verdict::Escalate { .. } => {}
                }
            }
        }

        #[test]
        fn no_window_ever_holds_more_restarts_than_the_intensity(
            gaps in prop::collection::vec(0u64..20_000, 1..80),
            (intensity, window) in (1u32..6, 1u64..40),
        ) {
            let policy = policy(intensity, window, 5);
            let mut history = RestartHistory::default();
            let (mut now, mut granted) = (Duration::ZERO, Vec::new());
            for gap in gaps {
                now += Duration::from_millis(gap);
                let decided = verdict(ALONE, Ending::Failure, &mut history, &policy, (now, 0.0));
                if matches!(decided, Verdict::Restart { .. }) {
                    granted.push(now);
                }
            }

            for end in &granted {
                let inside = granted.iter().filter(|at| *at <= end && **at + seconds(window) > *end);
                prop_assert!(inside.count() <= intensity as usize);
            }
        }
    }
}
