//! The status of a worker for programs: one object on one line, with a `version`. Pure.

use std::time::Duration;

use serde_json::json;

use super::Moment;
use crate::cli::words::{self, millis};

pub(super) fn line(moment: &Moment, troubles: &[String]) -> String {
    let status = &moment.status;
    let time = |time: Option<Duration>| time.map(millis);
    let page = json!({
        "version": words::JSON_VERSION,
        "healthy": troubles.is_empty(),
        "troubles": troubles,
        "worker": status.worker.as_str(),
        "program": status.version,
        "process": status.process,
        "uptime_ms": millis(status.uptime),
        "master": {
            "address": status.master.address,
            "registered_ms": time(status.master.registered_for),
            "heartbeat_ago_ms": time(status.master.beat_ago),
            "heartbeat_took_ms": time(status.master.beat_took),
            "failing_ms": time(status.master.failing_for),
            "failure": status.master.failure,
        },
        "engine": {
            "address": status.engine.address,
            "version": status.engine.version,
            "away_ms": time(status.engine.away_for),
            "failure": status.engine.failure,
        },
        "refusing": status.refusing,
        "room": {
            "cpu": status.room.cpu,
            "memory_gib": status.room.memory,
            "gpu": status.room.gpu,
            "tasks": status.room.tasks,
        },
        "tasks": moment.tasks.iter().map(|task| json!({
            "id": task.task,
            "stage": task.stage,
            "cpu": task.cpu,
            "memory_gib": task.memory,
            "gpu": task.gpu,
        })).collect::<Vec<_>>(),
        "results": {
            "waiting": moment.results.waiting,
            "parked": moment.results.parked,
        },
        "disk_free_bytes": moment.disk_free,
        "certificate_until": status.certificate_until.map(|until| humantime::format_rfc3339_seconds(until).to_string()),
        "errors": status.errors.iter().map(|error| json!({
            "ago_ms": millis(error.ago),
            "text": error.text,
        })).collect::<Vec<_>>(),
        "restarts": moment.actors.iter().map(|actor| actor.restarts).sum::<u64>(),
    });
    format!("{page}\n")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{super::specimen, *};

    #[test]
    fn a_program_is_told_what_a_person_is() {
        let told = line(&specimen::well(), &[]);

        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(
            (&told["version"], &told["healthy"]),
            (&1.into(), &true.into())
        );
        assert_eq!(told["master"]["heartbeat_took_ms"], 4);
        assert_eq!(told["engine"]["version"], "20.10.24");
        assert_eq!(told["tasks"].as_array().unwrap().len(), 3);
    }
}
