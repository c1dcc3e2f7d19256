//! `kill -9` at random moments while tasks run: each has one result, no container is started twice, the long ones keep theirs,
//! and every line of log is there once.

use std::time::Duration;

use tokio::time::timeout;

use super::life::judged;
use crate::harness::{Cluster, times};

/// They end when they are told to, and number their lines.
const LONG: &str = "n=0; while [ ! -e /tmp/go ]; do echo line $n; n=$((n+1)); sleep 0.05; done";

/// So many tasks at most have no result yet at a kill: a worker that is behind lives until it has caught up, or the storm
/// would be one of kills that find it reading its journal.
const BACKLOG: usize = 32;

/// A worker that lives longer than this without writing so many lines more is killed all the same.
const LONGEST_LIFE: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_storm_of_kills_loses_nothing_and_runs_nothing_twice() {
    let (kills, short, long) = (times(12, 500), times(30, 1_000), times(3, 20));
    let seed = fastrand::u64(..);
    eprintln!("the seed is {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut cluster = Cluster::start().await;
    let mut running = Vec::new();
    for _ in 0..long {
        running.push(cluster.run(LONG).await);
    }
    let before = pids(&cluster, &running).await;
    let mut ended = Vec::new();

    for kill in 0..kills {
        while ended.len() < (kill + 1) * short / kills {
            let number = ended.len();
            let task = cluster.task(&format!(
                "echo begin {number}; echo end {number}; exit {}",
                number % 3
            ));
            ended.push(task.task_id.clone());
            cluster.master.submit(task);
        }
        if let Some(due) = ended.len().checked_sub(BACKLOG) {
            cluster.report(&ended[due]).await;
        }
        let worker = cluster.worker.process();
        let lines = worker.lines().len() + random.usize(1..120);
        // Whichever comes first: both are moments that nobody chose.
        let _lived = timeout(LONGEST_LIFE, worker.wait_count(lines)).await;
        cluster.kill_worker().await;
        cluster.worker.restart().await;
    }
    // Its log is asked for at the address that the master has of it.
    cluster.worker.wait_log_line("Worker registered").await;

    for (number, task) in ended.iter().enumerate() {
        let expected = if number % 3 == 0 { "success" } else { "failed" };
        assert_eq!(cluster.report(task).await.status, expected, "{task}");
    }
    assert_eq!(pids(&cluster, &running).await, before, "they ran on");
    for task in &running {
        let containers = cluster.engine.containers_of(task).await;
        cluster.engine.touch_in(&containers[0], "/tmp/go").await;
        assert_eq!(cluster.report(task).await.status, "success", "{task}");
    }
    check_logs(&cluster, &ended, &running).await;
    for task in ended.iter().chain(&running) {
        assert_eq!(cluster.engine.starts(task).await, 1, "starts of {task}");
    }
    let repeats = judged(cluster).await;
    eprintln!(
        "{kills} kills, {} tasks, {repeats} results came again in doubt",
        short + long
    );
}

async fn check_logs(cluster: &Cluster, ended: &[String], running: &[String]) {
    for (number, task) in ended.iter().enumerate() {
        let expected = [format!("begin {number}"), format!("end {number}")];
        assert_eq!(lines(cluster, task).await, expected, "{task}");
    }
    for task in running {
        let found = lines(cluster, task).await;
        let expected: Vec<String> = (0..found.len()).map(|n| format!("line {n}")).collect();
        assert_eq!(found, expected, "{task}");
    }
}

async fn lines(cluster: &Cluster, task: &str) -> Vec<String> {
    let view = cluster.master.watch_log(task);
    let seen = view.wait_end().await.expect("the end of its log");
    seen.lines()
}

/// The processes of these tasks' containers.
async fn pids(cluster: &Cluster, tasks: &[String]) -> Vec<Option<i64>> {
    let mut pids = Vec::new();
    for task in tasks {
        let containers = cluster.engine.containers_of(task).await;
        let docker = cluster.engine.docker();
        let facts = docker.inspect_container(&containers[0], None).await;
        pids.push(
            facts
                .expect("it is there")
                .state
                .and_then(|state| state.pid),
        );
    }
    pids
}
