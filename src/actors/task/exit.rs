//! Finds out from the engine how a task's container stands, how it ended, who ended it, and whether that was for want of memory.
//! The engine's events tell the last two: as heard, or as the engine remembers them. If it was restarted and remembers none, that
//! tells too.

use std::time::SystemTime;

use super::TaskEnv;
use crate::{
    actors::engine_watch::ride_out,
    domain::{
        id::ContainerId,
        outcome::Exit,
        record::{Phase, TaskRecord},
        task::{Event, Found},
        task_settings::Terms,
    },
    ports::engine::{
        ContainerFacts, ContainerState, EngineError, ExitFacts, Listed, Ours, Proof, RememberedEnd,
        ToldEnd,
    },
};

/// The signals that are used to end a process: INT, QUIT, ABRT, KILL and TERM.
const ENDING: [i64; 5] = [2, 3, 6, 9, 15];

/// The exit code after SIGKILL, which the kernel sends for want of memory, among others.
const KILLED: i64 = 128 + 9;

/// Whether this worker has watched the container to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watched {
    /// It has, on an engine whose containers run on while it is stopped.
    RunsOn,
    /// It has, on an engine that stops its containers when it stops.
    Stops,
    /// It has not: the worker was away.
    No,
}

/// What the engine has of a task.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// The state of its container; `None` counts as no container.
    pub(super) found: Option<Found>,
    /// How long the container may run and how it is stopped, as it says itself.
    pub(super) terms: Terms,
    /// When it was started, by the engine's clock.
    pub(super) started_at: Option<SystemTime>,
}

impl TaskEnv {
    /// Looks up what the engine has of a task.
    pub(super) async fn look_at(&self, record: &TaskRecord) -> Looked {
        if record.phase == Phase::Done {
            return Looked::default();
        }
        let Some(facts) = self.find(record).await else {
            let is_lost = (self.lost_with_engine)(&record.result_id);
            return Looked {
                found: is_lost.then_some(Found::GoneWithEngine),
                ..Looked::default()
            };
        };
        Looked {
            terms: facts.terms,
            started_at: facts.started_at,
            found: Some(self.found(record, facts).await),
        }
    }

    async fn found(&self, record: &TaskRecord, facts: ContainerFacts) -> Found {
        let exit = match facts.state {
            ContainerState::Created => return Found::Created(facts.id),
            ContainerState::Running => return Found::Running(facts.id),
            ContainerState::Exited(exit) => exit_of(&exit),
        };
        if record.phase >= Phase::Ended {
            return Found::Exited(facts.id, exit);
        }
        match self.how_ended(&facts.id, exit, Watched::No).await {
            (exit, Some(who)) => Found::Stopped(facts.id, exit, who),
            (exit, None) => Found::Exited(facts.id, exit),
        }
    }

    /// Finds the container by its id, else by its name. If it was renamed before its id was recorded, it is found by its mark. A
    /// copy of a container has that mark too; but copies are made of running containers, and the ids of those are recorded.
    async fn find(&self, record: &TaskRecord) -> Option<ContainerFacts> {
        let id = record.container.as_ref().map(|id| id.0.as_str());
        for id_or_name in id.into_iter().chain([record.container_name.0.as_str()]) {
            if let Some(facts) = self.inspect(id_or_name).await
                && self.is_ours(facts.ours.as_ref(), record)
            {
                return Some(facts);
            }
        }
        if id.is_some() {
            return None;
        }
        let renamed = self.list().await.into_iter().find(|listed| {
            let ours = &listed.ours;
            let is_it = self.is_ours(Some(ours), record) && ours.attempt == record.attempt;
            is_it && ours.proof == Proof::Copy
        })?;
        self.inspect(&renamed.id.0).await
    }

    async fn list(&self) -> Vec<Listed> {
        loop {
            match self.engine.list(&self.worker).await {
                Ok(listed) => return listed,
                Err(error) => ride_out(&self.view, &error).await,
            }
        }
    }

    /// Inspects a container, and tries until the engine answers; `None` if there is none.
    pub(super) async fn inspect(&self, id_or_name: &str) -> Option<ContainerFacts> {
        loop {
            match self.engine.inspect(id_or_name).await {
                Ok(facts) => return Some(facts),
                Err(EngineError::NotFound(_)) => return None,
                Err(error) => ride_out(&self.view, &error).await,
            }
        }
    }

    pub(super) fn is_ours(&self, labels: Option<&Ours>, record: &TaskRecord) -> bool {
        labels.is_some_and(|ours| {
            ours.worker == self.worker.as_str() && ours.task == record.spec.id.as_str()
        })
    }

    /// Waits until it is known how the container ended. A listing that shows that it does not run ends the wait too, since the
    /// wait's connection may be dead without any error.
    pub(super) async fn wait_for_end(&self, container: &ContainerId) -> Event {
        let watched = if self.view.live_restore() {
            Watched::RunsOn
        } else {
            Watched::Stops
        };
        let removed = || Event::Lost("its container was removed by somebody else".into());
        loop {
            let waited = tokio::select! {
                biased;
                waited = self.engine.wait(container) => waited,
                () = self.view.listed_ended(container) => {
                    match self.inspect(&container.0).await.map(|facts| facts.state) {
                        Some(ContainerState::Created | ContainerState::Running) => continue,
                        Some(ContainerState::Exited(exit)) => Ok(exit.code),
                        None => return removed(),
                    }
                }
            };
            match waited {
                Ok(code) => return self.exit_facts(container, code, watched).await,
                Err(EngineError::NotFound(_)) => return removed(),
                Err(error) => ride_out(&self.view, &error).await,
            }
        }
    }

