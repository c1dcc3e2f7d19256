//! Counts events that may come in floods, and says when they are to be logged: once a minute, with the number since then.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Time between two lines of the log.
const SAY: Duration = Duration::from_secs(60);

/// A counter of one kind of event.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    said: Option<Instant>,
    since: u64,
}

impl Tally {
    /// Counts one more. Returns how many came since the last line of the log, where one is due now.
    pub(super) fn count(&self) -> Option<u64> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.since += 1;
        if counted.said.is_some_and(|said| said.elapsed() < SAY) {
            return None;
        }
        counted.said = Some(Instant::now());
        Some(std::mem::take(&mut counted.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_is_said_once_a_minute_with_its_number() {
        let tally = Tally::default();

        let said: Vec<_> = (0..1_000).filter_map(|_| tally.count()).collect();
        tokio::time::advance(SAY).await;

        assert_eq!(said, [1]);
        assert_eq!(tally.count(), Some(1_000));
    }
}
