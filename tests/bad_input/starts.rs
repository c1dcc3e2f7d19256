//! Starts that cannot work: each says why in one sentence and ends with its own code, and disturbs no worker that runs.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use tokio::net::TcpListener;
use worker_node::dev_master::DevMaster;

use crate::assert_goes_on;
use crate::harness::{Cluster, Process, WorkerProcess, WorkerSetup, master_options};

/// Try later.
const TEMPORARY: Option<i32> = Some(75);
/// The command line or the environment is wrong.
const USAGE: Option<i32> = Some(2);
/// Not allowed.
const PERMISSION: Option<i32> = Some(77);
/// The configuration cannot be.
const CONFIGURATION: Option<i32> = Some(78);

/// The start must end with this code, and have said these words in one line.
async fn assert_ends(worker: &WorkerProcess, code: Option<i32>, words: &[&str]) {
    assert_process_ends(worker.process(), code, words).await;
}

async fn assert_process_ends(process: &Process, code: Option<i32>, words: &[&str]) {
    let exit = process.wait_exit().await;
    let said = process.wait_line(words[0]).await;
    assert_eq!(exit.code(), code, "{}", process.tail());
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said:?}");
    }
    assert!(!process.tail().contains("panicked"), "{}", process.tail());
}

async fn nobodys_master() -> DevMaster {
    DevMaster::start(master_options()).await.expect("a master")
}

#[tokio::test]
async fn a_port_in_use_ends_the_start() {
    let master = nobodys_master().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();

    let worker = WorkerSetup::new(&master)
        .arguments(["-port", &format!("127.0.0.1:{port}")])
        .start();

    assert_ends(
        &worker,
        TEMPORARY,
        &["-port", &format!("port {port} is in use")],
    )
    .await;
}

#[tokio::test]
async fn a_second_worker_on_the_same_state_folder_ends_and_leaves_the_first_alone() {
    let cluster = Cluster::start().await;
    let state = cluster.worker.state_dir().to_str().unwrap().to_owned();
    let first = cluster.worker.process().pid().as_raw_nonzero().to_string();

    let second = WorkerSetup::new(&cluster.master)
        .arguments(["--state-dir", &state])
        .start();

    assert_ends(
        &second,
        TEMPORARY,
        &[
            "the state folder",
            &state,
            "in use by another worker",
            &first,
        ],
    )
    .await;
    assert_goes_on(&cluster).await;
    cluster.finish().await;
}

#[tokio::test]
async fn a_second_worker_of_the_same_name_on_the_same_engine_ends_and_leaves_the_first_alone() {
    let cluster = Cluster::start().await;
    let id = cluster.worker.id().to_owned();
    let first = cluster.worker.process().pid().as_raw_nonzero().to_string();
    let running = cluster.run("echo up; exec sleep 600").await;

    let second = WorkerSetup::new(&cluster.master)
        .arguments(["-id", &id])
        .start();

    assert_ends(&second, TEMPORARY, &["another worker named", &id, &first]).await;
    let registrations = cluster
        .master
        .look(|record| record.worker(&id).map(|worker| worker.registrations.len()));
    assert_eq!(registrations, Some(1), "the master calls the first one");
    assert_goes_on(&cluster).await;
    cluster.master.cancel(&running).await.unwrap();
    let report = cluster.report(&running).await;
    assert_eq!(report.status, "cancelled", "it ran on: {}", report.logs);
    assert_eq!(cluster.engine.starts(&running).await, 1);
    cluster.finish().await;
}

#[tokio::test]
async fn a_state_folder_that_is_a_file_ends_the_start() {
    let master = nobodys_master().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();

    for folder in [path.to_owned(), format!("{path}/below")] {
        let worker = WorkerSetup::new(&master)
            .arguments(["--state-dir", &folder])
            .start();

        assert_ends(&worker, CONFIGURATION, &["the state folder", path]).await;
    }
}

#[tokio::test]
async fn a_state_folder_that_may_not_be_written_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.arg(env!("CARGO_BIN_EXE_worker-node"));
    command.arg("--state-dir").arg(folder.path());

    let process = Process::start("a worker of nobody", &mut command);

    let path = folder.path().to_str().unwrap();
    assert_process_ends(
        &process,
        PERMISSION,
        &["the state folder", path, "cannot be written"],
    )
    .await;
}

#[tokio::test]
async fn an_engine_address_that_is_none_ends_the_start() {
    let master = nobodys_master().await;

    for nonsense in [
        "nonsense",
        "ssh://host",
        "tcp://",
        "tcp://host",
        "unix://relative",
        "tcp://a:b",
    ] {
        let by_variable = WorkerSetup::new(&master)
            .variable("DOCKER_HOST", nonsense)
            .start();
        let by_flag = WorkerSetup::new(&master)
            .arguments(["--engine", nonsense])
            .start();

        assert_ends(&by_variable, USAGE, &["DOCKER_HOST", nonsense]).await;
        assert_ends(&by_flag, USAGE, &["--engine", nonsense]).await;
    }
}

#[tokio::test]
async fn a_flag_wins_over_an_engine_address_of_the_environment_that_is_none() {
    let cluster = Cluster::start_with(|setup| {
        setup
            .variable("DOCKER_HOST", "nonsense")
            .arguments(["--engine", "unix:///var/run/docker.sock"])
    })
    .await;

    assert_goes_on(&cluster).await;
    cluster.finish().await;
}
