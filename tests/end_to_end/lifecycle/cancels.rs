//! A cancel in every state of a task: acknowledged at once, carried out, and what was there before it is kept.

use std::time::Duration;

use worker_node::dev_master::{CancelCall, Fault, Method, Upload};
use worker_node::proto::Task;

use super::endings::{log_of, trailer};
use crate::harness::{Cluster, EngineProxy, Registry, TestImage, WorkerSetup};

/// Creates that the worker has under way at once.
fn turns() -> usize {
    let cores = std::thread::available_parallelism().expect("it can be told");
    3 * cores.get()
}

/// A cluster whose worker speaks with the engine through a proxy.
pub(crate) async fn behind(proxy: &EngineProxy) -> Cluster {
    let engine = proxy.address();
    Cluster::start_with(|setup: WorkerSetup| setup.arguments(["--engine", &engine])).await
}

async fn cancel(cluster: &Cluster, task: &str) -> CancelCall {
    let cancel = cluster.master.cancel(task).await.expect("it was offered");
    assert!(cancel.answer.is_success(), "{cancel:?}");
    cancel
}

async fn assert_cancelled(cluster: &Cluster, task: &str) {
    let report = cluster.report(task).await;
    assert_eq!(report.status, "cancelled", "{}", report.logs);
}

async fn upload_of(cluster: &Cluster, task: &str) -> Upload {
    cluster.master.wait_upload(task).await.expect("its files")
}

#[tokio::test]
async fn one_that_waits_for_its_turn_ends_at_once_and_one_that_is_being_created_ends_without_running()
 {
    let proxy = EngineProxy::start();
    let engine = proxy.address();
    let cluster = Cluster::start_with(|setup: WorkerSetup| {
        let setup = setup.arguments(["--engine", &engine]);
        setup.variable("RUST_LOG", "operator=debug")
    })
    .await;
    // One that ran before proves that the worker takes offers.
    let first = cluster.run("true").await;
    cluster.report(&first).await;
    proxy.hold_requests("/containers/create");
    let mut tasks = Vec::new();
    for _ in 0..turns() {
        tasks.push(cluster.submit(cluster.task("echo ran")).await);
    }
    proxy.wait_held(turns()).await;
    let queued = cluster.submit(cluster.task("true")).await;
    cluster
        .worker
        .wait_log_line(&format!("[Task {queued}] Creating container"))
        .await;

    cancel(&cluster, &queued).await;
    assert_cancelled(&cluster, &queued).await;
    cancel(&cluster, &tasks[0]).await;
    proxy.release();

    assert_cancelled(&cluster, &tasks[0]).await;
    for other in &tasks[1..] {
        assert_eq!(cluster.report(other).await.status, "success");
    }
    for cancelled in [&queued, &tasks[0]] {
        assert_eq!(cluster.engine.starts(cancelled).await, 0);
    }
    cluster.finish().await;
}

#[tokio::test]
async fn one_that_is_being_started_is_stopped_as_soon_as_it_runs() {
    let proxy = EngineProxy::start();
    let cluster = behind(&proxy).await;
    proxy.hold_requests("/start ");
    let task = cluster.submit(cluster.task("exec sleep 600")).await;
    proxy.wait_held(1).await;

    cancel(&cluster, &task).await;
    proxy.release();

    assert_cancelled(&cluster, &task).await;
    cluster.finish().await;
}

#[tokio::test]
async fn one_of_two_that_wait_for_the_same_image_leaves_the_pull_to_the_other() {
    let cluster = Cluster::start().await;
    let registry = Registry::start().await;
    let name = registry.push_busybox(cluster.engine.docker()).await;
    let gate = registry.behind_gate().await;
    let image = TestImage {
        name: gate.reference(&name),
    };
    let pulled = |command: &str| Task {
        docker_image: image.name.clone(),
        ..cluster.task(command)
    };
    let leaving = cluster.submit(pulled("true")).await;
    let staying = cluster.submit(pulled("echo pulled")).await;
    gate.wait_knock().await;
    let log = cluster.master.watch_log(&leaving);
    log.wait_line("pulling image").await.unwrap();

    cancel(&cluster, &leaving).await;
    assert_cancelled(&cluster, &leaving).await;
    gate.open();

    let report = cluster.report(&staying).await;
    assert_eq!(report.status, "success", "{}", report.logs);
    assert!(report.logs.contains("\npulled\n"), "{}", report.logs);
    assert_eq!(cluster.engine.starts(&leaving).await, 0);
    cluster.finish().await;
}

#[tokio::test]
async fn one_that_runs_may_end_in_order_and_keeps_its_log_and_files() {
    let cluster = Cluster::start().await;
    let task = cluster
        .run(
            "trap 'echo tidying; echo half > /output/half; exit 0' TERM; \
             echo before > /output/before; echo ready; while :; do sleep 0.1; done",
        )
        .await;
    cluster
        .master
        .watch_log(&task)
        .wait_line("ready")
        .await
        .unwrap();

    cancel(&cluster, &task).await;
    let report = cluster.report(&task).await;

    assert_eq!(report.status, "cancelled");
    // The shell may say that its `sleep` was asked to end too, on the other stream.
    let log = log_of(&report).lines();
    let lines: Vec<_> = log.filter(|line| *line != "Terminated").collect();
    assert_eq!(lines, ["ready", "tidying"]);
    assert!(
        trailer(&report).starts_with("[worker-node] cancelled; exit code 0,"),
        "{}",
        trailer(&report)
    );
    let upload = upload_of(&cluster, &task).await;
    for (file, content) in [("before", "before\n"), ("half", "half\n")] {
        let bytes = upload.file(file).and_then(|file| file.bytes.as_deref());
        assert_eq!(bytes, Some(content.as_bytes()), "{file}");
    }
    cluster.finish().await;
}

