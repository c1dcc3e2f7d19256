//! Many tasks at once.

use super::endings::log_of;
use crate::harness::{Cluster, times};

/// What each task of a crowd asks for, and what is kept from all of them, in cores.
const SHARE: f64 = 0.5;

#[tokio::test]
async fn no_more_tasks_run_at_once_than_have_cores_that_are_not_kept_for_the_system() {
    let cluster = Cluster::start_with(|setup| {
        setup.arguments(["--reserve-cpu", "0.5", "--reserve-memory", "64MiB"])
    })
    .await;
    let told = cluster.master.wait_registered(cluster.worker.id()).await;
    let cores = told.expect("it has registered").info.total_cpu;
    let tasks: Vec<_> = (0..times(24, 200))
        .map(|_| worker_node::proto::Task {
            req_cpu: SHARE,
            ..cluster.task("sleep 0.3")
        })
        .collect();
    let ids: Vec<String> = tasks.iter().map(|task| task.task_id.clone()).collect();

    tasks
        .into_iter()
        .for_each(|task| cluster.master.submit(task));
    for id in &ids {
        let report = cluster.report(id).await;
        assert_eq!(report.status, "success", "{}", report.logs);
    }

    let there = std::thread::available_parallelism().map_or(1, Into::into);
    assert_eq!(cores + SHARE, there as f64, "the master hears of the rest");
    let most = cluster.engine.most_at_once(cluster.worker.id()).await;
    let fit = (cores / SHARE) as usize;
    assert!((1..=fit).contains(&most), "{most} ran at once, {fit} fit");
    cluster.finish().await;
}

#[tokio::test]
async fn fifty_tasks_at_once_all_succeed_and_the_worker_stays_attentive() {
    let cluster = Cluster::start().await;
    // One that ran proves that offers are taken.
    let first = cluster.run("true").await;
    cluster.report(&first).await;
    let tasks: Vec<_> = (0..50)
        .map(|number| {
            cluster.task(&format!(
                "echo task {number}; sleep 1; echo {number} > /output/n"
            ))
        })
        .collect();
    let ids: Vec<String> = tasks.iter().map(|task| task.task_id.clone()).collect();

    tasks
        .into_iter()
        .for_each(|task| cluster.master.submit(task));
    cluster.report(&ids[0]).await;
    let one_more = cluster.task("true");
    let late = one_more.task_id.clone();
    let answer = cluster.master.offer(cluster.worker.id(), one_more).await;
    let mut reports = Vec::new();
    for id in &ids {
        reports.push(cluster.report(id).await);
    }

    for (number, report) in reports.iter().enumerate() {
        assert_eq!(report.status, "success", "{}", report.logs);
        assert_eq!(log_of(report), format!("task {number}\n"));
        assert_eq!(report.output_files, ["n"]);
    }
    assert!(answer.is_success(), "in the middle of it: {answer:?}");
    assert_eq!(cluster.report(&late).await.status, "success");
    let master = cluster.finish().await;
    for id in &ids {
        let task = master.task(id).unwrap();
        for offer in &task.offers {
            assert!(offer.answer.is_success(), "{offer:?}");
        }
        assert_eq!(task.reports.len(), 1);
        let number = task.uploads[0].file("n").unwrap().bytes.clone();
        assert_eq!(
            String::from_utf8(number.unwrap()).unwrap(),
            log_of(&task.reports[0]).replace("task ", "")
        );
    }
}
