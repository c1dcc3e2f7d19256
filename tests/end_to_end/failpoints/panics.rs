//! A panic at points of every actor: some of them in the gate, others each time, and all in a full run; the simulation of the
//! whole worker has more of them. Whoever panics is
//! restarted alone; no task is lost, none runs twice, each has one outcome, heartbeats go on, and viewers see every line once.

use std::future::Future;
use std::pin::pin;

use tokio::task::JoinSet;
use worker_node::dev_master::{Method, Record};
use worker_node::failpoint;

use super::lifecycle::{edges, failures};
use super::workload::{Workload, cluster};
use crate::failpoints::stimuli::{Way, prepare, quick_to_park, retry_parked, way_to};
use crate::harness::{Cluster, WorkerSetup, chosen};

/// The points of one child that are tried: every twelfth, one at least; in a full run all, three times each.
fn points(child: &str) -> Vec<&'static str> {
    let of_child = |name: &&str| name.split('.').next() == Some(child);
    let all = failpoint::NAMES.iter().copied().filter(of_child).collect();
    chosen(child, all, 12, 3)
}

/// Some or all points of one child, as many at a time as there are places for clusters; every one that fails is named.
async fn a_panic_at_points_of(child: &str) {
    let mut runs = JoinSet::new();
    for name in points(child) {
        runs.spawn(named(name, a_panic_at(name)));
    }
    assert!(!runs.is_empty(), "{child} has points");
    let mut failed: Vec<&str> = runs.join_all().await.into_iter().flatten().collect();
    failed.sort_unstable();
    assert!(
        failed.is_empty(),
        "the worker did not survive a panic at {failed:?}"
    );
}

/// The name of a run that failed.
async fn named(
    name: &'static str,
    run: impl Future<Output = ()> + Send + 'static,
) -> Option<&'static str> {
    let ended = tokio::spawn(run).await;
    ended.is_err().then(|| {
        eprintln!("^^^ this was a panic at {name}");
        name
    })
}

#[tokio::test]
async fn a_panic_in_the_journal_stays_there() {
    a_panic_at_points_of("journal").await;
}

#[tokio::test]
async fn a_panic_in_the_engine_watch_stays_there() {
    a_panic_at_points_of("engine_watch").await;
}

#[tokio::test]
async fn a_panic_in_images_stays_there() {
    a_panic_at_points_of("images").await;
}

#[tokio::test]
async fn a_panic_in_the_log_router_stays_there() {
    a_panic_at_points_of("log_router").await;
}

#[tokio::test]
async fn a_panic_in_the_registry_stays_there() {
    a_panic_at_points_of("registry").await;
}

#[tokio::test]
async fn a_panic_in_the_session_stays_there() {
    a_panic_at_points_of("session").await;
}

#[tokio::test]
async fn a_panic_in_the_heartbeat_stays_there() {
    a_panic_at_points_of("heartbeat").await;
}

#[tokio::test]
async fn a_panic_in_the_outbox_stays_there() {
    a_panic_at_points_of("outbox").await;
}

#[tokio::test]
async fn a_panic_in_the_janitor_stays_there() {
    a_panic_at_points_of("janitor").await;
}

#[tokio::test]
async fn a_panic_in_the_servers_stays_there() {
    a_panic_at_points_of("servers").await;
}

#[tokio::test]
async fn a_panic_in_a_task_stays_there() {
    a_panic_at_points_of("task").await;
}

/// One point alone, for whoever looks for a fault: `WORKER_NODE_POINT=registry.AssignTask cargo test --test failpoints one`.
#[tokio::test]
async fn one_point_can_be_chosen() {
    let chosen = std::env::var("WORKER_NODE_POINT");
    let chosen = chosen.as_deref().unwrap_or("heartbeat.beat");
    let name = failpoint::NAMES.iter().find(|name| **name == chosen);
    a_panic_at(name.expect("a point of that name")).await;
}

async fn a_panic_at(name: &'static str) {
    let child = name.split('.').next().unwrap_or_default();
    let panic = format!("{name}=1*panic");
    match way_to(name) {
        Way::NotReached(_) => {}
        Way::Stop(on_stop) => stopped(name, &panic, on_stop).await,
        Way::GivenUpTask(actor) => given_up(name, &panic, actor).await,
        Way::PoisonedOffer => poisoned_offer(name, &panic).await,
        Way::With(more, fallen) => {
            let mut expected = fallen.to_vec();
            expected.push(child);
            worked(name, &format!("{panic};{more}"), &expected, Way::Workload).await;
        }
        way => worked(name, &panic, &[child], way).await,
    }
}

