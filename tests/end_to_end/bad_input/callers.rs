//! Callers of the worker's port that are no master, or one that errs.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use tonic::transport::Channel;
use worker_node::proto::master_worker_client::MasterWorkerClient;
use worker_node::proto::{MasterInfo, Task};

use super::assert_goes_on;
use crate::harness::{Cluster, PATIENCE};

/// What HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the largest message may have.
const MESSAGE_LIMIT: usize = 1 << 20;

pub(crate) async fn address(cluster: &Cluster) -> String {
    let registered = cluster.master.wait_registered(cluster.worker.id()).await;
    registered.expect("registered").info.worker_ip
}

pub(crate) async fn client(cluster: &Cluster) -> MasterWorkerClient<Channel> {
    let address = format!("http://{}", address(cluster).await);
    MasterWorkerClient::connect(address)
        .await
        .expect("the worker listens")
}

/// What a task hears that calls the worker of its own machine, in bytes: an HTTP/2 server greets who it lets in.
async fn heard_by_a_task<const N: usize>(allow: [&'static str; N]) -> (Cluster, String) {
    let cluster = Cluster::start_with(|setup| setup.own_network().arguments(allow)).await;
    let address = address(&cluster).await;
    let (_, port) = address.rsplit_once(':').expect("a port");
    // The containers' networks are known once the engine was tried.
    cluster.worker.wait_log_line("Ready to receive tasks").await;
    let call = format!(
        "gateway=$(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'); test -n \"$gateway\" || exit 9; \
         printf 'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\0\\0\\0\\4\\0\\0\\0\\0\\0' | nc $gateway {port} | wc -c"
    );
    let task = cluster.submit(cluster.task(&call)).await;
    let report = cluster.report(&task).await;
    assert_eq!(report.status, "success", "{}", report.logs);
    let seen = cluster.master.watch_log(&task).wait_end().await;
    let heard = seen.expect("the end of its log").lines().remove(0);
    (cluster, heard)
}

#[tokio::test]
async fn no_task_reaches_the_worker_that_runs_it() {
    let (cluster, heard) = heard_by_a_task([]).await;

    assert_eq!(heard, "0");
    cluster.worker.wait_log_line("was turned away").await;
    cluster.finish().await;
}

#[tokio::test]
async fn who_lets_everybody_in_lets_tasks_in() {
    let (cluster, heard) = heard_by_a_task(["--allow-from", "any"]).await;

    assert_ne!(heard, "0");
    cluster.finish().await;
}

#[tokio::test]
async fn a_door_for_the_master_alone_is_open_to_the_master() {
    let (cluster, heard) = heard_by_a_task(["--allow-from", "master"]).await;

    assert_eq!(heard, "0");
    let lines = cluster.worker.process().lines();
    let warned = lines.iter().any(|line| line.contains("anyone who reaches"));
    assert!(!warned, "it is closed to strangers");
    cluster.finish().await;
}

#[tokio::test]
async fn callers_that_say_nothing_or_half_of_something_are_dropped() {
    let cluster = Cluster::start().await;
    let address = address(&cluster).await;
    let tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let mut silent = Vec::new();
    for said in [
        &b""[..],
        &PREFACE[..12],
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        tls,
        &[0xff; 100],
        // The whole preface, then a frame of a length that nobody may send.
        &[PREFACE, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0]].concat(),
    ] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(said).await.unwrap();
        silent.push(stream);
    }

    assert_goes_on(&cluster).await;

    for (number, mut stream) in silent.into_iter().enumerate() {
        let mut answer = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "caller {number} is still connected");
    }
    assert_goes_on(&cluster).await;
    cluster.finish().await;
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_and_one_under_it_is_read() {
    let cluster = Cluster::start().await;
    assert_goes_on(&cluster).await;
    let mut client = client(&cluster).await;
    let large = |length: usize| Task {
        command: "x".repeat(length),
        ..cluster.task("")
    };

    let over = client
        .assign_task(large(MESSAGE_LIMIT + 1))
        .await
        .unwrap_err();
    let under = large(MESSAGE_LIMIT - 4096);
    let id = under.task_id.clone();
    let answer = cluster.master.offer(cluster.worker.id(), under).await;

    assert!(
        matches!(over.code(), Code::OutOfRange | Code::ResourceExhausted),
        "{over:?}"
    );
    assert!(answer.is_success(), "{answer:?}");
    assert_eq!(cluster.report(&id).await.status, "failed");
    assert_goes_on(&cluster).await;
    cluster.finish().await;
}

#[tokio::test]
async fn a_master_that_names_no_address_is_refused_and_the_present_one_kept() {
    let cluster = Cluster::start().await;
    let mut client = client(&cluster).await;

    for address in [
        "nonsense",
        "host:",
        "host:99999",
        "http://host:1",
        ":50051",
        "a b:1",
        "host:0",
    ] {
        let info = MasterInfo {
            master_id: "other".to_owned(),
            master_address: address.to_owned(),
        };
        let ack = client.master_register(info).await.unwrap().into_inner();

        assert!(!ack.success, "{address}: {}", ack.message);
        assert!(!ack.message.is_empty(), "{address}");
    }

    assert_goes_on(&cluster).await;
    cluster.finish().await;
}

#[tokio::test]
async fn a_hundred_offers_of_one_id_at_once_run_one_task() {
    let cluster = Cluster::start().await;
    assert_goes_on(&cluster).await;
    let task = cluster.task("echo once; sleep 1");
    let id = task.task_id.clone();
    let address = address(&cluster).await;
    // Only the recorded offer makes the master expect a report.
    let first = cluster
        .master
        .offer(cluster.worker.id(), task.clone())
        .await;
    let submitted = cluster.master.task(&id).unwrap().task;

    let mut offers = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (address, task) = (format!("http://{address}"), submitted.clone());
        offers.spawn(async move {
            let mut client = MasterWorkerClient::<Channel>::connect(address)
                .await
                .unwrap();
            client.assign_task(task).await.map(|ack| ack.into_inner())
        });
    }
    let answers = offers.join_all().await;

    assert!(first.is_success(), "{first:?}");
    for answer in answers {
        assert!(answer.as_ref().is_ok_and(|ack| ack.success), "{answer:?}");
    }
    assert_eq!(cluster.report(&id).await.status, "success");
    assert_eq!(cluster.engine.starts(&id).await, 1);
    assert_goes_on(&cluster).await;
    cluster.finish().await;
}
