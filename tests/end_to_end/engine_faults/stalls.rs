//! An engine that stands still, answers by half, or not at all: nobody waits for it longer than the call's deadline, heartbeats
//! go on, nothing is done twice, and nothing is left behind.

use worker_node::proto::Task;

use super::bystanders::Bystanders;
use super::meddling::beats;
use super::tasks::{Pace, Printing};
use crate::harness::times;
use crate::harness::{Cluster, EngineProxy, OnStop, PrivateEngine, master_options};

/// Heartbeats within the minute for which it stands still.
const FREEZE: usize = 12;

const AWAY: &str = "Docker engine away";
const BACK: &str = "Docker engine back";

async fn behind(proxy: &EngineProxy) -> Cluster {
    let engine = proxy.address();
    Cluster::start_with(|setup| setup.arguments(["--engine", &engine])).await
}

#[tokio::test]
async fn nobody_waits_for_an_engine_that_stands_still() {
    let proxy = EngineProxy::start();
    let cluster = behind(&proxy).await;
    let printing = Printing::start(&cluster, Pace::Slow).await;
    let ends_meanwhile = cluster
        .submit(cluster.task("seq 1 20; sleep 4; exit 3"))
        .await;
    let endless = cluster.run("exec sleep 600").await;
    cluster.engine.wait_task(&ends_meanwhile, "start").await;

    proxy.freeze();
    let soon = cluster.submit(cluster.task("echo waited")).await;
    let cancel = cluster.master.cancel(&endless).await.expect("it is known");
    cluster.worker.wait_log_line(AWAY).await;
    beats(&cluster, FREEZE).await;
    let late = cluster.task("echo late");
    let refusal = cluster.master.offer(cluster.worker.id(), late).await;
    proxy.release();
    cluster.worker.wait_log_line(BACK).await;

    assert!(cancel.answer.is_success(), "{cancel:?}");
    // Waited out for a moment, then refused for now.
    let refused = refusal.refusal().expect("it has been away for long");
    assert!(refused.contains("engine is away"), "{refused}");
    assert_eq!(cluster.report(&endless).await.status, "cancelled");
    assert_eq!(cluster.report(&soon).await.status, "success");
    let report = cluster.report(&ends_meanwhile).await;
    assert!(
        report.logs.contains("failed; exit code 3"),
        "{}",
        report.logs
    );
    assert!(report.logs.starts_with("1\n2\n3\n"), "{}", report.logs);
    let next = cluster.submit(cluster.task("echo next")).await;
    assert_eq!(cluster.report(&next).await.status, "success");
    printing.wait_more(5).await;
    printing.end(&cluster).await;
    printing.assert_whole(&cluster).await;
    cluster.finish().await;
}

#[tokio::test]
async fn nobody_waits_for_an_engine_that_is_stopped_by_a_signal() {
    let engine = PrivateEngine::start(OnStop::RunOn).await;
    let cluster = Cluster::start_on(&engine, master_options(), |setup| setup).await;
    // The test's own eyes are on the same engine: they must not be asked meanwhile.
    let task = Printing::start(&cluster, Pace::Megabyte).await;

    engine.freeze();
    cluster.worker.wait_log_line(AWAY).await;
    beats(&cluster, times(1, 12)).await;
    engine.thaw();
    cluster.worker.wait_log_line(BACK).await;

    task.wait_more(100).await;
    task.end(&cluster).await;
    task.assert_whole(&cluster).await;
    cluster.finish().await;
}

/// Parts of requests, and after how many bytes their answers break off. The engine is asked who it is when its events are.
const CUTS: [&[(&str, usize)]; 14] = [
    &[("/containers/json", 150)],
    &[("/containers/json", 0)],
    &[("/events", 0)],
    &[("/events", 250)],
    &[("/events", 0), ("/info", 500)],
    &[("/images/", 100)],
    &[("/containers/create", 20)],
    &[("/attach", 20)],
    &[("/attach", 150)],
    &[("/start ", 10)],
    &[("/wait", 10)],
    &[("/wait", 100)],
    &[("/json ", 200)],
    &[("DELETE", 10)],
];

#[tokio::test]
async fn an_answer_that_breaks_off_changes_nothing() {
    let proxy = EngineProxy::start();
    let cluster = behind(&proxy).await;
    let bystanders = Bystanders::start(&cluster.engine).await;
    for cuts in CUTS {
        for _ in 0..times(1, 8) {
            let before = proxy.cut();
            for (part, after) in cuts {
                proxy.cut_answers(part, *after, 1);
            }
            let task = cluster
                .submit(cluster.task("seq 1 100; sleep 0.3; echo end"))
                .await;
            let report = cluster.report(&task).await;
            proxy.wait_cut(before + cuts.len()).await;

            let what = format!("{cuts:?}: {}", report.logs);
            assert_eq!(report.status, "success", "{what}");
            let expected: String = (1..=100).map(|number| format!("{number}\n")).collect();
            assert!(report.logs.starts_with(&(expected + "end\n")), "{what}");
            assert_eq!(cluster.engine.starts(&task).await, 1, "{what}");
            assert_eq!(cluster.engine.count(&task, "create").await, 1, "{what}");
        }
    }
    bystanders.assert_untouched().await;
    cluster.finish().await;
}

