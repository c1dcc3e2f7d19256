//! CancelTask: hazard 3, and a cancel in the states that are easily forgotten.

use std::time::Duration;

use worker_node::proto::Task;

use crate::harness::{Cluster, Registry};

/// Prints a line, and when it is told to stop goes on until its test lets it.
const SLOW_TO_STOP: &str = "trap 'while [ ! -e /tmp/go ]; do sleep 0.1; done; exit 0' TERM; echo ready; while :; do sleep 0.1; done";

#[tokio::test]
async fn hazard_03_a_cancel_is_acked_before_any_call_to_the_master() {
    let cluster = Cluster::start_with(|setup| setup.arguments(["--stop-grace", "10m"])).await;
    let task = cluster.run(SLOW_TO_STOP).await;
    let log = cluster.master.watch_log(&task);
    log.wait_line("ready").await.unwrap();

    let cancel = cluster.master.cancel(&task).await.unwrap();
    let again = cluster.master.cancel(&task).await.unwrap();

    assert!(cancel.answer.is_success(), "{cancel:?}");
    assert!(
        again.answer.is_success(),
        "cancelling again while it stops: {again:?}"
    );
    let early = cluster.master.task(&task).unwrap().reports;
    assert!(
        early.is_empty(),
        "it still stops, and is already reported: {early:?}"
    );
    let containers = cluster.engine.containers_of(&task).await;
    cluster.engine.touch_in(&containers[0], "/tmp/go").await;
    let report = cluster.report(&task).await;
    assert_eq!(report.status, "cancelled");
    assert!(
        report.logs.starts_with("ready\n"),
        "the report must carry the logs: {:?}",
        report.logs
    );
    assert_eq!(
        log.wait_end().await.unwrap().final_status(),
        Some("cancelled")
    );
    cluster.finish().await;
}

#[tokio::test]
async fn a_cancel_while_pulling_ends_the_task_at_once() {
    let cluster = Cluster::start().await;
    let registry = Registry::start().await;
    let name = registry.push_busybox(cluster.engine.docker()).await;
    let gate = registry.behind_gate().await;
    let task = Task {
        docker_image: gate.reference(&name),
        ..cluster.task("true")
    };
    let task = cluster.submit(task).await;
    gate.wait_knock().await;

    let cancel = cluster.master.cancel(&task).await.unwrap();

    assert!(cancel.answer.is_success(), "{cancel:?}");
    let report = cluster.report(&task).await;
    assert_eq!(report.status, "cancelled");
    // The engine itself gives up at the gate after ten seconds: that would be no cancel.
    let took = report.at - cancel.at;
    assert!(took < Duration::from_secs(10), "it took {took:?}");
    assert_eq!(cluster.engine.starts(&task).await, 0);
    cluster.finish().await;
}

#[tokio::test]
async fn a_cancel_of_an_unknown_task_is_refused() {
    let cluster = Cluster::start().await;
    // A task that ran proves that the containers are reconciled: before that every id could be one of them.
    let known = cluster.run("true").await;
    cluster.report(&known).await;

    let cancel = cluster
        .master
        .cancel_at(cluster.worker.id(), "nobody")
        .await;

    let refusal = cancel.answer.refusal().expect("success=false");
    assert!(refusal.contains("not found"), "{refusal:?}");
    cluster.finish().await;
}

#[tokio::test]
async fn a_cancel_of_a_delivered_task_says_how_it_ended() {
    let cluster = Cluster::start().await;
    let task = cluster.run("true").await;
    cluster.report(&task).await;
    cluster.engine.wait_task(&task, "destroy").await;

    let cancel = cluster.master.cancel(&task).await.unwrap();

    let refusal = cancel.answer.refusal().expect("success=false");
    assert!(refusal.contains("already finished: success"), "{refusal:?}");
    assert_eq!(cluster.finish().await.task(&task).unwrap().reports.len(), 1);
}
