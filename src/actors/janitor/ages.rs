//! How long ago tasks finished, independent of settings of the machine's clock: the time of day counts only across a restart of
//! the process, and within the process the time that has passed.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use crate::{domain::id::TaskId, ports::journal::Household};

/// An age at a moment.
#[derive(Debug, Clone, Copy)]
struct Since {
    age: Duration,
    at: Instant,
}

/// The ages of finished tasks. Kept beside the janitor, so that a restart of it does not change them.
#[derive(Debug, Default)]
pub struct Ages(Mutex<HashMap<TaskId, Since>>);

impl Ages {
    /// The ages at the start of the process, by the time of day, which is all that the last process left. A task that finished in
    /// the future counts as just finished.
    #[must_use]
    pub fn of(household: &Household, now: SystemTime) -> Self {
        let at = Instant::now();
        let done = household.finished.iter().map(|(task, done)| {
            let age = now.duration_since(*done).unwrap_or_default();
            (task.clone(), Since { age, at })
        });
        Self(Mutex::new(done.collect()))
    }

    /// How long ago the task finished; a task not seen before counts as just finished.
    pub(super) fn of_done(&self, task: &TaskId) -> Duration {
        let mut ages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Since {
            age: Duration::ZERO,
            at: Instant::now(),
        };
        let since = ages.entry(task.clone()).or_insert(fresh);
        since.age + since.at.elapsed()
    }

    /// Forgets tasks that are no longer among the finished ones.
    pub(super) fn keep_those_of(&self, household: &Household) {
        let finished = household.finished.iter();
        let done: HashSet<&TaskId> = finished.map(|(task, _)| task).collect();
        let mut ages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ages.retain(|task, _| done.contains(task));
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn task(id: &str) -> TaskId {
        TaskId::new(id).unwrap()
    }

    #[tokio::test]
    async fn the_time_of_day_counts_from_process_to_process_and_never_backwards() {
        tokio::time::pause();
        let now = UNIX_EPOCH + 100 * HOUR;
        let (old, future) = (task("old"), task("future"));
        let household = Household {
            finished: vec![(old.clone(), now - HOUR), (future.clone(), now + HOUR)],
            ..Household::default()
        };

        let ages = Ages::of(&household, now);
        tokio::time::advance(HOUR).await;

        assert_eq!(ages.of_done(&old), 2 * HOUR);
        assert_eq!(ages.of_done(&future), HOUR);
    }

    #[tokio::test]
    async fn within_a_process_only_what_has_passed_counts() {
        tokio::time::pause();
        let ages = Ages::of(&Household::default(), UNIX_EPOCH);
        let task = task("new");

        assert_eq!(ages.of_done(&task), Duration::ZERO);
        tokio::time::advance(HOUR).await;
        assert_eq!(ages.of_done(&task), HOUR);

        ages.keep_those_of(&Household::default());
        assert_eq!(ages.of_done(&task), Duration::ZERO);
    }
}
