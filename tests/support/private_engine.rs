//! An engine of a test's own, to be killed, frozen and restarted: its own network namespace, since an engine without a
//! bridge deletes the bridge of another one beside it, and its own containerd, so that its containers outlive it. Nothing of
//! it is left when it is dropped, whatever has happened to it by then.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::query_parameters::{ImportImageOptions, ListContainersOptions};
use bollard::{API_DEFAULT_VERSION, Docker};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use rustix::process::Signal;
use tempfile::TempDir;

use super::PATIENCE;
use super::engine::{BUSYBOX, connected, remove_container};
use super::process::Process;

/// Between two looks at what rings no bell.
const LOOK: Duration = Duration::from_millis(20);

/// What becomes of containers when the engine is stopped in good order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnStop {
    /// They run on (`--live-restore`).
    RunOn,
    /// They are stopped.
    Stop,
}

/// What is not as it should be with an engine.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flaws {
    /// Another program for process 1 of containers than `docker-init`.
    pub(crate) init: Option<PathBuf>,
    /// Its data lie there, such as on a small disk.
    pub(crate) data: Option<PathBuf>,
}

/// A running engine with busybox in it.
#[derive(Debug)]
pub(crate) struct PrivateEngine {
    on_stop: OnStop,
    flaws: Flaws,
    dockerd: Mutex<Option<Process>>,
    containerd: Process,
    namespace: Process,
    folder: TempDir,
}

impl PrivateEngine {
    /// Starts one, and waits until it answers.
    pub(crate) async fn start(on_stop: OnStop) -> Self {
        Self::start_with(on_stop, Flaws::default()).await
    }

    /// Starts one that is not as it should be.
    pub(crate) async fn start_with(on_stop: OnStop, flaws: Flaws) -> Self {
        let folder = tempfile::tempdir().expect("a folder for an engine");
        let namespace = new_namespace().await;
        let containerd = start_containerd(folder.path(), &namespace);
        let engine = Self {
            on_stop,
            flaws,
            dockerd: Mutex::default(),
            containerd,
            namespace,
            folder,
        };
        until("containerd listens", || {
            engine.path("containerd.sock").exists()
        })
        .await;
        engine.start_again().await;
        engine.load_busybox().await;
        engine
    }

    fn data_root(&self) -> PathBuf {
        self.flaws.data.clone().unwrap_or_else(|| self.path("data"))
    }

    /// For `--engine`.
    pub(crate) fn address(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path("docker.sock")
    }

    /// A client of it.
    pub(crate) fn docker(&self) -> Docker {
        client(&self.socket())
    }

    /// SIGKILL: its containers run on.
    pub(crate) async fn kill(&self) {
        self.end(Signal::KILL).await;
    }

    /// SIGTERM: what `on_stop` says becomes of its containers.
    pub(crate) async fn shut_down(&self) {
        self.end(Signal::TERM).await;
    }

    /// What a death within an entry leaves in a container's log file: half an entry at its end.
    pub(crate) fn tear_log(&self, container: &str) {
        let path = self
            .data_root()
            .join(format!("containers/{container}/local-logs/container.log"));
        let file = std::fs::OpenOptions::new().append(true).open(path);
        let torn = file.and_then(|mut file| file.write_all(b"\0\0\x20\0\x0a\x06stdout half"));
        torn.expect("the engine keeps its log there");
    }

    /// It stands still: connections stay, and nothing is answered.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// It goes on.
    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Starts it after its end, and waits until it answers.
    pub(crate) async fn start_again(&self) {
        // An engine that was killed leaves it behind, and its successor would take the number for a living one.
        let _none = std::fs::remove_file(self.path("docker.pid"));
        let process = Process::start("dockerd", &mut self.dockerd_command());
        *self.lock() = Some(process);
        let socket = self.socket();
        let answers = async {
            let mut looks = tokio::time::interval(LOOK);
            loop {
                looks.tick().await;
                if socket.exists() && client(&socket).ping().await.is_ok() {
                    return;
                }
            }
        };
        if tokio::time::timeout(PATIENCE, answers).await.is_err() {
            let said = self.lock().as_ref().map(Process::tail).unwrap_or_default();
            panic!("a private engine does not come up:\n{said}");
        }
    }

    fn dockerd_command(&self) -> Command {
        let mut command = self.inside("dockerd");
        let path = |name: &str| self.path(name).into_os_string();
        command.arg("--data-root").arg(self.data_root());
        command.arg("--exec-root").arg(path("exec"));
        command.arg("--pidfile").arg(path("docker.pid"));
        command.arg("--containerd").arg(path("containerd.sock"));
        command.arg("--config-file").arg(path("none.json"));
        command.args(["--host", &self.address(), "--log-level", "warn"]);
        command.args(["--bridge=none", "--iptables=false", "--ip-masq=false"]);
        command.args(["--ip6tables=false", "--userland-proxy=false"]);
        if self.on_stop == OnStop::RunOn {
            command.arg("--live-restore");
        }
        if let Some(init) = &self.flaws.init {
            command.arg("--init-path").arg(init);
        }
        // A file that says nothing, so that the machine's own does not count.
        std::fs::write(self.path("none.json"), "{}").expect("a small file");
        command
    }