    async fn exit_facts(&self, container: &ContainerId, code: i64, watched: Watched) -> Event {
        let exit = match self.inspect(&container.0).await.map(|facts| facts.state) {
            Some(ContainerState::Exited(facts)) => exit_of(&facts),
            Some(ContainerState::Created | ContainerState::Running) | None => Exit {
                code,
                ..Exit::default()
            },
        };
        self.ended(container, exit, watched).await
    }

    /// The end of a container as an event. The state machine knows this worker's own signals: it is in a stopping state then.
    pub(super) async fn ended(
        &self,
        container: &ContainerId,
        exit: Exit,
        watched: Watched,
    ) -> Event {
        match self.how_ended(container, exit, watched).await {
            (exit, Some(who)) => Event::StoppedByOther(exit, who),
            (exit, None) => Event::Exited(exit),
        }
    }

    /// Completes an exit by a lack of memory that only an event has told; and says who ended the container, if someone did.
    async fn how_ended(
        &self,
        container: &ContainerId,
        mut exit: Exit,
        watched: Watched,
    ) -> (Exit, Option<String>) {
        if exit.oom_killed {
            return (exit, None);
        }
        let remembered = self.told_end(container, exit.code).await;
        if matches!(&remembered, RememberedEnd::Seen(told) if told.out_of_memory) {
            exit.oom_killed = true;
            return (exit, None);
        }
        let who = self.who_ended(&remembered, exit.code, watched);
        (exit, who)
    }

    /// What the engine's events told of the end: as they were heard, else as the engine remembers them.
    async fn told_end(&self, container: &ContainerId, code: i64) -> RememberedEnd {
        let seen = self.view.end_seen(container).await;
        let mut remembered = if seen.died || by_signal(&seen.told, code) {
            RememberedEnd::Seen(seen.told)
        } else {
            self.remembered_end(container).await
        };
        if let RememberedEnd::Seen(told) = &mut remembered
            && code == KILLED
            && !told.out_of_memory
            && !by_signal(told, code)
        {
            told.out_of_memory = self.view.out_of_memory(container).await;
        }
        remembered
    }

    /// Who ended the container, the engine or someone else, in words; `None` if it ended by itself, as far as is known.
    fn who_ended(&self, remembered: &RememberedEnd, code: i64, watched: Watched) -> Option<String> {
        let engine_stopped = || "stopped with the engine, which went down meanwhile".to_owned();
        match remembered {
            RememberedEnd::Seen(told) => ending_signal(told, code).map(from_outside),
            // The engine was restarted since, and remembers no event from before. If it lets containers run on, it has ended
            // none.
            RememberedEnd::BeforeItsStart => match watched {
                Watched::RunsOn if self.view.live_restore() => None,
                Watched::RunsOn | Watched::Stops => Some(engine_stopped()),
                Watched::No => {
                    let by_signal = ENDING.contains(&(code - 128));
                    (by_signal && !self.view.live_restore()).then(engine_stopped)
                }
            },
            RememberedEnd::Forgotten => None,
        }
    }

    async fn remembered_end(&self, container: &ContainerId) -> RememberedEnd {
        loop {
            match self.engine.remembered_end(container).await {
                Ok(remembered) => return remembered,
                Err(error @ (EngineError::Away(_) | EngineError::Deadline(_))) => {
                    ride_out(&self.view, &error).await;
                }
                Err(error) => {
                    log::warn!(container:%, error:%; "the engine does not tell what it remembers");
                    return RememberedEnd::Forgotten;
                }
            }
        }
    }
}

/// Whether a signal that ends a process was sent.
fn by_signal(told: &ToldEnd, code: i64) -> bool {
    ending_signal(told, code).is_some()
}

/// The signal that ended the container: the one of the exit code, else the last that was sent.
fn ending_signal(told: &ToldEnd, code: i64) -> Option<i64> {
    let sent = told.signals.iter().copied();
    let ends = |signal: &i64| ENDING.contains(signal) || 128 + signal == code;
    let exact = sent.clone().find(|signal| 128 + signal == code);
    exact.or_else(|| sent.rev().find(ends))
}

/// The text for a container that someone else ended.
fn from_outside(signal: i64) -> String {
    let how = if signal == 9 { "killed" } else { "stopped" };
    format!("{how} from outside (signal {signal})")
}

pub(super) fn exit_of(facts: &ExitFacts) -> Exit {
    let duration = facts
        .started_at
        .zip(facts.finished_at)
        .and_then(|(from, to)| to.duration_since(from).ok());
    Exit {
        code: facts.code,
        oom_killed: facts.oom_killed,
        duration: duration.unwrap_or_default(),
        usage: None,
    }
}
