//! State that is damaged or lost while tasks run: their containers' labels, and whoever has them in hand, rebuild it. None runs
//! twice, and every result arrives.

use std::fs;
use std::os::unix::fs::FileExt as _;

use worker_node::journal::look::{Beside, look};
use worker_node::ports::state::JournalFacts;

use super::{go, until_go};
use crate::harness::times;
use crate::harness::{Cluster, WorkerSetup, eventually};

/// What the worker says when it has lost its journal.
const LOST: &str = "the journal was lost while it was in use";

fn supervised(setup: WorkerSetup) -> WorkerSetup {
    setup.arguments(["--supervise"])
}

/// So many tasks that run until their test says `go`, and leave a file behind.
async fn running(cluster: &Cluster, count: usize) -> Vec<String> {
    let mut tasks = Vec::new();
    for n in 0..count {
        let command = format!(
            "echo before {n}; {}",
            until_go("echo kept >/output/kept.txt; echo after")
        );
        tasks.push(cluster.run(&command).await);
    }
    tasks
}

/// Each ends as it should, after one start of its container.
async fn assert_all_end(cluster: &Cluster, tasks: &[String]) {
    for task in tasks {
        go(cluster, task);
    }
    for (n, task) in tasks.iter().enumerate() {
        let report = cluster.report(task).await;
        assert_eq!(report.status, "success", "{}", report.logs);
        let log = format!("before {n}\nafter\n");
        assert!(report.logs.starts_with(&log), "{}", report.logs);
        assert_eq!(report.output_files, ["kept.txt"], "{}", report.logs);
        let upload = cluster.master.wait_upload(task).await.expect("an upload");
        assert_eq!(upload.files.len(), 1);
        assert_eq!(cluster.engine.starts(task).await, 1, "{task} ran once");
    }
}

/// The journal, written over with something else while a worker has it open.
fn overwrite(cluster: &Cluster) {
    for name in ["journal.db", "journal.db-wal"] {
        let path = cluster.worker.state_dir().join(name);
        let file = fs::File::options()
            .write(true)
            .open(&path)
            .expect("it is there");
        let length = file.metadata().expect("it is there").len();
        let bytes: Vec<u8> = (0..length).map(|_| fastrand::u8(..)).collect();
        file.write_all_at(&bytes, 0).expect("written");
    }
}

/// The operator has the journal started again, which finds what SQLite's own memory may hide for long.
fn restart_journal(cluster: &Cluster) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_worker-node"));
    command.args(["actors", "restart", "journal", "--state-dir"]);
    let status = command.arg(cluster.worker.state_dir()).status();
    assert!(status.is_ok_and(|status| status.success()));
}

/// The tasks that run are in the new journal.
async fn wait_written_down(cluster: &Cluster, tasks: &[String]) {
    let path = cluster.worker.state_dir().join("journal.db");
    eventually("the tasks are durable again", || {
        let JournalFacts::Sound { content, .. } = look(&path, Beside::Worker) else {
            return false;
        };
        let known = |task: &String| content.tasks.iter().any(|one| one.spec.id.as_str() == task);
        tasks.iter().all(known)
    })
    .await;
}

#[tokio::test]
async fn a_journal_that_is_overwritten_under_a_worker_is_written_anew_and_no_task_is_lost() {
    let mut cluster = Cluster::start_with(supervised).await;
    let tasks = running(&cluster, 3).await;

    overwrite(&cluster);
    restart_journal(&cluster);
    cluster.worker.wait_log_line(LOST).await;
    wait_written_down(&cluster, &tasks).await;

    // What runs is durable again: the next process goes on with it.
    cluster.master.doubt("the worker is killed");
    cluster.worker.kill().await;
    cluster.worker.restart().await;
    assert_all_end(&cluster, &tasks).await;
    cluster.finish().await;
}

#[tokio::test]
async fn a_journal_that_is_removed_under_a_worker_is_written_anew() {
    let cluster = Cluster::start_with(supervised).await;
    let tasks = running(&cluster, 2).await;

    for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        fs::remove_file(cluster.worker.state_dir().join(name)).expect("it is there");
    }
    cluster.worker.wait_log_line(LOST).await;

    assert_all_end(&cluster, &tasks).await;
    cluster.finish().await;
}

/// Without supervision the process ends, and the next one rebuilds.
#[tokio::test]
async fn a_worker_that_ends_over_a_lost_journal_is_followed_by_one_that_adopts() {
    let mut cluster = Cluster::start().await;
    let tasks = running(&cluster, 2).await;

    fs::remove_file(cluster.worker.state_dir().join("journal.db")).expect("it is there");
    let status = cluster.worker.process().wait_exit().await;
    assert_eq!(status.code(), Some(75));
    cluster.master.doubt("the worker ended");
    cluster.worker.restart().await;

    assert_all_end(&cluster, &tasks).await;
    cluster.finish().await;
}

