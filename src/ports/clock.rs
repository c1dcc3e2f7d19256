//! The wall clock. Timeouts use `tokio::time::Instant`, which no clock change moves; this is for display, records and ids.

use std::time::SystemTime;

/// Tells the time of day.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> SystemTime;
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