/// One way in which an engine can stall, until it is over.
async fn stall(proxy: &EngineProxy, cluster: &Cluster) {
    let parts = [
        "/create", "/start ", "/wait", "/attach", "/json", "/events", "DELETE", "/logs",
    ];
    let part = parts[fastrand::usize(..parts.len())];
    match fastrand::u8(..5) {
        0 => {
            proxy.freeze();
            beats(cluster, fastrand::usize(1..=2)).await;
            proxy.release();
        }
        1 => {
            proxy.go();
            beats(cluster, 1).await;
            proxy.come();
        }
        2 => proxy.cut_answers(part, fastrand::usize(..400), 1),
        3 => proxy.lose_answers(part, fastrand::usize(1..=3)),
        _ => {
            proxy.hold_answers(part);
            beats(cluster, 1).await;
            proxy.release();
        }
    }
}

#[tokio::test]
async fn an_engine_that_stalls_in_every_way_loses_no_task_and_leaves_none() {
    let proxy = EngineProxy::start();
    let cluster = behind(&proxy).await;
    let bystanders = Bystanders::start(&cluster.engine).await;
    let seed = fastrand::u64(..);
    eprintln!("the seed of the stalls is {seed}");
    fastrand::seed(seed);

    let mut tasks = Vec::new();
    for _ in 0..times(4, 200) {
        for command in [
            "seq 1 100",
            "seq 1 50; sleep 1; seq 51 100",
            "seq 1 100; exit 6",
        ] {
            let task = Task {
                req_memory: 0.01,
                ..cluster.task(command)
            };
            cluster.master.submit(task.clone());
            tasks.push((task.task_id, command));
        }
        stall(&proxy, &cluster).await;
    }

    let expected: String = (1..=100).map(|number| format!("{number}\n")).collect();
    for (task, command) in &tasks {
        let report = cluster.report(task).await;
        let status = if command.contains("exit") {
            "failed"
        } else {
            "success"
        };
        assert_eq!(report.status, status, "{task} {command}: {}", report.logs);
        assert!(
            report.logs.starts_with(&expected),
            "{task} {command}: {}",
            report.logs
        );
        assert_eq!(cluster.engine.starts(task).await, 1, "{task} {command}");
    }
    bystanders.assert_untouched().await;
    cluster.finish().await;
}

#[tokio::test]
async fn a_create_whose_answer_is_lost_leaves_no_orphan() {
    let proxy = EngineProxy::start();
    let cluster = behind(&proxy).await;
    let bystanders = Bystanders::start(&cluster.engine).await;
    let count = times(8, 100);
    proxy.lose_answers("/containers/create", count);
    let mut tasks = Vec::new();
    for number in 0..count {
        let task = Task {
            req_memory: 0.01,
            ..cluster.task(&format!("echo {number}"))
        };
        tasks.push(cluster.submit(task).await);
    }

    for (number, task) in tasks.iter().enumerate() {
        let report = cluster.report(task).await;
        assert_eq!(report.status, "success", "{}", report.logs);
        assert!(
            report.logs.starts_with(&format!("{number}\n")),
            "{}",
            report.logs
        );
    }

    for task in &tasks {
        assert_eq!(cluster.engine.count(task, "create").await, 1);
        assert_eq!(cluster.engine.starts(task).await, 1);
    }
    assert_eq!(proxy.cut(), count);
    bystanders.assert_untouched().await;
    cluster.finish().await;
}

/// A wait and a stream over connections that are dead: neither an answer nor an end will ever come.
#[tokio::test]
async fn a_connection_that_died_without_a_word_hides_no_end_and_no_line() {
    let proxy = EngineProxy::start();
    let cluster = behind(&proxy).await;
    let task = cluster
        .submit(
            cluster
                .task("seq 1 10; while [ ! -e /tmp/end ]; do sleep 0.05; done; seq 11 500; exit 4"),
        )
        .await;
    let viewer = cluster.master.watch_log(&task);
    viewer.wait_line("10").await.expect("it runs");
    proxy.let_die("/attach");
    let container = cluster.engine.containers_of(&task).await.remove(0);
    cluster.engine.touch_in(&container, "/tmp/end").await;
    cluster.engine.wait_task(&task, "die").await;

    let report = cluster.report(&task).await;

    assert!(
        report.logs.contains("failed; exit code 4"),
        "{}",
        report.logs
    );
    let expected: String = (1..=500).map(|number| format!("{number}\n")).collect();
    assert!(
        report
            .logs
            .starts_with(&(expected + "[worker-node] failed")),
        "{}",
        report.logs
    );
    proxy.release();
    cluster.finish().await;
}
