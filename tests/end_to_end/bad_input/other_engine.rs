//! Another engine than the one that has this worker's containers: what it does not know is no end of theirs, and nothing is
//! made or removed on it.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command, time::Duration};

use serde_json::Value;

use super::starts::{CONFIGURATION, assert_ends};
use crate::harness::{
    Cluster, Engine, OnStop, PATIENCE, PrivateEngine, WorkerSetup, master_options,
};

/// What every line about another engine has.
const ANOTHER: &str = "and the one that answers is";

/// The engine of everybody else.
const OTHER: &str = "/var/run/docker.sock";

/// As the flag `--accept-new-engine`.
const FLAG: &str = "WORKER_NODE_ACCEPT_NEW_ENGINE";

/// A task that runs until somebody ends it.
const ENDLESS: &str = "echo up; exec sleep 600";

/// An engine of the test's own, behind an address that may lead to another one.
struct Switched {
    ours: PrivateEngine,
    folder: tempfile::TempDir,
}

impl Switched {
    async fn start() -> Self {
        let switched = Self {
            ours: PrivateEngine::start(OnStop::RunOn).await,
            folder: tempfile::tempdir().expect("a folder for a link"),
        };
        switched.lead(&switched.ours.socket());
        switched
    }

    /// For `--engine`.
    fn address(&self) -> String {
        format!("unix://{}", self.link().display())
    }

    fn link(&self) -> std::path::PathBuf {
        self.folder.path().join("engine.sock")
    }

    /// Lets the address lead to this socket, in one step.
    fn lead(&self, socket: &Path) {
        let next = self.folder.path().join("next");
        symlink(socket, &next).expect("a free name");
        fs::rename(next, self.link()).expect("one folder");
    }

    fn lead_to_ours(&self) {
        self.lead(&self.ours.socket());
    }

    fn lead_to_other(&self) {
        self.lead(Path::new(OTHER));
    }

    fn lead_nowhere(&self) {
        fs::remove_file(self.link()).expect("it is there");
    }

    async fn cluster(&self) -> Cluster {
        self.cluster_with(|setup| setup).await
    }

    async fn cluster_with(&self, change: impl FnOnce(WorkerSetup) -> WorkerSetup) -> Cluster {
        let address = self.address();
        Cluster::start_on(&self.ours, master_options(), |setup| {
            change(setup.arguments(["--engine", &address]))
        })
        .await
    }
}

/// Cancels it and sees that it had run on, on our own engine, since its one start.
async fn assert_ran_on(cluster: &Cluster, task: &str) {
    assert_eq!(cluster.engine.count(task, "die").await, 0);
    cluster.master.cancel(task).await.expect("it is told");
    let report = cluster.report(task).await;
    assert_eq!(report.status, "cancelled", "{}", report.logs);
    assert_eq!(cluster.engine.starts(task).await, 1);
}

/// The journal says only after a moment that a task runs. It rings no bell, so this looks again and again.
async fn wait_recorded_running(cluster: &Cluster, task: &str) {
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let recorded = async {
        loop {
            looks.tick().await;
            let tasks = &dump(cluster.worker.state_dir())["tasks"];
            let tasks = tasks.as_array().expect("tasks");
            let is_it = |found: &&Value| found["id"] == task && found["phase"] == "running";
            if tasks.iter().any(|found| is_it(&found)) {
                return;
            }
        }
    };
    let recorded = tokio::time::timeout(PATIENCE, recorded).await;
    recorded.expect("a task that runs is recorded as running");
}

fn dump(folder: &Path) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker-node"));
    command.args(["state", "dump", "--json", "--state-dir"]);
    let output = command.arg(folder).output().expect("it runs");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[tokio::test]
async fn a_start_with_another_engine_than_that_of_the_running_tasks_ends_and_nothing_is_touched() {
    let switched = Switched::start().await;
    let mut cluster = switched.cluster().await;
    let running = cluster.run(ENDLESS).await;
    assert_eq!(cluster.worker.stop().await, Some(0));
    let state = cluster.worker.state_dir().to_str().unwrap().to_owned();
    let identity = fs::read(Path::new(&state).join("identity")).unwrap();

    let other = Engine::connect().await;
    let second = WorkerSetup::new(&cluster.master)
        .arguments(["-id", cluster.worker.id(), "--state-dir", &state])
        .variable("DOCKER_HOST", &format!("unix://{OTHER}"))
        .start();

    let root = switched.ours.docker().info().await.unwrap();
    let ours = format!(
        "are on the engine {} at {}",
        root.id.unwrap(),
        root.docker_root_dir.unwrap()
    );
    let its = other.docker().info().await.unwrap().id.unwrap();
    let words = [
        &*format!("{ANOTHER} {its}"),
        &ours,
        "(1 task, 1 of them unfinished)",
        "start with the --engine or DOCKER_HOST of the first",
        "--accept-new-engine",
    ];
    assert_ends(&second, CONFIGURATION, &words).await;
    assert_eq!(
        fs::read(Path::new(&state).join("identity")).unwrap(),
        identity
    );
    other.wait_nothing_left(cluster.worker.id()).await;
    cluster.restart_worker().await;
    assert_ran_on(&cluster, &running).await;
}