#[tokio::test]
async fn one_that_ignores_the_request_is_killed_after_the_grace() {
    let cluster = Cluster::start_with(|setup| setup.arguments(["--stop-grace", "1s"])).await;
    let task = cluster
        .run("trap '' TERM; echo deaf; while :; do sleep 0.1; done")
        .await;
    cluster
        .master
        .watch_log(&task)
        .wait_line("deaf")
        .await
        .unwrap();

    let cancelled = cancel(&cluster, &task).await;
    let report = cluster.report(&task).await;

    assert_eq!(report.status, "cancelled");
    assert_eq!(log_of(&report), "deaf\n");
    assert!(
        trailer(&report).starts_with("[worker-node] cancelled; exit code 137, signal 9,"),
        "{}",
        trailer(&report)
    );
    let after = report.at - cancelled.at;
    assert!(
        after >= Duration::from_secs(1),
        "killed after {after:?}, before its grace was over"
    );
    cluster.finish().await;
}

#[tokio::test]
async fn one_whose_output_is_being_collected_is_cancelled_with_all_of_it() {
    let proxy = EngineProxy::start();
    let cluster = Cluster::start_with(|setup| {
        let engine = proxy.address();
        setup
            .arguments(["--engine", &engine])
            .variable("RUST_LOG", "debug")
    })
    .await;
    let task = cluster
        .run("echo first; until [ -e /output/go ]; do sleep 0.1; done; echo last; echo kept > /output/kept")
        .await;
    cluster
        .master
        .watch_log(&task)
        .wait_line("first")
        .await
        .unwrap();
    // The rest of its output stays on the way, and so the task at its end.
    proxy.hold_answers("/attach?");
    let_go(&cluster);
    cluster.worker.wait_log_line("collecting").await;

    cancel(&cluster, &task).await;
    proxy.release();

    let report = cluster.report(&task).await;
    assert_eq!(report.status, "cancelled");
    assert_eq!(log_of(&report), "first\nlast\n");
    assert!(upload_of(&cluster, &task).await.file("kept").is_some());
    cluster.finish().await;
}

/// Lets the task go on that looks for `go` in its output folder.
fn let_go(cluster: &Cluster) {
    let outputs = cluster.worker.state_dir().join("outputs");
    for folder in cluster.worker.outputs_left() {
        std::fs::write(outputs.join(folder).join("go"), "").expect("root may write there");
    }
}

#[tokio::test]
async fn one_that_is_being_uploaded_is_cancelled_with_its_files() {
    let cluster = Cluster::start().await;
    cluster.master.inject(Method::Upload, Fault::Hold);
    let task = cluster.run("echo done; echo kept > /output/kept").await;
    cluster.master.wait_calls(Method::Upload, 1).await.unwrap();

    cancel(&cluster, &task).await;
    cluster.master.heal(Method::Upload);

    let report = cluster.report(&task).await;
    assert_eq!(report.status, "cancelled");
    assert_eq!(log_of(&report), "done\n");
    assert!(
        trailer(&report).contains("cancelled after it had ended: succeeded"),
        "{}",
        trailer(&report)
    );
    let upload = upload_of(&cluster, &task).await;
    assert_eq!(
        upload.file("kept").and_then(|file| file.bytes.as_deref()),
        Some(&b"kept\n"[..])
    );
    cluster.finish().await;
}

#[tokio::test]
async fn one_whose_result_is_on_its_way_has_already_finished() {
    let cluster = Cluster::start().await;
    cluster.master.inject(Method::Report, Fault::Hold);
    let task = cluster.run("exit 3").await;
    cluster.master.wait_calls(Method::Report, 1).await.unwrap();

    let cancel = cluster.master.cancel(&task).await.unwrap();
    cluster.master.heal(Method::Report);

    let refusal = cancel.answer.refusal().expect("success=false");
    assert!(refusal.contains("already finished: failed"), "{refusal:?}");
    assert_eq!(cluster.report(&task).await.status, "failed");
    cluster.finish().await;
}

#[tokio::test]
async fn those_that_are_cancelled_right_after_their_offer_end_as_cancelled_wherever_they_are() {
    let cluster = Cluster::start().await;
    let mut tasks = Vec::new();
    for _ in 0..12 {
        let task = cluster.submit(cluster.task("exec sleep 600")).await;
        cancel(&cluster, &task).await;
        tasks.push(task);
    }

    for task in &tasks {
        assert_cancelled(&cluster, task).await;
    }
    let master = cluster.finish().await;
    for task in &tasks {
        assert_eq!(master.task(task).unwrap().reports.len(), 1, "{task}");
    }
}
