//! Crowds of callers that cost what they can and say little: more connections than there are descriptors, and a thousand that are slow in
//! five ways. Who means it is answered meanwhile, and the worker has room for the next.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::mpsc::{Sender, channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;
use worker_node::proto::TaskId;

use super::assert_goes_on;
use super::callers::{address, client};
use super::messages::MEMORY;
use crate::harness::Cluster;
use crate::harness::frames::{
    AS_USUAL, Caller, DATA, END_STREAM, NO_WINDOW, PREFACE, call, field, frame, in_frames, message,
};
use crate::harness::times;

/// The first of the addresses that strangers call from.
const STRANGERS: u8 = 10;

/// Of one kind, half of them from one address, half from another: none is over the share of an address.
const OF_A_KIND: usize = 200;

/// This test needs a descriptor for each of its callers.
fn raise_own_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).expect("up to the hard limit");
}

/// A program that starts the worker with so many descriptors.
fn with_descriptors(folder: &Path, count: usize) -> PathBuf {
    let path = folder.join("worker");
    let mut script = std::fs::OpenOptions::new();
    let script = script.write(true).create_new(true).mode(0o755).open(&path);
    let binary = env!("CARGO_BIN_EXE_worker-node");
    let mut script = script.expect("a new file");
    write!(
        script,
        "#!/bin/sh\nulimit -n {count}\nexec {binary} \"$@\"\n"
    )
    .expect("a script");
    path
}

/// So many calls over a connection each, all of which are answered; in what time, the slowest last.
async fn honest_calls(cluster: &Cluster, count: usize) -> Vec<Duration> {
    let mut times = Vec::new();
    for _ in 0..count {
        let begun = Instant::now();
        let nobody = TaskId {
            task_id: "nobody".into(),
        };
        let answer = client(cluster).await.cancel_task(nobody).await;
        assert!(!answer.expect("it is answered").into_inner().success);
        times.push(begun.elapsed());
    }
    times.sort();
    times
}

async fn beats(cluster: &Cluster) -> usize {
    let worker = cluster.worker.id();
    let beats = cluster.master.wait("its heartbeats", |record| {
        record.worker(worker).map(|worker| worker.heartbeats.len())
    });
    beats.await.expect("it is looked up")
}

/// Waits for so many more heartbeats.
async fn goes_on_beating(cluster: &Cluster, more: usize) {
    let (worker, before) = (cluster.worker.id(), beats(cluster).await);
    let beats = cluster.master.wait("more heartbeats", |record| {
        let beats = record.worker(worker)?.heartbeats.len();
        (beats >= before + more).then_some(())
    });
    beats.await.expect("heartbeats go on");
}

#[tokio::test]
async fn five_hundred_silent_connections_take_no_descriptor_that_the_worker_needs() {
    const DESCRIPTORS: usize = 128;
    raise_own_limit();
    let folder = tempfile::tempdir().unwrap();
    let poor = with_descriptors(folder.path(), DESCRIPTORS);
    let cluster = Cluster::start_with(|setup| setup.binary(&poor)).await;
    assert_goes_on(&cluster).await;
    let worker: SocketAddr = address(&cluster).await.parse().expect("an address");

    let (begun, used) = (Instant::now(), cluster.worker.process().processor_time());
    let mut silent = Vec::new();
    for number in 0..500 {
        let from = STRANGERS + u8::try_from(number % 16).unwrap();
        let caller = match number % 2 {
            0 => Caller::silent(from, worker).await,
            _ => Caller::greeting(from, worker, AS_USUAL).await,
        };
        silent.push(caller);
    }
    honest_calls(&cluster, 20).await;
    goes_on_beating(&cluster, 2).await;
    let open = cluster.worker.process().descriptors();
    let share = (cluster.worker.process().processor_time() - used) / begun.elapsed().as_secs_f64();
    assert_goes_on(&cluster).await;

    eprintln!(
        "500 silent connections and {DESCRIPTORS} descriptors: {open} open, {:.1} % of a core",
        share * 100.0
    );
    assert!(open < DESCRIPTORS / 2, "{open} descriptors");
    let lines = cluster.worker.process().lines();
    let lacked = lines
        .iter()
        .find(|line| line.contains("Too many open files"));
    assert_eq!(lacked, None);
    drop(silent);
    honest_calls(&cluster, 1).await;
    cluster.finish().await;
}

/// A way to be slow.
#[derive(Clone, Copy, Debug)]
enum Slow {
    Silent,
    AfterTheGreeting,
    InTheHeaders,
    InTheBody,
    AsAViewer,
}

