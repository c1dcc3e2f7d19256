//! Many tasks at once.

use super::endings::log_of;
use crate::harness::Cluster;

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