#[tokio::test]
async fn a_state_folder_that_lost_all_but_the_outputs_is_rebuilt_from_containers() {
    let mut cluster = Cluster::start().await;
    for round in 0..times(5, 50) {
        let tasks = running(&cluster, 5).await;
        cluster.master.doubt("the worker is killed");
        cluster.worker.kill().await;
        for entry in fs::read_dir(cluster.worker.state_dir()).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("outputs") {
                fs::remove_dir_all(&path).expect("removed");
            } else if !path.is_dir() {
                fs::remove_file(&path).expect("removed");
            }
        }

        cluster.worker.restart().await;
        let again = cluster
            .master
            .wait_registrations(cluster.worker.id(), round + 2);
        again.await.expect("it registers again");
        assert_all_end(&cluster, &tasks).await;
    }
    cluster.finish().await;
}

#[tokio::test]
async fn outputs_that_went_with_the_state_folder_are_said_to_be_lost() {
    let mut cluster = Cluster::start().await;
    let command = "echo gone >/output/gone.txt; echo before; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo after";
    let task = cluster.run(command).await;
    let viewer = cluster.master.watch_log(&task);
    viewer.wait_line("before").await.expect("it runs");
    cluster.master.doubt("the worker is killed");
    cluster.worker.kill().await;
    fs::remove_dir_all(cluster.worker.state_dir()).expect("removed");

    cluster.worker.restart().await;
    cluster
        .worker
        .wait_log_line("is adopted from its labels")
        .await;
    let containers = cluster.engine.containers_of(&task).await;
    cluster.engine.touch_in(&containers[0], "/tmp/go").await;

    let report = cluster.report(&task).await;
    assert_eq!(report.status, "success", "{}", report.logs);
    assert!(
        report.logs.starts_with("before\nafter\n"),
        "{}",
        report.logs
    );
    assert!(
        report.logs.contains("the output files are lost"),
        "{}",
        report.logs
    );
    assert_eq!(report.output_files, [] as [String; 0]);
    assert_eq!(cluster.engine.starts(&task).await, 1);
    cluster.finish().await;
}

/// A log whose file was damaged while nobody had it open: what is left is shown, with a marker, and the worker goes on.
#[tokio::test]
async fn a_damaged_log_is_shown_with_a_marker() {
    let mut cluster = Cluster::start().await;
    let command = "echo first; sleep 0.3; echo second; sleep 0.3; echo third";
    let flipped = cluster.submit(cluster.task(command)).await;
    let cut = cluster.submit(cluster.task(command)).await;
    for task in [&flipped, &cut] {
        cluster.report(task).await;
        cluster.engine.wait_task(task, "destroy").await;
    }
    assert_eq!(cluster.worker.stop().await, Some(0));

    let log_of = |task: &str| {
        let logs = cluster.worker.state_dir().join("logs");
        logs.join(format!("{}.log", super::file_name(task)))
    };
    let mut bytes = fs::read(log_of(&flipped)).expect("its log");
    let second = bytes
        .windows(6)
        .position(|six| six == b"second")
        .expect("it is in it");
    bytes[second] ^= 0x01;
    fs::write(log_of(&flipped), &bytes).expect("written");
    let bytes = fs::read(log_of(&cut)).expect("its log");
    let third = bytes
        .windows(5)
        .position(|five| five == b"third")
        .expect("it is in it");
    fs::write(log_of(&cut), &bytes[..third + 2]).expect("written");
    cluster.worker.restart().await;
    let again = cluster.master.wait_registrations(cluster.worker.id(), 2);
    again.await.expect("it registers again");

    let shown = cluster
        .master
        .watch_log(&flipped)
        .wait_end()
        .await
        .expect("an end")
        .lines();
    let shown = shown.join("\n");
    assert!(
        shown.contains("first") && shown.contains("third"),
        "{shown}"
    );
    assert!(shown.contains("7 bytes of this log are damaged"), "{shown}");
    let shown = cluster.master.watch_log(&cut).wait_end().await;
    let shown = shown.expect("an end").lines().join("\n");
    assert!(shown.contains("first\nsecond"), "{shown}");
    assert!(shown.contains("the end of this log was damaged"), "{shown}");
    let next = cluster.submit(cluster.task("true")).await;
    assert_eq!(cluster.report(&next).await.status, "success");
    assert_eq!(cluster.worker.stop().await, Some(0));
}
