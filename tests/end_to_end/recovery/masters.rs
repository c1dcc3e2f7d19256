//! Masters that are away, refuse, are slow, answer too late or not at all while many results wait: each is delivered, and twice
//! only where its delivery was in doubt. In the gate it is away, and its answers are lost; the simulation of the whole worker shows
//! the others too.

use std::time::Duration;

use tokio::time::timeout;
use worker_node::dev_master::{Fault, Inside, MasterOptions, Method, Submissions};
use worker_node::proto::Task;

use super::life::judged;
use crate::harness::{Cluster, is_full, master_options};

/// Results of one test: the two of the gate make 80, the five of a full run 2,000.
fn results() -> usize {
    if is_full() { 400 } else { 40 }
}

/// How many seconds the master is away: longer than any answer is waited for, in a full run.
fn outage() -> usize {
    if is_full() { 60 } else { 15 }
}

/// Tasks whose image nobody has end as soon as they were accepted.
async fn cluster<const N: usize>(arguments: [&str; N]) -> Cluster {
    let options = MasterOptions {
        submissions: Submissions::Parallel,
        ..master_options()
    };
    Cluster::start_under(options, |setup| {
        setup
            .arguments(["--pull", "never", "--max-tasks", "1000"])
            .arguments(arguments)
    })
    .await
}

async fn accepted(cluster: &Cluster) -> Vec<String> {
    let mut tasks = Vec::new();
    for _ in 0..results() {
        let task = Task {
            docker_image: "worker-node-test/there-is-none:1".to_owned(),
            ..cluster.task("true")
        };
        tasks.push(task.task_id.clone());
        cluster.master.submit(task);
    }
    for task in &tasks {
        let accepted = cluster.master.wait_accepted(task).await;
        accepted.expect("it is accepted");
    }
    tasks
}

/// All are delivered; how many of them more than once, where so many copies are expected in all.
async fn delivered(cluster: Cluster, tasks: &[String], copies: usize) -> usize {
    for task in tasks {
        assert_eq!(cluster.report(task).await.status, "failed", "{task}");
    }
    let there = cluster.master.wait("the copies", |record| {
        let copies_of = |id: &String| record.task(id).map_or(0, |task| task.reports.len());
        let found: usize = tasks.iter().map(copies_of).sum();
        (found >= copies).then_some(())
    });
    there
        .await
        .expect("every copy that was in doubt comes again");
    judged(cluster).await
}

#[tokio::test]
async fn results_wait_for_a_master_that_is_away() {
    let cluster = cluster(["--settle-time", "4s"]).await;
    let tasks = accepted(&cluster).await;

    cluster.master.stop_listening(Inside::Cut).await;
    for _ in 0..outage() {
        let second = Duration::from_secs(1);
        let ended = timeout(second, cluster.worker.process().wait_exit()).await;
        assert!(ended.is_err(), "it waits");
    }
    cluster.master.listen_again().await.expect("the same port");

    assert_eq!(
        delivered(cluster, &tasks, tasks.len()).await,
        0,
        "nothing was in doubt"
    );
}

#[tokio::test]
async fn results_that_are_refused_are_sent_again() {
    if !is_full() {
        return;
    }
    let cluster = cluster([]).await;
    let refuse = Fault::Refuse("a passing database error".to_owned());
    let refusals = 2 * results();
    cluster
        .master
        .inject_times(Method::Report, refuse, refusals);

    let tasks = accepted(&cluster).await;

    assert_eq!(
        delivered(cluster, &tasks, tasks.len()).await,
        0,
        "nothing was in doubt"
    );
}

#[tokio::test]
async fn a_slow_master_gets_every_result_once() {
    if !is_full() {
        return;
    }
    let cluster = cluster([]).await;
    let slow = Fault::AnswerLate(Duration::from_millis(700));
    cluster.master.inject(Method::Report, slow);

    let tasks = accepted(&cluster).await;

    assert_eq!(
        delivered(cluster, &tasks, tasks.len()).await,
        0,
        "nothing was in doubt"
    );
}

#[tokio::test]
async fn a_master_that_answers_after_the_deadline_gets_every_result_once_more() {
    if !is_full() {
        return;
    }
    let cluster = cluster(["--report-timeout", "500ms", "--report-doubt", "2s"]).await;
    let late = Fault::AnswerLate(Duration::from_secs(3));
    cluster.master.inject_times(Method::Report, late, results());

    let tasks = accepted(&cluster).await;

    let repeats = delivered(cluster, &tasks, 2 * results()).await;
    assert_eq!(repeats, results(), "each was in doubt once");
}

#[tokio::test]
async fn a_master_whose_answers_are_lost_gets_every_result_once_more() {
    let cluster = cluster([]).await;
    let times = results();
    cluster
        .master
        .inject_times(Method::Report, Fault::DropReply, times);

    let tasks = accepted(&cluster).await;

    let repeats = delivered(cluster, &tasks, 2 * times).await;
    assert_eq!(repeats, times, "each was in doubt once");
}
