//! `doctor` beside a worker, its master and a real engine.

use std::process::{Command, Output};

use worker_node::dev_master::DevMaster;

use crate::harness::{Cluster, WorkerProcess, WorkerSetup, master_options};

async fn doctor(worker: &WorkerProcess, master: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker-node"));
    command.args([
        "doctor",
        "-id",
        worker.id(),
        "-ip",
        "127.0.0.1",
        "-port",
        "127.0.0.1:0",
    ]);
    command.args(["-master", master]);
    command.arg("--state-dir").arg(worker.state_dir());
    let ended = tokio::task::spawn_blocking(move || command.output()).await;
    let Output { status, stdout, .. } = ended.expect("no panic").expect("it can be started");
    let told = String::from_utf8(stdout).expect("UTF-8");
    let squeezed = told
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    (status.code(), squeezed.collect::<Vec<_>>().join("\n"))
}

#[track_caller]
fn assert_told(told: &str, begin: &str, words: &str) {
    let mut lines = told.lines();
    assert!(
        lines.any(|line| line.starts_with(begin) && line.contains(words)),
        "{begin} .. {words}: {told}"
    );
}

#[tokio::test]
async fn a_worker_that_is_well_has_no_fault_and_is_not_disturbed() {
    let cluster = Cluster::start().await;
    cluster.worker.wait_log_line("Ready to receive tasks").await;
    let task = cluster.run("sleep 600").await;
    let containers = cluster.engine.containers_of(&task).await;

    let (code, told) = doctor(&cluster.worker, &cluster.master.address().to_string()).await;

    assert_eq!(code, Some(0), "{told}");
    let process = cluster.worker.process().pid().as_raw_nonzero();
    assert_told(
        &told,
        "ok state folder",
        &format!("the worker of process {process} has it"),
    );
    assert_told(&told, "ok worker", "`worker-node status` says how it is");
    assert_told(&told, "ok engine", "control groups v");
    assert_told(&told, "ok engine's disk", "MiB are free for /");
    assert_told(&told, "ok master", "answers by gRPC");
    assert_told(&told, "ok registered", "by the master at ");
    assert_eq!(cluster.engine.containers_of(&task).await, containers);
    cluster.master.cancel(&task).await.expect("it is known");
    assert_eq!(cluster.report(&task).await.status, "cancelled");
    cluster.finish().await;
}

#[tokio::test]
async fn a_worker_that_is_not_let_in_is_told_what_its_administrator_must_type() {
    let master = DevMaster::start(master_options()).await.expect("a master");
    let worker = WorkerSetup::new(&master).start();
    worker
        .wait_log_line("its administrator must type: register")
        .await;

    let (code, told) = doctor(&worker, &master.address().to_string()).await;

    assert_eq!(code, Some(1), "{told}");
    assert_told(&told, "ok master", "answers by gRPC");
    let words = format!(
        "its administrator must type: register {} 127.0.0.1:",
        worker.id()
    );
    assert_told(&told, "fault registered", &words);
    assert_eq!(worker.stop().await, Some(0));
}
