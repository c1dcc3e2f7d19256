//! Many look at one task, and some of them badly: who reads sees every line once, the task ends as if nobody looked, and nothing of
//! them stays.

use std::fs;

use futures_util::TryStreamExt as _;
use tokio::task::JoinSet;
use tonic::Streaming;
use worker_node::proto::{LogChunk, TaskLogRequest};

use super::logs::{ask, joined};
use crate::harness::{Cluster, eventually};

/// As many as a task has at once; the recording master is one more.
const VIEWERS: usize = 63;

/// More than what the connections of those who do not read take in.
const LINES: usize = 40_000;

async fn view(cluster: &Cluster, task: &str) -> Streaming<LogChunk> {
    let request = TaskLogRequest {
        task_id: task.to_owned(),
        follow: true,
        ..TaskLogRequest::default()
    };
    ask(cluster, request).await
}

fn sockets(cluster: &Cluster) -> usize {
    let folder = format!("/proc/{}/fd", cluster.worker.process().pid());
    let descriptors = fs::read_dir(folder).expect("it runs");
    let links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links
        .filter(|link| link.to_string_lossy().starts_with("socket:"))
        .count()
}

async fn whole(stream: Streaming<LogChunk>) {
    let chunks: Vec<_> = stream.try_collect().await.expect("the whole log");
    let (end, lines) = chunks.split_last().expect("an end");
    assert!(end.is_complete && end.status == "completed", "{end:?}");
    let lines = joined(lines);
    let is_next = |number: usize| lines[1 + number].starts_with(&format!("{} ", 100_001 + number));
    let other = (0..lines.len() - 1).find(|number| !is_next(*number));
    let around = other.map(|place| &lines[place.saturating_sub(2)..lines.len().min(place + 6)]);
    assert!(other.is_none(), "line {other:?}: {around:?}");
    assert_eq!(lines.len(), 1 + LINES);
}

#[tokio::test]
async fn of_64_viewers_those_who_read_see_every_line_and_nothing_stays_of_the_others() {
    let cluster = Cluster::start().await;
    let filling = "x".repeat(100);
    let command = format!(
        "echo up; until [ -e /tmp/go ]; do sleep 0.05; done; seq 100001 {} | sed 's/$/ {filling}/'",
        100_000 + LINES
    );
    let task = cluster.submit(cluster.task(&command)).await;
    cluster
        .master
        .watch_log(&task)
        .wait_line("up")
        .await
        .expect("it runs");
    let before = sockets(&cluster);
    let (mut readers, mut leaving, mut silent) = (JoinSet::new(), Vec::new(), Vec::new());
    for number in 0..VIEWERS {
        let mut stream = view(&cluster, &task).await;
        match number % 4 {
            0 => {
                stream.message().await.expect("a stream").expect("a line");
                silent.push(stream);
            }
            1 => leaving.push(stream),
            _ => {
                readers.spawn(whole(stream));
            }
        }
    }

    let containers = cluster.engine.containers_of(&task).await;
    cluster.engine.touch_in(&containers[0], "/tmp/go").await;
    for (number, mut stream) in leaving.into_iter().enumerate() {
        for _ in 0..=100 * number {
            stream.message().await.expect("a stream").expect("a line");
        }
    }
    let report = cluster.report(&task).await;

    assert_eq!(report.status, "success", "{}", report.logs);
    readers.join_all().await;
    drop(silent);
    eventually("nothing of them stays", || sockets(&cluster) <= before).await;
    cluster.finish().await;
}
