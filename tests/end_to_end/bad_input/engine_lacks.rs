//! Engines that lack something: what can be met in another way is, and what cannot is told before a task fails of it, once.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::Path,
    process::Command,
};

use bollard::models::NetworkCreateRequest;

use super::{
    assert_goes_on,
    starts::{CONFIGURATION, PERMISSION, assert_ends, assert_process_ends, nobodys_master},
};
use crate::harness::{
    Cluster, EngineProxy, Flaws, OnStop, PrivateEngine, Process, SmallDisk, WorkerSetup,
    master_options, unique,
};

/// What the table says of an engine that is away.
const AWAY: Option<i32> = Some(69);

#[tokio::test]
async fn an_engine_without_docker_init_runs_tasks_without_it() {
    let init = Path::new("/no/such/docker-init");
    assert_goes_on_without(init, "the engine has no docker-init:").await;
}

#[tokio::test]
async fn an_engine_whose_docker_init_lacks_its_loader_in_containers_runs_tasks_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let (loader, init) = (folder.path().join("loader"), folder.path().join("init"));
    symlink("/bin/sh", &loader).unwrap();
    let on_its_machine = format!(
        "#!{}\necho tini version 0.19.0 - git.de40ad0\n",
        loader.display()
    );
    fs::write(&init, on_its_machine).unwrap();
    fs::set_permissions(&init, Permissions::from_mode(0o755)).unwrap();

    assert_goes_on_without(&init, "the engine's docker-init does not run in containers").await;
}

/// As Podman is without catatonit: nothing in what it tells of itself says so.
#[tokio::test]
async fn an_engine_that_makes_no_container_with_its_init_runs_tasks_without_it() {
    let proxy = EngineProxy::start();
    proxy.fail(
        "\"Init\":true",
        "container-init binary not found on the host",
    );
    let address = proxy.address();
    let cluster = Cluster::start_with(|setup| setup.arguments(["--engine", &address])).await;

    assert_runs_without(
        cluster,
        "container-init binary not found on the host): the tasks' own shells are process 1",
    )
    .await;
}

/// On an engine with this program for process 1, which is told so.
async fn assert_goes_on_without(init: &Path, said: &str) {
    let flaws = Flaws {
        init: Some(init.to_owned()),
        ..Flaws::default()
    };
    let engine = PrivateEngine::start_with(OnStop::Stop, flaws).await;
    let cluster = Cluster::start_on(&engine, master_options(), |setup| setup).await;
    assert_runs_without(cluster, said).await;
}

async fn assert_runs_without(cluster: Cluster, said: &str) {
    let line = cluster.worker.wait_log_line(said).await;
    let files = cluster.submit(cluster.task("echo x > /output/x")).await;
    let endless = cluster.run("sleep 600 & sleep 600").await;
    cluster.master.cancel(&endless).await.expect("it is told");

    assert!(line.contains("WARN"), "{line}");
    let report = cluster.report(&files).await;
    assert_eq!(report.status, "success", "{}", report.logs);
    assert_eq!(report.output_files, ["x"]);
    assert_eq!(cluster.report(&endless).await.status, "cancelled");
    cluster.finish().await;
}

/// An engine whose data lie on a small disk.
async fn engine_on(disk: &SmallDisk) -> PrivateEngine {
    let flaws = Flaws {
        data: Some(disk.path().join("data")),
        ..Flaws::default()
    };
    PrivateEngine::start_with(OnStop::Stop, flaws).await
}

#[tokio::test]
async fn while_the_engines_disk_is_full_offers_are_refused_with_that_reason() {
    const MIB: u64 = 1024 * 1024;
    const FULL: &str = "the engine's disk is full";
    let disk = SmallDisk::mount_with("size=64m,nr_inodes=8000");
    let engine = engine_on(&disk).await;
    let cluster = Cluster::start_on(&engine, master_options(), |setup| {
        setup.arguments(["--disk-low", "32MiB"])
    })
    .await;
    assert_goes_on(&cluster).await;

    for (times, why) in [(1, "MiB are free in"), (2, "inodes are free,")] {
        match times {
            1 => disk.fill_to(30 * MIB),
            _ => disk.fill_files_to(900),
        }
        let log = cluster.worker.process();
        log.wait_lines(&format!("new tasks are refused: {FULL}"), times)
            .await;
        let offered = cluster.task("echo too late");
        let answer = cluster.master.offer(cluster.worker.id(), offered).await;
        match times {
            1 => disk.empty(),
            _ => disk.empty_files(),
        }
        log.wait_lines("new tasks are taken again", times).await;

        let reason = answer.refusal().expect("there is no room for it");
        assert!(reason.contains(FULL) && reason.contains(why), "{reason}");
        assert!(reason.contains("docker system prune"), "{reason}");
        assert_goes_on(&cluster).await;
    }
    cluster.finish().await;
}

