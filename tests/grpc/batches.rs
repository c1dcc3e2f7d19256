//! What a client of a log gets that asks for batches, and what it can ask for.

use std::time::{Duration, UNIX_EPOCH};

use tonic::{Code, Status, Streaming};
use worker_node::{
    domain::{log_line::Source, outcome::StatusWord},
    grpc::listener::Limits,
    ports::spool::{LogRange, Start, Streams},
    proto::{LogChunk, LogPiece, LogSource, TaskLogRequest, task_log_request::Start as Asked},
};

use crate::fakes::{MISSING, Node, Step, fed_cursor};

fn batches() -> TaskLogRequest {
    TaskLogRequest {
        task_id: "a".into(),
        follow: true,
        batches: true,
        ..TaskLogRequest::default()
    }
}

async fn view(node: &Node, request: TaskLogRequest) -> Result<Streaming<LogChunk>, Status> {
    let stream = node.client().stream_task_logs(request).await?;
    Ok(stream.into_inner())
}

async fn next(stream: &mut Streaming<LogChunk>) -> LogChunk {
    stream.message().await.unwrap().expect("one more chunk")
}

fn piece(source: LogSource, offset: u64, time: i64, text: &str) -> LogPiece {
    LogPiece {
        length: text.len() as u64,
        source: source.into(),
        offset,
        time,
    }
}

#[tokio::test]
async fn bytes_come_as_they_were_printed_and_at_once() {
    let node = Node::start(Limits::default()).await;
    let (feed, cursor) = fed_cursor();
    node.worker.put_log("a", cursor);
    let mut stream = view(&node, batches()).await.unwrap();

    feed.print(Source::Stdout, 7, b"10%\r20%\r\xff\0 no newline");
    let chunk = next(&mut stream).await;

    assert_eq!(
        chunk,
        LogChunk {
            task_id: "a".into(),
            status: "running".into(),
            data: b"10%\r20%\r\xff\0 no newline"[..].into(),
            pieces: vec![LogPiece {
                length: 21,
                ..piece(LogSource::Stdout, 0, 7, "")
            }],
            ..LogChunk::default()
        }
    );
}

#[tokio::test]
async fn each_piece_has_its_source_its_offset_and_its_time() {
    let node = Node::start(Limits::default()).await;
    let (feed, cursor) = fed_cursor();
    feed.print(Source::Stdout, 1, b"out");
    feed.print(Source::Stderr, 2, b"err\n");
    feed.step(Step::Gap);
    feed.print(Source::Stdout, 3, b"behind\n");
    feed.end(StatusWord::Failed, "[worker-node] failed");
    node.worker.put_log("a", cursor);
    let mut stream = view(&node, batches()).await.unwrap();

    let mut pieces = Vec::new();
    let mut data = Vec::new();
    let last = loop {
        let chunk = next(&mut stream).await;
        if chunk.is_complete {
            break chunk;
        }
        pieces.extend(chunk.pieces);
        data.extend(chunk.data);
    };

    let marker = format!("{MISSING}\n");
    assert_eq!(
        pieces,
        [
            piece(LogSource::Stdout, 0, 1, "out"),
            piece(LogSource::Stderr, 3, 2, "err\n"),
            piece(LogSource::Worker, 7, 0, &marker),
            piece(LogSource::Stdout, 14, 3, "behind\n"),
        ]
    );
    assert_eq!(data, format!("outerr\n{marker}behind\n").into_bytes());
    assert_eq!(
        (last.content.as_str(), last.status.as_str()),
        ("[worker-node] failed", "failed")
    );
    assert!(last.data.is_empty() && last.pieces.is_empty());
    assert!(stream.message().await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_asked_for_is_asked_of_the_worker_in_both_forms() {
    let node = Node::start(Limits::default()).await;
    let range = |start, streams| LogRange { start, streams };
    let at = |micros| UNIX_EPOCH + Duration::from_micros(micros);
    let asked = [
        (None, 0, range(Start::First, Streams::Both)),
        (
            Some(Asked::Offset(u64::MAX)),
            1,
            range(Start::Offset(u64::MAX), Streams::Stdout),
        ),
        (
            Some(Asked::LastLines(0)),
            2,
            range(Start::LastLines(0), Streams::Stderr),
        ),
        (
            Some(Asked::Since(1_500_000)),
            0,
            range(Start::Since(at(1_500_000)), Streams::Both),
        ),
        (
            Some(Asked::Since(i64::MIN)),
            0,
            range(Start::Since(UNIX_EPOCH), Streams::Both),
        ),
        (
            Some(Asked::Since(i64::MAX)),
            0,
            range(Start::Since(at(i64::MAX as u64)), Streams::Both),
        ),
    ];

    for batched in [true, false] {
        for (start, only, range) in asked {
            let request = TaskLogRequest {
                batches: batched,
                start,
                only,
                ..batches()
            };
            let status = view(&node, request).await.unwrap_err();
            assert_eq!(status.code(), Code::NotFound);
            let asked = node.worker.ranges.lock().unwrap().pop();
            assert_eq!(asked, Some(range));
        }
    }
}

#[tokio::test]
async fn a_source_that_does_not_come_alone_is_refused_before_anything_is_read() {
    let node = Node::start(Limits::default()).await;
    for only in [LogSource::Worker.into(), 4, -1] {
        let request = TaskLogRequest { only, ..batches() };

        let status = view(&node, request).await.unwrap_err();

        assert_eq!(status.code(), Code::InvalidArgument, "{only}");
        assert!(node.worker.ranges.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_client_that_does_not_follow_gets_what_is_there_and_no_end() {
    let node = Node::start(Limits::default()).await;
    let (feed, cursor) = fed_cursor();
    feed.print(Source::Stdout, 0, b"so far");
    node.worker.put_log("a", cursor);
    let request = TaskLogRequest {
        follow: false,
        ..batches()
    };
    let mut stream = view(&node, request).await.unwrap();

    assert_eq!(next(&mut stream).await.data, b"so far"[..]);
    assert!(stream.message().await.unwrap().is_none());
}
