//! Strangers who cost as much as they can, beside a caller who means it: idle connections, halves of messages, viewers that do
//! not read.

use std::time::Duration;

use bytes::Bytes;
use hyper::{
    body::{Body, Frame, Incoming},
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::Instant,
};
use tonic::codegen::http;
use worker_node::{
    grpc::{CALL_LIMIT, listener::Limits},
    proto,
};

use crate::fakes::{Client, Node, fed_cursor, line};

/// The HTTP/2 preface, and empty settings.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn cancels(client: &mut Client) {
    let id = proto::TaskId {
        task_id: "a".into(),
    };
    let ack = client.cancel_task(id).await.expect("the worker answers");
    assert!(ack.into_inner().success);
}

#[tokio::test]
async fn connections_that_only_wait_keep_no_caller_out() {
    let node = Node::start(Limits {
        connections: 64,
        ..Limits::default()
    })
    .await;
    let mut idlers = Vec::new();
    for _ in 0..100 {
        let mut idler = TcpStream::connect(&node.address).await.unwrap();
        // One that was closed already takes nothing.
        let _ = idler.write_all(HELLO).await;
        idlers.push(idler);
    }

    for _ in 0..50 {
        cancels(&mut node.client()).await;
    }

    // The first ones have gone for the others.
    let mut end = Vec::new();
    let _ = idlers[0].read_to_end(&mut end).await;
}

/// A request's body, as the test goes on with it.
struct Dripping(mpsc::Receiver<Bytes>);

impl Body for Dripping {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0
            .poll_recv(cx)
            .map(|data| Some(Ok(Frame::data(data?))))
    }
}

/// Calls AssignTask by hand, so that a message can stay unfinished.
async fn dripping(
    node: &Node,
) -> (
    SendRequest<Dripping>,
    mpsc::Sender<Bytes>,
    tokio::task::JoinHandle<http::Response<Incoming>>,
) {
    let stream = TcpStream::connect(&node.address).await.unwrap();
    let (mut requests, driver) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(driver);
    let (drops, body) = mpsc::channel(1);
    let request = http::Request::post(format!(
        "http://{}/cluster.MasterWorker/AssignTask",
        node.address
    ))
    .header("content-type", "application/grpc")
    .header("te", "trailers")
    .body(Dripping(body))
    .unwrap();
    let answer = requests.send_request(request);
    let answer = tokio::spawn(async move { answer.await.unwrap() });
    (requests, drops, answer)
}

/// The beginning of a message of so many bytes.
fn prefix(length: usize) -> Bytes {
    let length = u32::try_from(length).unwrap().to_be_bytes();
    [&[0], &length[..]].concat().into()
}

fn code(answer: &http::Response<Incoming>) -> &str {
    let status = answer.headers().get("grpc-status");
    status.expect("an error, at once").to_str().unwrap()
}

const DEADLINE_EXCEEDED: &str = "4";
const RESOURCE_EXHAUSTED: &str = "8";
const OUT_OF_RANGE: &str = "11";

#[tokio::test]
async fn a_call_over_the_limit_is_refused_by_the_length_that_it_announces() {
    let node = Node::start(Limits::default()).await;
    let (_requests, drops, answer) = dripping(&node).await;

    drops.send(prefix(CALL_LIMIT + 1)).await.unwrap();

    assert_eq!(code(&answer.await.unwrap()), OUT_OF_RANGE);
}

#[tokio::test]
async fn messages_that_never_stop_are_refused_by_their_size() {
    let node = Node::start(Limits::default()).await;
    let (_requests, drops, answer) = dripping(&node).await;
    let feeding = tokio::spawn(async move {
        // Empty messages: each alone is within the limit.
        while drops.send(vec![0; 5 * 1_000].into()).await.is_ok() {}
    });

    assert_eq!(code(&answer.await.unwrap()), OUT_OF_RANGE);
    feeding.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn half_a_message_is_dropped_after_ten_seconds_however_it_drips() {
    let node = Node::start(Limits::default()).await;
    let started = Instant::now();
    let (_requests, drops, answer) = dripping(&node).await;
    drops.send(prefix(1_000)).await.unwrap();
    let feeding = tokio::spawn(async move {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        loop {
            second.tick().await;
            if drops.send(Bytes::from_static(b"x")).await.is_err() {
                return;
            }
        }
    });

    let answer = answer.await.unwrap();

    assert_eq!(code(&answer), DEADLINE_EXCEEDED);
    assert_eq!(started.elapsed().as_secs(), 10);
    feeding.await.unwrap();
}

#[tokio::test]
async fn unfinished_messages_cost_so_much_and_no_more_and_keep_no_caller_out() {
    let node = Node::start(Limits::default()).await;
    let mut kept = Vec::new();
    let mut answers = Vec::new();
    // One byte short of the limit each, and one more than all together may hold.
    for _ in 0..17 {
        let (requests, drops, answer) = dripping(&node).await;
        drops.send(prefix(CALL_LIMIT)).await.unwrap();
        drops.send(vec![b'x'; CALL_LIMIT - 1].into()).await.unwrap();
        kept.push((requests, drops));
        answers.push(answer);
    }

    let first = answers.remove(0).await.unwrap();

    assert_eq!(code(&first), RESOURCE_EXHAUSTED);
    cancels(&mut node.client()).await;
}

#[tokio::test(start_paused = true)]
async fn a_viewer_that_does_not_read_is_ended_and_its_log_is_let_go() {
    let node = Node::start(Limits::default()).await;
    let (feed, cursor) = fed_cursor();
    // More than any client takes unasked.
    feed.lines(vec![line(0, &[b'x'; 100_000]); 200]);
    node.worker.put_log("a", cursor);
    let started = Instant::now();
    let request = proto::TaskLogRequest {
        task_id: "a".into(),
        user_id: String::new(),
        follow: true,
        ..proto::TaskLogRequest::default()
    };
    let mut client = node.client();
    let unread = client.stream_task_logs(request).await.unwrap();

    feed.cursor_dropped().await;

    let seconds = started.elapsed().as_secs();
    assert!((60..=65).contains(&seconds), "after {seconds} s");
    drop(unread);
    cancels(&mut node.client()).await;
}
