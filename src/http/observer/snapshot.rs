//! The snapshot for the page: the state of everything as JSON. Pure. Texts of strangers are in it as they are: JSON escapes what it
//! must, and the page shows them as text.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::super::{JSON_VERSION, reasons_json};
use crate::domain::usage::Use;
use crate::{
    metrics::{Course, Event, News, Reading},
    ports::{
        admin::{ActorKind, ActorView, TaskView},
        clock::{Clock, SystemClock},
        status::WorkerStatus,
    },
};

pub(super) fn json(reading: &Reading, news: &News) -> Value {
    let status = &reading.status;
    let why = status.not_ready();
    let sum = |of: fn(&TaskView) -> f64| reading.tasks.iter().map(of).sum::<f64>();
    json!({
        "version": JSON_VERSION,
        "number": news.number,
        "now": millis(SystemClock.now()),
        "worker": status.worker.as_str(),
        "program": status.version,
        "process": status.process,
        "uptime_seconds": status.uptime.as_secs_f64(),
        "ready": why.is_empty(),
        "reasons": reasons_json(&why),
        "master": master(status),
        "engine": {
            "address": status.engine.address,
            "version": status.engine.version,
            "away_seconds": seconds(status.engine.away_for),
            "failure": status.engine.failure,
        },
        "room": {
            "cores": status.room.cpu,
            "memory_gib": status.room.memory,
            "gpus": status.room.gpu,
            "tasks": status.room.tasks,
        },
        "held": {
            "cores": sum(|task| task.cpu),
            "memory_gib": sum(|task| task.memory),
            "gpus": sum(|task| task.gpu),
            "tasks": reading.tasks.len(),
        },
        "disk_free_bytes": reading.disk_free,
        "supervisor_answers": !reading.actors.is_empty(),
        "actors": reading.actors.iter().map(actor).collect::<Vec<_>>(),
        "tasks": reading.tasks.iter().map(task).collect::<Vec<_>>(),
        "events": news.events.iter().map(event).collect::<Vec<_>>(),
        "courses": news.courses.iter().map(course).collect::<Vec<_>>(),
    })
}

fn master(status: &WorkerStatus) -> Value {
    let master = &status.master;
    json!({
        "address": master.address,
        "registered_seconds": seconds(master.registered_for),
        "heartbeat_age_seconds": seconds(master.beat_ago),
        "heartbeat_round_trip_seconds": seconds(master.beat_took),
        "failing_seconds": seconds(master.failing_for),
        "failure": master.failure,
    })
}

fn actor(actor: &ActorView) -> Value {
    json!({
        "name": actor.name,
        "is_task": actor.kind == ActorKind::Task,
        "state": actor.state.to_string(),
        "uptime_seconds": seconds(actor.uptime),
        "generation": actor.generation,
        "restarts": actor.restarts,
        "last_restart_seconds": seconds(actor.last_restart),
        "mailbox": actor.mailbox,
        "handled": actor.handled,
        "last_message": actor.last_message,
        "busy": actor.busy,
        "last_reason": actor.last_reason,
        "runs_on": actor.spec.runs_on,
    })
}

fn task(task: &TaskView) -> Value {
    json!({
        "task": task.task,
        "stage": task.stage,
        "cores": task.cpu,
        "memory_gib": task.memory,
        "gpus": task.gpu,
        "used": task.used.map(used),
    })
}

fn used(used: Use) -> Value {
    json!({
        "cores": used.cores,
        "memory_bytes": used.usage.memory,
        "peak_memory_bytes": used.usage.peak_memory,
    })
}

fn event(event: &Event) -> Value {
    json!({
        "number": event.number,
        "at": millis(event.at),
        "actor": event.actor,
        "event": event.edge,
        "generation": event.generation,
        "cause": event.cause,
        "failure": event.is_failure,
    })
}

fn course(course: &Course) -> Value {
    let stages = course.stages.iter();
    json!({
        "task": course.task.as_str(),
        "image": course.image,
        "stages": stages.map(|(stage, at)| json!([stage, millis(*at)])).collect::<Vec<_>>(),
        "outcome": course.outcome,
        "done": course.done.map(millis),
    })
}

fn seconds(time: Option<Duration>) -> Option<f64> {
    time.map(|time| time.as_secs_f64())
}

/// Unix time in milliseconds, as browsers count.
fn millis(time: SystemTime) -> u64 {
    let time = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
