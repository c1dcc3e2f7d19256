//! A configuration that changes while the worker runs: what is taken, what is named, and what changes nothing.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rustix::process::Signal;

use crate::harness::Cluster;

/// A worker that is configured by a file.
struct Configured {
    cluster: Cluster,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

impl Configured {
    async fn by(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config.toml");
        write(&file, text);
        let path = file.to_str().expect("UTF-8").to_owned();
        let cluster = Cluster::start_with(|setup| setup.arguments(["--config", &path])).await;
        cluster.worker.wait_log_line("Ready to receive tasks").await;
        Self {
            cluster,
            file,
            _folder: folder,
        }
    }

    async fn asked(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_worker-node"));
        let state = self.cluster.worker.state_dir();
        command.args(arguments).arg("--state-dir").arg(state);
        let ended = tokio::task::spawn_blocking(move || command.output()).await;
        ended
            .expect("no panic")
            .expect("the program can be started")
    }

    /// What `reload` says of the file with this text, and its exit code.
    async fn reload(&self, text: &str) -> (Option<i32>, String) {
        write(&self.file, text);
        let Output {
            status,
            stdout,
            stderr,
        } = self.asked(&["reload"]).await;
        let said = [stdout, stderr].concat();
        (status.code(), String::from_utf8(said).expect("UTF-8"))
    }

    /// Why an offer is not taken.
    async fn refusal(&self) -> Option<String> {
        let (master, worker) = (&self.cluster.master, &self.cluster.worker);
        let answer = master.offer(worker.id(), self.cluster.task("true")).await;
        answer.refusal().map(str::to_owned)
    }
}

fn write(file: &Path, text: &str) {
    fs::write(file, text).expect("written");
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("closed");
}

#[tokio::test]
async fn what_can_change_is_taken_and_what_cannot_is_named() {
    let it = Configured::by("[tasks]\nmax_tasks = 1\n").await;
    let running = it.cluster.run("sleep 600").await;
    let refused = it.refusal().await.expect("it is full");
    assert!(refused.contains("1 tasks are here already"), "{refused}");

    let changed = "[tasks]\nmax_tasks = 2\n[process]\non_stop = \"drain\"\nlog_format = \"text\"\n";
    let told = it.reload(changed).await;

    assert_eq!(
        told,
        (
            Some(0),
            "taken: max_tasks\nchanged but needs a restart: on_stop\n".to_owned()
        )
    );
    let status = it.asked(&["status"]).await.stdout;
    let status = String::from_utf8(status).expect("UTF-8");
    assert!(status.contains("1 of 2 tasks"), "{status}");
    let second = it.cluster.submit(it.cluster.task("true")).await;
    assert_eq!(it.cluster.report(&second).await.status, "success");
    let (code, told) = it.reload(changed).await;
    assert_eq!(code, Some(0));
    assert!(told.starts_with("nothing to take"), "{told}");
    assert!(told.ends_with("needs a restart: on_stop\n"), "{told}");

    let book = it.asked(&["events", "--audit"]).await.stdout;
    let book = String::from_utf8(book).expect("UTF-8");
    let deed = book.lines().find(|line| line.contains("reload"));
    assert!(deed.expect(&book).contains("max_tasks"), "{book}");
    it.cluster
        .master
        .cancel(&running)
        .await
        .expect("it is known");
    it.cluster.report(&running).await;
    it.cluster.finish().await;
}

#[tokio::test]
async fn a_file_that_is_wrong_changes_nothing_and_the_command_says_why() {
    let it = Configured::by("[tasks]\nmax_tasks = 1\n").await;
    let running = it.cluster.run("sleep 600").await;

    for (text, words) in [
        (
            "[tasks]\nmax_tasks = 5\ntasl_pids = 1\n",
            ":3: unknown key `tasl_pids` in [tasks]: did you mean `task_pids`?",
        ),
        (
            "[tasks]\nmax_tasks = 0\n",
            ":2: max_tasks '0' is no number from 1 to 10000",
        ),
        ("[tasks\n", ":1: no TOML"),
    ] {
        let (code, told) = it.reload(text).await;
        assert_eq!(code, Some(78), "{told}");
        assert!(told.contains(words), "{told}");
        assert!(told.contains("goes on as before"), "{told}");
    }
    fs::remove_file(&it.file).expect("it was there");
    let gone = it.asked(&["reload"]).await;
    assert_eq!(gone.status.code(), Some(78));

    it.cluster
        .worker
        .wait_log_line("nothing of it was taken: ")
        .await;
    let refused = it.refusal().await.expect("it is full");
    assert!(refused.contains("1 tasks are here already"), "{refused}");
    it.cluster
        .master
        .cancel(&running)
        .await
        .expect("it is known");
    it.cluster.report(&running).await;
    it.cluster.finish().await;
}

#[tokio::test]
async fn a_hangup_has_the_file_read_again() {
    let it = Configured::by("").await;
    write(
        &it.file,
        "[tasks]\nallow_image = [\"registry.example/*\"]\n",
    );

    it.cluster.worker.process().signal(Signal::HUP);

    let taken = "the configuration was read again and is taken: allow_image";
    it.cluster.worker.wait_log_line(taken).await;
    let task = it.cluster.submit(it.cluster.task("true")).await;
    let report = it.cluster.report(&task).await;
    assert_eq!(report.status, "failed");
    assert!(report.logs.contains("--allow-image"), "{}", report.logs);
    it.cluster.finish().await;
}

#[tokio::test]
async fn without_a_worker_nothing_is_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().to_str().expect("UTF-8");
    for (arguments, code) in [
        (&["reload", "--state-dir", state][..], 3),
        (&["reload", "--statedir", state], 2),
        (&["relod", "--state-dir", state], 2),
        (&["reload", "now"], 2),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_worker-node"));
        let output = command.args(arguments).output().expect("it can be started");
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{told}");
    }
}
