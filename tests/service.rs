//! The worker under a service manager: readiness, the watchdog, signals. The manager's socket is a real one, the worker the real
//! binary.

#[path = "support/harness.rs"]
mod harness;

use std::{io, path::Path};

use tempfile::TempDir;
use tokio::{net::UnixDatagram, time::timeout};

use harness::{Cluster, PATIENCE, WorkerSetup};
use worker_node::proto::{TaskId, master_worker_client::MasterWorkerClient};

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

/// More of its log than the pipe and the queue hold: then lines go, and not the work.
#[tokio::test]
async fn a_log_that_nobody_reads_stops_nothing() {
    let cluster = Cluster::start_with(|setup| setup.variable("RUST_LOG", "operator=debug")).await;
    let registered = cluster.master.wait_registered(cluster.worker.id()).await;
    let address = registered.expect("registered").info.worker_ip;
    let mut caller = MasterWorkerClient::connect(format!("http://{address}"))
        .await
        .unwrap();
    cluster.worker.process().pause_reading(true);
    for number in 0..6_000 {
        let task_id = format!("{number}{}", "x".repeat(900));
        let ack = caller
            .cancel_task(TaskId { task_id })
            .await
            .expect("it answers");
        assert!(!ack.into_inner().success);
    }

    let task = cluster.run("echo done").await;

    assert_eq!(cluster.report(&task).await.status, "success");
    cluster.worker.process().pause_reading(false);
    cluster.worker.wait_log_line("log lines were dropped").await;
    cluster.finish().await;
}

/// The tasks run on, and the next process has them.
#[tokio::test]
async fn a_second_signal_ends_a_drain_in_good_order() {
    let mut cluster = Cluster::start_with(|setup| setup.arguments(["--on-stop", "drain"])).await;
    let task = cluster.run("sleep 4; echo done").await;
    cluster.worker.signal_stop();
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
