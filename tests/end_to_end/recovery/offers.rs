//! Offers whose answers were lost, and results that are wanted once more. What the simulation of the whole worker shows as well is
//! tried in a full run alone.

use std::time::Duration;

use tokio::time::Instant;
use worker_node::dev_master::{Fault, MasterOptions, Method};

use crate::harness::{Cluster, WorkerSetup, is_full, master_options};

/// The process dies here, once per process.
fn dies_at(point: &str) -> impl FnOnce(WorkerSetup) -> WorkerSetup {
    let failpoints = format!("{point}=1*return(abort)");
    move |setup| setup.variable("FAILPOINTS", &failpoints)
}

fn healed(setup: WorkerSetup) -> WorkerSetup {
    setup.variable("FAILPOINTS", "")
}

async fn registered_again(cluster: &Cluster, times: usize) {
    let again = cluster
        .master
        .wait_registrations(cluster.worker.id(), times);
    again.await.expect("it registers again");
}

/// A repeat of the offer need not sit out the time in which one is waited for.
#[tokio::test]
async fn an_accepted_offer_that_is_repeated_after_a_crash_runs_at_once() {
    if !is_full() {
        return;
    }
    let mut cluster = Cluster::start_with(dies_at("journal.Accept.after")).await;
    let task = cluster.task("true");
    cluster.master.submit(task.clone());
    cluster.worker.process().wait_exit().await;

    cluster.worker.restart_with(healed).await;
    registered_again(&cluster, 2).await;
    let ready = Instant::now();
    let report = cluster.report(&task.task_id).await;

    assert_eq!(report.status, "success");
    // The master repeats every few seconds; 15 s would be the wait for a repeat that never comes.
    assert!(ready.elapsed() < Duration::from_secs(12), "it waited");
    assert_eq!(cluster.engine.starts(&task.task_id).await, 1);
    assert_eq!(cluster.worker.stop().await, Some(0));
}

/// The promise to send a result once more is kept by the next process.
#[tokio::test]
async fn a_result_that_is_wanted_again_is_sent_again_after_a_crash() {
    let mut cluster = Cluster::start_with(dies_at("outbox.again")).await;
    let task = cluster.task("true");
    let id = cluster.submit(task.clone()).await;
    cluster.report(&id).await;
    cluster.engine.wait_task(&id, "destroy").await;

    let offer = cluster.master.offer(cluster.worker.id(), task).await;
    assert!(offer.is_success(), "{offer:?}");
    cluster.worker.process().wait_exit().await;
    cluster.worker.restart_with(healed).await;

    let again = cluster.master.wait_reports(&id, 2).await.expect("again");
    assert_eq!(again.status, "success");
    assert_eq!(cluster.engine.starts(&id).await, 1);
    // The result may be there before the worker has registered.
    registered_again(&cluster, 2).await;
    cluster.worker.stop().await;

    // It was sent once more, and not once more at every start.
    cluster.worker.restart_with(healed).await;
    registered_again(&cluster, 3).await;
    let other = cluster.submit(cluster.task("true")).await;
    cluster.report(&other).await;
    let copies = cluster.master.task(&id).expect("known").reports.len();
    assert_eq!(copies, 2);
}

/// A repeat that comes while the report is on its way, and a report that leaves after the settle time anyway: one copy.
#[tokio::test]
async fn a_report_that_leaves_after_a_repeated_offer_serves_for_both() {
    if !is_full() {
        return;
    }
    let cluster = Cluster::start().await;
    cluster.master.inject(
        Method::Report,
        Fault::Refuse("a passing database error".to_owned()),
    );
    let task = cluster.task("true");
    let id = cluster.submit(task.clone()).await;
    cluster
        .master
        .wait_calls(Method::Report, 1)
        .await
        .expect("a report");

    let offer = cluster.master.offer(cluster.worker.id(), task).await;
    assert!(offer.is_success(), "{offer:?}");
    let refused = cluster.master.look(|record| record.calls(Method::Report));
    cluster
        .master
        .wait_calls(Method::Report, refused + 2)
        .await
        .expect("it goes on reporting");
    cluster.master.heal(Method::Report);

    cluster.report(&id).await;
    cluster.engine.wait_task(&id, "destroy").await;
    cluster.finish().await;
}

/// The row of an offer that was refused because nobody could judge it in time is taken back: the master may have given the
/// task to another worker.
#[tokio::test]
async fn an_offer_that_was_refused_while_its_commit_went_on_is_not_run() {
    let options = MasterOptions {
        offer_again: Duration::from_secs(120),
        ..master_options()
    };
    let slow = |setup: WorkerSetup| {
        let points = "journal.Accept.after=1*sleep(700);registry.committed=1*panic;registry.load=1*off->1*sleep(800)->off";
        setup
            .arguments(["--supervise"])
            .variable("FAILPOINTS", points)
    };
    let cluster = Cluster::start_under(options, slow).await;
    let task = cluster.task("true");
    cluster.master.submit(task.clone());
    let offer = cluster
        .master
        .wait_offers(&task.task_id, 1)
        .await
        .expect("an offer");
    assert!(!offer.answer.is_success(), "{offer:?}");

    let row_gone = "an offer that was refused is taken back";
    cluster.worker.wait_log_line(row_gone).await;
    let offer = cluster
        .master
        .offer(cluster.worker.id(), task.clone())
        .await;
    assert!(offer.is_success(), "{offer:?}");
    assert_eq!(cluster.report(&task.task_id).await.status, "success");
    assert_eq!(cluster.engine.starts(&task.task_id).await, 1);
}