const SLOW: [Slow; 5] = [
    Slow::Silent,
    Slow::AfterTheGreeting,
    Slow::InTheHeaders,
    Slow::InTheBody,
    Slow::AsAViewer,
];

impl Slow {
    fn from(self, number: usize) -> u8 {
        let half = if number.is_multiple_of(2) { 0 } else { 16 };
        STRANGERS + self as u8 + half
    }

    /// What is said at once, and what comes a byte a second.
    fn words(self, task: &str) -> (Vec<u8>, Vec<u8>) {
        let greeting = |settings| [PREFACE, settings].concat();
        let cancel = in_frames(1, 0, &call("CancelTask"));
        match self {
            Self::Silent => (Vec::new(), Vec::new()),
            Self::AfterTheGreeting => (greeting(AS_USUAL), Vec::new()),
            Self::InTheHeaders => (greeting(AS_USUAL), cancel),
            Self::InTheBody => {
                let body = frame(DATA, 0, 1, &message(&[b'x'; 1_000]));
                ([greeting(AS_USUAL), cancel].concat(), body)
            }
            Self::AsAViewer => {
                let asks = message(&[field(1, task.as_bytes()), vec![3 << 3, 1]].concat());
                let view = in_frames(1, 0, &call("StreamTaskLogs"));
                let asks = frame(DATA, END_STREAM, 1, &asks);
                ([greeting(NO_WINDOW), view, asks].concat(), Vec::new())
            }
        }
    }

    /// Calls, tells that it has, and stays until the worker hangs up; again and again until the test is over.
    async fn stays(
        self,
        (worker, from): (SocketAddr, u8),
        task: String,
        called: Sender<()>,
        over: CancellationToken,
    ) {
        while !over.is_cancelled() {
            let (at_once, slowly) = self.words(&task);
            let mut caller = Caller::silent(from, worker).await;
            caller.say(&at_once).await;
            let _heard = called.send(()).await;
            let mut seconds = interval(Duration::from_secs(1));
            for byte in slowly {
                tokio::select! {
                    () = caller.hung_up() => break,
                    _ = seconds.tick() => caller.say(&[byte]).await,
                }
            }
            caller.hung_up().await;
        }
    }
}

#[tokio::test]
async fn a_thousand_slow_callers_of_five_kinds_keep_no_other_waiting() {
    raise_own_limit();
    let cluster = Cluster::start().await;
    let long_lines = "for n in 1 2 3; do head -c 1000000 /dev/zero | tr '\\0' x; echo; done; echo shown; exec sleep 600";
    let mut viewed = Vec::new();
    for _ in 0..4 {
        viewed.push(cluster.run(long_lines).await);
    }
    for task in &viewed {
        cluster
            .master
            .watch_log(task)
            .wait_line("shown")
            .await
            .expect("it is printed");
    }
    let worker: SocketAddr = address(&cluster).await.parse().expect("an address");
    let before = honest_calls(&cluster, times(20, 500)).await;

    let (mut crowd, over) = (JoinSet::new(), CancellationToken::new());
    let (called, mut calls) = channel(SLOW.len() * OF_A_KIND);
    for number in 0..OF_A_KIND {
        for slow in SLOW {
            let task = viewed[number % viewed.len()].clone();
            crowd.spawn(slow.stays(
                (worker, slow.from(number)),
                task,
                called.clone(),
                over.clone(),
            ));
        }
    }
    for _ in 0..SLOW.len() * OF_A_KIND {
        calls.recv().await.expect("each has called");
    }
    drop(calls);
    let beside = honest_calls(&cluster, times(100, 2_000)).await;
    let process = cluster.worker.process();
    let (open, peak) = (process.descriptors(), process.peak_memory());
    assert_goes_on(&cluster).await;

    let p99 = |times: &[Duration]| times[times.len() * 99 / 100];
    eprintln!(
        "1,000 slow callers: {open} descriptors, {peak} MiB at most; CancelTask p99 {:?}, {:?} without them",
        p99(&beside),
        p99(&before)
    );
    let limit = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    assert!((open as u64) < limit / 2, "{open} descriptors of {limit}");
    assert!(peak < MEMORY, "{peak} MiB");
    over.cancel();
    if times(0, 1) == 1 {
        crowd.join_all().await;
    }
    for task in viewed {
        cluster.master.cancel(&task).await.expect("it is told");
        cluster.report(&task).await;
    }
    cluster.finish().await;
}
