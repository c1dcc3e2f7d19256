//! One master, one worker, one engine: what nearly every end-to-end test wants, and the end that every one of them should
//! come to (`finish`): a clean stop, nothing left behind, and a verdict without a broken rule.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use worker_node::dev_master::{DevMaster, MasterOptions, ReportCopy};
use worker_node::proto::Task;

use super::engine::BUSYBOX;
use super::{Engine, PATIENCE, PrivateEngine, WorkerProcess, WorkerSetup, unique};

/// Clusters that exist at once in one test binary: more containers than this only queue in the engine.
static PLACES: Semaphore = Semaphore::const_new(4);

/// A registered worker and those around it.
pub(crate) struct Cluster {
    /// The one that records and judges.
    pub(crate) master: DevMaster,
    /// The one that is judged.
    pub(crate) worker: WorkerProcess,
    /// The one that tells what really ran.
    pub(crate) engine: Engine,
    _place: SemaphorePermit<'static>,
}

impl Cluster {
    /// With everything as it is by default.
    pub(crate) async fn start() -> Self {
        Self::start_with(|setup| setup).await
    }

    /// With more arguments for the worker.
    pub(crate) async fn start_with(change: impl FnOnce(WorkerSetup) -> WorkerSetup) -> Self {
        Self::start_under(master_options(), change).await
    }

    /// With a master of this kind.
    pub(crate) async fn start_under(
        options: MasterOptions,
        change: impl FnOnce(WorkerSetup) -> WorkerSetup,
    ) -> Self {
        let place = PLACES.acquire().await.expect("it is never closed");
        Self::start_at(place, Engine::connect().await, options, change).await
    }

    /// On an engine of its own.
    pub(crate) async fn start_on(
        engine: &PrivateEngine,
        options: MasterOptions,
        change: impl FnOnce(WorkerSetup) -> WorkerSetup,
    ) -> Self {
        let address = engine.address();
        Self::start_on_by(engine, &address, options, change).await
    }

    /// The same, with a worker that reaches it at that address.
    pub(crate) async fn start_on_by(
        engine: &PrivateEngine,
        address: &str,
        options: MasterOptions,
        change: impl FnOnce(WorkerSetup) -> WorkerSetup,
    ) -> Self {
        let place = PLACES.acquire().await.expect("it is never closed");
        let engine = Engine::at(engine.docker()).await;
        Self::start_at(place, engine, options, |setup| {
            change(setup.arguments(["--engine", address]))
        })
        .await
    }

    async fn start_at(
        place: SemaphorePermit<'static>,
        engine: Engine,
        options: MasterOptions,
        change: impl FnOnce(WorkerSetup) -> WorkerSetup,
    ) -> Self {
        let master = DevMaster::start(options).await.expect("a free port");
        let setup = change(WorkerSetup::new(&master));
        master.admit(setup.id());
        let worker = setup.start();
        let cluster = Self {
            master,
            worker,
            engine,
            _place: place,
        };
        cluster.wait_registered().await;
        cluster
    }

    async fn wait_registered(&self) {
        tokio::select! {
            registered = self.master.wait_registered(self.worker.id()) => {
                registered.expect("a worker registers");
            }
            status = self.worker.process().wait_exit() => panic!("the worker ended as {status} before it registered"),
        }
    }

    /// `kill -9`: what the worker had begun to tell is in doubt.
    pub(crate) async fn kill_worker(&self) {
        self.worker.kill().await;
        self.master.doubt("the worker was killed");
    }

    /// Starts the worker again, and waits until it has registered.
    pub(crate) async fn restart_worker(&mut self) {
        let id = self.worker.id().to_owned();
        let before = self.master.wait("its registrations", |record| {
            Some(
                record
                    .worker(&id)
                    .map_or(0, |worker| worker.registrations.len()),
            )
        });
        let before = before.await.expect("it is looked up");
        self.worker.restart().await;
        let registered = self.master.wait_registrations(&id, before + 1).await;
        registered.expect("it registers");
    }

    /// A new task of busybox with this command.
    pub(crate) fn task(&self, command: &str) -> Task {
        Task {
            task_id: unique("task"),
            docker_image: BUSYBOX.to_owned(),
            command: command.to_owned(),
            user_id: "ann".to_owned(),
            task_name: "job".to_owned(),
            ..Task::default()
        }
    }

    /// Submits a task and waits until it is accepted; returns its id.
    pub(crate) async fn submit(&self, task: Task) -> String {
        let id = task.task_id.clone();
        self.master.submit(task);
        self.master
            .wait_accepted(&id)
            .await
            .expect("a task is accepted");
        id
    }

    /// Submits a task that runs this command, and waits until its container runs.
    pub(crate) async fn run(&self, command: &str) -> String {
        let id = self.submit(self.task(command)).await;
        self.engine.wait_task(&id, "start").await;
        id
    }

    /// The first report of a task.
    pub(crate) async fn report(&self, task: &str) -> ReportCopy {
        self.master
            .wait_report(task)
            .await
            .expect("a task is reported")
    }

    /// Waits until nothing is left of any task, then stops the worker: it must end with 0, and the judge must have found
    /// no broken rule and no task without a report. Returns the master, for what only the end can show.
    pub(crate) async fn finish(self) -> DevMaster {
        self.engine.wait_nothing_left(self.worker.id()).await;
        self.wait_no_outputs().await;
        let verdict = self.master.verdict();
        assert!(verdict.is_complete(), "{verdict}");
        self.master.doubt("the test is over");
        assert_eq!(self.worker.stop().await, Some(0), "the worker's exit code");
        self.master.clone()
    }

    /// A file system rings no bell, so this looks again and again.
    pub(crate) async fn wait_no_outputs(&self) {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        let empty = async {
            while !self.worker.outputs_left().is_empty() {
                looks.tick().await;
            }
        };
        if tokio::time::timeout(PATIENCE, empty).await.is_err() {
            panic!(
                "output folders left behind: {:?}",
                self.worker.outputs_left()
            );
        }
    }
}

/// The real master, but quick to offer a refused task again. Its judge goes by what the real one does about silence: the budgets
/// of ours (7 s between heartbeats, 1 s to an answer) are the benchmarks' to judge, on a machine that has nothing else to do.
pub(crate) fn master_options() -> MasterOptions {
    let real = MasterOptions::default();
    MasterOptions {
        offer_again: Duration::from_millis(100),
        patience: PATIENCE,
        heartbeat_gap: real.inactive_after,
        answer_within: real.assign_deadline,
        ..real
    }
}
