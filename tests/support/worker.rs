//! The real binary as a process: with an id and a state folder of its own, its log collected, signals, and its end. What it
//! leaves in the engine is removed when it is dropped.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;
use worker_node::dev_master::DevMaster;

use super::process::Process;
use super::{engine, unique};

/// The tests read from the log what an operator reads from the history: the lives of actors, and where a log was read on.
const SHOWN: (&str, &str) = ("RUST_LOG", "lifecycle=debug,log_router=debug");

/// How a worker is started.
#[derive(Clone, Debug)]
pub(crate) struct WorkerSetup {
    binary: PathBuf,
    id: String,
    master: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// Where its state lies; none: in a folder of its own, which goes with it.
    state: Option<PathBuf>,
    state_beneath: PathBuf,
}

/// A network of its own takes the engine 0.2 s of a core for each container, half of what all the rest of it takes.
const HOST_NETWORK: (&str, &str) = ("WORKER_NODE_NETWORK", "host");

/// The images of the tests are of this machine alone: no registry has them, and none is to be asked for each task.
const AS_IT_IS_HERE: (&str, &str) = ("WORKER_NODE_PULL", "missing");

impl WorkerSetup {
    /// A worker of this master, under a new id.
    pub(crate) fn new(master: &DevMaster) -> Self {
        Self::at(&master.address().to_string())
    }

    /// A worker of whoever is at this address. Its tasks are in the machine's network, unless `own_network` is called.
    pub(crate) fn at(master: &str) -> Self {
        Self {
            binary: env!("CARGO_BIN_EXE_worker-node").into(),
            id: unique("test-worker"),
            master: master.to_owned(),
            arguments: Vec::new(),
            environment: [HOST_NETWORK, AS_IT_IS_HERE, SHOWN]
                .map(|(name, value)| (name.into(), value.into()))
                .into(),
            state: None,
            state_beneath: std::env::temp_dir(),
        }
    }

    /// Its state lies here, and stays when it goes.
    pub(crate) fn state_dir(mut self, folder: &Path) -> Self {
        self.state = Some(folder.to_owned());
        self
    }

    /// Another build of the worker than the one that goes with the test.
    pub(crate) fn binary(mut self, path: &Path) -> Self {
        self.binary = path.to_owned();
        self
    }

    /// Its master goes by the name of this machine, so that a master that calls itself by its address moves it.
    pub(crate) fn master_by_name(mut self) -> Self {
        self.master = self.master.replace("127.0.0.1", "localhost");
        self
    }

    /// More arguments.
    pub(crate) fn arguments<const N: usize>(mut self, more: [&str; N]) -> Self {
        self.arguments.extend(more.map(str::to_owned));
        self
    }

    /// One more variable.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Its tasks get what the engine gives by default.
    pub(crate) fn own_network(mut self) -> Self {
        self.environment
            .retain(|(known, _)| known != HOST_NETWORK.0);
        self
    }

    /// Its state folder is made in this one, instead of the folder for temporary files.
    pub(crate) fn state_beneath(mut self, folder: &Path) -> Self {
        self.state_beneath = folder.to_owned();
        self
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Starts it on a new state folder.
    pub(crate) fn start(self) -> WorkerProcess {
        let folder = tempfile::tempdir_in(&self.state_beneath);
        let folder = folder.expect("a folder for the state");
        let state = match &self.state {
            Some(state) => state.clone(),
            None => folder.path().to_owned(),
        };
        let process = Process::start(&self.id, &mut self.command(&state));
        WorkerProcess {
            process,
            setup: self,
            state,
            _folder: folder,
        }
    }

    fn command(&self, state: &Path) -> Command {
        let mut command = Command::new(&self.binary);
        command.args([
            "-id",
            &self.id,
            "-ip",
            "127.0.0.1",
            "-master",
            &self.master,
            "-port",
            ":0",
        ]);
        command.arg("--state-dir").arg(state);
        command.args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// A started worker.
#[derive(Debug)]
pub(crate) struct WorkerProcess {
    process: Process,
    setup: WorkerSetup,
    state: PathBuf,
    _folder: TempDir,
}

impl WorkerProcess {
    pub(crate) fn id(&self) -> &str {
        &self.setup.id
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    pub(crate) fn state_dir(&self) -> &Path {
        &self.state
    }

    /// Waits for a line of its log that holds `text`.
    pub(crate) async fn wait_log_line(&self, text: &str) -> String {
        self.process.wait_line(text).await
    }

    /// Asks it to stop.
    pub(crate) fn signal_stop(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Asks it to stop, and returns its exit code.
    pub(crate) async fn stop(&self) -> Option<i32> {
        self.signal_stop();
        self.process.wait_exit().await.code()
    }

    /// Ends it at once, and returns when it is gone.
    pub(crate) async fn kill(&self) {
        self.process.signal(Signal::KILL);
        self.process.wait_exit().await;
    }

    /// Starts it again on the same state, after its end.
    pub(crate) async fn restart(&mut self) {
        self.process.wait_exit().await;
        self.process = Process::start(&self.setup.id, &mut self.setup.command(&self.state));
    }

    /// Starts it again on the same state, after its end, set up in another way.
    pub(crate) async fn restart_with(&mut self, change: impl FnOnce(WorkerSetup) -> WorkerSetup) {
        self.setup = change(self.setup.clone());
        self.restart().await;
    }

    /// Output folders that are still there.
    pub(crate) fn outputs_left(&self) -> Vec<String> {
        let folder = std::fs::read_dir(self.state.join("outputs"));
        let names = folder
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name());
        names
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        self.process.signal(Signal::KILL);
        if std::thread::panicking() {
            eprintln!(
                "--- the log of {} ends with:\n{}",
                self.setup.id,
                self.process.tail()
            );
        }
        let id = self.setup.id.clone();
        super::run_to_end(engine::remove_all_of(id));
    }
}
