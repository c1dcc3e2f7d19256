//! Logs while a task runs and after it: every line once and in order, however many look and however slow they are.

use futures_util::TryStreamExt as _;
use tonic::Streaming;
use tonic::transport::Channel;
use worker_node::dev_master::LogEnd;
use worker_node::proto::master_worker_client::MasterWorkerClient;
use worker_node::proto::{LogChunk, Task, TaskLogRequest};

use super::endings::{log_of, trailer};
use crate::harness::Cluster;

/// Lines that a flood has on each of its two streams, and their length with the newline: 24 MB.
const FLOOD: (usize, usize) = (20_000, 600);

/// Whether a viewer stays.
#[derive(Clone, Copy)]
enum Follow {
    Yes,
    No,
}

/// A viewer of our own: the recording master's always follows and never stops reading.
async fn view(cluster: &Cluster, task: &str, follow: Follow) -> Streaming<LogChunk> {
    let request = TaskLogRequest {
        task_id: task.to_owned(),
        follow: matches!(follow, Follow::Yes),
        ..TaskLogRequest::default()
    };
    ask(cluster, request).await
}

/// What a client gets that asks for this.
pub(crate) async fn ask(cluster: &Cluster, request: TaskLogRequest) -> Streaming<LogChunk> {
    let newest = cluster.master.wait("a registration", |record| {
        let worker = record.worker(cluster.worker.id())?;
        worker.registrations.last().cloned()
    });
    let newest = newest.await.expect("it has registered");
    let address = format!("http://{}", newest.info.worker_ip);
    let mut client = MasterWorkerClient::<Channel>::connect(address)
        .await
        .expect("the worker listens");
    client
        .stream_task_logs(request)
        .await
        .expect("its log")
        .into_inner()
}

/// The lines of chunks: one that was shown before its newline had come goes on in the next chunk.
pub(crate) fn joined(chunks: &[LogChunk]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut begun = String::new();
    for chunk in chunks {
        begun.push_str(&chunk.content);
        if !chunk.continued {
            lines.push(std::mem::take(&mut begun));
        }
    }
    lines
}

/// Writes both streams at full speed, each line with its stream and number.
fn flood() -> String {
    let (lines, length) = FLOOD;
    // `out NNNNNN ` and the newline are 12 bytes.
    let padding = "x".repeat(length - 12);
    let stream = |name: &str| {
        format!(
            "seq 100001 {} | sed 's/.*/{name} & {padding}/'",
            100_000 + lines
        )
    };
    format!("{} & {} >&2; wait", stream("out"), stream("err"))
}

/// Every line of both streams is there once, and in order.
#[track_caller]
fn assert_flooded<'a>(lines: impl IntoIterator<Item = &'a str>) {
    let mut next = [100_001, 100_001];
    for line in lines {
        assert_eq!(line.len(), FLOOD.1 - 1, "{line:?}");
        let stream = usize::from(line.starts_with("err "));
        let number: usize = line[4..10].parse().expect("a number");
        assert_eq!(number, next[stream], "the next line is {line:?}");
        next[stream] += 1;
    }
    let end = 100_001 + FLOOD.0;
    assert_eq!(next, [end, end], "lines are missing at the end");
}

#[tokio::test]
async fn a_flood_of_both_streams_arrives_whole_and_a_viewer_who_does_not_read_slows_nobody() {
    let cluster = Cluster::start().await;
    let task = cluster.submit(cluster.task(&flood())).await;
    let quick = cluster.master.watch_log(&task);
    let mut stuck = view(&cluster, &task, Follow::Yes).await;
    let first = stuck.message().await.unwrap().unwrap();

    // The container ends and its result is delivered while the other viewer has taken one line.
    let report = cluster.report(&task).await;

    assert_eq!(report.status, "success", "{}", trailer(&report));
    let seen = quick.wait_end().await.unwrap();
    assert_flooded(seen.lines().iter().map(String::as_str));
    let mut rest: Vec<LogChunk> = stuck.try_collect().await.unwrap();
    let end = rest.pop().unwrap();
    assert!(end.is_complete, "{end:?}");
    assert_flooded(
        std::iter::once(&first)
            .chain(&rest)
            .map(|chunk| chunk.content.as_str()),
    );
    cluster.finish().await;
}

#[tokio::test]
async fn three_viewers_and_a_late_one_each_see_every_line_once_and_in_order() {
    let cluster = Cluster::start().await;
    let command =
        "for n in 1 2 3 4 5; do seq ${n}${n}${n}${n}00 ${n}${n}${n}${n}99; sleep 0.3; done";
    let task = cluster.submit(cluster.task(command)).await;
    let mut views: Vec<_> = (0..3).map(|_| cluster.master.watch_log(&task)).collect();
    views[0].wait_line("333300").await.unwrap();
    views.push(cluster.master.watch_log(&task));
    cluster.report(&task).await;
    views.push(cluster.master.watch_log(&task));

    let expected: Vec<String> = (1..=5)
        .flat_map(|n| (0..100).map(move |line| format!("{}", n * 111_100 + line)))
        .collect();
    for view in views {
        let seen = view.wait_end().await.unwrap();
        assert_eq!(seen.lines(), expected);
        assert_eq!(seen.final_status(), Some("completed"));
    }
    cluster.finish().await;
}

