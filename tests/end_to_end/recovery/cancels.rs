//! A cancel that was acknowledged is kept, whatever dies after it: the task ends cancelled, once. The first in the gate, the
//! others in a full run: the simulation of the whole worker shows them each time.

use worker_node::dev_master::{Fault, Method};

use super::life::judged;
use crate::harness::{Cluster, WorkerSetup, is_full};

async fn cancelled_once(cluster: Cluster, task: &str) {
    assert_eq!(cluster.report(task).await.status, "cancelled");
    assert_eq!(cluster.engine.starts(task).await, 1);
    judged(cluster).await;
}

async fn started() -> Cluster {
    Cluster::start_with(|setup| setup.arguments(["--stop-grace", "1s"])).await
}

#[tokio::test]
async fn a_cancel_acknowledged_just_before_a_kill_is_carried_out() {
    let mut cluster = started().await;
    let task = cluster.run("sleep 60").await;

    let cancel = cluster.master.cancel(&task).await.expect("it is known");
    cluster.worker.kill().await;
    assert!(cancel.answer.is_success(), "{cancel:?}");
    cluster.master.doubt("the worker was killed");
    cluster.worker.restart().await;

    cancelled_once(cluster, &task).await;
}

#[tokio::test]
async fn a_cancel_that_comes_before_adoption_is_complete_is_carried_out() {
    if !is_full() {
        return;
    }
    let mut cluster = started().await;
    let task = cluster.run("sleep 60").await;
    cluster.kill_worker().await;

    // Its containers are not known for a while.
    let slow =
        |setup: WorkerSetup| setup.variable("FAILPOINTS", "engine_watch.listed=1*sleep(900)");
    cluster.worker.restart_with(slow).await;
    let again = cluster.master.wait_registrations(cluster.worker.id(), 2);
    again.await.expect("it registers again");
    let cancel = cluster.master.cancel(&task).await.expect("it is known");

    assert!(cancel.answer.is_success(), "{cancel:?}");
    cancelled_once(cluster, &task).await;
}

#[tokio::test]
async fn a_cancel_in_the_middle_of_an_upload_outlives_a_kill() {
    if !is_full() {
        return;
    }
    let mut cluster = started().await;
    cluster.master.inject(Method::Upload, Fault::Hold);
    let task = cluster
        .submit(cluster.task("echo kept > /output/kept"))
        .await;
    let uploading = cluster.master.wait_calls(Method::Upload, 1);
    uploading.await.expect("an upload");

    let cancel = cluster.master.cancel(&task).await.expect("it is known");
    cluster.worker.kill().await;
    assert!(cancel.answer.is_success(), "{cancel:?}");
    cluster.master.doubt("the worker was killed");
    cluster.master.heal(Method::Upload);
    cluster.worker.restart().await;

    cancelled_once(cluster, &task).await;
}

#[tokio::test]
async fn a_cancel_that_an_actor_dies_over_before_it_is_durable_is_carried_out() {
    if !is_full() {
        return;
    }
    let slow = "journal.CancelRequested.before=1*sleep(500);task.signal=1*panic";
    let cluster = Cluster::start_with(|setup| {
        let setup = setup.arguments(["--supervise", "--stop-grace", "1s"]);
        setup.variable("FAILPOINTS", slow)
    })
    .await;
    let task = cluster.run("sleep 60").await;

    let cancel = cluster.master.cancel(&task).await.expect("it is known");
    assert!(cancel.answer.is_success(), "{cancel:?}");
    cancelled_once(cluster, &task).await;
}
