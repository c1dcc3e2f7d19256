//! A state folder as JSON, for programs: one object on one line, with a `version`. Nothing is cut. Pure.

use std::time::SystemTime;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    check::Finding,
    dump::{outcome, word},
    words,
};
use crate::{
    domain::record::{Phase, Snapshot, TaskRecord, Tombstone},
    ports::state::{JournalFacts, LockFacts, StateFacts},
};

/// The findings, the lock and the logs.
pub(super) fn check(facts: &StateFacts, findings: &[Finding]) -> String {
    let is_sound = !findings.iter().any(Finding::is_trouble);
    let findings: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "part": finding.part,
                "sound": !finding.is_trouble(),
                "what": finding.what,
                "advice": finding.advice,
            })
        })
        .collect();
    let logs: Vec<_> = facts
        .logs
        .iter()
        .map(|log| {
            json!({
                "file": log.file,
                "task": log.task.as_ref().map(|task| task.as_str()),
                "bytes": log.bytes,
                "records": log.records,
                "damaged": log.damaged,
                "ended": log.is_ended,
                "torn_bytes": log.torn,
            })
        })
        .collect();
    line(&json!({
        "version": words::JSON_VERSION,
        "folder": facts.folder.to_string_lossy(),
        "user": facts.access.user,
        "mode": format!("{:04o}", facts.access.mode),
        "worker": facts.owner.as_ref().map(|owner| &owner.worker),
        "engine": facts.owner.as_ref().and_then(|owner| owner.engine.as_ref()),
        "sound": is_sound,
        "lock": lock(facts.lock),
        "findings": findings,
        "set_aside": facts.set_aside,
        "logs": logs,
    }))
}

/// The content of the journal.
pub(super) fn dump(facts: &StateFacts) -> String {
    let empty = Snapshot::default();
    let content = facts.journal.content().unwrap_or(&empty);
    let ids = |tasks: &[crate::domain::id::TaskId]| -> Vec<Value> {
        tasks.iter().map(|task| json!(task.as_str())).collect()
    };
    let settings: Map<String, Value> = content
        .settings
        .iter()
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    line(&json!({
        "version": words::JSON_VERSION,
        "folder": facts.folder.to_string_lossy(),
        "lock": lock(facts.lock),
        "journal": journal(&facts.journal),
        "tasks": content.tasks.iter().map(task).collect::<Vec<_>>(),
        "tombstones": content.tombstones.iter().map(tombstone).collect::<Vec<_>>(),
        "early_cancels": ids(&content.early_cancels),
        "redeliveries": ids(&content.redeliveries),
        "settings": settings,
    }))
}

fn lock(lock: LockFacts) -> Value {
    match lock {
        LockFacts::Free => json!({ "held": false, "process": null }),
        LockFacts::Held(process) => json!({ "held": true, "process": process }),
    }
}

fn journal(journal: &JournalFacts) -> Value {
    match journal {
        JournalFacts::Missing => json!({ "is": "missing" }),
        JournalFacts::Sound {
            format,
            bytes,
            lost,
            ..
        } => {
            let lost = lost.iter();
            let lost: Vec<_> = lost
                .map(|row| json!({ "task": row.task, "why": row.why }))
                .collect();
            json!({ "is": "sound", "format": format, "bytes": bytes, "unreadable": lost })
        }
        JournalFacts::Newer { found, .. } => json!({ "is": "newer", "format": found }),
        JournalFacts::Damaged(why) => json!({ "is": "damaged", "why": why }),
        JournalFacts::Unreadable(why) => json!({ "is": "unreadable", "why": why }),
    }
}

fn task(task: &TaskRecord) -> Value {
    let outbox = (task.phase >= Phase::Ended).then(|| {
        json!({
            "uploaded": task.uploaded,
            "upload_attempts": task.upload_attempts,
            "report_attempts": task.report_attempts,
            "parked": task.parked.is_some(),
            "parked_reason": task.parked,
        })
    });
    json!({
        "id": task.spec.id.as_str(),
        "image": task.spec.image,
        "phase": word(task.phase),
        "attempt": task.attempt,
        "answered": task.answered,
        "cancel_requested": task.cancel_requested,
        "container_name": task.container_name.0,
        "container": task.container.as_ref().map(|container| &container.0),
        "outcome": outcome(task),
        "result_id": task.result_id.0,
        "accepted_at": time(task.accepted_at),
        "done_at": task.done_at.map(time),
        "outbox": outbox,
    })
}

fn tombstone(stone: &Tombstone) -> Value {
    json!({
        "task": stone.task.as_str(),
        "digest": stone.digest.to_string(),
        "result_id": stone.result_id.0,
        "outcome": stone.verdict.outcome.to_string(),
    })
}

fn time(time: SystemTime) -> String {
    Timestamp::try_from(time).unwrap_or_default().to_string()
}

fn line(value: &Value) -> String {
    let mut line = value.to_string();
    line.push('\n');
    line
}
