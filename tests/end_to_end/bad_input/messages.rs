//! Messages that no honest caller sends, thousands of them, from four connections at once: each comes to an end, an honest caller is
//! answered meanwhile, and the worker stays as small as it was. With `WORKER_NODE_FULL=1` there are a hundred thousand.

use std::net::SocketAddr;

use fastrand::Rng;
use tokio::task::JoinSet;
use worker_node::proto::TaskId;

use super::assert_goes_on;
use super::callers::{address, client};
use crate::harness::Cluster;
use crate::harness::frames::{
    AS_USUAL, CONTINUATION, Caller, HEADERS, NO_WINDOW, RST_STREAM, call, field, frame, header,
    message,
};
use crate::harness::times;

/// What a worker may have in all, in MiB, whatever its callers do.
pub(crate) const MEMORY: u64 = 150;

/// Calls of one connection at once: more are refused.
const AT_ONCE: usize = 16;

/// What the longest message may have, in bytes.
const LIMIT: u32 = 1 << 20;

/// What may be asked of it.
const METHODS: [&str; 4] = [
    "AssignTask",
    "CancelTask",
    "MasterRegister",
    "StreamTaskLogs",
];

/// A call of one kind: its headers and its body.
type Kind = fn(&mut Rng) -> (Vec<u8>, Vec<u8>);

/// Calls that are wrong in themselves.
const KINDS: [Kind; 8] = [
    // A length over the limit, and a part of the message.
    |random| {
        let length = random.u32(LIMIT + 1..).to_be_bytes();
        let part = vec![b'x'; random.usize(0..2_000)];
        (any_call(random), [&[0], &length[..], &part].concat())
    },
    // Headers over the limit: many small ones, or a large one.
    |random| {
        let more = match random.bool() {
            true => (0..2_000)
                .map(|n| header(&format!("x-{n}"), b"v"))
                .collect::<Vec<_>>()
                .concat(),
            false => header("x-large", &vec![b'v'; random.usize(17_000..60_000)]),
        };
        ([any_call(random), more].concat(), message(b""))
    },
    // Many messages where one belongs.
    |random| {
        (
            any_call(random),
            message(b"").repeat(random.usize(2..1_000)),
        )
    },
    // Text that is none, in a field of text.
    |random| {
        let number = random.u8(1..4);
        let text = [b"a", &[random.u8(0x80..0xc0)][..]].concat();
        (call("AssignTask"), message(&field(number, &text)))
    },
    // Fields that nobody knows, beside an id that nobody has.
    |random| {
        let unknown = field(15, &bytes(random, 100)).repeat(random.usize(1..100));
        let id = field(1, random.u64(..).to_string().as_bytes());
        (call("CancelTask"), message(&[unknown, id].concat()))
    },
    // Anything at all. An offer that could be read would be taken, so its first byte begins no field.
    |random| {
        let method = random.usize(0..METHODS.len());
        let spoilt: &[u8] = if method == 0 { &[7] } else { &[] };
        let body = [spoilt, &bytes(random, 5_000)].concat();
        (call(METHODS[method]), message(&body))
    },
    // A message that says that it is compressed, or is shorter than it says, or has no beginning.
    |random| {
        let body = bytes(random, 100);
        let broken = match random.u8(0..3) {
            0 => [&[1], &message(&body)[1..]].concat(),
            1 => message(&body)
                .into_iter()
                .take(random.usize(0..5))
                .collect(),
            _ => [&[0, 0, 0, 1, 0], &body[..]].concat(),
        };
        (any_call(random), broken)
    },
    // Of methods that are not there, or are the master's.
    |random| {
        let method = match random.bool() {
            true => "SendHeartbeat".to_owned(),
            false => format!("No{}", random.u64(..)),
        };
        (call(&method), message(&bytes(random, 100)))
    },
];

fn any_call(random: &mut Rng) -> Vec<u8> {
    call(METHODS[random.usize(0..METHODS.len())])
}

fn bytes(random: &mut Rng, most: usize) -> Vec<u8> {
    let mut bytes = vec![0; random.usize(1..=most)];
    bytes.iter_mut().for_each(|byte| *byte = random.u8(..));
    bytes
}