#[tokio::test]
async fn another_engine_that_comes_under_a_running_worker_ends_nothing_and_gets_nothing() {
    let switched = Switched::start().await;
    let cluster = switched.cluster().await;
    let running = cluster.run(ENDLESS).await;

    let other = Engine::connect().await;
    switched.lead_to_other();
    let early = cluster.task("echo on our own engine");
    let id = early.task_id.clone();
    cluster.master.submit(early);
    cluster.worker.wait_log_line(ANOTHER).await;
    cluster.master.wait_offers(&id, 1).await.unwrap();
    switched.lead_to_ours();

    let report = cluster.report(&id).await;
    assert_eq!(report.status, "success", "{}", report.logs);
    assert_eq!(cluster.engine.starts(&id).await, 1, "on our own");
    assert_eq!(other.count(&id, "create").await, 0);
    assert_ran_on(&cluster, &running).await;
    let said = cluster.worker.process().lines();
    let is_error = |line: &&String| line.contains("ERROR") && line.contains(ANOTHER);
    assert_eq!(
        said.iter().filter(is_error).count(),
        1,
        "once, however often it is met"
    );
}

#[tokio::test]
async fn a_task_that_ends_while_another_engine_answers_is_told_as_it_ended() {
    let switched = Switched::start().await;
    let cluster = switched.cluster().await;
    let command = "until [ -e /output/go ]; do sleep 0.05; done; echo ended; exit 7";
    let task = cluster.run(command).await;
    let outputs = cluster.worker.state_dir().join("outputs");
    let folder = outputs.join(&cluster.worker.outputs_left()[0]);

    switched.lead_to_other();
    cluster.worker.wait_log_line(ANOTHER).await;
    fs::write(folder.join("go"), "").unwrap();
    cluster.engine.wait_task(&task, "die").await;
    switched.lead_to_ours();
    let report = cluster.report(&task).await;

    assert!(report.logs.starts_with("ended\n"), "{}", report.logs);
    let told = "failed; exit code 7";
    assert!(report.logs.contains(told), "{}", report.logs);
    assert_eq!(report.output_files, ["go"]);
    assert_eq!(cluster.engine.starts(&task).await, 1);
    cluster.finish().await;
}

#[tokio::test]
async fn another_engine_that_comes_after_the_start_is_not_believed_either() {
    let switched = Switched::start().await;
    let mut cluster = switched.cluster().await;
    let running = cluster.run(ENDLESS).await;
    assert_eq!(cluster.worker.stop().await, Some(0));
    switched.lead_nowhere();
    cluster.restart_worker().await;

    switched.lead_to_other();
    cluster.worker.wait_log_line(ANOTHER).await;
    switched.lead_to_ours();

    cluster.worker.wait_log_line("Ready to receive").await;
    assert_ran_on(&cluster, &running).await;
}

#[tokio::test]
async fn a_new_engine_that_is_accepted_has_lost_what_ran_on_the_first() {
    let switched = Switched::start().await;
    let mut cluster = switched.cluster().await;
    let lost = cluster.run(ENDLESS).await;
    wait_recorded_running(&cluster, &lost).await;
    assert_eq!(cluster.worker.stop().await, Some(0));

    switched.lead_to_other();
    let accepting = |setup: WorkerSetup| setup.arguments(["--accept-new-engine"]);
    cluster.worker.restart_with(accepting).await;

    let report = cluster.report(&lost).await;
    assert_eq!(report.status, "failed", "{}", report.logs);
    assert!(
        report.logs.contains("its container is gone"),
        "{}",
        report.logs
    );
    assert_eq!(
        cluster.engine.count(&lost, "die").await,
        0,
        "it lives there"
    );
}

#[tokio::test]
async fn a_new_engine_that_is_accepted_does_not_start_again_what_may_have_started_on_the_first() {
    let dying_at = |setup: WorkerSetup, point: &str| {
        setup.variable("FAILPOINTS", &format!("{point}=return(abort)"))
    };
    let switched = Switched::start().await;
    let cluster = switched.cluster_with(|setup| dying_at(setup, "task.container_started"));
    let mut cluster = cluster.await;
    let started = cluster.run(ENDLESS).await;
    cluster.worker.process().wait_exit().await;
    let tasks = &dump(cluster.worker.state_dir())["tasks"];
    assert_eq!(tasks[0]["phase"], "starting");

    let other = Engine::connect().await;
    switched.lead_to_other();
    // It dies once more, before anything of the loss is in the journal: the next start needs no flag, and knows all the same.
    let accepting =
        |setup: WorkerSetup| dying_at(setup.variable(FLAG, "true"), "journal.Ended.before");
    cluster.worker.restart_with(accepting).await;
    cluster.worker.process().wait_exit().await;
    let later = |setup: WorkerSetup| setup.variable("FAILPOINTS", "").variable(FLAG, "false");
    cluster.worker.restart_with(later).await;

    let report = cluster.report(&started).await;
    assert_eq!(report.status, "failed", "{}", report.logs);
    let lost = "its container is gone with the engine that it began on";
    assert!(report.logs.contains(lost), "{}", report.logs);
    assert_eq!(other.count(&started, "create").await, 0);
    assert_eq!(cluster.engine.starts(&started).await, 1);
}
