//! The content of the journal, for people: one line per task, and a line each for all else that it remembers. Pure.

use std::fmt::Write as _;

use super::words::foreign;
use crate::{
    domain::record::{Phase, Snapshot, TaskRecord},
    ports::state::{JournalFacts, StateFacts},
};

/// Bytes of foreign text that are shown.
const SHOWN: usize = 128;

impl JournalFacts {
    /// The content of the journal, if it could be read.
    pub(super) fn content(&self) -> Option<&Snapshot> {
        match self {
            Self::Sound { content, .. } => Some(content),
            Self::Missing | Self::Newer { .. } | Self::Damaged(_) | Self::Unreadable(_) => None,
        }
    }
}

/// The journal for people.
pub(super) fn text(facts: &StateFacts) -> String {
    let JournalFacts::Sound { content, lost, .. } = &facts.journal else {
        return "nothing can be shown; see `worker-node state check`\n".to_owned();
    };
    let mut text = String::new();
    for task in &content.tasks {
        let _infallible = writeln!(text, "task {}", line(task));
    }
    for stone in &content.tombstones {
        let _infallible = writeln!(
            text,
            "tombstone {} {} result={}",
            foreign(stone.task.as_str(), SHOWN),
            foreign(&stone.verdict.outcome.to_string(), SHOWN),
            foreign(&stone.result_id.0, SHOWN)
        );
    }
    for row in lost {
        let (task, why) = (foreign(&row.task, SHOWN), foreign(&row.why, SHOWN));
        let _infallible = writeln!(text, "unreadable {task} {why}");
    }
    for task in &content.early_cancels {
        let _infallible = writeln!(text, "early-cancel {}", foreign(task.as_str(), SHOWN));
    }
    for task in &content.redeliveries {
        let _infallible = writeln!(text, "redelivery {}", foreign(task.as_str(), SHOWN));
    }
    for (key, value) in &content.settings {
        let (key, value) = (foreign(key, SHOWN), foreign(value, SHOWN));
        let _infallible = writeln!(text, "setting {key}={value}");
    }
    if text.is_empty() {
        text.push_str("the journal is empty\n");
    }
    text
}

fn line(task: &TaskRecord) -> String {
    let mut line = format!(
        "{} {} attempt={}",
        foreign(task.spec.id.as_str(), SHOWN),
        word(task.phase),
        task.attempt
    );
    if let Some(outcome) = outcome(task) {
        let _infallible = write!(line, " outcome=\"{}\"", foreign(&outcome, SHOWN));
    }
    let _infallible = write!(line, " result={}", foreign(&task.result_id.0, SHOWN));
    if task.cancel_requested {
        line.push_str(" cancel-requested");
    }
    if task.phase >= Phase::Ended {
        let (uploads, reports) = (task.upload_attempts, task.report_attempts);
        let _infallible = write!(line, " uploads-failed={uploads} reports-failed={reports}");
    }
    if let Some(reason) = &task.parked {
        let _infallible = write!(line, " parked=\"{}\"", foreign(reason, SHOWN));
    }
    line
}

/// The outcome that is sealed, or else the one that will be if no cancel comes.
pub(in crate::cli) fn outcome(task: &TaskRecord) -> Option<String> {
    let sealed = task.verdict.as_ref().map(|verdict| &verdict.outcome);
    let outcome = sealed.or(task.ending.as_ref().map(|ending| &ending.outcome));
    outcome.map(ToString::to_string)
}

/// A phase in one word.
pub(in crate::cli) fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Accepted => "accepted",
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Ended => "ended",
        Phase::Sealed => "sealed",
        Phase::Delivered => "delivered",
        Phase::Done => "done",
    }
}
