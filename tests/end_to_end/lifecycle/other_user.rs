//! A worker that is not root, but may use the engine: outputs lie in the container and go through the engine's archive call.

use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Signal, geteuid};
use tempfile::TempDir;
use worker_node::dev_master::{DevMaster, Upload};
use worker_node::proto::Task;

use super::endings::trailer;
use crate::harness::{
    Engine, PATIENCE, Process, master_options, remove_all_of, run_to_end, unique,
};

/// `nobody`, on every Debian and most others.
const NOBODY: u32 = 65_534;

/// A worker under another user, with all that is around it.
struct Stranger {
    master: DevMaster,
    engine: Engine,
    id: String,
    process: Process,
    state: TempDir,
}

impl Stranger {
    async fn start() -> Self {
        assert!(
            geteuid().is_root(),
            "only root can start a worker as another user; every other test of this file can be run by anybody"
        );
        let engine = Engine::connect().await;
        let master = DevMaster::start(master_options())
            .await
            .expect("a free port");
        let id = unique("test-worker");
        master.admit(&id);
        let state = tempfile::tempdir().expect("a folder");
        chown(state.path(), Some(NOBODY), Some(NOBODY)).expect("root may");
        let process = Process::start(&id, &mut command(&id, &master, state.path()));
        master.wait_registered(&id).await.expect("it registers");
        Self {
            master,
            engine,
            id,
            process,
            state,
        }
    }

    async fn run(&self, command: &str) -> String {
        let task = Task {
            task_id: unique("task"),
            docker_image: "busybox:latest".to_owned(),
            command: command.to_owned(),
            ..Task::default()
        };
        let id = task.task_id.clone();
        self.master.submit(task);
        self.master.wait_accepted(&id).await.expect("it is taken");
        id
    }

    async fn finish(self) {
        self.engine.wait_nothing_left(&self.id).await;
        wait_empty(&self.state.path().join("outputs")).await;
        let verdict = self.master.verdict();
        assert!(verdict.is_complete(), "{verdict}");
        self.master.doubt("the test is over");
        self.process.signal(Signal::TERM);
        assert_eq!(self.process.wait_exit().await.code(), Some(0));
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.process.signal(Signal::KILL);
        if std::thread::panicking() {
            eprintln!(
                "--- the log of {} ends with:\n{}",
                self.id,
                self.process.tail()
            );
        }
        run_to_end(remove_all_of(self.id.clone()));
    }
}

/// A file system rings no bell, so this looks again and again.
async fn wait_empty(folder: &Path) {
    let entries = || std::fs::read_dir(folder).expect("the worker made it");
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    let empty = async {
        while entries().next().is_some() {
            looks.tick().await;
        }
    };
    if tokio::time::timeout(PATIENCE, empty).await.is_err() {
        panic!("left behind: {:?}", entries().collect::<Vec<_>>());
    }
}

/// The worker as `nobody`, with the group of the engine's socket and no capability.
fn command(id: &str, master: &DevMaster, state: &Path) -> Command {
    let socket =
        std::fs::metadata("/var/run/docker.sock").expect("the engine is on its usual socket");
    let mut command = Command::new("setpriv");
    command.args([
        &format!("--reuid={NOBODY}"),
        &format!("--regid={NOBODY}"),
        &format!("--groups={}", socket.gid()),
        "--inh-caps=-all",
        "--bounding-set=-all",
        "--no-new-privs",
    ]);
    command.arg(env!("CARGO_BIN_EXE_worker-node"));
    command.args([
        "-id",
        id,
        "-ip",
        "127.0.0.1",
        "-port",
        ":0",
        "--pull",
        "missing",
    ]);
    command.args(["-master", &master.address().to_string()]);
    command.arg("--state-dir").arg(state);
    command.env("XDG_RUNTIME_DIR", state);
    command
}

fn content(upload: &Upload, path: &str) -> Option<Vec<u8>> {
    upload.file(path)?.bytes.clone()
}

#[tokio::test]
async fn a_worker_that_is_not_root_uploads_what_its_tasks_leave() {
    let worker = Stranger::start().await;

    let task = worker
        .run(
            "cd /output; touch empty; mkdir -p a/b; echo deep > a/b/file; echo 1 > \"$(printf 'two\\nlines')\"; \
             echo 2 > locked; chmod 000 locked; ln -s /etc/passwd passwd; ln -s / root; mkfifo pipe; ln a/b/file twin; \
             dd if=/dev/urandom of=big bs=1M count=20 2> /dev/null; sha256sum big",
        )
        .await;
    let report = worker.master.wait_report(&task).await.unwrap();
    let upload = worker.master.wait_upload(&task).await.unwrap();

    assert_eq!(report.status, "success", "{}", report.logs);
    assert_eq!(content(&upload, "empty").as_deref(), Some(&b""[..]));
    assert_eq!(
        content(&upload, "a/b/file").as_deref(),
        Some(&b"deep\n"[..])
    );
    assert_eq!(content(&upload, "two\nlines").as_deref(), Some(&b"1\n"[..]));
    assert_eq!(content(&upload, "locked").as_deref(), Some(&b"2\n"[..]));
    let big = upload.file("big").unwrap();
    assert_eq!(big.size, 20 << 20);
    assert!(report.logs.starts_with(&big.sha256), "{}", report.logs);
    for skipped in ["passwd", "root", "pipe"] {
        assert!(upload.file(skipped).is_none(), "{skipped}");
        assert!(trailer(&report).contains(skipped), "{}", trailer(&report));
    }
    worker.finish().await;
}

#[tokio::test]
async fn an_output_folder_that_became_a_link_leads_nowhere() {
    let worker = Stranger::start().await;

    let task = worker
        .run("rm -rf /output; ln -s /etc /output; ls -d /output")
        .await;
    let report = worker.master.wait_report(&task).await.unwrap();

    assert_eq!(report.status, "success", "{}", report.logs);
    assert!(report.logs.starts_with("/output\n"), "{}", report.logs);
    assert_eq!(report.output_files, Vec::<String>::new());
    worker.finish().await;
}

#[tokio::test]
async fn a_worker_that_is_not_root_keeps_what_a_cancelled_task_left() {
    let worker = Stranger::start().await;
    let task = worker
        .run("trap 'exit 0' TERM; echo kept > /output/kept; echo up; while :; do sleep 0.1; done")
        .await;
    let log = worker.master.watch_log(&task);
    log.wait_line("up").await.unwrap();

    let cancel = worker.master.cancel(&task).await.unwrap();
    let report = worker.master.wait_report(&task).await.unwrap();

    assert!(cancel.answer.is_success(), "{cancel:?}");
    assert_eq!(report.status, "cancelled");
    let upload = worker.master.wait_upload(&task).await.unwrap();
    assert_eq!(content(&upload, "kept").as_deref(), Some(&b"kept\n"[..]));
    worker.finish().await;
}
