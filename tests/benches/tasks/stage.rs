//! One worker under measurement: its process, the recording master, and the engine. The master answers without a lock, without
//! a queue of its own and without late writes: what is timed is the worker.

use std::path::Path;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::query_parameters::{ListContainersOptions, WaitContainerOptions};
use futures_util::StreamExt as _;
use tokio::time::Instant;
use worker_node::dev_master::{DevMaster, Locking, MasterOptions, ReportCopy, Submissions};
use worker_node::proto::Task;

use crate::harness::{WorkerProcess, WorkerSetup, unique};

/// The image of all tasks.
pub(crate) const IMAGE: &str = "busybox:latest";

/// What a worker writes to its log when it takes offers.
const READY: &str = "Ready to receive tasks";

/// A worker that takes offers, and those around it.
pub(crate) struct Stage {
    /// Who offers, cancels, and is reported to.
    pub(crate) master: DevMaster,
    /// The one that is measured.
    pub(crate) worker: WorkerProcess,
    /// For what goes past the worker.
    pub(crate) docker: Docker,
    /// From the start of the process to its registration.
    pub(crate) registered_after: Duration,
}

impl Stage {
    /// Starts a worker on new state, and waits until it takes offers.
    pub(crate) async fn start<const N: usize>(binary: &Path, arguments: [&str; N]) -> Self {
        Self::start_as(|setup| setup.binary(binary).arguments(arguments)).await
    }

    /// The same, set up in another way.
    pub(crate) async fn start_as(set_up: impl FnOnce(WorkerSetup) -> WorkerSetup) -> Self {
        let master = DevMaster::start(options()).await.expect("a free port");
        let setup = set_up(WorkerSetup::new(&master));
        let begun = Instant::now();
        let worker = setup.start();
        let registration = master.wait_registered(worker.id()).await;
        let registration = registration.expect("a worker registers");
        worker.wait_log_line(READY).await;
        Self {
            master,
            worker,
            docker: engine(),
            registered_after: registration.at - begun,
        }
    }

    /// A new task that runs this command.
    pub(crate) fn task(&self, command: &str) -> Task {
        Task {
            task_id: unique("bench"),
            docker_image: IMAGE.to_owned(),
            command: command.to_owned(),
            user_id: "ann".to_owned(),
            task_name: "bench".to_owned(),
            ..Task::default()
        }
    }

    /// Offers a task, and returns how long the answer took.
    pub(crate) async fn offer(&self, task: Task) -> Duration {
        let id = task.task_id.clone();
        let answer = self.master.offer(self.worker.id(), task).await;
        assert!(answer.is_success(), "{id}: {answer:?}");
        let offered = self.master.look(|record| {
            let offer = record.task(&id)?.offers.last()?;
            Some(offer.took)
        });
        offered.expect("an offer is on record")
    }

    /// The report of a task; its status must be this.
    pub(crate) async fn report(&self, task: &str, status: &str) -> ReportCopy {
        let report = self.master.wait_report(task).await;
        let report = report.expect("a task is reported");
        assert_eq!(report.status, status, "{task}: {}", report.logs);
        report
    }

    /// Waits until the engine has nothing of a task.
    pub(crate) async fn wait_removed(&self, task: &str) {
        for id in self.containers_of(task).await {
            let options = WaitContainerOptions {
                condition: "removed".to_owned(),
            };
            match self.docker.wait_container(&id, Some(options)).next().await {
                Some(Ok(_) | Err(Error::DockerContainerWaitError { .. })) => {}
                // It was gone before the call.
                Some(Err(Error::DockerResponseServerError {
                    status_code: 404, ..
                })) => {}
                other => panic!("the engine does not tell of a removal: {other:?}"),
            }
        }
    }

    /// The ids of a task's containers.
    pub(crate) async fn containers_of(&self, task: &str) -> Vec<String> {
        self.labelled(&format!("worker-node.task={task}")).await
    }

    async fn labelled(&self, label: &str) -> Vec<String> {
        let options = ListContainersOptions {
            all: true,
            filters: Some([("label".to_owned(), vec![label.to_owned()])].into()),
            ..ListContainersOptions::default()
        };
        let listed = self.docker.list_containers(Some(options)).await;
        let listed = listed.expect("containers can be listed");
        listed.into_iter().filter_map(|found| found.id).collect()
    }

    /// Resident memory of the worker, in KiB.
    pub(crate) fn memory(&self) -> f64 {
        let path = format!(
            "/proc/{}/status",
            self.worker.process().pid().as_raw_nonzero()
        );
        let status = std::fs::read_to_string(path).expect("the worker runs");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.expect("the kernel tells it").trim();
        let kib = resident.trim_end_matches("kB").trim().parse();
        kib.expect("a number")
    }

    /// Ends the worker with a signal that it cannot catch, and starts it anew on the same state: how long it then took to
    /// register, and to take offers.
    pub(crate) async fn kill_and_restart(&mut self) -> (Duration, Duration) {
        self.master.doubt("the worker is killed");
        self.worker.kill().await;
        let id = self.worker.id().to_owned();
        let before = self.master.look(|record| {
            record
                .worker(&id)
                .map_or(0, |known| known.registrations.len())
        });
        let begun = Instant::now();
        self.worker.restart().await;
        let again = self.master.wait_registrations(&id, before + 1).await;
        let registered = again.expect("a worker registers again").at - begun;
        self.worker.wait_log_line(READY).await;
        (registered, begun.elapsed())
    }

    /// Stops the worker; the master must have seen nothing wrong.
    pub(crate) async fn finish(self) {
        let verdict = self.master.verdict();
        assert!(verdict.is_complete(), "{verdict}");
        self.master.doubt("the measurement is over");
        assert_eq!(self.worker.stop().await, Some(0), "the worker's exit code");
    }
}

fn options() -> MasterOptions {
    MasterOptions {
        locking: Locking::None,
        submissions: Submissions::Parallel,
        late_write: Duration::ZERO,
        offer_again: Duration::from_millis(100),
        // A machine that is measured may be as slow as it is.
        answer_within: Duration::from_secs(60),
        heartbeat_gap: Duration::from_secs(60),
        patience: Duration::from_secs(300),
        ..MasterOptions::for_anyone()
    }
}

/// The engine of `DOCKER_HOST`.
pub(crate) fn engine() -> Docker {
    Docker::connect_with_defaults().expect("run: tests/with-docker cargo bench")
}
