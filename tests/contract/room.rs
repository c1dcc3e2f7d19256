//! What is over, or can never begin, holds nothing: the next task is taken, whatever the master does with the results.

use std::process::Command;

use worker_node::dev_master::{Fault, Method};
use worker_node::proto::{Heartbeat, Task};

use crate::harness::Cluster;

#[tokio::test]
async fn a_task_that_can_never_begin_takes_nobodys_room_and_spoils_no_figure() {
    let cluster = Cluster::start_with(|setup| setup.arguments(["--max-tasks", "1"])).await;
    let passing = Fault::Refuse("a passing database error".to_owned());
    cluster.master.inject(Method::Report, passing);
    let mut impossible = Vec::new();
    for cpu in [99_999.0, 1e308, f64::NAN] {
        let task = Task {
            req_cpu: cpu,
            ..cluster.task("true")
        };
        let id = task.task_id.clone();
        let answer = cluster.master.offer(cluster.worker.id(), task).await;
        assert!(answer.is_success(), "{cpu}: {answer:?}");
        impossible.push(id);
    }

    let honest = Task {
        req_cpu: 0.5,
        ..cluster.task("true")
    };
    let id = honest.task_id.clone();
    let answer = cluster.master.offer(cluster.worker.id(), honest).await;
    assert!(answer.is_success(), "the room is taken: {answer:?}");

    let last = impossible[2].clone();
    let lists = |beat: &Heartbeat| beat.running_tasks.iter().any(|task| task.task_id == last);
    let beat = cluster.master.wait_heartbeat(cluster.worker.id(), lists);
    for task in beat.await.unwrap().heartbeat.running_tasks {
        let figures = [task.cpu_allocated, task.memory_allocated];
        let sane = figures.iter().all(|figure| (0.0..=0.5).contains(figure));
        assert!(sane, "{task:?}");
    }
    cluster.master.heal(Method::Report);
    for task in impossible {
        assert_eq!(cluster.report(&task).await.status, "failed");
    }
    assert_eq!(cluster.report(&id).await.status, "success");
    cluster.finish().await;
}

#[tokio::test]
async fn a_result_that_nobody_takes_holds_no_place_and_can_be_let_go_of() {
    let quick = [
        "--max-tasks",
        "1",
        "--report-timeout",
        "500ms",
        "--report-doubt",
        "500ms",
    ];
    let cluster = Cluster::start_with(|setup| setup.arguments(quick)).await;
    cluster.master.inject(Method::Report, Fault::Ignore);
    let first = cluster.submit(cluster.task("true")).await;
    // Its container is gone, although the master has not taken its result.
    cluster.engine.wait_task(&first, "destroy").await;
    let second = cluster.submit(cluster.task("true")).await;
    for task in [&first, &second] {
        let parked = format!("[Task {task}] ✗ Task result could not be delivered");
        cluster.worker.wait_log_line(&parked).await;
    }

    assert!(drop_result(&cluster, &first).await, "it is parked");
    let given_up = format!("[Task {first}] ✗ Task result was never taken");
    cluster.worker.wait_log_line(&given_up).await;
    assert!(!drop_result(&cluster, &first).await, "it is not any more");

    cluster.master.heal(Method::Report);
    let retry = order(&cluster, &["outbox", "retry"]).await;
    assert!(retry, "the other one is sent again");
    assert_eq!(cluster.report(&second).await.status, "success");
    cluster.engine.wait_nothing_left(cluster.worker.id()).await;
    assert_eq!(cluster.worker.stop().await, Some(0));
}

async fn drop_result(cluster: &Cluster, task: &str) -> bool {
    order(cluster, &["outbox", "drop", task]).await
}

/// Whether the worker obeyed.
async fn order(cluster: &Cluster, words: &[&str]) -> bool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker-node"));
    command
        .args(words)
        .arg("--state-dir")
        .arg(cluster.worker.state_dir());
    let status = tokio::task::spawn_blocking(move || command.status());
    let status = status.await.expect("it does not panic");
    status.expect("it can be started").success()
}
