//! Every actor hung until it is released: a thread blocked in one of its handlers, starts or futures. It is found, left behind
//! and replaced; the rest goes on; and the zombie, when it wakes, does nothing.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::lifecycle::{Edge, edges};
use crate::harness::{Cluster, WorkerSetup, master_options};

/// What a thread hangs in: a named pipe that nobody writes to.
struct Pipe {
    path: PathBuf,
    _folder: TempDir,
}

impl Pipe {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pipe");
        let made = Command::new("mkfifo").arg(&path).status();
        assert!(made.expect("mkfifo can be run").success());
        Self {
            path,
            _folder: folder,
        }
    }

    fn hang(&self, point: &str) -> String {
        format!("{point}=1*return(hang {})->off", self.path.display())
    }

    /// Whoever hangs in it goes on.
    async fn release(&self) {
        let path = self.path.clone();
        let open = move |path: &Path| OpenOptions::new().write(true).open(path).map(drop);
        let opened = tokio::task::spawn_blocking(move || open(&path)).await;
        opened.expect("no panic").expect("somebody hangs in it");
    }
}

async fn a_hang_at(point: &str) {
    let child = point.split('.').next().unwrap_or_default();
    let pipe = Pipe::new();
    let cluster = Cluster::start_under(master_options(), |setup: WorkerSetup| {
        setup
            .master_by_name()
            .arguments(["--supervise", "--stop-grace", "1s"])
            .variable("FAILPOINTS", &pipe.hang(point))
    })
    .await;
    let registered = cluster.master.wait_registered(cluster.worker.id()).await;
    let address = registered.expect("it is registered").info.worker_ip;
    let _moved_or_not_yet = cluster.master.call_worker(&address).await;
    let task = cluster.submit(cluster.task("seq 1 100")).await;

    let recovered = format!("recovered actor={child}");
    cluster.worker.wait_log_line(&recovered).await;
    assert_eq!(cluster.report(&task).await.status, "success");
    let story = edges(cluster.worker.process());
    assert_eq!(hung(&story), [child], "{story:#?}");

    pipe.release().await;
    cluster.worker.wait_log_line("failpoint: released").await;
    let view = cluster.master.watch_log(&task);
    let seen = view.wait_end().await.expect("the end of its log");
    let lines: Vec<String> = (1..=100).map(|line| line.to_string()).collect();
    assert_eq!(seen.lines(), lines, "{seen}");
    let next = cluster.submit(cluster.task("true")).await;
    assert_eq!(cluster.report(&next).await.status, "success");

    let story = edges(cluster.worker.process());
    assert_eq!(
        hung(&story),
        [child],
        "nobody else, and only once: {story:#?}"
    );
    assert!(
        !story
            .iter()
            .any(|edge| ["panicked", "gave_up"].contains(&edge.word.as_str())),
        "{story:#?}"
    );
    for task in [&task, &next] {
        assert_eq!(cluster.engine.starts(task).await, 1, "starts of {task}");
    }
    cluster.finish().await;
}

fn hung(story: &[Edge]) -> Vec<&str> {
    let hung = story.iter().filter(|edge| edge.word == "hung");
    hung.map(|edge| edge.actor.split('(').next().unwrap_or_default())
        .collect()
}

#[tokio::test]
async fn a_hung_journal_is_replaced() {
    a_hang_at("journal.Commit").await;
}

#[tokio::test]
async fn a_hung_engine_watch_is_replaced() {
    a_hang_at("engine_watch.listed").await;
}

#[tokio::test]
async fn a_hung_images_is_replaced() {
    a_hang_at("images.GetImage").await;
}

#[tokio::test]
async fn a_hung_log_router_is_replaced() {
    a_hang_at("log_router.ReadContainer").await;
}

#[tokio::test]
async fn a_hung_registry_is_replaced() {
    a_hang_at("registry.AssignTask").await;
}

#[tokio::test]
async fn a_registry_that_hangs_over_an_acceptance_is_replaced() {
    a_hang_at("registry.committed").await;
}

#[tokio::test]
async fn a_hung_session_is_replaced() {
    a_hang_at("session.MasterIsAt").await;
}

#[tokio::test]
async fn a_hung_heartbeat_is_replaced() {
    a_hang_at("heartbeat.beat").await;
}

#[tokio::test]
async fn a_hung_outbox_is_replaced() {
    a_hang_at("outbox.Deliver").await;
}

#[tokio::test]
async fn an_outbox_that_hangs_over_a_report_is_replaced() {
    a_hang_at("outbox.report").await;
}

#[tokio::test]
async fn a_hung_janitor_is_replaced() {
    a_hang_at("janitor.disk").await;
}

#[tokio::test]
async fn hung_servers_are_replaced() {
    a_hang_at("servers.started").await;
}

#[tokio::test]
async fn a_hung_task_is_replaced() {
    a_hang_at("task.created").await;
}
