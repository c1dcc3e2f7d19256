//! How long tasks have been done, whoever sets the machine's clock: the time of day counts from one process to the next alone,
//! and within this one what has passed since.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use crate::domain::{
    id::TaskId,
    record::{Phase, Snapshot, TaskRecord},
};

/// An age at a moment.
#[derive(Debug, Clone, Copy)]
struct Since {
    age: Duration,
    at: Instant,
}

/// The ages of what is done. Beside the janitor, so that its restarts change nothing about them.
#[derive(Debug, Default)]
pub struct Ages(Mutex<HashMap<TaskId, Since>>);

impl Ages {
    /// At the start of the process: by the time of day, which is all that the last process left. What was done in the future
    /// was done now.
    #[must_use]
    pub fn of(snapshot: &Snapshot, now: SystemTime) -> Self {
        let at = Instant::now();
        let done = snapshot.tasks.iter().filter_map(|record| {
            let age = now.duration_since(record.done_at?).unwrap_or_default();
            Some((record.spec.id.clone(), Since { age, at }))
        });
        Self(Mutex::new(done.collect()))
    }

    /// How long a task has been done; one that was not there before has been done from now on.
    pub(super) fn of_done(&self, record: &TaskRecord) -> Duration {
        let mut ages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Since {
            age: Duration::ZERO,
            at: Instant::now(),
        };
        let since = ages.entry(record.spec.id.clone()).or_insert(fresh);
        since.age + since.at.elapsed()
    }

    /// Forgets those that are not among what is done any more.
    pub(super) fn keep_those_of(&self, snapshot: &Snapshot) {
        let done: std::collections::HashSet<&TaskId> = snapshot
            .tasks
            .iter()
            .filter(|record| record.phase == Phase::Done)
            .map(|record| &record.spec.id)
            .collect();
        let mut ages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ages.retain(|task, _| done.contains(task));
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::domain::{
        id::{ContainerName, PayloadDigest, ResultId},
        spec::{TaskSpec, Wants},
    };

    const HOUR: Duration = Duration::from_secs(3_600);

    fn done(id: &str, at: SystemTime) -> TaskRecord {
        let spec = TaskSpec {
            id: TaskId::new(id).unwrap(),
            image: String::new(),
            command: String::new(),
            wants: Wants {
                cpu: 0.0,
                memory: 0.0,
                storage: 0.0,
                gpu: 0.0,
            },
            user_id: String::new(),
            task_name: String::new(),
            task_type: String::new(),
            sla_multiplier: 0.0,
            submitted_at: 0,
        };
        let name = ContainerName(String::new());
        let digest = PayloadDigest([0; 32]);
        TaskRecord {
            phase: Phase::Done,
            done_at: Some(at),
            ..TaskRecord::accepted(spec, digest, ResultId(String::new()), name, at)
        }
    }

    #[tokio::test]
    async fn the_time_of_day_counts_from_process_to_process_and_never_backwards() {
        tokio::time::pause();
        let now = UNIX_EPOCH + 100 * HOUR;
        let (old, future) = (done("old", now - HOUR), done("future", now + HOUR));
        let snapshot = Snapshot {
            tasks: vec![old.clone(), future.clone()],
            ..Snapshot::default()
        };

        let ages = Ages::of(&snapshot, now);
        tokio::time::advance(HOUR).await;

        assert_eq!(ages.of_done(&old), 2 * HOUR);
        assert_eq!(ages.of_done(&future), HOUR);
    }

    #[tokio::test]
    async fn within_a_process_only_what_has_passed_counts() {
        tokio::time::pause();
        let ages = Ages::of(&Snapshot::default(), UNIX_EPOCH);
        let record = done("new", UNIX_EPOCH);

        assert_eq!(ages.of_done(&record), Duration::ZERO);
        tokio::time::advance(HOUR).await;
        assert_eq!(ages.of_done(&record), HOUR);

        ages.keep_those_of(&Snapshot::default());
        assert_eq!(ages.of_done(&record), Duration::ZERO);
    }
}
