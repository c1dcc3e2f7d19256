//! The demo's worker: this very program as a child process, so that what is shown is the real thing, its signals and its exit
//! code included. It is in a process group of its own: Ctrl-C reaches the demo alone, which then stops it in order.

use std::{
    env,
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{ChildStderr, Command, ExitStatus, Stdio},
    sync::Arc,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

use super::{error::DemoError, screen::Screen};
use crate::config::EngineAddress;

/// How many of its log's last lines are shown when the worker ended early.
const TAIL_LINES: usize = 12;

/// What the worker is started with.
pub(super) struct Start<'a> {
    /// Its name.
    pub(super) id: &'a str,
    /// The address of its master.
    pub(super) master: String,
    /// Its engine.
    pub(super) engine: &'a EngineAddress,
    /// The folder of the demo; its state and its log go in there.
    pub(super) folder: &'a Path,
    /// The screen that its log is copied to; `None`: the file alone.
    pub(super) aside: Option<Arc<Screen>>,
}

/// A started worker. One that is dropped before its end is killed.
pub(super) struct Worker {
    pid: Pid,
    log: PathBuf,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Worker {
    /// Starts the worker's process, and two threads: one copies its log, one waits for its end.
    pub(super) fn start(start: Start<'_>) -> Result<Self, DemoError> {
        let program = env::current_exe().map_err(DemoError::machine("this program's own file"))?;
        let log = start.folder.join("worker.log");
        let file = File::create(&log).map_err(DemoError::path("cannot write", &log))?;
        let mut command = Command::new(&program);
        arguments(&mut command, &start);
        command.arg("--config").arg(no_configuration(start.folder)?);
        let spawned = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = spawned.map_err(DemoError::path("cannot start", &program))?;
        if let Some(stderr) = child.stderr.take() {
            let aside = start.aside;
            std::thread::spawn(move || copy_log(stderr, file, aside.as_deref()));
        }
        let pid = Pid::from_child(&child);
        let (told, exit) = watch::channel(None);
        std::thread::spawn(move || {
            // The wait fails only for a child that somebody else has waited for, and nobody else knows this one.
            told.send_replace(child.wait().ok());
        });
        Ok(Self { pid, log, exit })
    }

    /// Its process id, for people.
    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// The file of its log.
    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) -> ExitStatus {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some).await;
        ended.ok().and_then(|status| *status).unwrap_or_default()
    }

    /// Sends a signal; does nothing once the process has ended.
    pub(super) fn signal(&self, signal: Signal) {
        if self.exit.borrow().is_none() {
            // The process may end between the look and the signal; then there is nobody to tell.
            let _gone = kill_process(self.pid, signal);
        }
    }

    /// The last lines of its log.
    pub(super) fn tail(&self) -> Vec<String> {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().map(ToOwned::to_owned).collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        lines[from..].to_vec()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// An empty configuration file, so that the machine's own, which is another worker's, is not read.
fn no_configuration(folder: &Path) -> Result<PathBuf, DemoError> {
    let path = folder.join("config.toml");
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    let made = options.open(&path);
    made.map_err(DemoError::path("cannot write", &path))?;
    Ok(path)
}

/// Sets by flags everything that counts, and removes this program's variables: one that is set for another worker must not meddle.
fn arguments(command: &mut Command, start: &Start<'_>) {
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("WORKER_NODE_") {
            command.env_remove(name);
        }
    }
    let fixed = [
        "-ip",
        "127.0.0.1",
        "-port",
        "127.0.0.1:0",
        "--supervise",
        "--on-stop",
        "stop",
    ];
    command.arg("run").args(fixed);
    command.args(["-id", start.id, "-master", &start.master]);
    command.args(["--engine", &start.engine.to_string()]);
    // A task that ignores SIGTERM shall not keep the demo from its end.
    command.args(["--stop-grace", "2s"]);
    // The demo has pulled its image, and shall look the same where no registry can be asked.
    command.args(["--pull", "missing"]);
    command.arg("--state-dir").arg(start.folder.join("state"));
}

/// Copies the worker's standard error until it is closed. A full disk ends the copy in the file, not the worker.
fn copy_log(stderr: ChildStderr, mut file: File, aside: Option<&Screen>) {
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let _disk_full = file.write_all(&line).and_then(|()| file.write_all(b"\n"));
        if let Some(screen) = aside {
            screen.aside(&String::from_utf8_lossy(&line));
        }
    }
}
