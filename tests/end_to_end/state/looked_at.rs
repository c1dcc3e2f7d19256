//! `worker-node state`: tells what is there, changes nothing, and does not disturb a worker that runs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use serde_json::Value;
use worker_node::domain::record::Change;
use worker_node::journal::SqliteJournal;
use worker_node::journal::look::{Beside, look, stories};
use worker_node::ports::clock::SystemClock;
use worker_node::ports::journal::JournalStore as _;
use worker_node::ports::state::{JournalFacts, Wanted};

use super::samples;
use crate::harness::{Cluster, WorkerSetup};

fn state(order: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker-node"));
    command.arg("state").args(order);
    command.arg("--state-dir").arg(folder);
    command.output().expect("the program can be run")
}

#[track_caller]
fn check(folder: &Path, code: i32) -> String {
    let output = state(&["check"], folder);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(code), "{text}");
    text
}

#[track_caller]
fn dump(folder: &Path) -> Value {
    let output = state(&["dump", "--json"], folder);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[track_caller]
fn task<'a>(dump: &'a Value, id: &str) -> &'a Value {
    let tasks = dump["tasks"].as_array().expect("tasks");
    let found = tasks.iter().find(|task| task["id"] == id);
    found.unwrap_or_else(|| panic!("{id} is not in {dump}"))
}

/// Everything in a folder: what a file is, how long, and when it was last written.
fn everything(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let about = fs::symlink_metadata(&path).expect("it is there");
        if about.is_dir() {
            found.extend(everything(&path));
        }
        let mode = std::os::unix::fs::PermissionsExt::mode(&about.permissions());
        let line = format!("{mode:o} {} {:?}", about.len(), about.modified());
        found.insert(path, line);
    }
    found
}

#[tokio::test]
async fn a_worker_is_looked_at_while_it_runs_and_when_it_is_gone() {
    let cluster = Cluster::start_with(WorkerSetup::master_by_name).await;
    let folder = cluster.worker.state_dir().to_owned();
    let bad = cluster
        .submit(worker_node::proto::Task {
            docker_image: "\u{1b}[31mred:1".to_owned(),
            ..cluster.task("true")
        })
        .await;
    cluster.report(&bad).await;
    let good = cluster.submit(cluster.task("exit 5")).await;
    cluster.report(&good).await;
    cluster.engine.wait_task(&good, "destroy").await;
    let runs = cluster.run("sleep 60").await;

    let live = dump(&folder);
    assert_eq!(live["lock"]["held"], true);
    assert_eq!(live["journal"]["is"], "sound");
    assert_eq!(task(&live, &good)["outcome"], "failed: exit code 5");
    let result = cluster.report(&good).await.result_id;
    assert_eq!(task(&live, &good)["result_id"], result.as_str());
    assert_eq!(task(&live, &good)["outbox"]["parked"], false);
    assert_eq!(task(&live, &runs)["attempt"], 1);
    assert!(task(&live, &runs)["outcome"].is_null());
    let text = check(&folder, 0);
    assert!(text.contains("held by the worker of process"), "{text}");
    let text = state(&["dump"], &folder).stdout;
    assert!(!text.contains(&0x1b), "foreign text is escaped");
    // It went on as if nobody had looked.
    let next = cluster.submit(cluster.task("true")).await;
    assert_eq!(cluster.report(&next).await.status, "success");

    cluster.master.doubt("the worker is killed");
    cluster.worker.kill().await;
    let before = everything(&folder);
    let gone = dump(&folder);
    check(&folder, 0);
    assert_eq!(everything(&folder), before, "nothing was changed");
    assert_eq!(gone["lock"]["held"], false);
    assert_eq!(task(&gone, &runs)["id"], runs.as_str());
    assert_eq!(task(&gone, &next)["outcome"], "succeeded");
}

#[test]
fn what_is_not_sound_is_said_and_left_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let mode = |mode| fs::Permissions::from_mode(mode);
    fs::set_permissions(folder.path(), mode(0o700)).expect("it is ours");
    let none = state(&["check"], folder.path());
    assert_eq!(none.status.code(), Some(3), "no worker has run here");
    let path = folder.path().join("journal.db");
    samples::journal(&path);
    check(folder.path(), 0);
    fs::set_permissions(folder.path(), mode(0o755)).expect("it is ours");
    let text = check(folder.path(), 1);
    assert!(
        text.contains("mode 0755: other users can enter it"),
        "{text}"
    );
    fs::set_permissions(folder.path(), mode(0o700)).expect("it is ours");

    samples::set_version(&path, 1);
    let before = everything(folder.path());
    let text = check(folder.path(), 0);
    let to = format!("from format 1 to {}", samples::FORMAT);
    assert!(text.contains(&to), "{text}");
    assert_eq!(everything(folder.path()), before, "it was not migrated");

    samples::set_version(&path, 77);
    let text = check(folder.path(), 1);
    assert!(text.contains("of format 77"), "{text}");

    fs::write(&path, "no journal at all, whatever its name says").expect("written");
    let before = everything(folder.path());
    let text = check(folder.path(), 1);
    assert!(text.contains("sets the file aside"), "{text}");
    assert_eq!(everything(folder.path()), before, "it was not set aside");

    let nowhere = state(&["check"], &folder.path().join("none"));
    assert_eq!(nowhere.status.code(), Some(3), "{nowhere:?}");
}

