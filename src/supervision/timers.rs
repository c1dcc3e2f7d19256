//! The supervisor's deadlines in one ordered map: ten thousand of them cost one sleeping future, and a cancelled one leaves nothing.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::incarnation::ChildKey;

/// What falls due with a timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Look at the pings and send new ones.
    Look,
    /// The backoff of a child is over.
    Restart(ChildKey),
    /// The time of a child to stop is over.
    Stop(ChildKey),
    /// The time for the end of the whole tree is over.
    StopAll,
}

/// Names one timer, for cancelling it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TimerId(Instant, u64);

#[derive(Default)]
pub(super) struct Timers {
    due: BTreeMap<TimerId, Due>,
    last: u64,
}

impl Timers {
    pub(super) fn add(&mut self, at: Instant, due: Due) -> TimerId {
        self.last += 1;
        let id = TimerId(at, self.last);
        self.due.insert(id, due);
        id
    }

    pub(super) fn cancel(&mut self, id: TimerId) {
        self.due.remove(&id);
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first_key_value().map(|(id, _)| id.0)
    }

    /// Takes the earliest timer that is due at `now`.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Due> {
        let entry = self.due.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn timers_come_due_in_the_order_of_their_time() {
        let now = Instant::now();
        let mut timers = Timers::default();
        timers.add(now + Duration::from_secs(2), Due::StopAll);
        timers.add(now + Duration::from_secs(1), Due::Look);

        assert_eq!(timers.next(), Some(now + Duration::from_secs(1)));
        assert_eq!(timers.pop(now), None);
        assert_eq!(timers.pop(now + Duration::from_secs(5)), Some(Due::Look));
        assert_eq!(timers.pop(now + Duration::from_secs(5)), Some(Due::StopAll));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_timer_is_gone() {
        let now = Instant::now();
        let mut timers = Timers::default();
        let kept = timers.add(now, Due::Restart(ChildKey(1)));
        let cancelled = timers.add(now, Due::Restart(ChildKey(2)));

        timers.cancel(cancelled);

        assert_ne!(kept, cancelled);
        assert_eq!(timers.pop(now), Some(Due::Restart(ChildKey(1))));
        assert_eq!(timers.next(), None);
    }
}
