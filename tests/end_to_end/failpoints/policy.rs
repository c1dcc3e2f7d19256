//! What follows a failure: a restart with `--supervise`, the end of the process in good order without it or when restarting does
//! not help, and never the end of a task.

use std::process::Command;

use super::lifecycle::edges;
use crate::harness::{Cluster, Process, master_options};

/// `EX_TEMPFAIL`: a service manager tries again.
const GAVE_UP: i32 = 75;

async fn cluster(failpoints: &str, arguments: &[&str]) -> Cluster {
    Cluster::start_under(master_options(), |setup| {
        let setup = setup.variable("FAILPOINTS", failpoints);
        let arguments = arguments.iter();
        arguments.fold(setup, |setup, argument| setup.arguments([*argument]))
    })
    .await
}

async fn exit_code(cluster: &Cluster) -> Option<i32> {
    cluster.worker.process().wait_exit().await.code()
}

/// The containers run on, and the next process has their results.
#[tokio::test]
async fn without_supervise_the_first_failure_ends_the_process_and_no_task() {
    let points = "registry.CancelTask=1*panic";
    let mut cluster = cluster(points, &[]).await;
    let task = cluster.run("echo one; sleep 3; echo two").await;
    let other = cluster.run("sleep 60").await;

    let cancel = cluster.master.cancel(&other).await.expect("it is known");
    assert!(cancel.answer.is_success(), "{cancel:?}");
    assert_eq!(exit_code(&cluster).await, Some(GAVE_UP));
    cluster.master.doubt("the worker ended");
    let story = edges(cluster.worker.process());
    assert!(!story.iter().any(|edge| edge.word == "restarting"));
    assert_eq!(
        story.last().map(|edge| edge.word.as_str()),
        Some("stopped"),
        "in good order"
    );
    for task in [&task, &other] {
        assert_eq!(cluster.engine.containers_of(task).await.len(), 1);
    }

    cluster
        .worker
        .restart_with(|setup| setup.variable("FAILPOINTS", ""))
        .await;
    assert_eq!(cluster.report(&task).await.status, "success");
    assert_eq!(cluster.report(&other).await.status, "cancelled");
    assert_eq!(cluster.engine.starts(&task).await, 1);
    cluster.finish().await;
}

#[tokio::test]
async fn a_spent_budget_ends_the_process_and_no_task() {
    let points = "outbox.started=1*off->panic;outbox.RetryParked=1*panic";
    let flags = [
        "--supervise",
        "--restart-intensity",
        "2",
        "--restart-period",
        "1m",
        "--restart-backoff",
        "20ms",
        "--restart-backoff-max",
        "50ms",
    ];
    let mut cluster = cluster(points, &flags).await;
    let task = cluster.run("sleep 5; echo done").await;

    let mut retry = Command::new(env!("CARGO_BIN_EXE_worker-node"));
    retry
        .args(["outbox", "retry", "--state-dir"])
        .arg(cluster.worker.state_dir());
    let _retry = Process::start("outbox retry", &mut retry);
    assert_eq!(exit_code(&cluster).await, Some(GAVE_UP));
    cluster.master.doubt("the worker ended");
    let story = edges(cluster.worker.process());
    let restarts: Vec<&str> = story
        .iter()
        .filter(|edge| edge.word == "restarting")
        .map(|edge| edge.line.as_str())
        .collect();
    assert_eq!(restarts.len(), 2, "{restarts:#?}");
    assert!(
        restarts
            .iter()
            .all(|line| line.contains("of=2 window_s=60")),
        "{restarts:#?}"
    );
    assert!(restarts[0].contains("backoff_ms=0"), "{restarts:#?}");
    assert!(
        story
            .iter()
            .any(|edge| edge.word == "gave_up" && edge.actor == "outbox")
    );

    cluster
        .worker
        .restart_with(|setup| setup.variable("FAILPOINTS", ""))
        .await;
    assert_eq!(cluster.report(&task).await.status, "success");
    assert_eq!(cluster.engine.starts(&task).await, 1);
    cluster.finish().await;
}

/// A task is alone, too: its failure is reported, and no subsystem hears of it.
#[tokio::test]
async fn the_spent_budget_of_a_task_fails_the_task() {
    let points = "task.begin=4*panic";
    for supervise in [&["--supervise"][..], &[]] {
        let cluster = cluster(points, supervise).await;
        let task = cluster.submit(cluster.task("true")).await;

        let report = cluster.report(&task).await;

        assert_eq!(report.status, "failed");
        assert!(report.logs.contains("internal error"), "{}", report.logs);
        let story = edges(cluster.worker.process());
        let failed = story.iter().filter(|edge| edge.word == "panicked");
        assert!(failed.clone().all(|edge| edge.actor.starts_with("task(")));
        assert_eq!(failed.count(), 4, "{story:#?}");
        cluster.finish().await;
    }
}