/// Calls of that kind, as many at once as a connection may have, until so many were made.
async fn send(kind: Kind, from: u8, worker: SocketAddr, count: usize, random: &mut Rng) {
    let mut caller = None;
    let mut left = count;
    while left > 0 {
        let mut open = match caller.take() {
            Some(caller) => caller,
            None => Caller::greeting(from, worker, AS_USUAL).await,
        };
        let some = left.min(AT_ONCE);
        for _ in 0..some {
            let (headers, body) = kind(random);
            open.ask(&headers, &body).await;
        }
        left -= some;
        caller = open.all_answered().await.then_some(open);
    }
}

/// Calls that are taken back as soon as they are made: the worker hangs up.
async fn reset_rapidly(from: u8, worker: SocketAddr, count: usize) {
    for _ in 0..count.div_ceil(500) {
        let mut caller = Caller::greeting(from, worker, AS_USUAL).await;
        for _ in 0..500 {
            let stream = caller.begin(&call("CancelTask")).await;
            caller
                .say(&frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]))
                .await;
        }
        caller.hung_up().await;
    }
}

/// Headers without an end, in parts: the worker hangs up.
async fn flood_with_parts(from: u8, worker: SocketAddr, count: usize) {
    for _ in 0..count.div_ceil(500) {
        let mut caller = Caller::greeting(from, worker, AS_USUAL).await;
        caller.say(&frame(HEADERS, 0, 1, &call("CancelTask"))).await;
        for number in 0..500 {
            let part = header(&format!("x-{number}"), &[b'v'; 100]);
            caller.say(&frame(CONTINUATION, 0, 1, &part)).await;
        }
        caller.hung_up().await;
    }
}

/// Calls whose answers have nowhere to go.
async fn never_listen(from: u8, worker: SocketAddr, count: usize) -> Vec<Caller> {
    let mut callers = Vec::new();
    for _ in 0..count.div_ceil(AT_ONCE) {
        let mut caller = Caller::greeting(from, worker, NO_WINDOW).await;
        for _ in 0..AT_ONCE {
            let id = message(&field(1, b"nobody"));
            caller.ask(&call("CancelTask"), &id).await;
        }
        callers.push(caller);
    }
    callers
}

/// All of it from one address.
async fn abuse(from: u8, worker: SocketAddr, count: usize) {
    let mut random = Rng::with_seed(from.into());
    let each = count / (KINDS.len() + 3);
    for kind in KINDS {
        send(kind, from, worker, each, &mut random).await;
    }
    reset_rapidly(from, worker, each).await;
    flood_with_parts(from, worker, each).await;
    drop(never_listen(from, worker, each).await);
}

#[tokio::test]
async fn thousands_of_messages_that_are_none_come_to_an_end_each_and_cost_nothing_that_stays() {
    let cluster = Cluster::start_with(|setup| setup.arguments(["--pin-master"])).await;
    assert_goes_on(&cluster).await;
    let worker = address(&cluster).await.parse().expect("an address");
    let count = times(4_000, 100_000);

    let mut abusing = JoinSet::new();
    for from in 2..6 {
        abusing.spawn(abuse(from, worker, count / 4));
    }
    let mut honest = 0;
    while !abusing.is_empty() {
        let nobody = TaskId {
            task_id: "nobody".into(),
        };
        let answer = client(&cluster).await.cancel_task(nobody).await;
        assert!(!answer.expect("it is answered").into_inner().success);
        honest += 1;
        while let Some(ended) = abusing.try_join_next() {
            ended.expect("each message comes to an end");
        }
    }

    let process = cluster.worker.process();
    let peak = process.peak_memory();
    eprintln!("{count} abusive messages beside {honest} honest calls: {peak} MiB at most");
    assert!(peak < MEMORY, "{peak} MiB");
    let panicked: Vec<_> = process
        .lines()
        .into_iter()
        .filter(|line| line.contains("panicked"))
        .collect();
    assert!(panicked.is_empty(), "{panicked:?}");
    assert_goes_on(&cluster).await;
    cluster.finish().await;
}
