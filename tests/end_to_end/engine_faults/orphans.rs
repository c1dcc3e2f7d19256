//! Containers with this worker's labels that none of its tasks knows: one that it made and that tells its task is adopted,
//! whenever it turns up; one that does not is removed after the grace; one that only looks so is left alone.

use std::collections::HashMap;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bollard::models::ContainerConfig;
use bollard::query_parameters::{CommitContainerOptions, RemoveImageOptions};
use prost::Message as _;
use tokio::time::Instant;
use worker_node::engine::Maker;
use worker_node::ports::engine::{Ours, Proof, container_name};
use worker_node::proto::Task;
use worker_node::state_dir::Identity;

use super::bystanders::{self, Bystanders};
use crate::harness::{Cluster, EngineProxy, TASK_LABEL, WORKER_LABEL, remove_container, unique};

/// The labels that only the worker with this state folder gives.
fn with_mark(cluster: &Cluster, mut labels: HashMap<String, String>) -> HashMap<String, String> {
    let identity = Identity::read(cluster.worker.state_dir()).expect("it is readable");
    let identity = identity.expect("a worker that runs has one");
    let text = |name: &str| labels.get(name).cloned().unwrap_or_default();
    let ours = Ours {
        worker: text(WORKER_LABEL),
        task: text(TASK_LABEL),
        attempt: text("worker-node.attempt").parse().unwrap_or_default(),
        digest: text("worker-node.digest"),
        proof: Proof::Mark,
    };
    let mark = Maker::new(identity.secret.0, identity.since).mark(&ours);
    labels.insert("worker-node.mark".to_owned(), mark);
    labels
}

/// What is as old as the state folder may be from the one before it; the engine tells ages in whole seconds.
async fn until_later_than_its_folder(cluster: &Cluster) {
    let identity = Identity::read(cluster.worker.state_dir()).expect("it is readable");
    let since = Duration::from_secs(identity.expect("a worker that runs has one").since);
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    while UNIX_EPOCH.elapsed().expect("it is past").as_secs() <= since.as_secs() {
        looks.tick().await;
    }
}

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
    let labels = with_mark(&cluster, owner(cluster.worker.id(), orphan));
    let name = container_name(cluster.worker.id(), orphan, 0).0;
    bystanders::run_named(cluster.engine.docker(), &name, labels).await;

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
    let labels = with_mark(&cluster, labels(cluster.worker.id(), &task));
    let name = container_name(cluster.worker.id(), &id, 1).0;
    bystanders::run_named(cluster.engine.docker(), &name, labels).await;
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

/// `docker commit` hands the labels on, and the mark with them; an image may have all labels by anybody's hand. Neither is
/// removed, nor adopted by this process or the next: there is one result of the task, and none of the forged one.
#[tokio::test]
async fn a_container_that_only_looks_like_ours_is_neither_removed_nor_adopted() {
    let mut cluster = Cluster::start_with(|setup| {
        setup.arguments(["--orphan-grace", "1s", "--stop-grace", "1s"])
    })
    .await;
    let docker = cluster.engine.docker().clone();
    let own = cluster.run("echo mine; exec sleep 600").await;
    let container = cluster.engine.containers_of(&own).await.remove(0);
    let commit = CommitContainerOptions {
        container: Some(container),
        ..CommitContainerOptions::default()
    };
    let image = docker.commit_container(commit, ContainerConfig::default());
    let image = image.await.expect("it can be kept").id;
    until_later_than_its_folder(&cluster).await;
    let forged = cluster.task("exec sleep 600");
    let forged_id = forged.task_id.clone();
    let mut others = Vec::new();
    for (name, image, labels) in [
        (unique("debug"), image.as_str(), HashMap::new()),
        (
            unique("forged"),
            "busybox:latest",
            with_mark(&cluster, labels(cluster.worker.id(), &forged)),
        ),
        (
            container_name(cluster.worker.id(), &forged_id, 1).0,
            "busybox:latest",
            labels(cluster.worker.id(), &forged),
        ),
    ] {
        let other = bystanders::run_image(&docker, &name, image, labels).await;
        others.push((bystanders::state(&docker, &other).await, other));
    }

    for (_, other) in &others {
        let line = format!("left alone container={}", &other[..12]);
        cluster.worker.wait_log_line(&line).await;
    }
    cluster.master.cancel(&own).await.expect("it is known");
    assert_eq!(cluster.report(&own).await.status, "cancelled");
    cluster.engine.wait_task(&own, "destroy").await;
    assert_eq!(cluster.worker.stop().await, Some(0));
    cluster.restart_worker().await;
    for (_, other) in &others {
        let line = format!("left alone container={}", &other[..12]);
        cluster.worker.wait_log_line(&line).await;
    }

    for (before, other) in &others {
        assert_eq!(bystanders::state(&docker, other).await, *before);
        remove_container(&docker, other).await;
    }
    let unasked = cluster
        .master
        .cancel_at(cluster.worker.id(), &forged_id)
        .await;
    assert!(!unasked.answer.is_success(), "{unasked:?}");
    let _unused = docker
        .remove_image(&image, None::<RemoveImageOptions>, None)
        .await;
    cluster.finish().await;
}
