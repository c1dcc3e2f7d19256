//! The worker under a service manager: readiness, the watchdog, signals. The manager's socket is a real one, the worker the real
//! binary.

mod doctor;
mod reload;

use std::{io, path::Path};

use tempfile::TempDir;
use tokio::{net::UnixDatagram, time::timeout};

use crate::harness::{Cluster, PATIENCE, WorkerSetup};
use rustix::process::Signal;
use worker_node::{
    dev_master::Inside,
    proto::{TaskId, master_worker_client::MasterWorkerClient},
};

/// What systemd listens on.
struct Manager {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Manager {
    fn listen() -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let socket = UnixDatagram::bind(folder.path().join("notify"))?;
        Ok(Self { socket, folder })
    }

    fn path(&self) -> String {
        let path: &Path = self.folder.path();
        path.join("notify").display().to_string()
    }

    /// The next word that is told.
    async fn told(&self) -> String {
        let mut buffer = [0; 1_024];
        let received = timeout(PATIENCE, self.socket.recv(&mut buffer)).await;
        let length = received.expect("it is told").expect("it can be read");
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    }
}

#[tokio::test]
async fn a_service_manager_is_told_of_start_life_and_stop() {
    let manager = Manager::listen().expect("a socket");
    let cluster = Cluster::start_with(|setup: WorkerSetup| {
        setup
            .variable("NOTIFY_SOCKET", &manager.path())
            .variable("WATCHDOG_USEC", "400000")
    })
    .await;

    assert_eq!(manager.told().await, "READY=1");
    for _ in 0..3 {
        assert_eq!(manager.told().await, "WATCHDOG=1");
    }

    cluster.worker.signal_stop();
    while manager.told().await != "STOPPING=1" {}
    let status = cluster.worker.process().wait_exit().await;
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn the_watchdog_of_another_process_is_not_fed() {
    let manager = Manager::listen().expect("a socket");
    let cluster = Cluster::start_with(|setup: WorkerSetup| {
        setup
            .variable("NOTIFY_SOCKET", &manager.path())
            .variable("WATCHDOG_USEC", "20000")
            .variable("WATCHDOG_PID", "1")
    })
    .await;

    assert_eq!(manager.told().await, "READY=1");
    cluster.worker.signal_stop();
    assert_eq!(manager.told().await, "STOPPING=1");
    cluster.worker.process().wait_exit().await;
}

/// More of its log than the pipe holds; what the queue does not hold either is `telemetry::sink`'s.
#[tokio::test]
async fn a_log_that_nobody_reads_stops_nothing() {
    let cluster = Cluster::start_with(|setup| setup.variable("RUST_LOG", "debug")).await;
    let registered = cluster.master.wait_registered(cluster.worker.id()).await;
    let address = registered.expect("registered").info.worker_ip;
    let connecting = MasterWorkerClient::connect(format!("http://{address}"));
    let mut caller = connecting.await.expect("it listens");
    cluster.worker.process().pause_reading(true);
    for number in 0..1_000 {
        let task_id = format!("{number}{}", "x".repeat(900));
        let answer = caller.cancel_task(TaskId { task_id }).await;
        answer.expect("it answers");
    }

    let task = cluster.run("echo done").await;

    assert_eq!(cluster.report(&task).await.status, "success");
    cluster.worker.process().pause_reading(false);
    let id = format!("999{}...", "x".repeat(125));
    cluster.worker.wait_log_line(&id).await;
    cluster.finish().await;
}

/// A closed terminal, a reload by reflex; and the signal that asks for the end like SIGTERM.
#[tokio::test]
async fn a_hangup_is_not_the_end_and_a_quit_is_one_in_good_order() {
    let cluster = Cluster::start().await;
    let process = cluster.worker.process();

    process.signal(Signal::HUP);
    process.wait_line("the worker goes on").await;
    let task = cluster.run("true").await;
    assert_eq!(cluster.report(&task).await.status, "success");
    process.signal(Signal::QUIT);

    assert_eq!(process.wait_exit().await.code(), Some(0));
    process.wait_line("signal=SIGQUIT").await;
}

#[tokio::test]
async fn a_stop_ends_though_the_master_is_away_and_says_what_is_kept() {
    let stopped = async |on_stop: &'static str, commands: &'static [&'static str], kept: &str| {
        let mut cluster =
            Cluster::start_with(|setup| setup.arguments(["--on-stop", on_stop])).await;
        let mut tasks = Vec::new();
        for command in commands {
            tasks.push(cluster.run(command).await);
        }
        cluster.master.stop_listening(Inside::Cut).await;

        let code = cluster.worker.stop().await;

        assert_eq!(code, Some(0), "--on-stop {on_stop}");
        cluster.worker.wait_log_line(kept).await;
        cluster.master.listen_again().await.expect("the same port");
        cluster.worker.restart().await;
        for task in tasks {
            cluster.report(&task).await;
            assert_eq!(cluster.engine.starts(&task).await, 1);
        }
        cluster.master.doubt("the worker was stopped");
        cluster.finish().await;
    };

    let one = "1 result is not delivered; it is kept and sent at the next start";
    let two = "2 results are not delivered; they are kept and sent at the next start";
    tokio::join!(
        stopped("stop", &["sleep 600", "sleep 601"], two),
        stopped("drain", &["sleep 2"], one)
    );
}

/// The tasks run on, and the next process has them.
#[tokio::test]
async fn a_second_signal_ends_a_drain_in_good_order() {
    let manager = Manager::listen().expect("a socket");
    let mut cluster = Cluster::start_with(|setup| {
        let setup = setup.variable("NOTIFY_SOCKET", &manager.path());
        setup.arguments(["--on-stop", "drain"])
    })
    .await;
    let task = cluster.run("sleep 4; echo done").await;
    cluster.worker.signal_stop();
    // Or systemd would kill it after `TimeoutStopSec=`.
    while manager.told().await != "EXTEND_TIMEOUT_USEC=120000000" {}
    cluster
        .worker
        .wait_log_line("waiting for running tasks")
        .await;

    cluster.worker.signal_stop();

    let status = cluster.worker.process().wait_exit().await;
    assert_eq!(status.code(), Some(0));
    cluster.master.doubt("stopped with its worker");
    assert_eq!(cluster.engine.containers_of(&task).await.len(), 1);
    cluster.worker.restart().await;
    assert_eq!(cluster.report(&task).await.status, "success");
    assert_eq!(cluster.engine.starts(&task).await, 1);
    cluster.finish().await;
}
