//! The process dies at points of a task's life and of its delivery, before and after durable steps, and is started again: one
//! outcome per task, none run twice, every line of log once. Every ninth point in the gate, others each time, and all in a
//! full run; the simulation of the whole worker dies at all of them that it passes.

use tokio::task::JoinSet;
use worker_node::dev_master::Method;
use worker_node::failpoint;

use super::life::{Life, judged};
use crate::failpoints::stimuli::{Way, prepare, quick_to_park, retry_parked, way_to};
use crate::harness::{Cluster, PATIENCE, WorkerSetup, chosen, master_options};

/// Points of the registry that lie on the way of every task; the others need offers and cancels of their own.
const OF_THE_REGISTRY: &[&str] = &[
    "registry.GetSealing",
    "registry.TaskNews",
    "registry.accept",
    "registry.committed",
    "registry.record_cancel",
    "registry.start_task",
    "registry.stop_task",
    "registry.tell_delivered",
];

/// Points that this life of a task does not pass, and why.
const PASSED_BY: &[(&str, &str)] = &[
    (
        "task.prove_start",
        "it takes an actor that fails alone: failpoints",
    ),
    (
        "task.create_anew",
        "it takes an actor that fails alone: failpoints",
    ),
    (
        "task.grace_elapsed_again",
        "it takes a container that survives a KILL for a while: failpoints",
    ),
    (
        "task.watch_storage",
        "a container that ends at once is not looked at",
    ),
    (
        "task.watch_usage",
        "a container that ends at once is not looked at",
    ),
    (
        "journal.Withdraw.before",
        "it takes a disk that is too slow for an answer: recovery/offers.rs",
    ),
    (
        "journal.Withdraw.after",
        "it takes a disk that is too slow for an answer: recovery/offers.rs",
    ),
    ("journal.answer", "it is passed by every question"),
];

fn is_tried(name: &str) -> bool {
    let child = name.split('.').next().unwrap_or_default();
    let on_the_way = match child {
        "task" | "outbox" => true,
        "journal" => name.ends_with(".before") || name.ends_with(".after"),
        _ => OF_THE_REGISTRY.contains(&name),
    };
    let reached = match way_to(name) {
        Way::Workload
        | Way::RefusedUpload
        | Way::RefusedReport
        | Way::ParkedReport
        | Way::With(..) => true,
        Way::Forgotten
        | Way::HeldReports
        | Way::Time
        | Way::Stop(_)
        | Way::GivenUpTask(_)
        | Way::PoisonedOffer
        | Way::NotReached(_) => false,
    };
    on_the_way && reached && !PASSED_BY.iter().any(|(passed_by, _)| *passed_by == name)
}

async fn a_death_at_points_of(child: &str) {
    let of_child = |name: &&str| name.split('.').next() == Some(child) && is_tried(name);
    let all = failpoint::NAMES.iter().copied().filter(of_child).collect();
    let mut runs = JoinSet::new();
    for name in chosen(child, all, 9, 5) {
        runs.spawn(named(name));
    }
    assert!(!runs.is_empty(), "{child} has points");
    let mut failed: Vec<&str> = runs.join_all().await.into_iter().flatten().collect();
    failed.sort_unstable();
    assert!(
        failed.is_empty(),
        "a promise did not survive a death at {failed:?}"
    );
}

/// The name of a run that failed.
async fn named(name: &'static str) -> Option<&'static str> {
    let ended = tokio::spawn(a_death_at(name)).await;
    ended.is_err().then(|| {
        eprintln!("^^^ this was a death at {name}");
        name
    })
}

#[tokio::test]
async fn a_death_at_any_point_of_a_task_breaks_no_promise() {
    a_death_at_points_of("task").await;
}

#[tokio::test]
async fn a_death_at_any_point_of_a_delivery_breaks_no_promise() {
    a_death_at_points_of("outbox").await;
}

#[tokio::test]
async fn a_death_before_or_after_any_durable_step_breaks_no_promise() {
    a_death_at_points_of("journal").await;
}

#[tokio::test]
async fn a_death_on_a_tasks_way_through_the_registry_breaks_no_promise() {
    a_death_at_points_of("registry").await;
}

/// One point alone: `WORKER_NODE_POINT=task.created cargo test --test recovery one_crash`.
#[tokio::test]
async fn one_crash_point_can_be_chosen() {
    let chosen = std::env::var("WORKER_NODE_POINT");
    let chosen = chosen.as_deref().unwrap_or("task.created");
    let name = failpoint::NAMES.iter().find(|name| **name == chosen);
    a_death_at(name.expect("a point of that name")).await;
}

/// Points that every process passes before it has registered: a worker with tasks is killed, and its successor dies there.
const AT_THE_START: &[&str] = &["outbox.registration", "outbox.started", "outbox.take_up"];

async fn a_death_at(name: &'static str) {
    let way = way_to(name);
    let mut points = format!("{name}=1*return(abort)");
    if let Way::With(more, _) = way {
        points = format!("{points};{more}");
    }
    let at_the_start = AT_THE_START.contains(&name);
    let first = if at_the_start { "" } else { &points };
    let mut cluster = Cluster::start_under(master_options(), |setup| {
        let setup = setup
            .master_by_name()
            .arguments(["--stop-grace", "1s"])
            .variable("FAILPOINTS", first);
        quick_to_park(setup, way)
    })
    .await;
    prepare(&cluster, way);
    let life = Life::begin(&cluster).await;
    if at_the_start {
        life.has_begun(&cluster).await;
        cluster.kill_worker().await;
        let armed = |setup: WorkerSetup| setup.variable("FAILPOINTS", &points);
        cluster.worker.restart_with(armed).await;
    }

    tokio::select! {
        () = life.live(&cluster), if !at_the_start => panic!("nothing passed {name}"),
        () = retry_parked(&cluster), if way == Way::ParkedReport => {}
        _ = cluster.worker.process().wait_exit() => {}
    }
    cluster.master.doubt("the worker died");
    cluster.master.heal(Method::Report);
    cluster
        .worker
        .restart_with(|setup| setup.variable("FAILPOINTS", ""))
        .await;
    let lived = tokio::time::timeout(PATIENCE, life.live(&cluster)).await;
    assert!(lived.is_ok(), "it came to no end after a death at {name}");

    life.check(&cluster).await;
    judged(cluster).await;
}
