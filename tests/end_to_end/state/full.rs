//! A disk without a byte left: new tasks are refused, those that run end and are reported, and with room it goes on by itself.

use std::sync::Arc;

use tokio::time::Instant;
use worker_node::domain::record::Change;
use worker_node::journal::SqliteJournal;
use worker_node::ports::clock::SystemClock;
use worker_node::ports::journal::{JournalError, JournalStore as _};

use super::{go, until_go};
use crate::harness::eventually;
use crate::harness::times;
use crate::harness::{Cluster, SmallDisk, WorkerSetup};

const REFUSED: &str = "new tasks are refused: the disk is full";

async fn on(disk: &SmallDisk) -> Cluster {
    let state = disk.path().join("state");
    let setup = |setup: WorkerSetup| {
        setup
            .state_dir(&state)
            .arguments(["--supervise", "--disk-low", "4MiB"])
    };
    Cluster::start_with(setup).await
}

/// Without a byte left, and the worker has seen it for the `times`-th time.
async fn filled(disk: &SmallDisk, cluster: &Cluster, times: usize) {
    disk.fill_to(0);
    cluster.worker.process().wait_lines(REFUSED, times).await;
}

async fn assert_refused(cluster: &Cluster) {
    let worker = cluster.worker.id();
    let offer = cluster.master.offer(worker, cluster.task("true")).await;
    let refusal = offer.refusal().expect("a new task is refused");
    assert!(refusal.contains("the disk is full"), "{refusal}");
}

/// The figure of a heartbeat that was sent from now on is that of this disk.
async fn assert_told(disk: &SmallDisk, cluster: &Cluster) {
    let from = Instant::now();
    let told = cluster.master.wait("a heartbeat from now on", |record| {
        let beats = &record.worker(cluster.worker.id())?.heartbeats;
        let beat = beats.iter().find(|beat| beat.at > from)?;
        Some(beat.heartbeat.storage_usage)
    });
    let told = told.await.expect("heartbeats go on");
    let used = disk.used();
    assert!((told - used).abs() < 5.0, "{told} % were told of {used} %");
    // Giving up the journal's reserve makes room of 1 MiB of 16.
    assert!(told > 90.0, "{told} %");
}

#[tokio::test]
async fn a_full_disk_costs_no_result_and_new_tasks_wait_until_there_is_room() {
    let disk = SmallDisk::mount(16);
    let cluster = on(&disk).await;

    for cycle in 1..=times(3, 20) {
        let ends = cluster.run(&until_go("echo gone")).await;
        let prints = "while [ ! -e /output/go ]; do echo on; sleep 0.05; done; exit 3";
        let prints = cluster.run(prints).await;
        disk.fill_to(2 << 20);
        let log = cluster.master.watch_log(&prints);
        log.wait_line("the disk is almost full")
            .await
            .expect("what is left out is marked");
        filled(&disk, &cluster, cycle).await;

        assert_refused(&cluster).await;
        assert_told(&disk, &cluster).await;
        go(&cluster, &ends);
        go(&cluster, &prints);
        let (ended, printed) = (cluster.report(&ends).await, cluster.report(&prints).await);
        assert_eq!(ended.status, "success", "{}", ended.logs);
        assert_eq!(printed.status, "failed", "{}", printed.logs);
        assert!(printed.logs.contains("exit code 3"), "{}", printed.logs);
        assert_refused(&cluster).await;

        disk.empty();
        let next = cluster.submit(cluster.task("true")).await;
        assert_eq!(cluster.report(&next).await.status, "success");
    }

    let reserve = cluster.worker.state_dir().join("journal.reserve");
    eventually("the reserve is held again", || reserve.exists()).await;
    cluster.finish().await;
}

/// A worker that dies on a full disk comes back on it, and delivers what it owes.
#[tokio::test]
async fn a_start_on_a_full_disk_delivers_what_is_owed() {
    let disk = SmallDisk::mount(16);
    let mut cluster = on(&disk).await;
    let task = cluster.run(&until_go("exit 4")).await;
    filled(&disk, &cluster, 1).await;

    cluster.master.doubt("the worker is killed");
    cluster.worker.kill().await;
    go(&cluster, &task);
    cluster.engine.wait_task(&task, "die").await;
    disk.fill_to(0);
    cluster.restart_worker().await;

    let report = cluster.report(&task).await;
    assert!(report.logs.contains("exit code 4"), "{}", report.logs);
    assert_refused(&cluster).await;
    disk.empty();
    let next = cluster.submit(cluster.task("true")).await;
    assert_eq!(cluster.report(&next).await.status, "success");
    cluster.finish().await;
}

/// What a task came to is durable on a disk on which nothing else is.
#[test]
fn the_reserve_takes_what_a_full_disk_does_not() {
    let disk = SmallDisk::mount(16);
    let path = disk.path().join("journal.db");
    let mut journal = SqliteJournal::open(&path, Arc::new(SystemClock))
        .expect("a new journal")
        .journal;
    assert!(disk.path().join("journal.reserve").exists(), "it is held");
    disk.fill_to(0);

    let large = |n: usize| {
        let (key, value) = (format!("key-{n}"), "x".repeat(64 * 1024));
        vec![vec![Change::Set { key, value }]]
    };
    let refused = (0..200).find_map(|n| journal.commit(&large(n)).err());
    assert!(
        matches!(refused, Some(JournalError::Full(_))),
        "{refused:?}"
    );
    journal.make_room();
    journal.commit(&large(0)).expect("there is room for it now");
    journal.tend().expect("it is there");
    assert!(!disk.path().join("journal.reserve").exists(), "no plenty");

    disk.empty();
    journal.tend().expect("it is there");
    assert!(disk.path().join("journal.reserve").exists(), "held again");
}
