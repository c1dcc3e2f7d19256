//! An engine that is not there at the start, or not any more: tasks that run are left alone and miss nothing, new ones wait
//! at the master.

use worker_node::dev_master::DevMaster;
use worker_node::proto::Task;

use super::assert_goes_on;
use crate::harness::{Cluster, EngineProxy};

/// What the worker says when the engine is away and when it is back.
const AWAY: &str = "Docker engine away";
const BACK: &str = "Docker engine back";

async fn behind(proxy: &EngineProxy) -> Cluster {
    let engine = proxy.address();
    Cluster::start_with(|setup| setup.arguments(["--engine", &engine])).await
}

fn said(cluster: &Cluster, text: &str) -> usize {
    let lines = cluster.worker.process().lines();
    lines.iter().filter(|line| line.contains(text)).count()
}

/// Waits for so many heartbeats from now on: they come every 5 s, engine or not.
async fn heartbeats(master: &DevMaster, worker: &str, count: usize) {
    let beats = |record: &worker_node::dev_master::Record| {
        record.worker(worker).map_or(0, |known| known.beat_count)
    };
    let before = master.look(beats);
    master
        .wait("heartbeats", |record| {
            (beats(record) >= before + count).then_some(())
        })
        .await
        .expect("heartbeats go on");
}

/// Prints a number every tenth of a second, from 1001 on, and leaves a file.
fn counting(to: u32) -> String {
    format!("for n in $(seq 1001 {to}); do echo $n; sleep 0.1; done; echo done > /output/file")
}

#[track_caller]
fn assert_counted(logs: &str, to: u32) {
    let lines: Vec<&str> = logs.lines().collect();
    let (trailer, lines) = lines.split_last().expect("a trailer");
    assert!(trailer.starts_with("[worker-node] "), "{trailer}");
    let expected: Vec<String> = (1001..=to).map(|number| number.to_string()).collect();
    assert_eq!(lines, expected, "{trailer}");
}

#[tokio::test]
async fn a_worker_without_an_engine_registers_and_refuses_until_the_engine_comes() {
    let proxy = EngineProxy::away();
    let cluster = behind(&proxy).await;
    let task = cluster.task("echo at last");
    let id = task.task_id.clone();

    cluster.master.submit(task);
    let refused = cluster.master.wait_offers(&id, 3).await.unwrap();
    heartbeats(&cluster.master, cluster.worker.id(), 2).await;
    proxy.come();
    let report = cluster.report(&id).await;

    let reason = refused.answer.refusal().expect("success=false");
    assert!(reason.contains("engine is away"), "{reason:?}");
    assert_eq!(report.status, "success", "{}", report.logs);
    assert_eq!(
        said(&cluster, AWAY),
        1,
        "said once, however often it is tried"
    );
    assert_eq!(said(&cluster, BACK), 1);
    assert_goes_on(&cluster).await;
    cluster.finish().await;
}

#[tokio::test]
async fn a_cancel_of_an_unknown_task_is_kept_while_nothing_is_known() {
    let proxy = EngineProxy::away();
    let cluster = behind(&proxy).await;
    let task = cluster.task("echo ran");
    let id = task.task_id.clone();

    let cancel = cluster.master.cancel_at(cluster.worker.id(), &id).await;
    proxy.come();
    cluster.submit(task).await;
    let report = cluster.report(&id).await;

    assert!(cancel.answer.is_success(), "{cancel:?}");
    assert_eq!(report.status, "cancelled", "{}", report.logs);
    assert_eq!(cluster.engine.starts(&id).await, 0);
    cluster.finish().await;
}

#[tokio::test]
async fn a_task_that_runs_while_the_engine_is_away_misses_nothing() {
    let proxy = EngineProxy::start();
    let cluster = behind(&proxy).await;
    let task = cluster.submit(cluster.task(&counting(1250))).await;
    let log = cluster.master.watch_log(&task);
    log.wait_line("1010").await.unwrap();

    proxy.go();
    // More than 10 s: the engine has been away for 5 s then, and is known to be.
    heartbeats(&cluster.master, cluster.worker.id(), 3).await;
    let waiting = cluster.task("echo at last");
    let offer = cluster
        .master
        .offer(cluster.worker.id(), waiting.clone())
        .await;
    proxy.come();

    let reason = offer.refusal().expect("it is away for more than a moment");
    assert!(reason.contains("engine is away"), "{reason:?}");
    log.wait_line("1200")
        .await
        .expect("it is read on while it runs");
    let report = cluster.report(&task).await;
    assert_eq!(report.status, "success", "{}", report.logs);
    assert_counted(&report.logs, 1250);
    assert_eq!(report.output_files, ["file"]);
    let seen = log.wait_end().await.unwrap().lines();
    let expected: Vec<String> = (1001..=1250)
        .map(|number: u32| number.to_string())
        .collect();
    assert_eq!(seen, expected, "a viewer sees every line once");
    assert_eq!((said(&cluster, AWAY), said(&cluster, BACK)), (1, 1));
    assert_eq!(cluster.engine.starts(&task).await, 1);
    let second = cluster.submit(waiting).await;
    assert_eq!(cluster.report(&second).await.status, "success");
    cluster.finish().await;
}

