//! A worker that runs in a container itself, of the image that our Dockerfile makes, with the engine's socket and nothing else of
//! the machine: the engine does not see its files, so outputs go through the engine's archive call.

use std::{fs, process::Command};

use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig};
use bollard::query_parameters::{
    CreateContainerOptions, LogsOptions, RemoveImageOptions, StopContainerOptions,
    WaitContainerOptions,
};
use futures_util::{StreamExt as _, TryStreamExt as _};
use worker_node::dev_master::DevMaster;
use worker_node::proto::Task;

use crate::harness::{
    BUSYBOX, Engine, PATIENCE, master_options, remove_all_of, remove_container, run_to_end, unique,
};

/// What the program needs of this machine, since the base is no more than a shell; nothing can be written there.
const LIBRARIES: [&str; 3] = ["/lib", "/lib64", "/usr/lib"];

/// A worker in a container, with all that is around it.
struct Boxed {
    master: DevMaster,
    engine: Engine,
    id: String,
}

impl Boxed {
    async fn start() -> Self {
        let boxed = Self {
            master: DevMaster::start(master_options())
                .await
                .expect("a free port"),
            engine: Engine::connect().await,
            id: unique("test-worker"),
        };
        boxed.master.admit(&boxed.id);
        build_image(&boxed.id);
        let docker = boxed.engine.docker();
        let options = CreateContainerOptions {
            name: Some(boxed.id.clone()),
            ..CreateContainerOptions::default()
        };
        let made = docker.create_container(Some(options), boxed.body());
        made.await.expect("it can be made");
        let started = docker.start_container(&boxed.id, None).await;
        started.expect("it can be started");
        boxed
    }

    fn body(&self) -> ContainerCreateBody {
        let socket = "/var/run/docker.sock:/var/run/docker.sock".to_owned();
        let libraries = LIBRARIES.map(|folder| format!("{folder}:{folder}:ro"));
        let master = self.master.address().to_string();
        let command = [
            "-id",
            &self.id,
            "-ip",
            "127.0.0.1",
            "-master",
            &master,
            "-port",
            ":0",
            "--state-dir",
            "/state",
            "--pull",
            "missing",
        ];
        ContainerCreateBody {
            image: Some(self.id.clone()),
            cmd: Some(command.map(str::to_owned).into()),
            host_config: Some(HostConfig {
                binds: Some([socket].into_iter().chain(libraries).collect()),
                network_mode: Some("host".to_owned()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }

    /// Its log so far.
    async fn log(&self) -> String {
        let options = LogsOptions {
            stdout: true,
            stderr: true,
            ..LogsOptions::default()
        };
        let lines = self.engine.docker().logs(&self.id, Some(options));
        let lines: Vec<_> = lines.try_collect().await.unwrap_or_default();
        lines.iter().map(ToString::to_string).collect()
    }

    async fn registered(&self) {
        let options = WaitContainerOptions {
            condition: "not-running".to_owned(),
        };
        let mut ends = self.engine.docker().wait_container(&self.id, Some(options));
        tokio::select! {
            registered = self.master.wait_registered(&self.id) => {
                registered.expect("it registers");
            }
            _ended = ends.next() => panic!("it ended:\n{}", self.log().await),
        }
    }

    /// Asks it to stop, and returns its exit code.
    async fn stop(&self) -> Option<i64> {
        let docker = self.engine.docker();
        let grace = StopContainerOptions {
            t: i32::try_from(PATIENCE.as_secs()).ok(),
            ..StopContainerOptions::default()
        };
        docker
            .stop_container(&self.id, Some(grace))
            .await
            .expect("it can be stopped");
        let found = docker.inspect_container(&self.id, None).await;
        found
            .expect("it is there")
            .state
            .and_then(|state| state.exit_code)
    }
}

/// The worker's own image under this name, over the smallest base.
fn build_image(name: &str) {
    let context = tempfile::tempdir().expect("a folder");
    let program = context.path().join("worker-node");
    fs::copy(env!("CARGO_BIN_EXE_worker-node"), program).expect("room for a copy");
    let mut command = Command::new("docker");
    command.args(["build", "--tag", name, "--build-arg"]);
    command.arg(format!("BASE={BUSYBOX}")).arg("--file");
    command.arg(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/packaging/Dockerfile"
    ));
    let built = command.arg(context.path()).output().expect("a client");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{said}");
}

impl Drop for Boxed {
    fn drop(&mut self) {
        let id = self.id.clone();
        run_to_end(async move {
            if let Ok(docker) = Docker::connect_with_defaults() {
                remove_container(&docker, &id).await;
                // Whoever failed before it was built has none.
                let _ = docker
                    .remove_image(&id, None::<RemoveImageOptions>, None)
                    .await;
            }
            remove_all_of(id).await;
        });
    }
}

#[tokio::test]
async fn a_worker_in_a_container_runs_tasks_and_brings_their_files_through_the_engine() {
    let boxed = Boxed::start().await;
    boxed.registered().await;
    let task = Task {
        task_id: unique("task"),
        docker_image: BUSYBOX.to_owned(),
        command: "echo hello; mkdir /output/sub; echo content > /output/sub/file".to_owned(),
        ..Task::default()
    };
    let id = task.task_id.clone();

    boxed.master.submit(task);
    let report = boxed.master.wait_report(&id).await.unwrap();
    let upload = boxed.master.wait_upload(&id).await.unwrap();

    assert_eq!(
        report.status,
        "success",
        "{}\n{}",
        report.logs,
        boxed.log().await
    );
    assert!(report.logs.starts_with("hello\n"), "{}", report.logs);
    assert_eq!(report.output_files, ["sub/file"]);
    let file = upload.file("sub/file").expect("it was sent");
    assert_eq!(file.bytes.as_deref(), Some(&b"content\n"[..]));
    let log = boxed.log().await;
    assert!(
        log.contains("output files go through its archive call"),
        "{log}"
    );
    assert!(!log.contains("ERROR"), "{log}");
    boxed.engine.wait_nothing_left(&boxed.id).await;
    let verdict = boxed.master.verdict();
    assert!(verdict.is_complete(), "{verdict}");
    boxed.master.doubt("the test is over");
    assert_eq!(boxed.stop().await, Some(0), "{}", boxed.log().await);
}