/// The ordinary workload.
async fn worked(name: &str, failpoints: &str, expected: &[&str], way: Way) {
    let cluster = cluster(failpoints, |setup| quick_to_park(setup, way)).await;
    prepare(&cluster, way);
    let workload = Workload::begin(&cluster).await;
    disturb(&cluster, &workload, way, name).await;
    tokio::select! {
        () = workload.end(&cluster) => {}
        () = retry_parked(&cluster), if way == Way::ParkedReport => {}
    }
    passed(&cluster, name).await;
    fell(&cluster, expected);
    cluster.finish().await;
}

async fn disturb(cluster: &Cluster, workload: &Workload, way: Way, name: &str) {
    let (master, worker) = (&cluster.master, cluster.worker.id());
    match way {
        Way::Forgotten => {
            // A registration that was under way makes up for being forgotten: then once more.
            let mut passed = pin!(passed(cluster, name));
            loop {
                let registrations = |record: &Record| {
                    let worker = record.worker(worker);
                    worker.map_or(0, |it| it.registrations.len())
                };
                let known = master.look(registrations);
                master.forget_worker(worker);
                tokio::select! {
                    () = &mut passed => break,
                    again = master.wait_registrations(worker, known + 1) => {
                        again.expect("it registers again");
                    }
                }
            }
        }
        Way::HeldReports => {
            workload.cancel_endless(cluster).await;
            passed(cluster, name).await;
            master.heal(Method::Report);
        }
        Way::Time => passed(cluster, name).await,
        _ => {}
    }
}

/// A worker that is asked to stop while a task runs.
async fn stopped(name: &str, panic: &str, on_stop: &'static str) {
    let cluster = cluster(panic, |setup: WorkerSetup| {
        setup.arguments(["--on-stop", on_stop])
    })
    .await;
    let task = cluster.run("sleep 2").await;
    cluster.worker.signal_stop();
    passed(&cluster, name).await;
    let code = cluster.worker.process().wait_exit().await.code();
    assert_eq!(code, Some(0), "it stops in order all the same");
    if on_stop == "leave" {
        return;
    }
    let expected = if on_stop == "stop" {
        "failed"
    } else {
        "success"
    };
    assert_eq!(cluster.report(&task).await.status, expected);
    assert_eq!(cluster.engine.starts(&task).await, 1);
    let verdict = cluster.master.verdict();
    assert!(verdict.is_complete(), "{verdict}");
}

/// A task whose actor cannot live, and a registry that falls over the news.
async fn given_up(name: &str, panic: &str, actor: &str) {
    let cluster = cluster(&format!("{panic};task.begin={actor}"), |setup| setup).await;
    let task = cluster.submit(cluster.task("true")).await;
    cluster.report(&task).await;
    passed(&cluster, name).await;
    assert!(cluster.engine.starts(&task).await <= 1);
    cluster.finish().await;
}

/// An offer that kills the registry, and a registry that falls over its failure.
async fn poisoned_offer(name: &str, panic: &str) {
    let cluster = cluster(&format!("{panic};registry.AssignTask=2*panic"), |setup| {
        setup
    })
    .await;
    let task = cluster.submit(cluster.task("true")).await;
    assert_eq!(cluster.report(&task).await.status, "failed");
    passed(&cluster, name).await;
    assert_eq!(cluster.engine.starts(&task).await, 0);
    cluster.finish().await;
}

/// The point was passed, and whoever panicked there is there again.
async fn passed(cluster: &Cluster, name: &str) {
    let panic = format!("failpoint {name} panic");
    cluster.worker.wait_log_line(&panic).await;
}

/// These actors failed, each as often as it is named, and nobody else.
#[track_caller]
fn fell(cluster: &Cluster, expected: &[&str]) {
    let process = cluster.worker.process();
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    let mut found = failures(process);
    found.sort_unstable();
    let lines: Vec<String> = edges(process).into_iter().map(|edge| edge.line).collect();
    assert_eq!(found, expected, "\n{}", lines.join("\n"));
    let for_good = ["gave_up", "hung"];
    assert!(
        !edges(process)
            .iter()
            .any(|edge| for_good.contains(&edge.word.as_str())),
        "\n{}",
        lines.join("\n")
    );
}
