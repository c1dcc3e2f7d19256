//! What a task writes is held to what it asked for: in its container's own layer, in `/output`, by bytes and by files, and after the
//! death of its worker too. Who stays within it goes on.

use worker_node::proto::Task;

use super::endings::{log_of, trailer};
use crate::harness::{Cluster, FarDoor};

/// What is asked for: 20 MiB.
const STORAGE: f64 = 20.0 / 1024.0;

/// Runs until its container has the file `/tmp/end`.
const UNTIL_THE_END: &str = "while [ ! -e /tmp/end ]; do sleep 0.1; done";

/// Runs a task with that much storage until its container has started.
async fn run(cluster: &Cluster, command: &str) -> String {
    let task = Task {
        req_storage: STORAGE,
        ..cluster.task(command)
    };
    let id = cluster.submit(task).await;
    cluster.engine.wait_task(&id, "start").await;
    id
}

async fn end(cluster: &Cluster, task: &str) {
    let container = cluster.engine.containers_of(task).await.remove(0);
    cluster.engine.touch_in(&container, "/tmp/end").await;
}

#[track_caller]
fn assert_over(report: &worker_node::dev_master::ReportCopy, words: &[&str]) {
    assert_eq!(report.status, "failed", "{}", report.logs);
    let said = trailer(report);
    for word in ["failed: over its storage: "].iter().chain(words) {
        assert!(said.contains(word), "{word:?} is not in {said:?}");
    }
}

#[tokio::test]
async fn a_task_that_fills_its_layer_fails_and_one_within_its_storage_goes_on() {
    let cluster = Cluster::start().await;
    let modest = format!("dd if=/dev/zero of=/kept bs=1M count=5 2> /dev/null; {UNTIL_THE_END}");
    let modest = run(
        &cluster,
        &format!("{modest}; cp /kept /output/kept; echo here"),
    )
    .await;
    let greedy = "trap '' TERM; dd if=/dev/zero of=/all bs=1M count=60; sleep 600";

    let greedy = run(&cluster, greedy).await;

    let report = cluster.report(&greedy).await;
    assert_over(&report, &[" of 20 MiB (layer ", "/output 0 B)", "signal 9"]);
    end(&cluster, &modest).await;
    let report = cluster.report(&modest).await;
    assert_eq!(report.status, "success", "{}", report.logs);
    assert_eq!(log_of(&report), "here\n");
    assert_eq!(report.output_files, ["kept"]);
    cluster.finish().await;
}

#[tokio::test]
async fn a_task_that_fills_its_output_folder_fails_with_its_outputs_and_so_does_one_with_too_many_files()
 {
    let cluster = Cluster::start().await;
    let large = "dd if=/dev/zero of=/output/all bs=1M count=30 2> /dev/null; sleep 600";
    let many = "mkdir /many && cd /many && n=0; while true > $n; do n=$((n + 1)); done";

    let large = run(&cluster, large).await;
    let many = run(&cluster, many).await;

    let report = cluster.report(&large).await;
    assert_over(&report, &[" of 20 MiB (layer ", "/output "]);
    assert_eq!(report.output_files, ["all"]);
    assert_over(&cluster.report(&many).await, &[" inodes of 10000"]);
    cluster.finish().await;
}

#[tokio::test]
async fn a_task_that_fills_the_disk_by_files_without_names_fails_too() {
    let cluster = Cluster::start().await;
    let hidden = "exec 3>/hidden; rm /hidden; dd if=/dev/zero bs=1M count=60 >&3; sleep 600";

    let hidden = run(&cluster, hidden).await;

    assert_over(&cluster.report(&hidden).await, &[" of 20 MiB (layer "]);
    cluster.finish().await;
}

#[tokio::test]
async fn a_task_is_held_to_its_storage_by_the_next_worker_too() {
    let mut cluster = Cluster::start().await;
    let greedy = "dd if=/dev/zero of=/all bs=1M count=60 2> /dev/null; sleep 600";
    let task = run(&cluster, &format!("{UNTIL_THE_END}; {greedy}")).await;

    cluster.kill_worker().await;
    end(&cluster, &task).await;
    cluster.restart_worker().await;

    assert_over(&cluster.report(&task).await, &[" of 20 MiB (layer "]);
    assert_eq!(cluster.engine.starts(&task).await, 1);
    cluster.finish().await;
}

#[tokio::test]
async fn a_task_on_an_engine_far_away_is_held_to_its_storage_by_what_the_engine_tells() {
    let door = FarDoor::to_the_usual_one().await;
    let cluster = Cluster::start_with(|setup| setup.arguments(["--engine", door.address()])).await;
    let greedy = "dd if=/dev/zero of=/all bs=1M count=60 2> /dev/null; sleep 600";

    let task = run(&cluster, greedy).await;

    assert_over(&cluster.report(&task).await, &[" of 20 MiB (layer "]);
    cluster.finish().await;
}
