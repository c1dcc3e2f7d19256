//! A journal with something of everything in it, for those who look at it and those who damage it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use worker_node::domain::id::{ContainerName, PayloadDigest, ResultId, TaskId};
use worker_node::domain::outcome::{Failure, Outcome};
use worker_node::domain::record::{Change, Ending, Outputs, TaskRecord, Verdict};
use worker_node::domain::spec::{TaskSpec, Wants};
use worker_node::domain::task_settings::{TaskSettings, Variable};
use worker_node::journal::SqliteJournal;
use worker_node::ports::clock::SystemClock;
use worker_node::ports::journal::JournalStore as _;

/// An id.
pub(crate) fn id(task: &str) -> TaskId {
    TaskId::new(task).expect("a good id")
}

fn asked() -> TaskSettings {
    TaskSettings {
        environment: [("MODE".to_owned(), Variable::Text("fast".to_owned()))].into(),
        network: Some("none".to_owned()),
        ..TaskSettings::default()
    }
}

/// A task that was just accepted.
pub(crate) fn accepted(task: &str) -> Change {
    let spec = TaskSpec {
        id: id(task),
        image: "busybox".into(),
        command: "echo ".repeat(200),
        wants: Wants::default(),
        user_id: "ann".into(),
        task_name: "job".into(),
        task_type: String::new(),
        sla_multiplier: 1.0,
        submitted_at: 1_700_000_000,
        asked: Some(Box::new(asked())),
    };
    let at = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let name = ContainerName(format!("wn-{task}"));
    let result = ResultId(format!("result-{task}"));
    Change::Accept(Box::new(TaskRecord::accepted(
        spec,
        PayloadDigest([7; 32]),
        result,
        name,
        at,
    )))
}

/// A task that failed.
pub(crate) fn ended(task: &str) -> Change {
    let ending = Ending {
        outcome: Outcome::Failed(Failure::ExitCode(3)),
        exit: None,
        outputs: Outputs::default(),
        notes: vec!["a note".into()],
    };
    let ending = Box::new(ending);
    Change::Ended {
        task: id(task),
        ending,
    }
}

/// A task of which it is fixed what the master is told.
pub(crate) fn sealed(task: &str) -> Change {
    let verdict = Verdict {
        outcome: Outcome::Succeeded,
        trailer: "[worker-node] succeeded".into(),
    };
    Change::Sealed {
        task: id(task),
        verdict,
    }
}

/// Opens a journal, which must be sound.
pub(crate) fn open(path: &Path) -> SqliteJournal {
    let opened = SqliteJournal::open(path, Arc::new(SystemClock)).expect("it opens");
    assert_eq!(opened.set_aside, None);
    opened.journal
}

/// Makes a journal with tasks in several phases, a parked result, a tombstone and what else is remembered, and leaves it open.
pub(crate) fn filled(path: &Path) -> SqliteJournal {
    let mut journal = open(path);
    let mut requests: Vec<Vec<Change>> = (0..40)
        .map(|n| vec![accepted(&format!("task-{n}"))])
        .collect();
    for n in 0..10 {
        requests.push(vec![ended(&format!("task-{n}"))]);
    }
    let reason = Some("refused 8 times".to_owned());
    requests.push(vec![Change::Parked {
        task: id("task-3"),
        reason,
    }]);
    requests.push(vec![
        accepted("buried"),
        sealed("buried"),
        Change::Retire(id("buried")),
    ]);
    requests.push(vec![Change::Redeliver(id("buried"))]);
    requests.push(vec![Change::CancelRequested(id("to-come"))]);
    let answers = journal.commit(&requests).expect("room");
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    journal
}

/// The same, closed.
pub(crate) fn journal(path: &Path) {
    drop(filled(path));
}

/// The format that a worker of this build writes.
pub(crate) const FORMAT: i64 = worker_node::app::JOURNAL_FORMAT;

/// Makes it a journal of another format: of 1 what that was, of any other number only in name.
pub(crate) fn set_version(path: &Path, version: i64) {
    let connection = rusqlite::Connection::open(path).expect("a database");
    if version == 1 {
        let later =
            "DROP TABLE redeliveries; DROP INDEX tasks_finished; DROP INDEX tasks_unfinished;
            DROP INDEX outbox_parked; ALTER TABLE outbox DROP COLUMN parked_at;
            ALTER TABLE tasks DROP COLUMN starting_at; ALTER TABLE tasks DROP COLUMN running_at;
            ALTER TABLE tasks DROP COLUMN ended_at; ALTER TABLE tasks DROP COLUMN sealed_at;
            ALTER TABLE tasks DROP COLUMN delivered_at; ALTER TABLE tasks DROP COLUMN image_ran;
            ALTER TABLE tasks DROP COLUMN asked;
            DROP TABLE images";
        let drop = connection.execute_batch(later);
        drop.expect("it has what came later");
    }
    let set = connection.pragma_update(None, "user_version", version);
    set.expect("it can be written");
}
