//! What a master is answered: offers, cancels, moves, and the methods that a worker does not serve.

use tonic::Code;
use worker_node::{
    grpc::{CALL_LIMIT, listener::Limits},
    ports::master::MasterAddress,
    proto,
};

use crate::fakes::{Client, Node, task};

async fn assign(client: &mut Client, id: &str, image: &str) -> (bool, String) {
    let ack = client.assign_task(task(id, image)).await;
    let ack = ack.expect("never a gRPC error").into_inner();
    (ack.success, ack.message)
}

async fn cancel(client: &mut Client, id: &str) -> (bool, String) {
    let id = proto::TaskId { task_id: id.into() };
    let ack = client.cancel_task(id).await;
    let ack = ack.expect("never a gRPC error").into_inner();
    (ack.success, ack.message)
}

async fn register(client: &mut Client, address: &str) -> (bool, String) {
    let info = proto::MasterInfo {
        master_id: "m".into(),
        master_address: address.into(),
    };
    let ack = client.master_register(info).await;
    let ack = ack.expect("never a gRPC error").into_inner();
    (ack.success, ack.message)
}

#[tokio::test]
async fn an_offer_reaches_the_worker_with_all_that_it_asks_for() {
    let node = Node::start(Limits::default()).await;
    let offered = proto::Task {
        task_id: "task-1".into(),
        docker_image: "busybox".into(),
        command: "true".into(),
        req_cpu: 0.5,
        req_memory: 1.0,
        req_storage: 2.0,
        req_gpu: 3.0,
        target_worker_id: "w".into(),
        user_id: "u".into(),
        sla_multiplier: 1.5,
        task_type: "batch".into(),
        task_name: "a/b".into(),
        submitted_at: 1_700_000_000,
        settings: Some(proto::TaskSettings {
            network: "none".into(),
            ..proto::TaskSettings::default()
        }),
    };

    let ack = node.client().assign_task(offered).await.unwrap();

    assert!(ack.into_inner().success);
    let offer = node.worker.offers.lock().unwrap().remove(0);
    let spec = offer.spec;
    assert_eq!(spec.id.as_str(), "task-1");
    let asked = spec.asked.as_ref().unwrap();
    assert_eq!(asked.network.as_deref(), Some("none"));
    assert_eq!(
        (spec.image.as_str(), spec.command.as_str()),
        ("busybox", "true")
    );
    let wants = spec.wants;
    assert_eq!(
        [wants.cpu, wants.memory, wants.storage, wants.gpu],
        [0.5, 1.0, 2.0, 3.0]
    );
    assert_eq!(
        (spec.user_id.as_str(), spec.task_name.as_str()),
        ("u", "a/b")
    );
    assert_eq!(spec.task_type, "batch");
    assert_eq!(
        (spec.sla_multiplier, spec.submitted_at),
        (1.5, 1_700_000_000)
    );
}

#[tokio::test]
async fn an_offer_is_answered_in_the_contracts_words() {
    let node = Node::start(Limits::default()).await;
    let client = &mut node.client();

    assert_eq!(assign(client, "a", "x").await, (true, "accepted".into()));
    assert_eq!(
        assign(client, "a", "again").await,
        (true, "already accepted".into())
    );
    assert_eq!(
        assign(client, "a", "refuse").await,
        (false, "draining".into())
    );
}