#[tokio::test]
async fn a_viewer_who_does_not_follow_gets_what_is_there() {
    let cluster = Cluster::start().await;
    let task = cluster
        .run("echo one; echo two; printf unfinished; touch /output/written; exec sleep 600")
        .await;
    // The last of it has no newline: a follower sees it after a second.
    let follower = cluster.master.watch_log(&task);
    follower.wait_line("unfinished").await.unwrap();
    let so_far: Vec<String> = loop {
        let chunks: Vec<LogChunk> = view(&cluster, &task, Follow::No)
            .await
            .try_collect()
            .await
            .unwrap();
        assert!(
            chunks
                .iter()
                .all(|chunk| !chunk.is_complete && chunk.status == "running")
        );
        if chunks.len() > 2 {
            break chunks.into_iter().map(|chunk| chunk.content).collect();
        }
    };
    let shown = follower.seen().chunks;
    cluster.master.cancel(&task).await.unwrap();
    cluster.report(&task).await;
    let whole: Vec<LogChunk> = view(&cluster, &task, Follow::No)
        .await
        .try_collect()
        .await
        .unwrap();

    assert_eq!(so_far, ["one", "two", "unfinished"]);
    let marks: Vec<bool> = shown.iter().map(|chunk| chunk.continued).collect();
    assert_eq!(marks, [false, false, true], "{shown:?}");
    let [one, two, unfinished, end] = whole.as_slice() else {
        panic!("{whole:?}")
    };
    assert_eq!(
        [&one.content, &two.content, &unfinished.content],
        ["one", "two", "unfinished"]
    );
    assert!(end.is_complete && end.status == "cancelled", "{end:?}");
    cluster.finish().await;
}

#[tokio::test]
async fn bytes_that_are_no_text_and_lines_without_an_end_are_shown() {
    let cluster = Cluster::start().await;
    let command =
        "printf 'a\\000b\\001\\033[1m\\377\\n\\r\\n\\n\\303\\244\\303'; printf ' no newline'";

    let task = cluster.submit(cluster.task(command)).await;
    let report = cluster.report(&task).await;
    let seen = cluster.master.watch_log(&task).wait_end().await.unwrap();

    assert_eq!(
        seen.lines(),
        [
            "a\0b\u{1}\u{1b}[1m\u{fffd}",
            " ",
            " ",
            "\u{e4}\u{fffd} no newline"
        ]
    );
    assert_eq!(
        log_of(&report),
        "a\0b\u{1}\u{1b}[1m\u{fffd}\n\r\n\n\u{e4}\u{fffd} no newline\n"
    );
    let Some(LogEnd::Complete { trailer: told, .. }) = &seen.end else {
        panic!("{seen}")
    };
    assert_eq!(
        told,
        trailer(&report),
        "the trailer stands on a line of its own"
    );
    cluster.finish().await;
}

#[tokio::test]
async fn a_task_that_speaks_after_a_long_silence_is_still_heard() {
    let cluster = Cluster::start().await;
    let task = cluster
        .run("echo before; sleep 20; echo after; exec sleep 600")
        .await;
    let log = cluster.master.watch_log(&task);

    log.wait_line("after").await.unwrap();

    cluster.master.cancel(&task).await.unwrap();
    assert_eq!(log_of(&cluster.report(&task).await), "before\nafter\n");
    assert_eq!(log.wait_end().await.unwrap().lines(), ["before", "after"]);
    cluster.finish().await;
}

#[tokio::test]
async fn a_line_is_seen_when_it_is_written() {
    let cluster = Cluster::start().await;
    let task = Task {
        task_name: "live".to_owned(),
        ..cluster.task("echo now; exec sleep 600")
    };
    let task = cluster.submit(task).await;
    let log = cluster.master.watch_log(&task);

    let line = log.wait_line("now").await.unwrap();

    assert_eq!(line, "now");
    assert!(log.seen().end.is_none(), "it runs on");
    let chunk = log.seen().chunks[0].clone();
    assert_eq!(
        (chunk.task_id.as_str(), chunk.status.as_str()),
        (task.as_str(), "running")
    );
    assert!(
        chunk.timestamp.ends_with('Z') && chunk.timestamp.contains('T'),
        "{}",
        chunk.timestamp
    );
    cluster.master.cancel(&task).await.unwrap();
    cluster.report(&task).await;
    cluster.finish().await;
}