#[tokio::test]
async fn a_task_that_ends_while_the_engine_is_away_is_told_as_it_ended() {
    let proxy = EngineProxy::start();
    let cluster = behind(&proxy).await;
    let command = format!("{}; exit 7", counting(1040));
    let task = cluster.submit(cluster.task(&command)).await;
    cluster
        .master
        .watch_log(&task)
        .wait_line("1010")
        .await
        .unwrap();

    proxy.go();
    cluster.engine.wait_task(&task, "die").await;
    heartbeats(&cluster.master, cluster.worker.id(), 1).await;
    let early = cluster.master.task(&task).unwrap().reports;
    proxy.come();
    let report = cluster.report(&task).await;

    assert!(early.is_empty(), "nobody can know how it ended: {early:?}");
    assert_eq!(report.status, "failed");
    assert!(
        report.logs.contains("failed; exit code 7"),
        "{}",
        report.logs
    );
    assert_counted(&report.logs, 1040);
    assert_eq!(report.output_files, ["file"]);
    assert_eq!(cluster.engine.starts(&task).await, 1);
    cluster.finish().await;
}

#[tokio::test]
async fn a_task_at_full_speed_misses_nothing_either() {
    let proxy = EngineProxy::start();
    let cluster = behind(&proxy).await;
    // Both streams, with bytes that are no text and lines that the engine's own record has in parts.
    let long = "y".repeat(20_000);
    let command = format!(
        "for n in 0 1 2 3 4 5 6 7; do \
           seq ${{n}}0000 ${{n}}9999 | sed 's/^0*//; s/$/ to stdout/' & \
           seq ${{n}}0000 ${{n}}9999 | sed 's/^0*//; s/$/ to stderr/' >&2 & \
           wait; printf '\\377 {long} \\303\\n'; sleep 1; done"
    );
    let task = cluster.submit(cluster.task(&command)).await;
    let log = cluster.master.watch_log(&task);
    log.wait_line("5000 to").await.unwrap();

    for cut in 1..=3 {
        proxy.go();
        cluster.worker.process().wait_lines(AWAY, cut).await;
        proxy.come();
        cluster.worker.process().wait_lines(BACK, cut).await;
    }
    let report = cluster.report(&task).await;
    let seen = log.wait_end().await.unwrap().lines();

    assert_eq!(report.status, "success");
    for stream in ["stdout", "stderr"] {
        let mark = format!(" to {stream}");
        let numbers = seen.iter().filter_map(|line| line.strip_suffix(&mark));
        let numbers: Vec<u32> = numbers
            .map(|number| number.parse().unwrap_or_default())
            .collect();
        assert!(
            numbers.iter().copied().eq(0..80_000),
            "{stream}: {} lines, the first break at {:?}",
            numbers.len(),
            numbers.windows(2).find(|pair| pair[1] != pair[0] + 1)
        );
    }
    let long_lines = seen.iter().filter(|line| line.contains(&long)).count();
    assert_eq!(long_lines, 8);
    cluster.finish().await;
}

#[tokio::test]
async fn a_start_and_a_create_whose_answers_are_lost_are_found_out_and_not_repeated() {
    for (lost, told) in [("/containers/create", "create"), ("/start ", "start")] {
        let proxy = EngineProxy::start();
        let cluster = behind(&proxy).await;
        proxy.hold_answers(lost);
        let task = cluster
            .submit(Task {
                req_memory: 0.1,
                ..cluster.task("sleep 2; echo ran")
            })
            .await;
        proxy.wait_held(1).await;
        cluster.engine.wait_task(&task, told).await;

        proxy.go();
        proxy.release();
        proxy.come();
        let report = cluster.report(&task).await;

        assert_eq!(report.status, "success", "{lost}: {}", report.logs);
        assert!(report.logs.starts_with("ran\n"), "{lost}: {}", report.logs);
        assert_eq!(cluster.engine.starts(&task).await, 1, "{lost}");
        assert_eq!(cluster.engine.count(&task, "create").await, 1, "{lost}");
        assert_goes_on(&cluster).await;
        cluster.finish().await;
    }
}
