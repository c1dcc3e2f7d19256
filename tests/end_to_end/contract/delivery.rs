//! ReportTaskCompletion: hazards 1, 2 and 20, and deliveries in doubt.

use std::collections::BTreeSet;
use std::time::Duration;

use tonic::Code;
use worker_node::dev_master::{Callers, Fault, Method};
use worker_node::proto::Task;

use crate::harness::Cluster;

#[tokio::test]
async fn hazard_01_report_after_settle_time() {
    let cluster = Cluster::start_with(|setup| setup.arguments(["--settle-time", "1s"])).await;
    let at_once = Task {
        docker_image: "No Image Has This Name".to_owned(),
        ..cluster.task("")
    };
    let ends_at_once = cluster.submit(at_once).await;
    let runs = cluster.submit(cluster.task("true")).await;

    for task in [ends_at_once, runs] {
        let report = cluster.report(&task).await;
        let offers = cluster.master.task(&task).unwrap().offers;
        let accepted = offers.iter().find(|offer| offer.answer.is_success());
        // The worker counts from the sending of its ack: later than the offer's, and a busy machine may see it arrive much later.
        let offered = accepted.expect("it was accepted").at;
        assert!(
            report.at - offered >= Duration::from_secs(1),
            "reported {:?} after the offer",
            report.at - offered
        );
    }
    cluster.finish().await;
}

#[tokio::test]
async fn hazard_02_one_report_per_task() {
    let cluster = Cluster::start().await;
    let mut tasks = Vec::new();
    for (command, status) in [
        ("true", "success"),
        ("exit 3", "failed"),
        ("kill -9 $$", "failed"),
        ("sleep 600", "cancelled"),
    ] {
        tasks.push((cluster.submit(cluster.task(command)).await, status));
    }
    let cancelled = &tasks[3].0;
    cluster.engine.wait_task(cancelled, "start").await;
    cluster.master.cancel(cancelled).await.unwrap();
    cluster.master.cancel(cancelled).await.unwrap();
    for (task, _) in &tasks {
        cluster.report(task).await;
    }

    let master = cluster.finish().await;

    let mut ids = BTreeSet::new();
    for (task, status) in &tasks {
        let reports = master.task(task).unwrap().reports;
        assert_eq!(reports.len(), 1, "{task}: {reports:?}");
        assert_eq!(reports[0].status, *status, "{task}");
        ids.insert(reports[0].result_id.clone());
    }
    assert_eq!(ids.len(), tasks.len(), "result ids are not unique: {ids:?}");
}

#[tokio::test]
async fn hazard_20_success_false_with_grpc_ok() {
    let cluster = Cluster::start().await;
    let refused = || Fault::Refuse("a passing database error".to_owned());
    cluster.master.inject_times(Method::Upload, refused(), 1);
    cluster.master.inject_times(Method::Report, refused(), 2);

    let task = cluster.run("echo kept > /output/file").await;
    let report = cluster.report(&task).await;

    assert_eq!(report.status, "success");
    let uploads = cluster.master.task(&task).unwrap().uploads;
    assert_eq!(
        uploads.len(),
        2,
        "a refused upload is sent again as a whole"
    );
    assert!(
        uploads.iter().all(|upload| upload.file("file").is_some()),
        "{uploads:?}"
    );
    assert_eq!(
        cluster.master.look(|record| record.calls(Method::Report)),
        3
    );
    assert!(cluster.finish().await.verdict().repeats.is_empty());
}

#[tokio::test]
async fn a_result_outlives_a_master_that_is_away() {
    let cluster = Cluster::start().await;
    let task = cluster.run("sleep 1; echo done").await;
    let master = &cluster.master;
    master.turn_away(Callers::HungUpOn).await.unwrap();

    // Several tries after the end: one of them is the report's.
    cluster.engine.wait_task(&task, "die").await;
    let tries = master.connections();
    master.wait_connections(tries + 5).await.unwrap();
    cluster.master.listen_again().await.unwrap();

    assert_eq!(cluster.report(&task).await.status, "success");
    assert_eq!(cluster.finish().await.task(&task).unwrap().reports.len(), 1);
}

#[tokio::test]
async fn a_dropped_reply_is_repeated_under_the_same_result_id() {
    let cluster = Cluster::start().await;
    cluster
        .master
        .inject_times(Method::Report, Fault::DropReply, 1);

    let task = cluster.run("true").await;
    let second = cluster.master.wait_reports(&task, 2).await.unwrap();

    assert_eq!(second.result_id, cluster.report(&task).await.result_id);
    assert_eq!(cluster.finish().await.verdict().repeats.len(), 1);
}

#[tokio::test]
async fn an_unavailable_master_is_asked_again() {
    let cluster = Cluster::start().await;
    let fault = Fault::Fail(Code::Unavailable, "starting up".to_owned());
    cluster.master.inject_times(Method::Report, fault, 2);

    let task = cluster.run("true").await;

    assert_eq!(cluster.report(&task).await.status, "success");
    cluster.finish().await;
}
