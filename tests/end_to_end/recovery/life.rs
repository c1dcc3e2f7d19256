//! What happens to a worker that is to die in the middle of it: a task with output files, one that is cancelled, an offer that
//! is repeated after the end. Every step can be taken again, whatever had become of it.

use std::time::Duration;

use worker_node::dev_master::{Record, Rule};
use worker_node::proto::Task;

use crate::harness::Cluster;

/// Lines that the first task writes.
const LINES: usize = 200;

/// What a death of the worker does to calls that are under way, and is no fault of it.
const EXCUSED: &[Rule] = &[
    Rule::OfferError,
    Rule::CancelAnswer,
    Rule::UnfinishedUpload,
    Rule::LogNotEnded,
];

/// The tasks of one run.
pub(crate) struct Life {
    files: Task,
    endless: String,
    clock: String,
}

impl Life {
    /// Has the master submit them, and move the worker from its name to its address.
    pub(crate) async fn begin(cluster: &Cluster) -> Self {
        let worker = cluster.master.wait_registered(cluster.worker.id()).await;
        let address = worker.expect("it is registered").info.worker_ip;
        // It may die of that.
        let _moved = cluster.master.call_worker(&address).await;
        let files = cluster.task(&format!("seq 1 {LINES}; echo kept > /output/kept"));
        // It heeds no TERM, so that its end takes every step there is.
        let endless = cluster.task("trap '' TERM; while :; do sleep 0.1; done");
        let clock = cluster.task("sleep 1");
        let life = Self {
            files: files.clone(),
            endless: endless.task_id.clone(),
            clock: clock.task_id.clone(),
        };
        for task in [files, endless, clock] {
            cluster.master.submit(task);
        }
        life
    }

    /// Waits until its tasks run.
    pub(crate) async fn has_begun(&self, cluster: &Cluster) {
        cluster.engine.wait_task(&self.endless, "start").await;
    }

    /// From wherever it stands to the end.
    pub(crate) async fn live(&self, cluster: &Cluster) {
        let (master, files) = (&cluster.master, &self.files.task_id);
        self.has_begun(cluster).await;
        cluster.engine.wait_task(&self.clock, "die").await;
        self.cancel(cluster).await;
        for task in [files, &self.endless, &self.clock] {
            cluster.report(task).await;
        }
        cluster.engine.wait_task(files, "destroy").await;
        let copies = master.task(files).map_or(0, |task| task.reports.len());
        self.offer_again(cluster).await;
        let again = master.wait_reports(files, copies + 1).await;
        again.expect("its result, once more");
        // The worker has noted that when the next task has come to its end.
        let last = cluster.task("true");
        let id = last.task_id.clone();
        master.submit(last);
        cluster.report(&id).await;
        cluster.engine.wait_nothing_left(cluster.worker.id()).await;
    }

    async fn cancel(&self, cluster: &Cluster) {
        let mut tries = tokio::time::interval(Duration::from_millis(50));
        loop {
            tries.tick().await;
            if let Some(call) = cluster.master.cancel(&self.endless).await
                && (call.answer.is_success() || call.answer.refusal().is_some_and(is_over))
            {
                return;
            }
        }
    }

    async fn offer_again(&self, cluster: &Cluster) {
        let mut tries = tokio::time::interval(Duration::from_millis(50));
        loop {
            tries.tick().await;
            let offer = cluster
                .master
                .offer(cluster.worker.id(), self.files.clone())
                .await;
            if offer.is_success() {
                return;
            }
        }
    }

    /// What all of it must have come to.
    pub(crate) async fn check(&self, cluster: &Cluster) {
        let expected = [
            (&self.files.task_id, "success"),
            (&self.endless, "cancelled"),
            (&self.clock, "success"),
        ];
        for (task, status) in expected {
            assert_eq!(cluster.report(task).await.status, status, "{task}");
            assert_eq!(cluster.engine.starts(task).await, 1, "starts of {task}");
        }
        let upload = cluster.master.wait_upload(&self.files.task_id).await;
        let upload = upload.expect("its files");
        let kept = upload.file("kept").and_then(|file| file.bytes.clone());
        assert_eq!(kept.as_deref(), Some(&b"kept\n"[..]), "{upload:?}");
        let view = cluster.master.watch_log(&self.files.task_id);
        let seen = view.wait_end().await.expect("the end of its log");
        let lines: Vec<String> = (1..=LINES).map(|line| line.to_string()).collect();
        assert_eq!(seen.lines(), lines, "{seen}");
    }
}

fn is_over(refusal: &str) -> bool {
    refusal.contains("already finished")
}

/// The end of a test in which the worker died: nothing is left, and nothing is broken but what a death breaks. How often a
/// result came again in doubt.
pub(crate) async fn judged(cluster: Cluster) -> usize {
    // Also of a task that a death left behind, and of which no later step has asked.
    let is_over = |record: &Record| record.unreported().is_empty().then_some(());
    let over = cluster.master.wait("a report of every task", is_over).await;
    over.expect("it comes");
    cluster.engine.wait_nothing_left(cluster.worker.id()).await;
    let verdict = cluster.master.verdict();
    let broken: Vec<_> = verdict
        .violations
        .iter()
        .filter(|found| !EXCUSED.contains(&found.rule))
        .collect();
    assert!(
        broken.is_empty() && verdict.unreported.is_empty(),
        "{verdict}"
    );
    cluster.master.doubt("the test is over");
    assert_eq!(
        cluster.worker.stop().await,
        Some(0),
        "the worker's exit code"
    );
    verdict.repeats.len()
}
