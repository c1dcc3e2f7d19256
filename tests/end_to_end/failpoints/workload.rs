//! What a worker does while it is made to fail: tasks of every kind, a viewer, a cancel, repeats. And what all of that must
//! have come to, whoever fell.

use std::time::Duration;

use worker_node::dev_master::LogView;
use worker_node::proto::Task;

use crate::harness::{Cluster, PATIENCE, WorkerSetup, master_options};

/// Lines that the task with a viewer writes.
const LINES: usize = 500;

/// The tasks of one run, accepted.
pub(crate) struct Workload {
    files: Task,
    endless: String,
    quick: String,
    viewer: LogView,
}

/// A supervised worker that meets these failpoints.
pub(crate) async fn cluster(
    failpoints: &str,
    change: impl FnOnce(WorkerSetup) -> WorkerSetup,
) -> Cluster {
    Cluster::start_under(master_options(), |setup| {
        let setup = setup
            .master_by_name()
            .arguments(["--supervise", "--stop-grace", "1s"])
            .variable("FAILPOINTS", failpoints);
        change(setup)
    })
    .await
}

/// Calls the worker as its master does: again, where the servers fall under the call. Whether the worker follows.
async fn called(cluster: &Cluster, address: &str) -> bool {
    let mut again = tokio::time::interval(Duration::from_millis(20));
    let answered = async {
        loop {
            again.tick().await;
            if let Ok(answer) = cluster.master.call_worker(address).await {
                return answer.success;
            }
        }
    };
    let answer = tokio::time::timeout(PATIENCE, answered).await;
    answer.expect("an answer")
}

impl Workload {
    /// One task with output files and a viewer, one that runs until it is cancelled, a quick one.
    pub(crate) async fn begin(cluster: &Cluster) -> Self {
        let lines = format!("seq 1 {LINES}; echo kept > /output/kept");
        let files = cluster.task(&lines);
        let worker = cluster.master.wait_registered(cluster.worker.id()).await;
        let address = worker.expect("it is registered").info.worker_ip;
        // It moves the worker from the master's name to its address.
        assert!(called(cluster, &address).await, "the worker follows");
        let viewed = cluster.submit(files.clone()).await;
        let viewer = cluster.master.watch_log(&viewed);
        // It heeds no TERM, so that its end takes every step there is.
        let endless = "trap '' TERM; n=0; while :; do n=$((n+1)); echo tick $n; sleep 0.1; done";
        let endless = Task {
            req_storage: 1.0,
            ..cluster.task(endless)
        };
        let endless = cluster.submit(endless).await;
        let quick = cluster.submit(cluster.task("exit 3")).await;
        Self {
            files,
            endless,
            quick,
            viewer,
        }
    }

    /// Lets the tasks come to their ends, cancels the endless one, repeats an offer and a cancel of what is over.
    pub(crate) async fn end(self, cluster: &Cluster) {
        let master = &cluster.master;
        if master
            .task(&self.endless)
            .is_none_or(|task| task.cancelled_at.is_none())
        {
            self.cancel_endless(cluster).await;
        }
        let files = self.files.task_id.clone();
        assert_eq!(cluster.report(&files).await.status, "success");
        assert_eq!(cluster.report(&self.quick).await.status, "failed");
        assert_eq!(cluster.report(&self.endless).await.status, "cancelled");
        self.check_upload(cluster).await;
        self.check_log(cluster).await;

        cluster.engine.wait_task(&files, "destroy").await;
        let again = master.offer(cluster.worker.id(), self.files.clone()).await;
        if again.is_success() {
            master
                .wait_reports(&files, 2)
                .await
                .expect("its result, once more");
        }
        assert!(
            !master
                .cancel(&self.quick)
                .await
                .expect("known")
                .answer
                .is_success()
        );
        for task in [&files, &self.endless, &self.quick] {
            assert_eq!(cluster.engine.starts(task).await, 1, "starts of {task}");
        }
    }

    /// Cancels the task that has no end of its own.
    pub(crate) async fn cancel_endless(&self, cluster: &Cluster) {
        let ticks = cluster.master.watch_log(&self.endless);
        // Long enough for every timer of a running task.
        ticks.wait_line("tick 13").await.expect("it runs");
        let cancel = cluster.master.cancel(&self.endless).await;
        let cancel = cancel.expect("it was accepted");
        assert!(cancel.answer.is_success(), "{cancel:?}");
    }

    async fn check_upload(&self, cluster: &Cluster) {
        let upload = cluster.master.wait_upload(&self.files.task_id).await;
        let upload = upload.expect("its files");
        let kept = upload.file("kept").and_then(|file| file.bytes.clone());
        assert_eq!(kept.as_deref(), Some(&b"kept\n"[..]), "{upload:?}");
    }

    /// Who watched from the beginning and who comes after the end see the same: every line, once, in order.
    async fn check_log(&self, cluster: &Cluster) {
        let expected: Vec<String> = (1..=LINES).map(|line| line.to_string()).collect();
        let early = self.viewer.wait_end().await.expect("the end of its log");
        let late = cluster.master.watch_log(&self.files.task_id);
        let late = late.wait_end().await.expect("the end of its log");

        assert_eq!(early.lines(), expected, "{early}");
        assert_eq!(late.lines(), expected, "{late}");
        assert_eq!(early.final_status(), Some("completed"), "{early}");
    }
}
