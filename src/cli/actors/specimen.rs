//! Actors to show, for the tests of what shows them.

use std::time::Duration;

use crate::{
    domain::{
        id::WorkerId,
        restart::{Budget, RestartType},
    },
    ports::admin::{ActorKind, ActorSpec, ActorState, ActorTree, ActorView},
};

/// A subsystem that runs undisturbed.
pub(in crate::cli) fn subsystem(name: &str) -> ActorView {
    ActorView {
        name: name.into(),
        kind: ActorKind::Subsystem,
        state: ActorState::Running,
        uptime: Some(Duration::from_secs(182)),
        generation: 1,
        restarts: 0,
        last_restart: None,
        mailbox: 0,
        handled: 0,
        last_message: None,
        busy: 0.0,
        last_reason: None,
        spec: ActorSpec {
            restart: RestartType::Permanent,
            budget: Budget::SUBSYSTEM,
            budget_left: 5,
            shutdown: Duration::from_secs(5),
            runs_on: "a thread of its own".into(),
        },
    }
}

/// A subsystem that has failed and waits for its restart.
pub(super) fn failed(name: &str) -> ActorView {
    ActorView {
        state: ActorState::Backoff,
        uptime: None,
        generation: 3,
        restarts: 2,
        last_restart: Some(Duration::from_secs(7)),
        mailbox: 4,
        handled: 120,
        last_message: Some("Commit".into()),
        busy: 0.125,
        last_reason: Some("panicked at a.rs:1:2: oh\n\x1b[2J".into()),
        ..subsystem(name)
    }
}

/// A task's actor.
pub(super) fn task(id: &str) -> ActorView {
    ActorView {
        kind: ActorKind::Task,
        ..subsystem(&format!("task({id})"))
    }
}

/// A worker with these actors.
pub(super) fn worker(actors: Vec<ActorView>) -> ActorTree {
    ActorTree {
        worker: WorkerId::new("worker-1").unwrap(),
        process: 42,
        actors,
    }
}