/// What is said of a row goes by what a start does about it.
#[test]
fn a_finished_row_that_cannot_be_read_is_named_and_does_not_keep_a_worker_from_starting() {
    let folder = tempfile::tempdir().expect("a folder");
    let mode = fs::Permissions::from_mode(0o700);
    fs::set_permissions(folder.path(), mode).expect("it is ours");
    let path = folder.path().join("journal.db");
    let mut journal = samples::filled(&path);
    let over = samples::id("over");
    let done = Change::Done {
        task: over.clone(),
        at: UNIX_EPOCH,
    };
    let (accepted, sealed) = (samples::accepted("over"), samples::sealed("over"));
    let finished = journal.commit(&[vec![accepted, sealed, Change::Delivered(over), done]]);
    assert_eq!(finished.expect("room"), [Ok(())]);
    drop(journal);
    garble(&path, "UPDATE tasks SET verdict = '{}' WHERE id = 'over'");
    garble(&path, "UPDATE tombstones SET verdict = ''");

    let text = check(folder.path(), 0);
    for task in ["over", "buried"] {
        let named = format!("the row of the finished task {task} cannot be read (");
        assert!(text.contains(&named), "{text}");
    }
    let told = "a start goes on, and what became of that task is lost";
    assert!(text.contains(told), "{text}");
    let shown = dump(folder.path());
    assert_eq!(shown["journal"]["unreadable"][0]["task"], "over");
    assert_eq!(shown["journal"]["unreadable"][1]["task"], "buried");
    assert_eq!(task(&shown, "task-3")["phase"], "ended");
    drop(samples::open(&path));

    garble(&path, "UPDATE tasks SET ending = '' WHERE id = 'task-3'");
    let text = check(folder.path(), 1);
    assert!(text.contains("sets the file aside"), "{text}");
    let opened = SqliteJournal::open(&path, Arc::new(SystemClock)).expect("anew");
    assert!(opened.set_aside.is_some());
}

/// Writes what no worker would into one row.
fn garble(path: &Path, statement: &str) {
    let tool = rusqlite::Connection::open(path).expect("a database");
    assert_eq!(tool.execute(statement, []).expect("it has that row"), 1);
}

/// What the worker opens of its own accord is what was shown.
#[test]
fn what_is_shown_is_what_a_worker_reads() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.db");
    samples::journal(&path);
    let mut journal = SqliteJournal::open(&path, Arc::new(SystemClock))
        .expect("sound")
        .journal;
    let (key, value) = ("master.address".to_owned(), "10.0.0.9:50051".to_owned());
    let set = journal.commit(&[vec![Change::Set { key, value }]]);
    set.expect("room");
    let snapshot = journal.snapshot().expect("readable");
    drop(journal);

    let shown = dump(folder.path());
    for record in &snapshot.tasks {
        let shown = task(&shown, record.spec.id.as_str());
        assert_eq!(shown["result_id"], record.result_id.0.as_str());
        assert_eq!(
            shown["outbox"]["parked_reason"].as_str(),
            record.parked.as_deref()
        );
    }
    assert_eq!(shown["settings"]["master.address"], "10.0.0.9:50051");
    assert_eq!(shown["tombstones"][0]["outcome"], "succeeded");
    assert_eq!(shown["redeliveries"][0], "buried");
    assert_eq!(shown["early_cancels"][0], "to-come");
}

/// One that was not restarted after an update has a journal of the format that it began with.
#[test]
fn a_journal_of_an_older_format_is_read_beside_its_worker_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.db");
    samples::journal(&path);
    samples::set_version(&path, 1);

    let looked = look(&path, Beside::Worker);
    let stories = stories(&path, Beside::Worker, &Wanted::All).expect("it can be read");

    let JournalFacts::Sound {
        format, content, ..
    } = looked
    else {
        panic!("{looked:?}");
    };
    assert_eq!((format, stories.len()), (1, content.tasks.len()));
    let again = look(&path, Beside::Nobody);
    assert!(
        matches!(again, JournalFacts::Sound { format: 1, .. }),
        "it was migrated: {again:?}"
    );
}
