//! What a part of the worker knew, known by its successor.

use crate::harness::{Cluster, WorkerSetup};

fn supervised(failpoints: &'static str) -> impl FnOnce(WorkerSetup) -> WorkerSetup {
    move |setup| {
        setup
            .arguments(["--supervise"])
            .variable("FAILPOINTS", failpoints)
    }
}

#[tokio::test]
async fn a_registry_that_is_restarted_while_the_worker_drains_takes_no_task() {
    let points = "registry.CancelTask=1*panic";
    let cluster = Cluster::start_with(|setup| {
        supervised(points)(setup).arguments(["--on-stop", "drain", "--stop-grace", "1s"])
    })
    .await;
    let (long, other) = (cluster.run("sleep 60").await, cluster.run("sleep 60").await);
    cluster.worker.signal_stop();
    cluster
        .worker
        .wait_log_line("waiting for running tasks")
        .await;

    let cancel = cluster.master.cancel(&other).await.expect("it is known");
    assert!(cancel.answer.is_success(), "{cancel:?}");
    assert_eq!(cluster.report(&other).await.status, "cancelled");
    let offer = cluster
        .master
        .offer(cluster.worker.id(), cluster.task("true"))
        .await;

    let refusal = offer.refusal().expect("it is refused");
    assert!(refusal.contains("stopping"), "{refusal}");
    cluster.master.cancel(&long).await.expect("it is known");
    assert_eq!(cluster.report(&long).await.status, "cancelled");
    let status = cluster.worker.process().wait_exit().await;
    assert_eq!(status.code(), Some(0));
}

/// The task fails, is reported, and the worker neither tries for ever nor keeps anything of it.
#[tokio::test]
async fn a_task_whose_every_actor_fails_is_reported_all_the_same() {
    let cluster = Cluster::start_with(supervised("task.begin=panic")).await;
    let task = cluster.submit(cluster.task("true")).await;

    let report = cluster.report(&task).await;

    assert_eq!(report.status, "failed");
    assert!(report.logs.contains("internal"), "{}", report.logs);
    assert_eq!(cluster.engine.starts(&task).await, 0);
    cluster.finish().await;
}

/// What is said to a registry that dies over it is said to its successor.
#[tokio::test]
async fn news_that_the_registry_died_over_are_not_lost() {
    let cluster = Cluster::start_with(supervised("registry.TaskNews=6*off->1*panic")).await;
    let task = cluster.submit(cluster.task("true")).await;
    assert_eq!(cluster.report(&task).await.status, "success");
    cluster
        .worker
        .wait_log_line("failpoint registry.TaskNews panic")
        .await;
    cluster.engine.wait_task(&task, "destroy").await;
    cluster.finish().await;
}

/// A stop that kills at once does not turn into a storm of kills.
#[tokio::test]
async fn no_grace_is_no_storm_of_kills() {
    let cluster = Cluster::start_with(|setup| {
        setup
            .arguments(["--stop-grace", "0s"])
            .variable("RUST_LOG", "worker_node=debug,info")
    })
    .await;
    let task = cluster.run("trap '' TERM; sleep 60").await;

    cluster.master.cancel(&task).await.expect("it is known");

    assert_eq!(cluster.report(&task).await.status, "cancelled");
    let lines = cluster.worker.process().lines();
    let kills = lines
        .iter()
        .filter(|line| line.contains("signal is sent") && line.contains(&task))
        .count();
    assert!((1..=4).contains(&kills), "{kills} signals");
    cluster.finish().await;
}
