//! The resources that the tasks' containers use: each task's actor samples its container while it runs, and the board keeps the
//! latest samples for `tasks`, `top` and the observer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix::{AsyncContext, Context, WrapFuture};
use tokio::time::{Instant, sleep};

use super::TaskActor;
use crate::{
    domain::{
        id::{ContainerId, TaskId},
        task::Event,
        usage::{Usage, Use},
    },
    failpoint,
    ports::engine::EngineError,
};

/// The time from a container's start to its first sample: so short that a container of a tenth of a second is sampled twice.
const FIRST_LOOK: Duration = Duration::from_millis(10);
/// How many times as long each pause between samples is as the one before, up to `LOOK`.
const LATER: u32 = 4;
/// The longest pause between two samples.
const LOOK: Duration = Duration::from_secs(5);

/// The latest sample of each running task.
#[derive(Debug, Default)]
pub struct UsageBoard(Mutex<HashMap<TaskId, Option<Use>>>);

impl UsageBoard {
    /// The resources that this task's container uses, if it runs and was sampled.
    #[must_use]
    pub fn of(&self, task: &TaskId) -> Option<Use> {
        self.entries().get(task).copied().flatten()
    }

    /// Takes samples of this task from now on. The samples of an actor that failed are kept for its successor.
    fn begin(&self, task: &TaskId) {
        self.entries().entry(task.clone()).or_default();
    }

    /// Takes a sample that came `after` the one before. A sample that comes after the task's end is dropped.
    fn put(&self, task: &TaskId, usage: Usage, after: Duration) {
        if let Some(entry) = self.entries().get_mut(task) {
            // It is not known over which time the first sample's amounts were used: the container may be older than this process.
            let after = entry.map_or(Duration::ZERO, |_| after);
            entry.get_or_insert_default().take(usage, after);
        }
    }

    /// Removes a task that has ended, and returns the amounts that it used in all, if it was sampled.
    fn end(&self, task: &TaskId) -> Option<Usage> {
        let seen = self.entries().remove(task).flatten();
        seen.map(|seen| seen.usage)
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<TaskId, Option<Use>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TaskActor {
    /// Samples what the task's container uses until it is gone.
    pub(super) fn watch_usage(&self, container: ContainerId, ctx: &mut Context<Self>) {
        let (env, task) = (Arc::clone(&self.env), self.id().clone());
        env.usage.begin(&task);
        let looks = async move {
            let (mut pause, mut before) = (FIRST_LOOK, Instant::now());
            loop {
                sleep(pause).await;
                match env.engine.usage(&container).await {
                    Ok(Some(usage)) => {
                        let now = Instant::now();
                        env.usage.put(&task, usage, now - before);
                        before = now;
                    }
                    // Not a reason to end: the wait for the container's end tells whether it is gone.
                    Ok(None) | Err(EngineError::Away(_) | EngineError::Deadline(_)) => {}
                    Err(_) => return,
                }
                failpoint!("task.watch_usage");
                pause = (pause * LATER).min(LOOK);
            }
        };
        ctx.spawn(looks.into_actor(self));
    }
}

/// The event with the sampled usage added to its exit, where the engine told none. Ends the task's entry on the board.
pub(super) fn with_usage(event: Event, board: &UsageBoard, task: &TaskId) -> Event {
    let usage = board.end(task);
    match event {
        Event::Exited(mut exit) => {
            exit.usage = exit.usage.or(usage);
            Event::Exited(exit)
        }
        Event::StoppedByOther(mut exit, who) => {
            exit.usage = exit.usage.or(usage);
            Event::StoppedByOther(exit, who)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::outcome::Exit;

    fn memory(bytes: u64) -> Usage {
        Usage {
            memory: bytes,
            ..Usage::default()
        }
    }

    #[test]
    fn an_end_is_told_with_what_was_seen_and_later_looks_are_dropped() {
        let (board, task) = (UsageBoard::default(), TaskId::new("t").unwrap());
        board.begin(&task);
        assert_eq!(board.of(&task), None, "nobody has looked");
        board.put(&task, memory(7), Duration::from_secs(1));
        board.put(&task, memory(5), Duration::from_secs(1));
        assert_eq!(board.of(&task).unwrap().usage.memory, 5);

        let event = with_usage(Event::Exited(Exit::default()), &board, &task);

        let Event::Exited(exit) = event else {
            panic!("{event:?}");
        };
        assert_eq!(exit.usage.unwrap().peak_memory, 7);
        board.put(&task, memory(9), Duration::from_secs(1));
        assert_eq!(board.of(&task), None);
    }

    #[test]
    fn a_successor_goes_on_from_what_its_predecessor_saw() {
        let (board, task) = (UsageBoard::default(), TaskId::new("t").unwrap());
        board.begin(&task);
        board.put(&task, memory(7), Duration::from_secs(1));

        board.begin(&task);
        board.put(&task, memory(1), Duration::from_secs(1));

        assert_eq!(board.of(&task).unwrap().usage.peak_memory, 7);
    }

    #[test]
    fn the_first_look_says_nothing_of_how_fast() {
        let (board, task) = (UsageBoard::default(), TaskId::new("t").unwrap());
        let cpu = |seconds| Usage {
            cpu: Duration::from_secs(seconds),
            ..Usage::default()
        };
        board.begin(&task);

        board.put(&task, cpu(3_600), Duration::from_millis(10));
        assert_eq!(board.of(&task).unwrap().cores, 0.0);
        board.put(&task, cpu(3_605), Duration::from_secs(10));
        assert_eq!(board.of(&task).unwrap().cores, 0.5);
    }
}
