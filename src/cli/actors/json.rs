//! Actors as JSON, for programs: one object on one line, with a `version`. Nothing is cut and nothing is counted together. Pure.

use serde::Serialize;

use super::{one::restart_type, words};
use crate::{
    ports::admin::{ActorKind, ActorTree, ActorView},
    telemetry::history::HistoryEvent,
};

#[derive(Serialize)]
struct Tree<'a> {
    version: u32,
    worker: &'a str,
    process: u32,
    actors: Vec<Actor<'a>>,
}

#[derive(Serialize)]
struct One<'a> {
    version: u32,
    actor: Actor<'a>,
    /// Oldest first.
    events: &'a [HistoryEvent],
}

#[derive(Serialize)]
struct Actor<'a> {
    name: &'a str,
    kind: &'static str,
    state: String,
    /// `null` while the actor does not run.
    uptime_ms: Option<u64>,
    generation: u64,
    restarts: u64,
    last_restart_ms: Option<u64>,
    mailbox: u64,
    handled: u64,
    last_message: Option<&'a str>,
    busy: f64,
    last_reason: Option<&'a str>,
    spec: Spec<'a>,
}

#[derive(Serialize)]
struct Spec<'a> {
    restart: &'static str,
    intensity: u32,
    window_ms: u64,
    budget_left: u32,
    shutdown_ms: u64,
    runs_on: &'a str,
}

/// All actors.
pub(super) fn tree(tree: &ActorTree) -> String {
    line(&Tree {
        version: words::JSON_VERSION,
        worker: tree.worker.as_str(),
        process: tree.process,
        actors: tree.actors.iter().map(actor).collect(),
    })
}

/// One actor and its last events.
pub(super) fn one(view: &ActorView, events: &[HistoryEvent]) -> String {
    line(&One {
        version: words::JSON_VERSION,
        actor: actor(view),
        events,
    })
}

fn line(value: &impl Serialize) -> String {
    let mut line = serde_json::to_string(value).expect("texts and numbers have a form in JSON");
    line.push('\n');
    line
}

fn actor(actor: &ActorView) -> Actor<'_> {
    Actor {
        name: &actor.name,
        kind: match actor.kind {
            ActorKind::Subsystem => "subsystem",
            ActorKind::Task => "task",
        },
        state: actor.state.to_string(),
        uptime_ms: actor.uptime.map(words::millis),
        generation: actor.generation,
        restarts: actor.restarts,
        last_restart_ms: actor.last_restart.map(words::millis),
        mailbox: actor.mailbox,
        handled: actor.handled,
        last_message: actor.last_message.as_deref(),
        busy: actor.busy,
        last_reason: actor.last_reason.as_deref(),
        spec: Spec {
            restart: restart_type(actor.spec.restart),
            intensity: actor.spec.budget.intensity,
            window_ms: words::millis(actor.spec.budget.window),
            budget_left: actor.spec.budget_left,
            shutdown_ms: words::millis(actor.spec.shutdown),
            runs_on: &actor.spec.runs_on,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{super::specimen, *};

    #[test]
    fn a_program_finds_every_figure_by_its_name() {
        let worker = specimen::worker(vec![specimen::failed("registry"), specimen::task("a")]);

        let line = tree(&worker);

        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line.lines().count(), 1);
        assert_eq!(read["version"], 1);
        assert_eq!(read["worker"], "worker-1");
        assert_eq!(read["process"], 42);
        assert_eq!(read["actors"][1]["kind"], "task");
        assert_eq!(
            read["actors"][0],
            json!({
                "name": "registry", "kind": "subsystem", "state": "BACKOFF", "uptime_ms": null, "generation": 3,
                "restarts": 2, "last_restart_ms": 7_000, "mailbox": 4, "handled": 120, "last_message": "Commit",
                "busy": 0.125, "last_reason": "panicked at a.rs:1:2: oh\n\u{1b}[2J",
                "spec": {
                    "restart": "permanent", "intensity": 5, "window_ms": 30_000, "budget_left": 5,
                    "shutdown_ms": 5_000, "runs_on": "a thread of its own",
                },
            })
        );
    }

    #[test]
    fn one_actor_comes_with_its_story() {
        let event = HistoryEvent {
            event: "started".into(),
            ..HistoryEvent::default()
        };

        let read: Value =
            serde_json::from_str(&one(&specimen::subsystem("journal"), &[event])).unwrap();

        assert_eq!(read["version"], 1);
        assert_eq!(read["actor"]["name"], "journal");
        assert_eq!(read["events"][0]["event"], "started");
    }
}
