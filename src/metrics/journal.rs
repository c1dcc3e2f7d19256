//! The journal, watched: each durable step of a task is counted, once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::time::Instant;

use super::Metrics;
use crate::{
    domain::{
        id::TaskId,
        outcome::Outcome,
        record::{Change, Phase},
    },
    ports::journal::{JournalError, JournalReader, JournalStore, Known, Refused},
};

/// The values of the label `outcome`.
pub(super) const SUCCEEDED: &str = "succeeded";
pub(super) const FAILED: &str = "failed";
pub(super) const CANCELLED: &str = "cancelled";

/// The last step of each task that is not done, and when the task came to it; tasks from before this process have none until their
/// next one.
#[derive(Debug, Default)]
pub struct Steps(Mutex<HashMap<TaskId, (Phase, Instant)>>);

/// A store that counts what was committed to it.
pub struct CountedJournal {
    store: Box<dyn JournalStore>,
    metrics: Arc<Metrics>,
    /// Outlives the store, which each incarnation of the journal's actor opens anew.
    steps: Arc<Steps>,
}

impl CountedJournal {
    /// Counts what `store` takes.
    #[must_use]
    pub fn new(store: Box<dyn JournalStore>, metrics: Arc<Metrics>, steps: Arc<Steps>) -> Self {
        Self {
            store,
            metrics,
            steps,
        }
    }

    fn count(&self, change: &Change) {
        self.metrics.timeline.change(change);
        match change {
            Change::Accept(record) if record.phase == Phase::Accepted => {
                let is_new = self.came_to(&record.spec.id, Phase::Accepted);
                self.metrics.accepted.inc_by(u64::from(is_new));
            }
            Change::Withdraw(task) => self.forget(task),
            Change::Starting { task, .. } => _ = self.came_to(task, Phase::Starting),
            Change::Running { task, .. } => _ = self.came_to(task, Phase::Running),
            Change::Ended { task, .. } => _ = self.came_to(task, Phase::Ended),
            Change::Sealed { task, verdict } => {
                let is_new = self.came_to(task, Phase::Sealed);
                let ended = [("outcome", word(&verdict.outcome))];
                let ended = self.metrics.ended.get_or_create(&ended);
                ended.inc_by(u64::from(is_new));
            }
            Change::Delivered(task) => _ = self.came_to(task, Phase::Delivered),
            Change::Done { task, .. } => {
                self.came_to(task, Phase::Done);
                self.forget(task);
            }
            _ => {}
        }
    }

    /// Notes that the task has come to `phase`; returns whether for the first time. A step is committed again where the journal was
    /// restarted before it could say that it had taken it.
    fn came_to(&self, task: &TaskId, phase: Phase) -> bool {
        let now = Instant::now();
        let mut steps = self.steps.lock();
        let before = steps.get(task).copied();
        let is_known = match before {
            Some((before, _)) => before >= phase,
            // A task without steps here was done before, and its result goes out again.
            None => phase >= Phase::Delivered,
        };
        if is_known {
            return false;
        }
        steps.insert(task.clone(), (phase, now));
        drop(steps);
        if let Some((before, since)) = before
            && let Some(name) = name(before, phase)
        {
            let times = self.metrics.phases.get_or_create(&[("phase", name)]);
            times.observe((now - since).as_secs_f64());
        }
        true
    }

    fn forget(&self, task: &TaskId) {
        self.steps.lock().remove(task);
    }
}

impl Steps {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TaskId, (Phase, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The name of the phase between two steps; `None`: they are not next to each other.
fn name(before: Phase, phase: Phase) -> Option<&'static str> {
    match (before, phase) {
        // A task whose image cannot be had ends here, too.
        (Phase::Accepted, Phase::Starting | Phase::Ended) => Some("prepare"),
        (Phase::Starting, Phase::Running) => Some("start"),
        // A task that ended before it was seen to run: its start is in this time.
        (Phase::Starting | Phase::Running, Phase::Ended) => Some("run"),
        (Phase::Ended, Phase::Sealed) => Some("upload"),
        (Phase::Sealed, Phase::Delivered) => Some("report"),
        (Phase::Delivered, Phase::Done) => Some("clean"),
        _ => None,
    }
}

/// How a task ended, for programs.
pub(super) fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => SUCCEEDED,
        Outcome::Failed(_) => FAILED,
        Outcome::Cancelled => CANCELLED,
    }
}

impl JournalStore for CountedJournal {
    fn reader(&self) -> Result<Box<dyn JournalReader>, JournalError> {
        self.store.reader()
    }

    fn find(&mut self, task: &TaskId) -> Result<Option<Known>, JournalError> {
        self.store.find(task)
    }

    fn commit(
        &mut self,
        requests: &[Vec<Change>],
    ) -> Result<Vec<Result<(), Refused>>, JournalError> {
        let answers = self.store.commit(requests)?;
        let written = requests.iter().zip(&answers);
        let written = written.filter(|(_, answer)| answer.is_ok());
        for change in written.flat_map(|(changes, _)| changes) {
            self.count(change);
        }
        Ok(answers)
    }

    fn make_room(&mut self) {
        self.store.make_room();
    }

    fn tend(&mut self) -> Result<(), JournalError> {
        self.store.tend()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::record::Verdict;

    /// A store that takes everything and keeps nothing.
    struct Blotter;

    impl JournalStore for Blotter {
        fn reader(&self) -> Result<Box<dyn JournalReader>, JournalError> {
            unreachable!("nobody reads it")
        }

        fn find(&mut self, _task: &TaskId) -> Result<Option<Known>, JournalError> {
            Ok(None)
        }

        fn commit(
            &mut self,
            requests: &[Vec<Change>],
        ) -> Result<Vec<Result<(), Refused>>, JournalError> {
            Ok(requests.iter().map(|_| Ok(())).collect())
        }

        fn make_room(&mut self) {}

        fn tend(&mut self) -> Result<(), JournalError> {
            Ok(())
        }
    }

    fn sealed(task: &TaskId) -> Change {
        let verdict = Verdict {
            outcome: Outcome::Succeeded,
            trailer: String::new(),
        };
        Change::Sealed {
            task: task.clone(),
            verdict,
        }
    }

    fn counted() -> (Arc<Metrics>, Arc<Steps>, CountedJournal) {
        let (metrics, steps) = (Arc::<Metrics>::default(), Arc::<Steps>::default());
        let journal = CountedJournal::new(Box::new(Blotter), metrics.clone(), steps.clone());
        (metrics, steps, journal)
    }

    #[test]
    fn an_end_that_is_committed_again_counts_once() {
        let (metrics, steps, mut journal) = counted();
        let task = TaskId::new("t").unwrap();
        journal.commit(&[vec![sealed(&task)]]).unwrap();
        // A restarted journal opens its store anew, and is asked again.
        let mut journal = CountedJournal::new(Box::new(Blotter), metrics.clone(), steps);
        journal.commit(&[vec![sealed(&task)]]).unwrap();
        let ended = metrics.ended.get_or_create(&[("outcome", "succeeded")]);
        assert_eq!(ended.get(), 1);
    }

    #[test]
    fn a_task_that_is_done_is_not_kept_for_a_result_that_goes_out_again() {
        let (_, steps, mut journal) = counted();
        let task = TaskId::new("t").unwrap();
        let again = [Change::Redeliver(task.clone()), Change::Delivered(task)];
        journal.commit(&[again.to_vec()]).unwrap();
        assert!(steps.lock().is_empty());
    }
}
