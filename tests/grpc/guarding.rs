//! Connections that are not what they should be, and the end of the server.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use worker_node::{
    domain::outcome::StatusWord,
    grpc::listener::{Doorkeeper, Limits, Services, serve},
    proto::{TaskId, TaskLogRequest},
};

use crate::fakes::{Node, fed_cursor, line};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Empty settings: after them the connection is a working one.
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Waits until the server closes, whatever it says before.
async fn closed(stream: &mut TcpStream) {
    let mut buffer = [0; 1_024];
    while let Ok(1..) = stream.read(&mut buffer).await {}
}

/// A connection that has done all that HTTP/2 asks for, and makes no call.
async fn raw(node: &Node) -> TcpStream {
    let mut stream = TcpStream::connect(&node.address).await.unwrap();
    let said = [PREFACE, SETTINGS].concat();
    stream.write_all(&said).await.unwrap();
    stream
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_or_half_a_preface_is_closed_at_the_deadline() {
    let node = Node::start(Limits::default()).await;
    for said in [&b""[..], &PREFACE[..12]] {
        let started = Instant::now();
        let mut silent = TcpStream::connect(&node.address).await.unwrap();
        silent.write_all(said).await.unwrap();

        closed(&mut silent).await;

        assert_eq!(started.elapsed().as_secs(), 5, "after {said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_one_byte_a_second_is_closed_at_the_deadline() {
    let node = Node::start(Limits::default()).await;
    let started = Instant::now();
    let stream = TcpStream::connect(&node.address).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let dripping = tokio::spawn(async move {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        for byte in PREFACE {
            second.tick().await;
            if writing.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    });

    let mut buffer = [0; 16];
    while let Ok(1..) = reading.read(&mut buffer).await {}

    assert_eq!(started.elapsed().as_secs(), 5);
    dripping.abort();
}

#[tokio::test]
async fn silent_clients_keep_nobody_else_waiting() {
    let node = Node::start(Limits::default()).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(&node.address).await.unwrap());
    }

    let id = TaskId {
        task_id: "a".into(),
    };
    let ack = node.client().cancel_task(id).await.unwrap();

    assert!(ack.into_inner().success);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_idles_is_closed_and_one_with_a_viewer_is_not() {
    let node = Node::start(Limits {
        idle: Duration::from_secs(60),
        ..Limits::default()
    })
    .await;
    let (feed, cursor) = fed_cursor();
    node.worker.put_log("a", cursor);
    let request = TaskLogRequest {
        task_id: "a".into(),
        user_id: String::new(),
        follow: true,
        ..TaskLogRequest::default()
    };
    let viewing = node.client().stream_task_logs(request).await;
    let mut idle = TcpStream::connect(&node.address).await.unwrap();
    idle.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
    let started = Instant::now();

    closed(&mut idle).await;

    assert_eq!(started.elapsed().as_secs(), 60);
    tokio::time::advance(Duration::from_secs(600)).await;
    feed.end(StatusWord::Success, "end");
    let last = viewing.unwrap().into_inner().message().await.unwrap();
    assert!(last.unwrap().is_complete);
}

#[tokio::test(start_paused = true)]
async fn pings_and_other_frames_are_no_life_and_calls_are() {
    let node = Node::start(Limits::default()).await;
    let started = Instant::now();
    let mut pinging = raw(&node).await;
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let mut calling = node.client();
    let mut second = tokio::time::interval(Duration::from_secs(10));
    while started.elapsed().as_secs() < 60 {
        second.tick().await;
        let _ = pinging.write_all(&ping).await;
        let id = TaskId::default();
        calling.cancel_task(id).await.expect("the same connection");
    }

    closed(&mut pinging).await;

    assert_eq!(started.elapsed().as_secs(), 60, "closed long ago");
}

#[tokio::test]
async fn a_server_that_is_stopped_cuts_off_who_does_not_leave() {
    let node = Node::start(Limits {
        drain: Duration::from_millis(50),
        ..Limits::default()
    })
    .await;
    let (_feed, cursor) = fed_cursor();
    node.worker.put_log("a", cursor);
    let hangs = node.worker.next_hang();
    let mut client = node.client();
    let calling = tokio::spawn(async move {
        let hang = crate::fakes::task("a", "hang");
        client.assign_task(hang).await
    });
    hangs.await.unwrap();

    node.stop.cancel();

    node.serving.await.unwrap().unwrap();
    assert!(calling.await.unwrap().is_err());
}

#[tokio::test]
async fn a_server_that_is_thrown_away_leaves_its_port_to_the_next_and_no_connection() {
    let node = Node::start(Limits::default()).await;
    let (feed, cursor) = fed_cursor();
    feed.lines(vec![line(0, b"x")]);
    node.worker.put_log("a", cursor);
    let request = TaskLogRequest {
        task_id: "a".into(),
        user_id: String::new(),
        follow: true,
        ..TaskLogRequest::default()
    };
    let mut client = node.client();
    let mut viewing = client.stream_task_logs(request).await.unwrap().into_inner();
    viewing.message().await.unwrap();

    node.serving.abort();

    assert!(viewing.message().await.is_err());
    feed.cursor_dropped().await;
    let stop = CancellationToken::new();
    let worker = node.worker.clone();
    let next = serve(
        Arc::clone(&node.listener),
        Services::of(worker),
        Limits::default(),
        Arc::new(Doorkeeper::of_an_open_door()),
        stop.clone(),
    );
    let next = tokio::spawn(next);
    let id = TaskId {
        task_id: "a".into(),
    };
    let ack = node.client().cancel_task(id).await.unwrap();
    assert!(ack.into_inner().success);
    stop.cancel();
    next.await.unwrap().unwrap();
}
