//! What a viewer of a log gets.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};
use worker_node::{
    domain::{
        log_line::{LINE_LIMIT, Line, Source},
        outcome::StatusWord,
    },
    grpc::{SEND_LIMIT, listener::Limits},
    ports::spool::{LogCursor, LogItem, RawItem},
    proto::{LogChunk, TaskLogRequest},
};

use crate::fakes::{FedCursor, MISSING, Node, Step, fed_cursor, line, stretch};

async fn view(node: &Node, task: &str, follow: bool) -> Result<Streaming<LogChunk>, Status> {
    let request = TaskLogRequest {
        task_id: task.into(),
        user_id: String::new(),
        follow,
        ..TaskLogRequest::default()
    };
    let stream = node.client().stream_task_logs(request).await?;
    Ok(stream.into_inner())
}

async fn follow(cursor: FedCursor) -> (Node, Streaming<LogChunk>) {
    let node = Node::start(Limits::default()).await;
    node.worker.put_log("a", cursor);
    let stream = view(&node, "a", true).await.unwrap();
    (node, stream)
}

async fn next(stream: &mut Streaming<LogChunk>) -> LogChunk {
    stream.message().await.unwrap().expect("one more chunk")
}

async fn contents(mut stream: Streaming<LogChunk>) -> Vec<(String, bool)> {
    let mut seen = Vec::new();
    while let Some(chunk) = stream.message().await.unwrap() {
        seen.push((chunk.content, chunk.is_complete));
    }
    seen
}

#[tokio::test]
async fn a_line_is_a_chunk() {
    let (feed, cursor) = fed_cursor();
    feed.lines(vec![line(1_700_000_000_123_456, b"hello")]);
    let (_node, mut stream) = follow(cursor).await;

    assert_eq!(
        next(&mut stream).await,
        LogChunk {
            task_id: "a".into(),
            content: "hello".into(),
            timestamp: "2023-11-14T22:13:20.123456Z".into(),
            is_complete: false,
            status: "running".into(),
            ..LogChunk::default()
        }
    );
}

#[tokio::test]
async fn an_empty_line_is_a_space_and_a_broken_one_is_repaired() {
    let (feed, cursor) = fed_cursor();
    feed.lines(vec![line(0, b""), line(0, b"a\xffb\xc3\xa9")]);
    feed.end(StatusWord::Success, "");
    let (_node, stream) = follow(cursor).await;

    assert_eq!(
        contents(stream).await,
        [
            (" ".into(), false),
            ("a\u{fffd}b\u{e9}".into(), false),
            (" ".into(), true)
        ]
    );
}

