//! What is logged about results that the master does not take: that it is away, once for all results, and when it is back; that
//! it refuses a result, once per task.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use crate::{domain::id::TaskId, ports::master::MasterError, telemetry::operator};

/// Decides what is logged. See the module.
#[derive(Debug, Default)]
pub(crate) struct Silence(Mutex<Heard>);

#[derive(Debug, Default)]
struct Heard {
    /// Since when the master has taken no result because it is away, and whose results wait.
    away: Option<(Instant, HashSet<TaskId>)>,
    /// The tasks whose refusal was logged.
    refused: HashSet<TaskId>,
}

/// What is to be logged.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// Nothing: it was logged before.
    Nothing,
    /// Results wait from now on.
    Away,
    /// The master refuses this task's result.
    Refused,
}

impl Silence {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A report of the task was not taken.
    pub(super) fn not_taken(&self, task: &TaskId, error: &MasterError) {
        match self.note(task, error) {
            Said::Nothing => {}
            Said::Away => operator::results_wait(task, error),
            Said::Refused => operator::result_refused(task, error),
        }
    }

    fn note(&self, task: &TaskId, error: &MasterError) -> Said {
        let mut heard = self.lock();
        match error {
            MasterError::Unreachable(_) | MasterError::Lost(_) | MasterError::Deadline(_) => {
                let begins = heard.away.is_none();
                let now = (Instant::now(), HashSet::new());
                let (_, waiting) = heard.away.get_or_insert(now);
                waiting.insert(task.clone());
                if begins { Said::Away } else { Said::Nothing }
            }
            MasterError::Refused(_)
            | MasterError::NotRegistered(_)
            | MasterError::Unacceptable(_)
            | MasterError::Source(_) => match heard.refused.insert(task.clone()) {
                true => Said::Refused,
                false => Said::Nothing,
            },
        }
    }

    /// A report of the task was taken, so the master is there.
    pub(super) fn over(&self, task: &TaskId) {
        let mut heard = self.lock();
        heard.refused.remove(task);
        if let Some((since, waiting)) = heard.away.take() {
            operator::results_flow(since.elapsed(), waiting.len());
        }
    }

    /// The delivery of the task's result has ended, taken or not.
    pub(super) fn forget(&self, task: &TaskId) {
        let mut heard = self.lock();
        heard.refused.remove(task);
        if let Some((_, waiting)) = &mut heard.away {
            waiting.remove(task);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(n: usize) -> TaskId {
        TaskId::new(format!("t-{n}")).unwrap()
    }

    #[tokio::test]
    async fn a_master_that_is_away_is_said_once_for_all_tasks_and_tries() {
        let silence = Silence::default();
        let away = MasterError::Unreachable("no route".into());

        let said: Vec<_> = (0..100)
            .map(|n| silence.note(&task(n % 10), &away))
            .collect();

        assert_eq!(said.iter().filter(|said| **said == Said::Away).count(), 1);
        silence.forget(&task(9));
        let waiting = silence.lock().away.as_ref().unwrap().1.len();
        assert_eq!(waiting, 9, "without the one that was let go of");
        silence.over(&task(0));
        assert_eq!(silence.note(&task(1), &away), Said::Away, "a new trouble");
    }

    #[tokio::test]
    async fn a_refusal_is_said_once_per_task_until_it_is_taken() {
        let silence = Silence::default();
        let refused = MasterError::Refused("task not found".into());

        for n in 0..2 {
            assert_eq!(silence.note(&task(n), &refused), Said::Refused);
            assert_eq!(silence.note(&task(n), &refused), Said::Nothing);
        }
        silence.over(&task(0));
        silence.forget(&task(1));
        for n in 0..2 {
            assert_eq!(silence.note(&task(n), &refused), Said::Refused);
        }
    }
}
