//! How long a report waits after the acknowledgement of its offer. The master writes 'running' after it has our answer, and
//! a report that overtakes that write is overwritten by it for ever; how long the write takes shows in how long the master
//! takes to answer heartbeats, which wait for the same lock.

use std::{collections::VecDeque, time::Duration};

/// The shortest settle time. Measured against the real master: no report was overtaken from 2 ms on, so this is a hundredfold.
const LEAST: Duration = Duration::from_millis(250);

/// The longest settle time: a master that slow has other troubles.
const MOST: Duration = Duration::from_secs(5);

/// How many heartbeats are looked back at.
const REMEMBERED: usize = 10;

/// Derives the settle time from the last heartbeats, unless it was set.
#[derive(Debug, Clone)]
pub struct SettleTime {
    fixed: Option<Duration>,
    answers: VecDeque<Duration>,
}

impl SettleTime {
    /// `fixed` is `--settle-time`.
    #[must_use]
    pub fn new(fixed: Option<Duration>) -> Self {
        Self {
            fixed,
            answers: VecDeque::with_capacity(REMEMBERED),
        }
    }

    /// Takes in how long the master took to answer a heartbeat.
    pub fn answered_after(&mut self, time: Duration) {
        if self.answers.len() == REMEMBERED {
            self.answers.pop_front();
        }
        self.answers.push_back(time);
    }

    /// The settle time now: 250 ms, or 4 times the slowest of the last 10 heartbeats where that is more, at most 5 s.
    #[must_use]
    pub fn now(&self) -> Duration {
        let slowest = self.answers.iter().max().copied().unwrap_or_default();
        self.fixed.unwrap_or((slowest * 4).clamp(LEAST, MOST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_slowest_of_the_last_ten_answers_within_bounds() {
        let mut settle = SettleTime::new(None);
        assert_eq!(settle.now(), LEAST);

        settle.answered_after(Duration::from_millis(500));
        assert_eq!(settle.now(), Duration::from_secs(2));
        settle.answered_after(Duration::from_secs(4));
        assert_eq!(settle.now(), MOST);
        for _ in 0..10 {
            settle.answered_after(Duration::from_millis(1));
        }
        assert_eq!(settle.now(), LEAST);
    }

    #[test]
    fn what_was_set_is_not_derived() {
        let mut settle = SettleTime::new(Some(Duration::from_millis(10)));
        settle.answered_after(Duration::from_secs(4));

        assert_eq!(settle.now(), Duration::from_millis(10));
    }
}
