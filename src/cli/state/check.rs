//! Whether a state folder is sound: one finding per part, and what to do where one is in trouble. Pure.

use std::fmt::Write as _;

use super::words::foreign;
use crate::ports::state::{AccessFacts, JournalFacts, LockFacts, LogFacts, StateFacts};

/// Bytes of foreign text that are shown.
const SHOWN: usize = 256;

/// How many damaged logs, and how many unreadable rows, are named.
const NAMED: usize = 20;

/// The verdict on one part of the state folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// The name of the part.
    pub(super) part: &'static str,
    /// The state that it is in, in one sentence.
    pub(super) what: String,
    /// What to do, where the part is in trouble; `None`: it is sound.
    pub(super) advice: Option<&'static str>,
}

impl Finding {
    fn sound(part: &'static str, what: impl Into<String>) -> Self {
        Self {
            part,
            what: what.into(),
            advice: None,
        }
    }

    fn trouble(part: &'static str, what: impl Into<String>, advice: &'static str) -> Self {
        Self {
            part,
            what: what.into(),
            advice: Some(advice),
        }
    }

    /// Whether the part is in trouble.
    pub(super) fn is_trouble(&self) -> bool {
        self.advice.is_some()
    }
}

/// One finding per part, and more where a part has more to tell.
pub(super) fn findings(facts: &StateFacts) -> Vec<Finding> {
    let mut findings = vec![access(facts.access)];
    findings.extend(owner(facts));
    findings.extend([lock(facts.lock), journal(&facts.journal)]);
    findings.extend(lost(&facts.journal));
    findings.extend(others_can_read(&facts.journal));
    findings.extend(parked(&facts.journal));
    findings.extend(set_aside(&facts.set_aside));
    findings.extend(logs(&facts.logs));
    findings.push(history(facts));
    findings
}

/// The findings for people.
pub(super) fn text(facts: &StateFacts, findings: &[Finding]) -> String {
    let folder = foreign(&facts.folder.to_string_lossy(), SHOWN);
    let mut text = format!("state folder {folder}\n");
    for finding in findings {
        let mark = if finding.is_trouble() { "!" } else { " " };
        let _infallible = writeln!(text, "{mark} {:<9} {}", finding.part, finding.what);
        if let Some(advice) = finding.advice {
            let _infallible = writeln!(text, "            {advice}");
        }
    }
    let is_trouble = findings.iter().any(Finding::is_trouble);
    let is_whole = lost(&facts.journal).is_empty();
    text.push_str(match (is_trouble, is_whole) {
        (true, _) => "not sound, see the lines with an exclamation mark\n",
        (false, true) => "sound\n",
        (false, false) => "sound, but for rows of finished tasks: a start goes on without them\n",
    });
    text
}

fn access(AccessFacts { user, mode }: AccessFacts) -> Finding {
    const PART: &str = "folder";
    let what = format!("of user {user}, mode {mode:04o}");
    match mode & 0o077 {
        0 => Finding::sound(PART, what),
        _ => Finding::trouble(
            PART,
            format!("{what}: other users can enter it"),
            "chmod 700 it; the next start of the worker does it too",
        ),
    }
}

fn owner(facts: &StateFacts) -> Option<Finding> {
    let owner = facts.owner.as_ref()?;
    let worker = foreign(&owner.worker, SHOWN);
    let what = match &owner.engine {
        Some(engine) => format!("worker {worker}, on the engine {}", foreign(engine, SHOWN)),
        None => format!("worker {worker}, which has met no engine yet"),
    };
    Some(Finding::sound("owner", what))
}

fn lock(lock: LockFacts) -> Finding {
    Finding::sound(
        "lock",
        match lock {
            LockFacts::Free => "free: no worker runs on this folder".to_owned(),
            LockFacts::Held(Some(process)) => format!("held by the worker of process {process}"),
            LockFacts::Held(None) => "held by a worker".to_owned(),
        },
    )
}

