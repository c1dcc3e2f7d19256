//! A message whose handler panics every time, for every actor: the worker goes on, and whoever sent it has an answer.

use std::time::Duration;

use worker_node::dev_master::{MasterOptions, Method};
use worker_node::proto::Task;

use super::lifecycle::{edges, failures};
use crate::harness::{Cluster, WorkerSetup, master_options, unique};

/// What one message does to the child that handles it: it dies twice, and a third incarnation never sees it.
const DEATHS: usize = 2;

async fn cluster(failpoints: &str, options: MasterOptions) -> Cluster {
    Cluster::start_under(options, |setup: WorkerSetup| {
        setup
            .arguments(["--supervise", "--stop-grace", "1s"])
            .variable("FAILPOINTS", failpoints)
    })
    .await
}

/// Another task is done as if nothing had happened, and nobody gave up.
async fn goes_on(cluster: &Cluster) {
    let task = cluster.submit(cluster.task("echo fine")).await;
    assert_eq!(cluster.report(&task).await.status, "success");
    let gave_up = edges(cluster.worker.process())
        .into_iter()
        .find(|edge| edge.word == "gave_up" && !edge.actor.starts_with("task("));
    assert_eq!(gave_up, None);
}

/// A task that points can tell by its id.
fn poisoned_task(cluster: &Cluster) -> Task {
    Task {
        task_id: unique("poisoned"),
        ..cluster.task("true")
    }
}

/// A death is answered before its line has been read here, so as many are waited for.
async fn assert_deaths(cluster: &Cluster, child: &str, deaths: usize) {
    let process = cluster.worker.process();
    let line = format!("restarting actor={child} ");
    process.wait_lines(&line, deaths).await;
    let failures = failures(process);
    let its = failures.iter().filter(|failed| *failed == child).count();
    assert_eq!(its, deaths, "{child}");
}

/// The offer is accepted and fails: refused, it would be offered for ever.
#[tokio::test]
async fn an_offer_that_kills_the_registry_is_accepted_and_fails() {
    let point = "registry.AssignTask=return(poison poisoned-offer)";
    let cluster = cluster(point, master_options()).await;
    let mut task = cluster.task("true");
    task.command = "echo poisoned-offer".to_owned();

    let id = cluster.submit(task).await;

    let report = cluster.report(&id).await;
    assert_eq!(report.status, "failed");
    assert!(report.logs.contains("internal"), "{}", report.logs);
    assert_deaths(&cluster, "registry", DEATHS).await;
    assert_eq!(cluster.engine.starts(&id).await, 0);
    goes_on(&cluster).await;
    cluster.finish().await;
}

/// The cancel is acknowledged, and carried out without the handler that dies of it.
#[tokio::test]
async fn a_cancel_that_kills_the_registry_is_carried_out_all_the_same() {
    let cluster = cluster("registry.CancelTask=panic", master_options()).await;
    let task = cluster.run("sleep 60").await;

    let cancel = cluster.master.cancel(&task).await.expect("it is known");

    assert!(cancel.answer.is_success(), "{cancel:?}");
    assert_eq!(cluster.report(&task).await.status, "cancelled");
    assert_deaths(&cluster, "registry", DEATHS).await;
    goes_on(&cluster).await;
    cluster.finish().await;
}

/// Whoever asks for a log that kills its keeper is told to come again; the task is not touched.
#[tokio::test]
async fn a_log_that_kills_the_log_router_is_unavailable() {
    let cluster = cluster(
        "log_router.OpenLog=return(poison poisoned)",
        master_options(),
    )
    .await;
    let poisoned = cluster.submit(poisoned_task(&cluster)).await;
    // Its report is composed of that log: it says why there is none.
    let report = cluster.report(&poisoned).await;
    assert_eq!(report.status, "success");
    assert!(report.logs.contains("could not be read"), "{}", report.logs);
    assert_deaths(&cluster, "log_router", DEATHS).await;

    let view = cluster.master.watch_log(&poisoned);
    let seen = view.wait_end().await.expect("an answer");

    assert!(seen.final_status().is_none(), "{seen}");
    assert!(seen.to_string().contains("Unavailable"), "{seen}");
    assert_deaths(&cluster, "log_router", 2 * DEATHS).await;
    goes_on(&cluster).await;
    cluster.finish().await;
}

/// A task whose log cannot be opened runs without.
#[tokio::test]
async fn a_spool_that_kills_the_log_router_costs_the_log_alone() {
    let point = "log_router.OpenSpool=return(poison poisoned)";
    let cluster = cluster(point, master_options()).await;

    let task = cluster.submit(poisoned_task(&cluster)).await;

    assert_eq!(cluster.report(&task).await.status, "success");
    // Opened once to be written, and once to be closed.
    assert_deaths(&cluster, "log_router", 2 * DEATHS).await;
    goes_on(&cluster).await;
    cluster.finish().await;
}