/// It fills what its container has beside `/output`.
#[tokio::test]
async fn a_task_that_fills_the_engines_disk_holds_up_no_other() {
    const UNTIL_THE_END: &str = "while [ ! -e /output/end ]; do sleep 0.1; done";
    let disk = SmallDisk::mount(64);
    let engine = engine_on(&disk).await;
    let cluster = Cluster::start_on(&engine, master_options(), |setup| {
        setup.arguments(["--disk-low", "16MiB"])
    })
    .await;
    let beside = cluster.run(&format!("{UNTIL_THE_END}; exit 7")).await;
    let fills = format!("dd if=/dev/zero of=/all bs=64k 2> /dev/null; {UNTIL_THE_END}; exit 8");
    let greedy = cluster.run(&fills).await;

    let log = cluster.worker.process();
    log.wait_line("new tasks are refused: the engine's disk is full")
        .await;
    for (task, code) in [(beside, "exit code 7"), (greedy, "exit code 8")] {
        let container = cluster.engine.containers_of(&task).await.remove(0);
        cluster.engine.touch_in(&container, "/output/end").await;
        let report = cluster.report(&task).await;
        assert!(report.logs.contains(code), "{}", report.logs);
    }

    log.wait_line("new tasks are taken again").await;
    assert_goes_on(&cluster).await;
    cluster.finish().await;
}

#[tokio::test]
async fn while_a_network_is_not_there_offers_are_refused_with_what_to_type() {
    let network = unique("test-network");
    let cluster = Cluster::start_with(|setup| setup.arguments(["--network", &network])).await;
    let docker = cluster.engine.docker().clone();

    let line = cluster
        .worker
        .wait_log_line("new tasks are refused: ")
        .await;
    // After the word about it.
    cluster
        .worker
        .wait_log_line("container engine connected")
        .await;
    let offered = cluster.task("echo too early");
    let answer = cluster.master.offer(cluster.worker.id(), offered).await;
    let made = docker.create_network(NetworkCreateRequest {
        name: network.clone(),
        ..NetworkCreateRequest::default()
    });
    made.await.expect("it can be made");
    cluster
        .worker
        .wait_log_line("new tasks are taken again")
        .await;

    let lack = format!("the engine has no network {network} (--network)");
    let typed = format!("docker network create {network}");
    assert!(
        line.contains("ERROR") && line.contains(&lack) && line.contains(&typed),
        "{line}"
    );
    let reason = answer.refusal().expect("no task could be run");
    assert!(reason.contains(&lack), "{reason}");
    assert_goes_on(&cluster).await;
    cluster.finish().await;
    docker
        .remove_network(&network)
        .await
        .expect("nobody uses it");
}

#[tokio::test]
async fn with_fail_fast_an_engine_that_is_away_or_lacks_something_ends_the_start() {
    let master = nobodys_master().await;
    let start = |arguments: [&str; 3]| WorkerSetup::new(&master).arguments(arguments).start();

    let away = start(["--fail-fast", "--engine", "unix:///nowhere/docker.sock"]);
    let network = start(["--fail-fast", "--network", "nosuchnet"]);

    assert_ends(&away, AWAY, &["(--fail-fast)", "ERROR"]).await;
    let words = [
        "(--fail-fast)",
        "the engine has no network nosuchnet (--network)",
        "docker network create nosuchnet",
    ];
    assert_ends(&network, CONFIGURATION, &words).await;
}

#[tokio::test]
async fn with_fail_fast_an_engine_on_a_full_disk_ends_the_start() {
    let disk = SmallDisk::mount(64);
    let engine = engine_on(&disk).await;
    disk.fill_to(0);
    let master = nobodys_master().await;

    let worker = WorkerSetup::new(&master)
        .arguments([
            "--fail-fast",
            "--engine",
            &engine.address(),
            "--network",
            "none",
        ])
        .start();

    let words = [
        "(--fail-fast)",
        "no space left on device",
        "docker system prune",
    ];
    assert_ends(&worker, CONFIGURATION, &words).await;
    disk.empty();
}

#[tokio::test]
async fn with_fail_fast_an_engine_that_this_user_may_not_use_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    chown(folder.path(), Some(65_534), Some(65_534)).unwrap();
    let socket = "/var/run/docker.sock";
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.arg(env!("CARGO_BIN_EXE_worker-node"));
    command.args(["-port", "127.0.0.1:0", "--fail-fast", "--engine"]);
    command.arg(format!("unix://{socket}")).arg("--state-dir");
    command.arg(folder.path().join("state"));

    let process = Process::start("a worker of nobody", &mut command);

    let words = ["(--fail-fast)", "nobody may not use", socket];
    assert_process_ends(&process, PERMISSION, &words).await;
}