    fn inside(&self, program: &str) -> Command {
        within(&self.namespace, program)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Process>> {
        self.dockerd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signal(&self, signal: Signal) {
        let dockerd = self.lock();
        dockerd.as_ref().expect("it was started").signal(signal);
    }

    async fn end(&self, signal: Signal) {
        let dockerd = self.lock().take().expect("it was started");
        dockerd.signal(signal);
        dockerd.wait_exit().await;
    }

    async fn load_busybox(&self) {
        let shared = connected().await;
        let image = shared.export_image(BUSYBOX);
        let image: Vec<Bytes> = image.try_collect().await.expect("busybox can be saved");
        let body = bollard::body_full(image.concat().into());
        let loaded = self
            .docker()
            .import_image(ImportImageOptions::default(), body, None)
            .try_collect::<Vec<_>>();
        loaded.await.expect("busybox can be loaded");
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        let (socket, dockerd) = (self.socket(), self.lock().take());
        // Nobody but an engine can remove what a killed one has left running.
        let dockerd = dockerd.unwrap_or_else(|| {
            let _none = std::fs::remove_file(self.path("docker.pid"));
            Process::start("dockerd", &mut self.dockerd_command())
        });
        dockerd.signal(Signal::CONT);
        super::run_to_end(async move {
            if tokio::time::timeout(PATIENCE, remove_all(&socket))
                .await
                .is_err()
            {
                eprintln!("a private engine could not be emptied:\n{}", dockerd.tail());
            }
            dockerd.signal(Signal::TERM);
            dockerd.wait_exit().await;
        });
        self.containerd.signal(Signal::TERM);
        let mut exit = self.containerd.exit();
        super::run_to_end(async move {
            let _killed_later =
                tokio::time::timeout(PATIENCE, exit.wait_for(Option::is_some)).await;
        });
        unmount_below(self.folder.path());
    }
}

/// A process that holds a new network namespace.
async fn new_namespace() -> Process {
    let mut command = Command::new("unshare");
    command.args(["--net", "sleep", "infinity"]);
    let process = Process::start("a network namespace", &mut command);
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let ours = namespace("self");
    let pid = process.pid().as_raw_nonzero().to_string();
    until("a namespace is there", || {
        namespace(&pid).is_some_and(|its| Some(its) != ours)
    })
    .await;
    let lo_up = within(&process, "ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(lo_up.expect("ip is installed").success());
    process
}

/// A command inside of a namespace; not by `ip netns exec`, which hides the control groups.
fn within(namespace: &Process, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    let path = format!("/proc/{}/ns/net", namespace.pid().as_raw_nonzero());
    command.arg(format!("--net={path}")).arg(program);
    command
}

fn start_containerd(folder: &Path, namespace: &Process) -> Process {
    let shown = folder.display();
    let config = format!(
        "version = 2\nroot = \"{shown}/containers\"\nstate = \"{shown}/running\"\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{shown}/containerd.sock\"\n"
    );
    let file = folder.join("containerd.toml");
    std::fs::write(&file, config).expect("a small file");
    let mut command = within(namespace, "containerd");
    command.arg("--config").arg(file);
    command.args(["--log-level", "warn"]);
    Process::start("containerd", &mut command)
}

fn client(socket: &Path) -> Docker {
    let path = socket.to_string_lossy();
    Docker::connect_with_unix(&path, 120, API_DEFAULT_VERSION).expect("a socket")
}

async fn until(what: &str, fact: impl Fn() -> bool) {
    let mut looks = tokio::time::interval(LOOK);
    let search = async {
        while !fact() {
            looks.tick().await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, search).await;
    assert!(found.is_ok(), "it never came to this: {what}");
}

/// Removes every container, as soon as the engine answers.
async fn remove_all(socket: &Path) {
    let options = ListContainersOptions {
        all: true,
        ..ListContainersOptions::default()
    };
    let mut looks = tokio::time::interval(LOOK);
    let containers = loop {
        looks.tick().await;
        if socket.exists()
            && let Ok(found) = client(socket).list_containers(Some(options.clone())).await
        {
            break found;
        }
    };
    for container in containers.into_iter().filter_map(|found| found.id) {
        remove_container(&client(socket), &container).await;
    }
}

/// Lets go of every mount below a folder, the last one first: else it could not be deleted.
fn unmount_below(folder: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let below = mounts
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .filter(|path| Path::new(path).starts_with(folder));
    for path in below.collect::<Vec<_>>().into_iter().rev() {
        let _gone = Command::new("umount").args(["--lazy", path]).status();
    }
}
