//! Trouble that passes: a task waits it out, says so in its log, and does not fail of it.

use std::time::Duration;

use worker_node::proto::Task;

use crate::harness::{Cluster, EngineProxy, Registry, remove_image};

async fn behind(proxy: &EngineProxy) -> Cluster {
    behind_with(proxy, "10m").await
}

/// A worker that has tried its engine out already, with that much patience.
async fn behind_with(proxy: &EngineProxy, patience: &str) -> Cluster {
    let engine = proxy.address();
    let arguments = ["--engine", &engine, "--patience", patience];
    let cluster = Cluster::start_with(|setup| setup.arguments(arguments)).await;
    cluster.worker.wait_log_line("Ready to receive").await;
    cluster
}

#[tokio::test]
async fn a_start_that_the_engine_fails_at_for_a_while_is_tried_until_it_is_well() {
    let proxy = EngineProxy::start();
    let cluster = behind(&proxy).await;

    proxy.fail("/start ", "a passing failure of the network");
    let task = cluster.submit(cluster.task("echo ran")).await;
    proxy.wait_failed(3).await;
    proxy.release();
    let report = cluster.report(&task).await;

    assert_eq!(report.status, "success", "{}", report.logs);
    assert!(report.logs.contains("ran\n"), "{}", report.logs);
    let said = "[worker-node] the container could not be started: ";
    assert!(report.logs.contains(said), "{}", report.logs);
    assert!(
        report
            .logs
            .contains("a passing failure of the network; again in"),
        "{}",
        report.logs
    );
    assert_eq!(cluster.engine.starts(&task).await, 1);
    cluster.finish().await;
}

#[tokio::test]
async fn a_cancel_while_trouble_is_waited_out_ends_the_task_at_once() {
    for part in ["/start ", "/containers/create"] {
        let proxy = EngineProxy::start();
        let cluster = behind(&proxy).await;

        // Longer than this test waits for anything.
        proxy.fail(part, "a passing failure, Retry-After: 500");
        let task = cluster.submit(cluster.task("echo ran")).await;
        let log = cluster.master.watch_log(&task);
        log.wait_line("Retry-After: 500; again in 500")
            .await
            .unwrap();
        cluster.master.cancel(&task).await.unwrap();
        let report = cluster.report(&task).await;

        assert_eq!(report.status, "cancelled", "{part}: {}", report.logs);
        assert_eq!(cluster.engine.starts(&task).await, 0, "{part}");
        proxy.release();
        cluster.finish().await;
    }
}

#[tokio::test]
async fn a_trouble_that_outlasts_the_patience_fails_the_task_with_its_words() {
    let proxy = EngineProxy::start();
    let cluster = behind_with(&proxy, "2s").await;

    proxy.fail("/start ", "a failure that lasts");
    let task = cluster.submit(cluster.task("echo ran")).await;
    let report = cluster.report(&task).await;

    assert_eq!(report.status, "failed", "{}", report.logs);
    let trailer = report.logs.lines().last().unwrap_or_default();
    assert!(
        trailer.contains("a failure that lasts (tried for"),
        "{trailer}"
    );
    proxy.release();
    cluster.finish().await;
}

#[tokio::test]
async fn a_registry_that_asks_to_come_again_later_is_obeyed() {
    let cluster = Cluster::start().await;
    let registry = Registry::start().await;
    let name = registry.push_busybox(cluster.engine.docker()).await;
    let gate = registry.behind_gate().await;
    gate.be_busy("you have reached your pull rate limit, Retry-After: 3");
    let image = gate.reference(&name);

    let task = cluster
        .submit(Task {
            docker_image: image.clone(),
            ..cluster.task("echo pulled")
        })
        .await;
    let log = cluster.master.watch_log(&task);
    log.wait_line("again in ").await.unwrap();
    gate.open();
    let report = cluster.report(&task).await;

    assert_eq!(report.status, "success", "{}", report.logs);
    assert!(report.logs.contains("pulled\n"), "{}", report.logs);
    let waits = waits(&report.logs);
    assert_eq!(waits.len(), 1, "once was enough: {}", report.logs);
    assert!(waits[0] >= Duration::from_secs(3), "{}", report.logs);
    let docker = cluster.engine.docker().clone();
    cluster.finish().await;
    remove_image(&docker, &image).await;
}

/// How long each `again in` of a log says that it waits.
fn waits(logs: &str) -> Vec<Duration> {
    let waits = logs
        .lines()
        .filter_map(|line| line.split("again in ").nth(1));
    let waits = waits.filter_map(|wait| wait.trim_end_matches('s').parse().ok());
    waits.map(Duration::from_secs_f64).collect()
}

#[tokio::test]
async fn an_image_that_is_removed_before_its_container_is_made_is_pulled_again() {
    let proxy = EngineProxy::start();
    let cluster = behind(&proxy).await;
    let registry = Registry::start().await;
    let name = registry.push_busybox(cluster.engine.docker()).await;
    let image = registry.reference(&name);

    proxy.hold_requests("/containers/create");
    let task = cluster
        .submit(Task {
            docker_image: image.clone(),
            ..cluster.task("echo ran")
        })
        .await;
    proxy.wait_held(1).await;
    remove_image(cluster.engine.docker(), &image).await;
    proxy.release();
    let report = cluster.report(&task).await;

    assert_eq!(report.status, "success", "{}", report.logs);
    assert!(report.logs.contains("ran\n"), "{}", report.logs);
    assert_eq!(cluster.engine.starts(&task).await, 1);
    let docker = cluster.engine.docker().clone();
    cluster.finish().await;
    remove_image(&docker, &image).await;
}