#[tokio::test]
async fn a_part_of_a_long_line_says_that_it_goes_on() {
    let (feed, cursor) = fed_cursor();
    feed.lines(vec![line(0, &[b'x'; LINE_LIMIT + 1])]);
    let (_node, mut stream) = follow(cursor).await;

    let (first, second) = (next(&mut stream).await, next(&mut stream).await);

    assert_eq!((first.content.len(), first.continued), (LINE_LIMIT, true));
    assert_eq!((second.content.as_str(), second.continued), ("x", false));
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_line_is_shown_after_a_second_and_nothing_else_goes_on_with_it() {
    let (feed, cursor) = fed_cursor();
    let (_node, mut stream) = follow(cursor).await;
    let began = Instant::now();
    feed.print(Source::Stdout, 0, b"Password: ");
    let first = next(&mut stream).await;
    assert_eq!(first.content, "Password: ");
    assert!(first.continued && began.elapsed() >= Duration::from_secs(1));

    feed.print(Source::Stderr, 0, b"a warning\n");
    feed.print(Source::Stdout, 0, b"given\n");
    feed.end(StatusWord::Success, "end");

    let mut rest = Vec::new();
    while let Some(chunk) = stream.message().await.unwrap() {
        rest.push((chunk.content, chunk.continued));
    }
    let line = |text: &str| (text.to_owned(), false);
    assert_eq!(
        rest,
        [line(""), line("a warning"), line("given"), line("end")]
    );
}

#[tokio::test]
async fn no_line_goes_on_across_what_is_missing() {
    let (feed, cursor) = fed_cursor();
    feed.print(Source::Stdout, 0, b"begun");
    feed.step(Step::Gap);
    feed.print(Source::Stdout, 0, b"gone on\n");
    feed.end(StatusWord::Success, "end");
    let (_node, stream) = follow(cursor).await;

    let contents = contents(stream).await;

    let texts: Vec<_> = contents.iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(texts, ["begun", MISSING, "gone on", "end"]);
}

#[tokio::test]
async fn the_worst_line_fits_every_masters_limit() {
    let (feed, cursor) = fed_cursor();
    feed.lines(vec![line(0, &vec![0xff; LINE_LIMIT])]);
    let (_node, mut stream) = follow(cursor).await;

    let chunk = next(&mut stream).await;

    assert_eq!(chunk.content.len(), 3 * LINE_LIMIT);
    assert!(prost::Message::encoded_len(&chunk) < SEND_LIMIT);
}

#[tokio::test]
async fn the_last_chunk_carries_the_trailer_and_the_logs_word() {
    for (word, status) in [
        (StatusWord::Success, "completed"),
        (StatusWord::Failed, "failed"),
        (StatusWord::Cancelled, "cancelled"),
    ] {
        let (feed, cursor) = fed_cursor();
        feed.lines(vec![line(1_000_000, b"x")]);
        feed.end(word, "[worker-node] the end");
        let (_node, mut stream) = follow(cursor).await;
        next(&mut stream).await;

        let last = next(&mut stream).await;

        assert_eq!(
            (
                last.content.as_str(),
                last.status.as_str(),
                last.is_complete
            ),
            ("[worker-node] the end", status, true)
        );
        assert_eq!(last.timestamp, "1970-01-01T00:00:01Z");
        assert!(stream.message().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_follower_gets_what_comes_later() {
    let (feed, cursor) = fed_cursor();
    let (_node, mut stream) = follow(cursor).await;

    for n in 0..3 {
        feed.lines(vec![line(0, format!("line {n}").as_bytes())]);
        assert_eq!(next(&mut stream).await.content, format!("line {n}"));
    }

    feed.end(StatusWord::Success, "end");
    assert_eq!(contents(stream).await, [("end".into(), true)]);
}

#[tokio::test]
async fn a_viewer_that_does_not_follow_gets_what_is_there_and_no_end() {
    let (feed, cursor) = fed_cursor();
    feed.lines(vec![line(0, b"finished")]);
    feed.print(Source::Stdout, 0, b"10%\runfinished");
    let node = Node::start(Limits::default()).await;
    node.worker.put_log("a", cursor);

    let stream = view(&node, "a", false).await.unwrap();

    assert_eq!(
        contents(stream).await,
        [("finished".into(), false), ("unfinished".into(), false)]
    );
}

#[tokio::test]
async fn a_viewer_that_does_not_follow_gets_the_end_of_a_finished_log() {
    let (feed, cursor) = fed_cursor();
    feed.end(StatusWord::Failed, "end");
    let node = Node::start(Limits::default()).await;
    node.worker.put_log("a", cursor);

    let stream = view(&node, "a", false).await.unwrap();

    assert_eq!(contents(stream).await, [("end".into(), true)]);
}

#[tokio::test]
async fn a_log_that_is_not_there_is_an_error_and_never_a_chunk() {
    let node = Node::start(Limits::default()).await;
    for (task, code) in [
        ("nobody", Code::NotFound),
        ("", Code::NotFound),
        ("away", Code::Unavailable),
    ] {
        let status = view(&node, task, true).await.unwrap_err();

        assert_eq!(status.code(), code, "{task:?}");
    }
}

#[tokio::test]
async fn a_viewer_that_hangs_up_leaves_nothing_behind() {
    let (feed, cursor) = fed_cursor();
    feed.lines(vec![line(0, b"x")]);
    let (_node, mut stream) = follow(cursor).await;
    next(&mut stream).await;

    drop(stream);

    feed.cursor_dropped().await;
}

#[tokio::test]
async fn a_reader_that_fails_or_panics_ends_its_stream_alone() {
    let node = Node::start(Limits::default()).await;
    for step in [Step::Fails, Step::Panics] {
        let (feed, cursor) = fed_cursor();
        feed.lines(vec![line(0, b"x")]);
        feed.step(step);
        node.worker.put_log("a", cursor);
        let mut stream = view(&node, "a", true).await.unwrap();
        next(&mut stream).await;

        let status = stream.message().await.unwrap_err();

        assert_eq!(status.code(), Code::Internal);
    }
}

#[tokio::test]
async fn one_viewer_too_many_takes_the_place_of_the_oldest() {
    let node = Node::start(Limits {
        viewers: 1,
        ..Limits::default()
    })
    .await;
    let (feed, cursor) = fed_cursor();
    node.worker.put_log("a", cursor);
    let mut first = view(&node, "a", true).await.unwrap();
    let unknown = view(&node, "nobody", true).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "and nobody goes for it");
    feed.lines(vec![line(0, b"still here")]);
    assert_eq!(next(&mut first).await.content, "still here");
    let (other, cursor) = fed_cursor();
    node.worker.put_log("b", cursor);

    let mut second = view(&node, "b", true).await.unwrap();

    let displaced = first.message().await.unwrap_err();
    assert_eq!(displaced.code(), Code::ResourceExhausted);
    feed.cursor_dropped().await;
    other.lines(vec![line(0, b"x")]);
    assert_eq!(next(&mut second).await.content, "x");
}

#[tokio::test]
async fn a_stop_ends_every_stream_and_then_the_server() {
    let (feed, cursor) = fed_cursor();
    feed.lines(vec![line(0, b"x")]);
    let (node, mut stream) = follow(cursor).await;
    next(&mut stream).await;

    node.stop.cancel();

    let status = stream.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    node.serving.await.unwrap().unwrap();
    feed.cursor_dropped().await;
}

/// Never ends, never waits; counts how often it was asked.
struct Endless(Arc<AtomicUsize>);

const BATCH: usize = 1_000;

#[async_trait]
impl LogCursor for Endless {
    async fn next(&mut self) -> io::Result<LogItem> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(LogItem::Lines(vec![line(0, &[b'x'; 100]); BATCH]))
    }

    async fn next_bytes(&mut self) -> io::Result<RawItem> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let lines = vec![line(0, &[b'x'; 100]); BATCH];
        Ok(RawItem::Bytes(stretch(&lines, &mut 0)))
    }

    fn take_unfinished(&mut self) -> Vec<Line> {
        Vec::new()
    }

    async fn grown(&mut self) {}
}

#[tokio::test]
async fn a_slow_viewer_is_not_read_ahead_for() {
    let node = Node::start(Limits::default()).await;
    let asked = Arc::new(AtomicUsize::new(0));
    node.worker.put_log("a", Endless(Arc::clone(&asked)));
    let mut stream = view(&node, "a", true).await.unwrap();

    for _ in 0..20 * BATCH {
        next(&mut stream).await;
    }

    let ahead = asked.load(Ordering::Relaxed) - 20;
    assert!(ahead < 100, "{ahead} batches ahead of the viewer");
}
