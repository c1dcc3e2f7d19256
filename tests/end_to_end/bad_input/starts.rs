//! Starts that cannot work: each says why in one sentence and ends with its own code, and disturbs no worker that runs.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::process::Command;

use tokio::net::TcpListener;
use worker_node::dev_master::DevMaster;

use super::assert_goes_on;
use crate::harness::{Cluster, Process, WorkerProcess, WorkerSetup, master_options};

/// Try later.
const TEMPORARY: Option<i32> = Some(75);
/// The command line or the environment is wrong.
const USAGE: Option<i32> = Some(2);
/// Not allowed.
pub(crate) const PERMISSION: Option<i32> = Some(77);
/// The configuration cannot be.
pub(crate) const CONFIGURATION: Option<i32> = Some(78);

/// The start must end with this code, and have said these words in one line.
pub(crate) async fn assert_ends(worker: &WorkerProcess, code: Option<i32>, words: &[&str]) {
    assert_process_ends(worker.process(), code, words).await;
}

pub(crate) async fn assert_process_ends(process: &Process, code: Option<i32>, words: &[&str]) {
    let exit = process.wait_exit().await;
    let said = process.wait_line(words[0]).await;
    assert_eq!(exit.code(), code, "{}", process.tail());
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said:?}");
    }
    assert!(!process.tail().contains("panicked"), "{}", process.tail());
}

pub(crate) async fn nobodys_master() -> DevMaster {
    DevMaster::start(master_options()).await.expect("a master")
}

#[tokio::test]
async fn a_port_in_use_ends_the_start() {
    let master = nobodys_master().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();

    let worker = WorkerSetup::new(&master)
        .arguments(["-port", &format!("127.0.0.1:{port}")])
        .start();

    assert_ends(
        &worker,
        TEMPORARY,
        &["-port", &format!("port {port} is in use")],
    )
    .await;
}

#[tokio::test]
async fn a_reserve_that_leaves_nothing_for_tasks_ends_the_start() {
    let master = nobodys_master().await;

    let worker = WorkerSetup::new(&master)
        .arguments(["--reserve-memory", "1000TiB"])
        .start();

    let words = ["--reserve-memory", "nothing is left for tasks"];
    assert_ends(&worker, CONFIGURATION, &words).await;
}

#[tokio::test]
async fn a_second_worker_on_the_same_state_folder_ends_and_leaves_the_first_alone() {
    let cluster = Cluster::start().await;
    let state = cluster.worker.state_dir().to_str().unwrap().to_owned();
    let first = cluster.worker.process().pid().as_raw_nonzero().to_string();

    let second = WorkerSetup::new(&cluster.master)
        .arguments(["--state-dir", &state])
        .start();

    assert_ends(
        &second,
        TEMPORARY,
        &[
            "the state folder",
            &state,
            "in use by another worker",
            &first,
        ],
    )
    .await;
    assert_goes_on(&cluster).await;
    cluster.finish().await;
}

#[tokio::test]
async fn a_second_worker_of_the_same_name_on_the_same_engine_ends_and_leaves_the_first_alone() {
    let cluster = Cluster::start().await;
    let id = cluster.worker.id().to_owned();
    let first = cluster.worker.process().pid().as_raw_nonzero().to_string();
    let running = cluster.run("echo up; exec sleep 600").await;

    let second = WorkerSetup::new(&cluster.master)
        .arguments(["-id", &id])
        .start();

    assert_ends(&second, TEMPORARY, &["another worker named", &id, &first]).await;
    let registrations = cluster
        .master
        .look(|record| record.worker(&id).map(|worker| worker.registrations.len()));
    assert_eq!(registrations, Some(1), "the master calls the first one");
    assert_goes_on(&cluster).await;
    cluster.master.cancel(&running).await.unwrap();
    let report = cluster.report(&running).await;
    assert_eq!(report.status, "cancelled", "it ran on: {}", report.logs);
    assert_eq!(cluster.engine.starts(&running).await, 1);
    cluster.finish().await;
}