/// Output that cannot be read fails the task before it starts: nothing runs unheard.
#[tokio::test]
async fn a_reading_that_kills_the_log_router_fails_the_task() {
    let point = "log_router.ReadContainer=return(poison poisoned)";
    let cluster = cluster(point, master_options()).await;

    let task = cluster.submit(poisoned_task(&cluster)).await;

    let report = cluster.report(&task).await;
    assert_eq!(report.status, "failed");
    assert!(report.logs.contains("internal error"), "{}", report.logs);
    assert_deaths(&cluster, "log_router", DEATHS).await;
    goes_on(&cluster).await;
    cluster.finish().await;
}

/// The task whose pull it was fails; others are pulled for.
#[tokio::test]
async fn an_image_that_kills_images_fails_its_task() {
    let cluster = cluster("images.GetImage=return(poison poisoned)", master_options()).await;

    let mut task = cluster.task("true");
    task.docker_image = "poisoned:latest".to_owned();
    let task = cluster.submit(task).await;

    let report = cluster.report(&task).await;
    assert_eq!(report.status, "failed");
    assert!(report.logs.contains("internal error"), "{}", report.logs);
    assert_deaths(&cluster, "images", DEATHS).await;
    goes_on(&cluster).await;
    cluster.finish().await;
}

/// A commit that kills the journal every time: the offer is refused in time, the process lives.
#[tokio::test]
async fn a_commit_that_kills_the_journal_is_an_offer_refused() {
    let options = MasterOptions {
        offer_again: Duration::from_secs(120),
        ..master_options()
    };
    let point = "journal.Commit=return(poison poisoned)";
    let cluster = cluster(point, options).await;
    let task = poisoned_task(&cluster);

    for _ in 0..3 {
        let offer = cluster
            .master
            .offer(cluster.worker.id(), task.clone())
            .await;
        assert!(offer.refusal().is_some(), "{offer:?}");
    }

    // It is not tried at every repeat.
    assert_deaths(&cluster, "journal", DEATHS).await;
    goes_on(&cluster).await;
    assert_eq!(cluster.worker.stop().await, Some(0));
}

/// The result is on the disk: it is delivered when the outbox can bear it.
#[tokio::test]
async fn a_result_that_kills_the_outbox_is_delivered_by_what_is_durable() {
    let cluster = cluster("outbox.Deliver=2*panic->off", master_options()).await;

    let task = cluster.submit(cluster.task("true")).await;

    assert_eq!(cluster.report(&task).await.status, "success");
    assert_deaths(&cluster, "outbox", DEATHS).await;
    goes_on(&cluster).await;
    cluster.finish().await;
}

/// The master is told 'no' and calls again.
#[tokio::test]
async fn a_call_of_the_master_that_kills_the_session_is_answered() {
    let cluster = cluster("session.MasterIsAt=2*panic->off", master_options()).await;
    let worker = cluster.master.wait_registered(cluster.worker.id()).await;
    let address = worker.expect("it is registered").info.worker_ip;

    let answer = cluster.master.call_worker(&address).await;
    assert!(!answer.expect("an answer, no error").success);
    let again = cluster.master.call_worker(&address).await;
    assert!(again.expect("an answer").success);

    assert_deaths(&cluster, "session", DEATHS).await;
    goes_on(&cluster).await;
    cluster.finish().await;
}

/// The beats go on, and a session that dies of being asked is not asked at every one of them.
#[tokio::test]
async fn a_registration_that_kills_the_session_is_not_asked_for_at_every_beat() {
    let cluster = cluster("session.RegisterAgain=panic", master_options()).await;

    cluster.master.forget_worker(cluster.worker.id());

    // The session registers whenever it starts, so a restart of it serves the master too.
    let again = cluster.master.wait_registrations(cluster.worker.id(), 2);
    again.await.expect("it registers again");
    cluster.master.forget_worker(cluster.worker.id());
    let beats = cluster
        .master
        .look(|record| record.calls(Method::Heartbeat));
    let refused = cluster.master.wait_calls(Method::Heartbeat, beats + 2);
    refused.await.expect("it beats on");
    assert_deaths(&cluster, "session", DEATHS).await;
    let task = cluster.run("true").await;
    cluster.master.doubt("it does not know the worker");
    assert_eq!(cluster.worker.stop().await, Some(0), "{task}");
}

/// A task that is told to stop and dies of it reads in the journal that it is cancelled.
#[tokio::test]
async fn a_cancel_that_kills_its_task_is_carried_out_by_the_next_incarnation() {
    let cluster = cluster("task.StopTask=2*panic->off", master_options()).await;
    let task = cluster.run("sleep 60").await;

    let cancel = cluster.master.cancel(&task).await.expect("it is known");

    assert!(cancel.answer.is_success(), "{cancel:?}");
    assert_eq!(cluster.report(&task).await.status, "cancelled");
    goes_on(&cluster).await;
    cluster.finish().await;
}
