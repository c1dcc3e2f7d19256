//! The wall clock. Timeouts use `tokio::time::Instant`, which no clock change moves; this is for display, records and ids.

use std::time::SystemTime;

use tokio::time::Instant;

/// Tells the time of day.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> SystemTime;
}

/// A clock that is set once, at the start of the process: nobody who sets the machine's clock moves it. For ages that are compared
/// within one process.
#[derive(Debug, Clone, Copy)]
pub struct SteadyClock {
    wall: SystemTime,
    since: Instant,
}

impl SteadyClock {
    /// Takes the time of day from `clock`, once.
    #[must_use]
    pub fn started_by(clock: &dyn Clock) -> Self {
        Self {
            wall: clock.now(),
            since: Instant::now(),
        }
    }
}

impl Clock for SteadyClock {
    fn now(&self) -> SystemTime {
        self.wall + self.since.elapsed()
    }
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the port that the rule points to"
    )]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}
