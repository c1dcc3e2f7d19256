//! An engine of the test's own, killed and restarted under its tasks.

use super::tasks::{Pace, Printing, container_id};
use crate::harness::times;
use crate::harness::{Cluster, OnStop, PrivateEngine, master_options};

const AWAY: &str = "Docker engine away";
const BACK: &str = "Docker engine back";

#[tokio::test]
async fn an_engine_that_is_killed_fails_no_task_and_loses_no_line() {
    let engine = PrivateEngine::start(OnStop::RunOn).await;
    let cluster = Cluster::start_on(&engine, master_options(), |setup| setup).await;
    let mut printing = vec![
        Printing::start(&cluster, Pace::Bursts).await,
        Printing::start(&cluster, Pace::Megabyte).await,
    ];
    for _ in 2..times(6, 20) {
        printing.push(Printing::start(&cluster, Pace::Slow).await);
    }

    for round in 1..=times(3, 20) {
        printing[0].burst(&cluster).await;
        printing[0].wait_more(5_000).await;
        engine.kill().await;
        cluster.worker.process().wait_lines(AWAY, round).await;
        engine.start_again().await;
        cluster.worker.process().wait_lines(BACK, round).await;
        for one in &printing[1..] {
            one.wait_more(2).await;
        }
    }

    for slow in &mut printing[2..] {
        slow.excuse_the_engine(&cluster).await;
    }
    for one in &printing {
        one.end(&cluster).await;
    }
    for one in printing {
        one.assert_whole(&cluster).await;
    }
    cluster.finish().await;
}

/// What a worker says when it reads what was printed after the engine had died.
const BEHIND_A_DEATH: &str = "the output goes on behind a restart of the engine";

/// What stands for half an entry.
const MISSING: &str = "[worker-node] an unknown number of bytes is missing here";

#[tokio::test]
async fn an_engine_that_dies_within_entries_of_its_log_costs_those_alone() {
    const TEARS: usize = 3;
    let engine = PrivateEngine::start(OnStop::RunOn).await;
    let cluster = Cluster::start_on(&engine, master_options(), |setup| setup).await;
    let slow = Printing::start(&cluster, Pace::Slow).await;
    let busy = Printing::start(&cluster, Pace::Megabyte).await;
    let command = "echo up; while [ ! -e /tmp/end ]; do sleep 0.05; done; seq 100000 100050";
    let ends = cluster.run(command).await;
    let viewer = cluster.master.watch_log(&ends);
    viewer.wait_line("up").await.expect("it runs");
    let mut containers = Vec::new();
    for task in [&slow.task, &busy.task, &ends] {
        containers.push(container_id(&cluster, task).await);
    }

    for round in 1..=TEARS {
        engine.kill().await;
        for container in &containers {
            engine.tear_log(container);
        }
        cluster.worker.process().wait_lines(AWAY, round).await;
        engine.start_again().await;
        // One that it never saw come back does not go away again.
        cluster.worker.process().wait_lines(BACK, round).await;
        // The third one prints nothing yet.
        let tasks = 2 * round;
        cluster
            .worker
            .process()
            .wait_lines(BEHIND_A_DEATH, tasks)
            .await;
        slow.wait_more(30).await;
        busy.wait_more(3_000).await;
    }
    cluster.engine.touch_in(&containers[2], "/tmp/end").await;
    slow.end(&cluster).await;
    busy.end(&cluster).await;

    let report = cluster.report(&ends).await;
    assert_eq!(report.status, "success", "{}", report.logs);
    let is_whole = (100_000..=100_050).all(|n| report.logs.contains(&n.to_string()));
    assert!(is_whole || report.logs.contains(MISSING), "{}", report.logs);
    let slow = slow.gaps(&cluster).await;
    assert!(
        slow.missing <= TEARS as u64 && slow.markers >= TEARS,
        "{slow:?}"
    );
    let busy = busy.gaps(&cluster).await;
    // It writes on while that place is looked for, and some lines beside it may be missing too.
    assert!(
        busy.missing <= 100 * TEARS as u64 && busy.markers >= TEARS,
        "{busy:?}"
    );
    cluster.finish().await;
}

/// What an end by the engine's doing is called, whatever the exit code says: as it was heard, where the engine told of its signal
/// before it went down, else as what is known afterwards.
const STOPPED: [&str; 2] = [
    "failed: stopped from outside (signal 15)",
    "failed: stopped with the engine, which went down meanwhile",
];

#[tokio::test]
async fn an_engine_that_stops_its_tasks_is_told_as_the_one_that_did() {
    let engine = PrivateEngine::start(OnStop::Stop).await;
    let cluster = Cluster::start_on(&engine, master_options(), |setup| setup).await;

    for round in 1..=times(2, 5) {
        let ends_well = "trap 'echo stopping; exit 0' TERM; echo up; while :; do sleep 0.1; done";
        let ends_badly = "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done";
        let mut tasks = vec![
            (cluster.run("echo up; exec sleep 600").await, 143),
            (cluster.run(ends_well).await, 0),
            (cluster.run(ends_badly).await, 7),
        ];
        for (task, _) in &tasks {
            let viewer = cluster.master.watch_log(task);
            viewer.wait_line("up").await.expect("it runs");
        }
        let by_itself = cluster.run("exit 0").await;
        let by_itself = cluster.report(&by_itself).await;
        engine.shut_down().await;
        cluster.worker.process().wait_lines(AWAY, round).await;
        engine.start_again().await;

        assert_eq!(by_itself.status, "success", "{}", by_itself.logs);
        for (task, code) in tasks.drain(..) {
            let report = cluster.report(&task).await;
            assert_eq!(report.status, "failed", "{}", report.logs);
            let is_told = |words: &&str| {
                let words = format!("{words}; exit code {code}");
                report.logs.contains(&words)
            };
            assert!(STOPPED.iter().any(is_told), "{code}: {}", report.logs);
            assert_eq!(cluster.engine.starts(&task).await, 1, "starts");
        }
        let next = cluster.run("echo next").await;
        assert_eq!(cluster.report(&next).await.status, "success");
    }
    cluster.finish().await;
}