/// A typo in `-id` must not take the tasks of another worker for gone.
#[tokio::test]
async fn a_state_folder_of_another_worker_ends_the_start_and_nothing_is_touched() {
    let mut cluster = Cluster::start().await;
    let owner = cluster.worker.id().to_owned();
    let state = cluster.worker.state_dir().to_owned();
    let running = cluster.run("echo up; exec sleep 600").await;
    assert_eq!(cluster.worker.stop().await, Some(0));
    let identity = fs::read(state.join("identity")).unwrap();

    for other in ["worker-1", &format!("{owner}x")] {
        let second = WorkerSetup::new(&cluster.master)
            .arguments(["-id", other, "--state-dir", state.to_str().unwrap()])
            .start();

        let belongs = format!("belongs to worker {owner} (1 task, 1 of them unfinished)");
        let typed = format!("start with -id {owner}, or give {other} its own --state-dir");
        assert_ends(
            &second,
            CONFIGURATION,
            &["the state folder", &belongs, &typed],
        )
        .await;
    }

    assert_eq!(fs::read(state.join("identity")).unwrap(), identity);
    assert_eq!(cluster.engine.count(&running, "kill").await, 0);
    assert_eq!(cluster.engine.count(&running, "die").await, 0);
    cluster.restart_worker().await;
    cluster.master.cancel(&running).await.unwrap();
    assert_eq!(cluster.report(&running).await.status, "cancelled");
    cluster.finish().await;
}

/// Folders that are not the worker's alone: each with what to type.
#[tokio::test]
async fn a_state_folder_that_is_not_ours_alone_ends_the_start() {
    let master = nobodys_master().await;
    let parent = tempfile::tempdir().unwrap();
    let make = |name: &str, mode: u32| {
        let folder = parent.path().join(name);
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
        folder
    };
    let (foreign, open, linked) = (
        make("foreign", 0o777),
        make("open", 0o777),
        make("linked", 0o700),
    );
    chown(&foreign, Some(65_534), None).unwrap();
    symlink("/etc", linked.join("outputs")).unwrap();
    let before = fs::metadata("/etc").unwrap().permissions().mode();
    let [foreign, below, linked] =
        [foreign, open.join("state"), linked].map(|path| path.to_str().unwrap().to_owned());

    for (folder, code, words) in [
        (
            &*foreign,
            CONFIGURATION,
            ["belongs to user 65534", "chown -R"],
        ),
        (
            &*below,
            CONFIGURATION,
            ["may be written by all", "chmod o-w"],
        ),
        (
            &*linked,
            CONFIGURATION,
            ["outputs is a link", "give another --state-dir"],
        ),
        (
            "/proc/nope",
            CONFIGURATION,
            ["the state folder /proc/nope", "give another --state-dir"],
        ),
        (
            "~/state",
            USAGE,
            ["--state-dir '~/state'", "only a shell reads"],
        ),
    ] {
        let worker = WorkerSetup::new(&master)
            .arguments(["--state-dir", folder])
            .start();

        assert_ends(&worker, code, &words).await;
    }

    assert_eq!(fs::metadata("/etc").unwrap().permissions().mode(), before);
}

/// What systemd makes is 0755, and a task may leave a set-user-id file: nobody else may come to it.
#[tokio::test]
async fn a_state_folder_that_is_too_open_is_closed_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let cluster = Cluster::start_with(|setup| setup.state_dir(folder.path())).await;
    // With users of its own: what a container sees is the folder itself, however closed its parents are.
    let command = "touch /output/s; chmod 4755 /output/s; su -s /bin/sh nobody -c 'echo mine > /output/mine'; ls -la /output; until [ -e /output/go ]; do sleep 0.05; done; rm /output/go";
    let task = cluster.run(command).await;

    for folder in [folder.path().to_owned(), folder.path().join("outputs")] {
        let mode = fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o700, "{}", folder.display());
    }
    let outputs = fs::read_dir(folder.path().join("outputs")).unwrap();
    let of_task = outputs.map(|entry| entry.unwrap().path()).next().unwrap();
    fs::write(of_task.join("go"), "").unwrap();
    let report = cluster.report(&task).await;
    assert_eq!(report.status, "success", "{}", report.logs);
    assert_eq!(report.output_files, ["mine", "s"], "{}", report.logs);
    cluster.finish().await;
}