#[tokio::test]
async fn an_id_that_cannot_even_be_reported_is_refused_in_words() {
    let node = Node::start(Limits::default()).await;
    let client = &mut node.client();

    assert_eq!(
        assign(client, "", "x").await,
        (false, "the task id is empty".into())
    );
    assert_eq!(
        assign(client, &"x".repeat(1_025), "x").await,
        (false, "the task id is longer than 1024 bytes".into())
    );
    assert_eq!(
        cancel(client, "").await,
        (false, "the task id is empty".into())
    );
    assert!(node.worker.offers.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_panic_becomes_a_refusal_and_the_server_lives_on() {
    let node = Node::start(Limits::default()).await;
    let client = &mut node.client();

    assert!(!assign(client, "a", "panic").await.0);
    assert!(!cancel(client, "panic").await.0);

    assert!(assign(client, "a", "x").await.0);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_hangs_is_answered_for_before_the_masters_deadline() {
    let node = Node::start(Limits::default()).await;
    let client = &mut node.client();
    let started = tokio::time::Instant::now();

    let (success, message) = assign(client, "a", "hang").await;

    assert!(!success);
    assert_eq!(message, "this worker did not answer in time, try again");
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_crowd_of_offers_is_refused_and_keeps_no_cancel_out() {
    let node = Node::start(Limits {
        calls: 1,
        ..Limits::default()
    })
    .await;
    let (mut first, mut second) = (node.client(), node.client());
    let hangs = node.worker.next_hang();
    let hanging = tokio::spawn(async move { assign(&mut first, "a", "hang").await });
    hangs.await.unwrap();

    assert_eq!(
        assign(&mut second, "b", "x").await,
        (
            false,
            "this worker is busy with other calls, try again".into()
        )
    );
    assert!(cancel(&mut second, "c").await.0);
    hanging.abort();
}

#[tokio::test]
async fn a_cancel_is_answered_in_the_contracts_words() {
    let node = Node::start(Limits::default()).await;
    let client = &mut node.client();

    assert_eq!(cancel(client, "a").await, (true, "cancelling".into()));
    assert_eq!(
        cancel(client, "unknown").await,
        (false, "task unknown not found".into())
    );
    assert_eq!(
        cancel(client, "finished").await,
        (false, "already finished: success".into())
    );
}

#[tokio::test]
async fn a_move_is_checked_and_an_empty_one_keeps_the_address() {
    let node = Node::start(Limits::default()).await;
    let client = &mut node.client();

    assert!(register(client, "master:50051").await.0);
    assert!(register(client, "").await.0);
    assert!(register(client, "[::1]:50051").await.0);
    assert!(!register(client, "master").await.0);
    assert_eq!(
        register(client, "pinned:1").await,
        (
            false,
            "this worker is pinned to its master (--pin-master)".into()
        )
    );

    let at = |address: &str| Some(MasterAddress(address.into()));
    assert_eq!(
        *node.worker.moves.lock().unwrap(),
        [at("master:50051"), None, at("[::1]:50051")]
    );
}

#[tokio::test]
async fn the_masters_own_methods_are_answered_with_who_serves_them() {
    let node = Node::start(Limits::default()).await;
    let mut client = node.client();

    let upload = tokio_stream::iter([proto::FileChunk::default()]);
    let denied = [
        client
            .register_worker(proto::WorkerInfo::default())
            .await
            .unwrap_err(),
        client
            .send_heartbeat(proto::Heartbeat::default())
            .await
            .unwrap_err(),
        client
            .report_task_completion(proto::TaskResult::default())
            .await
            .unwrap_err(),
        client.upload_task_files(upload).await.unwrap_err(),
    ];

    for status in denied {
        assert_eq!(status.code(), Code::Unimplemented);
        assert!(status.message().contains("is served by the master"));
    }
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_and_the_server_lives_on() {
    let node = Node::start(Limits::default()).await;
    let client = &mut node.client();
    let mut large = task("a", "x");
    large.command = "x".repeat(CALL_LIMIT);
    let mut fits = task("a", "x");
    fits.command = "x".repeat(CALL_LIMIT - 1_024);

    let status = client.assign_task(large).await.unwrap_err();

    assert_eq!(status.code(), Code::OutOfRange);
    assert!(client.assign_task(fits).await.unwrap().into_inner().success);
}

#[tokio::test]
async fn a_caller_that_hangs_up_does_not_take_half_a_call_back() {
    let node = Node::start(Limits {
        connections: 1,
        ..Limits::default()
    })
    .await;
    let mut first = node.client();
    let (begun, gate) = node.worker.next_gated();
    let calling = tokio::spawn(async move { cancel(&mut first, "gated").await });
    begun.await.unwrap();

    calling.abort();
    let _ = calling.await;
    // The only slot is free again: the server has let go of the first connection and all that belonged to it.
    while node
        .client()
        .cancel_task(proto::TaskId::default())
        .await
        .is_err()
    {}

    let done = gate.open();
    assert!(done.await.is_ok(), "the call was dropped with its caller");
}

/// Every text of every message that a worker takes in beside an offer (see `grpc/convert`), far over its limit: the fields are
/// taken by their names, so that one that is added has to be given a limit here too.
#[tokio::test]
async fn no_text_of_a_call_about_a_task_or_a_master_gets_in_or_comes_back_whole() {
    const SHORT: usize = 1_024;
    let node = Node::start(Limits::default()).await;
    let client = &mut node.client();
    for character in ["x", "\u{1}", "\u{1f980}"] {
        let long = character.repeat(900_000 / character.len());
        let proto::TaskId { task_id: _ } = proto::TaskId::default();
        let proto::MasterInfo {
            master_id: _,
            master_address: _,
        } = proto::MasterInfo::default();
        let proto::TaskLogRequest {
            task_id: _,
            user_id: _,
            follow: _,
            batches: _,
            only: _,
            start: _,
        } = proto::TaskLogRequest::default();

        let (success, said) = cancel(client, &long).await;
        assert!(!success && said.len() <= SHORT, "{said}");

        let (success, said) = register(client, &long).await;
        assert!(!success && said.len() <= SHORT, "{said}");
        let (success, said) = register(client, &format!("{long}:1")).await;
        assert!(!success && said.len() <= SHORT, "{said}");
        let by_a_long_name = proto::MasterInfo {
            master_id: long.clone(),
            master_address: "m:1".into(),
        };
        let ack = client.master_register(by_a_long_name).await.unwrap();
        assert!(ack.into_inner().success, "who it is, is not kept");

        for follow in [false, true] {
            let of_a_long_id = proto::TaskLogRequest {
                task_id: long.clone(),
                user_id: "u".into(),
                follow,
                ..proto::TaskLogRequest::default()
            };
            let status = client.stream_task_logs(of_a_long_id).await.unwrap_err();
            assert_eq!(status.code(), Code::NotFound);
            assert!(status.message().len() <= SHORT, "{status:?}");
            let for_a_long_user = proto::TaskLogRequest {
                task_id: "unknown".into(),
                user_id: long.clone(),
                follow,
                ..proto::TaskLogRequest::default()
            };
            let status = client.stream_task_logs(for_a_long_user).await.unwrap_err();
            assert_eq!(status.code(), Code::NotFound, "whose it is, is not asked");
            assert!(status.message().len() <= SHORT, "{status:?}");
        }
    }

    let m1 = || Some(MasterAddress("m:1".into()));
    assert_eq!(*node.worker.moves.lock().unwrap(), [m1(), m1(), m1()]);
}
