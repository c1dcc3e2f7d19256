//! Containers with this worker's labels that none of its tasks knows: one that tells its task is adopted, whenever it turns
//! up; one that does not is removed after the grace.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use prost::Message as _;
use tokio::time::Instant;
use worker_node::proto::Task;

use crate::bystanders::{self, Bystanders};
use crate::harness::{Cluster, EngineProxy, TASK_LABEL, WORKER_LABEL};

fn owner(worker: &str, task: &str) -> HashMap<String, String> {
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    HashMap::from([label(WORKER_LABEL, worker), label(TASK_LABEL, task)])
}

/// What a worker writes onto a container, in its first attempt.
fn labels(worker: &str, task: &Task) -> HashMap<String, String> {
    let mut labels = owner(worker, &task.task_id);
    let spec = BASE64_STANDARD.encode(task.encode_to_vec());
    for (name, value) in [
        ("format", "1"),
        ("attempt", "1"),
        ("digest", &"ab".repeat(32)),
        ("created", "2024-01-01T00:00:00Z"),
        ("spec", &spec),
    ] {
        labels.insert(format!("worker-node.{name}"), value.to_owned());
    }
    labels
}

#[tokio::test]
async fn a_container_that_nobody_knows_is_removed_after_the_grace_and_no_other_is() {
    let cluster = Cluster::start_with(|setup| setup.arguments(["--orphan-grace", "3s"])).await;
    let bystanders = Bystanders::start(&cluster.engine).await;
    let own = cluster.run("echo mine; exec sleep 600").await;
    let orphan = "task-of-nobody";
    let begun = Instant::now();
    bystanders::run(cluster.engine.docker(), owner(cluster.worker.id(), orphan)).await;

    cluster.engine.wait_task(orphan, "destroy").await;

    assert!(
        begun.elapsed() >= Duration::from_secs(3),
        "within its grace"
    );
    cluster
        .worker
        .wait_log_line("a container of ours that no task knows was removed")
        .await;
    bystanders.assert_untouched().await;
    cluster.master.cancel(&own).await.expect("it is known");
    assert_eq!(cluster.report(&own).await.status, "cancelled");
    assert_eq!(cluster.engine.starts(&own).await, 1);
    cluster.finish().await;
}

#[tokio::test]
async fn a_container_that_the_engine_comes_back_with_is_adopted() {
    let proxy = EngineProxy::start();
    let engine = proxy.address();
    let cluster = Cluster::start_with(|setup| {
        setup.arguments([
            "--engine",
            &engine,
            "--stop-grace",
            "1s",
            "--orphan-grace",
            "1s",
        ])
    })
    .await;
    let task = cluster.task("exec sleep 600");
    let id = task.task_id.clone();
    cluster.worker.wait_log_line("Ready to receive").await;

    proxy.go();
    cluster.worker.wait_log_line("Docker engine away").await;
    bystanders::run(cluster.engine.docker(), labels(cluster.worker.id(), &task)).await;
    cluster.master.inherit(task, cluster.worker.id());
    proxy.come();

    cluster
        .worker
        .wait_log_line("is adopted from its labels")
        .await;
    let cancel = cluster.master.cancel(&id).await.expect("it is known");
    assert!(cancel.answer.is_success(), "{cancel:?}");
    assert_eq!(cluster.report(&id).await.status, "cancelled");
    assert_eq!(cluster.engine.starts(&id).await, 1);
    cluster.finish().await;
}