/// The engine that was asked for cannot be had; each with the exit code of the table.
#[tokio::test]
async fn an_engine_that_this_worker_cannot_speak_to_ends_the_start() {
    let master = nobodys_master().await;
    let setup = || WorkerSetup::new(&master);
    let tls = setup()
        .variable("DOCKER_TLS_VERIFY", "1")
        .variable("DOCKER_HOST", "tcp://127.0.0.1:2376");
    let context = setup()
        .variable("DOCKER_HOST", "")
        .variable("DOCKER_CONTEXT", "remote");

    assert_ends(
        &tls.start(),
        CONFIGURATION,
        &["TLS to the engine is not supported"],
    )
    .await;
    assert_ends(
        &context.start(),
        CONFIGURATION,
        &["DOCKER_CONTEXT 'remote'"],
    )
    .await;
}

#[tokio::test]
async fn a_state_folder_that_is_a_file_ends_the_start() {
    let master = nobodys_master().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();

    for folder in [path.to_owned(), format!("{path}/below")] {
        let worker = WorkerSetup::new(&master)
            .arguments(["--state-dir", &folder])
            .start();

        assert_ends(&worker, CONFIGURATION, &["the state folder", path]).await;
    }
}

#[tokio::test]
async fn a_state_folder_that_may_not_be_written_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.arg(env!("CARGO_BIN_EXE_worker-node"));
    command.arg("--state-dir").arg(folder.path());

    let process = Process::start("a worker of nobody", &mut command);

    let path = folder.path().to_str().unwrap();
    assert_process_ends(
        &process,
        PERMISSION,
        &["the state folder", path, "cannot be written"],
    )
    .await;
}

/// A small disk, made in memory with these mount options.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(options: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "disk"]);
        let mounted = mount.arg(folder.path()).status();
        assert!(mounted.expect("mount is there").success());
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let mut umount = Command::new("umount");
        let _gone = umount.arg("--lazy").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_state_folder_on_a_full_disk_ends_the_start() {
    let master = nobodys_master().await;
    // Room for nothing, for no file, for the lock alone, for the journal, for all but the operator's socket or what is near it.
    let options = ["size=4k"].map(str::to_owned).into_iter();
    for options in options.chain((2..12).map(|inodes| format!("nr_inodes={inodes}"))) {
        let disk = SmallDisk::mount(&options);
        let state = disk.0.path().join("state");
        if options.starts_with("size") {
            let filled = fs::write(disk.0.path().join("filler"), [b'x'; 8192]);
            filled.expect_err("it is full");
        }

        let worker = WorkerSetup::new(&master)
            .arguments(["--state-dir", state.to_str().unwrap()])
            .start();

        let words = ["df -i", "the state folder", "give another --state-dir"];
        assert_ends(&worker, TEMPORARY, &words).await;
    }
}

#[tokio::test]
async fn an_engine_address_that_is_none_ends_the_start() {
    let master = nobodys_master().await;

    for nonsense in [
        "nonsense",
        "ssh://host",
        "tcp://",
        "tcp://host",
        "unix://relative",
        "tcp://a:b",
    ] {
        let by_variable = WorkerSetup::new(&master)
            .variable("DOCKER_HOST", nonsense)
            .start();
        let by_flag = WorkerSetup::new(&master)
            .arguments(["--engine", nonsense])
            .start();

        assert_ends(&by_variable, USAGE, &["DOCKER_HOST", nonsense]).await;
        assert_ends(&by_flag, USAGE, &["--engine", nonsense]).await;
    }
}

#[tokio::test]
async fn a_flag_wins_over_an_engine_address_of_the_environment_that_is_none() {
    let cluster = Cluster::start_with(|setup| {
        setup
            .variable("DOCKER_HOST", "nonsense")
            .arguments(["--engine", "unix:///var/run/docker.sock"])
    })
    .await;

    assert_goes_on(&cluster).await;
    cluster.finish().await;
}
