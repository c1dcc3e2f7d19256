//! When lines were written is told as it was, also where the worker read them later.

use bollard::query_parameters::LogsOptions;
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use tokio_stream::StreamExt as _;

use crate::harness::Cluster;

/// Both tell the time finer than that, and neither the same.
fn to_the_millisecond(text: &str) -> Timestamp {
    let time: Timestamp = text.parse().expect("RFC 3339");
    let down = TimestampRound::new()
        .smallest(Unit::Millisecond)
        .mode(RoundMode::Floor);
    time.round(down).expect("a time of now")
}

/// When the engine noted that line.
async fn noted(cluster: &Cluster, container: &str, line: &str) -> Timestamp {
    let options = LogsOptions {
        stdout: true,
        timestamps: true,
        ..LogsOptions::default()
    };
    let mut lines = cluster.engine.docker().logs(container, Some(options));
    while let Some(read) = lines.next().await {
        let read = read.expect("the record can be read").to_string();
        let (time, text) = read.split_once(' ').expect("a time before each line");
        if text.trim_end() == line {
            return to_the_millisecond(time);
        }
    }
    panic!("{line:?} is not in the record");
}

#[tokio::test]
async fn a_line_that_was_written_while_the_worker_was_away_keeps_its_time() {
    let mut cluster = Cluster::start().await;
    let command = "echo before; while [ ! -e /tmp/go ]; do sleep 0.05; done; echo meanwhile";
    let task = cluster.run(command).await;
    let viewer = cluster.master.watch_log(&task);
    viewer.wait_line("before").await.expect("it runs");
    let container = cluster.engine.containers_of(&task).await.remove(0);

    cluster.kill_worker().await;
    cluster.engine.touch_in(&container, "/tmp/go").await;
    cluster.engine.wait_task(&task, "die").await;
    let written = noted(&cluster, &container, "meanwhile").await;
    cluster.restart_worker().await;

    assert_eq!(cluster.report(&task).await.status, "success");
    let seen = cluster.master.watch_log(&task).wait_end().await;
    let chunks = seen.expect("its log").chunks;
    let mut its = chunks.iter().filter(|chunk| chunk.content == "meanwhile");
    let told = its.next().expect("the line");
    assert_eq!(to_the_millisecond(&told.timestamp), written);
    cluster.finish().await;
}
