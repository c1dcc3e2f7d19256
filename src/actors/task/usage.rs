//! What the tasks' containers use: looked at by each task's actor while its container runs, read by whoever tells people.

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

/// From a container's start to the first look at it: so short that one of a tenth of a second is seen twice. Each next look is
/// `LATER` times as long after the one before, up to `LOOK`.
const FIRST_LOOK: Duration = Duration::from_millis(10);
const LATER: u32 = 4;
const LOOK: Duration = Duration::from_secs(5);

/// The latest looks, by task.
#[derive(Debug, Default)]
pub struct UsageBoard(Mutex<HashMap<TaskId, Option<Use>>>);

impl UsageBoard {
    /// What this task's container uses, if it runs and was looked at.
    #[must_use]
    pub fn of(&self, task: &TaskId) -> Option<Use> {
        self.entries().get(task).copied().flatten()
    }

    /// Its looks are taken from now on. What an actor saw that failed is kept for its successor.
    fn begin(&self, task: &TaskId) {
        self.entries().entry(task.clone()).or_default();
    }

    /// A look, so long after the one before it. One that comes after the end is dropped.
    fn put(&self, task: &TaskId, usage: Usage, after: Duration) {
        if let Some(entry) = self.entries().get_mut(task) {
            // Over which time the first one's share was used is not known: the container may be from before.
            let after = entry.map_or(Duration::ZERO, |_| after);
            entry.get_or_insert_default().take(usage, after);
        }
    }

    /// It has ended: all that was seen of it.
    fn end(&self, task: &TaskId) -> Option<Usage> {
        let seen = self.entries().remove(task).flatten();
        seen.map(|seen| seen.usage)
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<TaskId, Option<Use>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TaskActor {
    /// Looks at what its container uses until that is gone.
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
                    // The wait for its end says what there is to say.
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

/// An end with what was seen of the container's use, if anything was.
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
