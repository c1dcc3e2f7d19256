//! A task that fills the disk of the state folder by what it leaves in `/output`: the worker says so and takes no more, who runs beside it
//! ends as always, and when the files have been delivered there is room again.

use super::{file_name, outputs_of};
use crate::harness::{Cluster, SmallDisk, eventually};

/// Runs until its container has the file `/tmp/end`.
const UNTIL_THE_END: &str = "while [ ! -e /tmp/end ]; do sleep 0.1; done";

async fn on(disk: &SmallDisk) -> Cluster {
    let state = disk.path().join("state");
    Cluster::start_with(|setup| setup.state_dir(&state).arguments(["--disk-low", "4MiB"])).await
}

/// Lets a task go on that runs until then. Nothing can be written to its output folder.
async fn end(cluster: &Cluster, task: &str) {
    let container = cluster.engine.containers_of(task).await.remove(0);
    cluster.engine.touch_in(&container, "/tmp/end").await;
}

/// Runs this command, which fills the disk and ends with the line `full`, beside a task that goes on.
async fn fills(disk: &SmallDisk, command: &str, said: &str) {
    let cluster = on(disk).await;
    let beside = cluster
        .run(&format!("{UNTIL_THE_END}; echo gone; exit 7"))
        .await;
    let greedy = cluster.run(&format!("{command}; {UNTIL_THE_END}")).await;

    let line = cluster
        .worker
        .wait_log_line("new tasks are refused: the disk is full")
        .await;
    let offer = cluster
        .master
        .offer(cluster.worker.id(), cluster.task("true"))
        .await;
    end(&cluster, &beside).await;
    let report = cluster.report(&beside).await;

    assert!(line.contains(said), "{line}");
    let refusal = offer.refusal().expect("there is no room");
    assert!(refusal.contains("the disk is full"), "{refusal}");
    assert!(report.logs.contains("exit code 7"), "{}", report.logs);
    assert!(
        cluster.worker.outputs_left().contains(&file_name(&greedy)),
        "it holds what it wrote"
    );
    end(&cluster, &greedy).await;
    let filled = cluster.report(&greedy).await;
    assert_eq!(filled.status, "success", "{}", filled.logs);
    assert!(!filled.output_files.is_empty());
    cluster
        .worker
        .wait_log_line("new tasks are taken again")
        .await;
    let next = cluster.submit(cluster.task("true")).await;
    assert_eq!(cluster.report(&next).await.status, "success");
    cluster.finish().await;
}

#[tokio::test]
async fn a_task_that_fills_the_disk_with_bytes_holds_up_no_other() {
    let disk = SmallDisk::mount(16);

    fills(
        &disk,
        "dd if=/dev/zero of=/output/all bs=64k 2> /dev/null",
        "MiB are free",
    )
    .await;
}

#[tokio::test]
async fn a_task_that_fills_the_disk_with_files_holds_up_no_other() {
    let disk = SmallDisk::mount_with("size=64m,nr_inodes=2500");

    fills(
        &disk,
        "n=0; while true > /output/$n; do n=$((n + 1)); done 2> /dev/null",
        "inodes are free",
    )
    .await;
}

/// As where no descriptor was left for it, or the disk failed.
#[tokio::test]
async fn a_folder_that_could_not_be_removed_at_its_tasks_end_is_removed_later() {
    let grace = ["--orphan-grace", "1s"];
    let cluster = Cluster::start_with(|setup| setup.arguments(grace)).await;
    let task = cluster.run("echo done").await;
    assert_eq!(cluster.report(&task).await.status, "success");
    cluster.engine.wait_nothing_left(cluster.worker.id()).await;
    cluster.wait_no_outputs().await;

    let left = outputs_of(&cluster, &task);
    std::fs::create_dir(&left).expect("nothing is there");
    std::fs::write(left.join("file"), "left").expect("it is new");

    eventually("it is gone", || !left.exists()).await;
    let seen = cluster.master.watch_log(&task).wait_end().await;
    let lines = seen.expect("the log is kept").lines();
    assert_eq!(lines, ["done"]);
    cluster.finish().await;
}