fn journal(journal: &JournalFacts) -> Finding {
    const PART: &str = "journal";
    match journal {
        JournalFacts::Missing => Finding::sound(
            PART,
            "none; the next start makes one, and rebuilds it from the labels of containers",
        ),
        JournalFacts::Sound {
            format,
            known,
            content,
            lost,
            bytes,
            ..
        } => {
            let whole = match lost.is_empty() {
                true => "whole",
                false => "readable",
            };
            let age = match format < known {
                true => format!("; the next start brings it from format {format} to {known}"),
                false => String::new(),
            };
            let (tasks, stones) = (content.tasks.len(), content.tombstones.len());
            Finding::sound(
                PART,
                format!("{whole}: {tasks} tasks, {stones} tombstones, {bytes} bytes{age}"),
            )
        }
        JournalFacts::Newer { found, known } => Finding::trouble(
            PART,
            format!("of format {found}; this program knows {known}"),
            "use a worker-node at least as new as the one that wrote it; this one leaves it as it is",
        ),
        JournalFacts::Damaged(why) => Finding::trouble(
            PART,
            format!("damaged: {}", foreign(why, SHOWN)),
            "start the worker: it sets the file aside and rebuilds the tasks from the labels of their containers",
        ),
        JournalFacts::Unreadable(why) => Finding::trouble(
            PART,
            format!("cannot be read: {}", foreign(why, SHOWN)),
            "run this as the worker's user, and see to the disk",
        ),
    }
}

/// Rows that cannot be read. They are no trouble: a start goes on without them.
fn lost(journal: &JournalFacts) -> Vec<Finding> {
    const PART: &str = "journal";
    let JournalFacts::Sound { lost, .. } = journal else {
        return Vec::new();
    };
    let named = lost.iter().take(NAMED).map(|row| {
        let (task, why) = (foreign(&row.task, SHOWN), foreign(&row.why, SHOWN));
        let what = format!(
            "the row of the finished task {task} cannot be read ({why}); a start goes on, and what became of that task is lost: it is \
             not shown, and an offer of it is refused"
        );
        Finding::sound(PART, what)
    });
    let more = lost.len().saturating_sub(NAMED);
    let more = (more > 0).then(|| {
        Finding::sound(
            PART,
            format!("{more} more rows of finished tasks cannot be read"),
        )
    });
    named.chain(more).collect()
}

fn others_can_read(journal: &JournalFacts) -> Option<Finding> {
    let is_open = matches!(
        journal,
        JournalFacts::Sound {
            is_open_to_others: true,
            ..
        }
    );
    is_open.then(|| {
        Finding::trouble(
            "journal",
            "can be read or written by other users",
            "chmod 600 it; the next start of the worker does it too",
        )
    })
}

fn parked(journal: &JournalFacts) -> Option<Finding> {
    let tasks = &journal.content()?.tasks;
    let parked = tasks.iter().filter(|task| task.parked.is_some()).count();
    let what = format!("{parked} results are parked, see `state dump`; they are tried again");
    (parked > 0).then(|| Finding::sound("outbox", what))
}

fn set_aside(names: &[String]) -> Option<Finding> {
    let names: Vec<_> = names.iter().map(|name| foreign(name, SHOWN)).collect();
    let what = format!(
        "set aside as damaged, for whoever wants to look: {}",
        names.join(", ")
    );
    (!names.is_empty()).then(|| Finding::sound("earlier", what))
}

fn logs(logs: &[LogFacts]) -> Vec<Finding> {
    let bytes: u64 = logs.iter().map(|log| log.bytes).sum();
    let open = logs.iter().filter(|log| !log.is_ended).count();
    let count = logs.len();
    let all = format!("{count} files, {open} of them not ended, {bytes} bytes");
    let damaged = logs.iter().filter(|log| log.damaged > 0);
    let named = damaged.take(NAMED).map(|log| {
        let task = log.task.as_ref().map_or_else(
            || "its beginning is damaged".to_owned(),
            |task| format!("of task {}", foreign(task.as_str(), SHOWN)),
        );
        Finding::trouble(
            "logs",
            format!(
                "{} ({task}) has {} damaged places",
                foreign(&log.file, SHOWN),
                log.damaged
            ),
            "nothing: what is damaged is left out with a marker, and what the engine still has is read anew",
        )
    });
    std::iter::once(Finding::sound("logs", all))
        .chain(named)
        .collect()
}

fn history(facts: &StateFacts) -> Finding {
    let (events, unreadable) = (facts.history.events, facts.history.unreadable);
    let torn = match unreadable {
        0 => String::new(),
        lines => format!("; {lines} lines are torn or damaged, and left out"),
    };
    Finding::sound("history", format!("{events} events{torn}"))
}
