//! Somebody else at the containers of a running worker: what is told of each is true. And containers that are not ours.

use bollard::models::ContainerUpdateBody;
use bollard::query_parameters::{
    KillContainerOptions, RemoveContainerOptions, RemoveImageOptions, RenameContainerOptions,
    StopContainerOptions,
};
use worker_node::proto::Task;

use crate::harness::times;
use crate::harness::{Cluster, EngineProxy, TestImage, unique};

/// What somebody else does to a container, and what must be told of its task.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Kill,
    Stop,
    Pause,
    Remove,
    Rename,
    LeaveNoMemory,
    HarmlessSignal,
}

impl Deed {
    const ALL: [Self; 7] = [
        Self::Kill,
        Self::Stop,
        Self::Pause,
        Self::Remove,
        Self::Rename,
        Self::LeaveNoMemory,
        Self::HarmlessSignal,
    ];

    fn expected(self) -> (&'static str, String) {
        match self {
            Self::Kill | Self::Remove => (
                "failed",
                "failed: killed from outside (signal 9); exit code 137".to_owned(),
            ),
            Self::Stop => (
                "failed",
                "failed: stopped from outside (signal 15); exit code 0".to_owned(),
            ),
            Self::LeaveNoMemory => ("failed", "out of memory".to_owned()),
            Self::Pause | Self::Rename | Self::HarmlessSignal => {
                ("success", "succeeded; exit code 0".to_owned())
            }
        }
    }

    /// Ends by itself when it may; heeds TERM by ending well; after a while it needs memory, where that is what is tried.
    fn command(self) -> String {
        let end = match self {
            Self::LeaveNoMemory => "tail /dev/zero",
            _ => "echo ended",
        };
        format!(
            "trap 'exit 0' TERM; trap : USR1; echo up; \
             while [ ! -e /tmp/end ]; do sleep 0.05; done; {end}"
        )
    }

    async fn done_to(self, cluster: &Cluster, task: &str) {
        let docker = cluster.engine.docker();
        let container = cluster.engine.containers_of(task).await.remove(0);
        let signal = |signal: &str| {
            Some(KillContainerOptions {
                signal: signal.to_owned(),
            })
        };
        match self {
            Self::Kill => docker.kill_container(&container, signal("KILL")).await,
            Self::Stop => {
                let options = None::<StopContainerOptions>;
                docker.stop_container(&container, options).await
            }
            Self::Pause => {
                docker.pause_container(&container).await.expect("it runs");
                beats(cluster, 1).await;
                docker.unpause_container(&container).await
            }
            Self::Remove => {
                let options = RemoveContainerOptions {
                    force: true,
                    ..RemoveContainerOptions::default()
                };
                docker.remove_container(&container, Some(options)).await
            }
            Self::Rename => {
                let options = RenameContainerOptions {
                    name: unique("renamed"),
                };
                docker.rename_container(&container, options).await
            }
            Self::LeaveNoMemory => {
                let limit = Some(16 * 1024 * 1024);
                let update = ContainerUpdateBody {
                    memory: limit,
                    memory_swap: limit,
                    ..ContainerUpdateBody::default()
                };
                docker.update_container(&container, update).await
            }
            Self::HarmlessSignal => docker.kill_container(&container, signal("USR1")).await,
        }
        .unwrap_or_else(|error| panic!("{self:?}: {error}"));
        match self {
            Self::Kill | Self::Stop | Self::Remove => {}
            Self::Pause | Self::Rename | Self::LeaveNoMemory | Self::HarmlessSignal => {
                cluster.engine.touch_in(&container, "/tmp/end").await;
            }
        }
    }
}

/// Waits for so many heartbeats more.
pub(crate) async fn beats(cluster: &Cluster, count: usize) {
    let worker = cluster.worker.id();
    let beats = |record: &worker_node::dev_master::Record| {
        record.worker(worker).map_or(0, |known| known.beat_count)
    };
    let before = cluster.master.look(beats);
    for target in before + 1..=before + count {
        let waited = cluster.master.wait("heartbeats", |record| {
            (beats(record) >= target).then_some(())
        });
        waited.await.expect("heartbeats go on");
    }
}

#[tokio::test]
async fn what_somebody_else_does_to_a_container_is_told_as_it_was() {
    let cluster = Cluster::start().await;
    for _ in 0..times(1, 10) {
        let mut tasks = Vec::new();
        for deed in Deed::ALL {
            let task = cluster.run(&deed.command()).await;
            let viewer = cluster.master.watch_log(&task);
            viewer.wait_line("up").await.expect("it runs");
            tasks.push((deed, task));
        }
        for (deed, task) in &tasks {
            deed.done_to(&cluster, task).await;
        }
        for (deed, task) in tasks {
            let report = cluster.report(&task).await;
            let (status, words) = deed.expected();
            assert_eq!(report.status, status, "{deed:?}: {}", report.logs);
            assert!(report.logs.contains(&words), "{deed:?}: {}", report.logs);
            assert!(report.logs.starts_with("up\n"), "{deed:?}: {}", report.logs);
            assert_eq!(cluster.engine.starts(&task).await, 1, "{deed:?}");
        }
    }
    cluster.finish().await;
}

#[tokio::test]
async fn a_container_under_another_name_is_found_again_by_the_next_worker() {
    let mut cluster = Cluster::start().await;
    let running = cluster.run(&Deed::Rename.command()).await;
    let ended = cluster.run(&Deed::Rename.command()).await;
    for task in [&running, &ended] {
        let viewer = cluster.master.watch_log(task);
        viewer.wait_line("up").await.expect("it runs");
    }

    cluster.worker.kill().await;
    Deed::Rename.done_to(&cluster, &ended).await;
    cluster.engine.wait_task(&ended, "die").await;
    let container = cluster.engine.containers_of(&running).await.remove(0);
    let docker = cluster.engine.docker();
    let options = RenameContainerOptions {
        name: unique("renamed"),
    };
    let renamed = docker.rename_container(&container, options).await;
    renamed.expect("a new name");
    cluster.worker.restart().await;
    cluster.worker.wait_log_line("Ready to receive").await;
    cluster.engine.touch_in(&container, "/tmp/end").await;

    for task in [running, ended] {
        let report = cluster.report(&task).await;
        assert_eq!(report.status, "success", "{}", report.logs);
        assert!(report.logs.starts_with("up\nended\n"), "{}", report.logs);
        assert_eq!(cluster.engine.starts(&task).await, 1);
    }
    cluster.finish().await;
}

async fn remove_image(cluster: &Cluster, name: &str) {
    let options = RemoveImageOptions {
        force: true,
        ..RemoveImageOptions::default()
    };
    let docker = cluster.engine.docker();
    let removed = docker.remove_image(name, Some(options), None).await;
    removed.expect("by force");
}

#[tokio::test]
async fn an_image_that_somebody_else_removes_is_missed_only_before_a_create() {
    let proxy = EngineProxy::start();
    let engine = proxy.address();
    // No registry has the second image: it is asked for once.
    let arguments = ["--engine", &engine, "--patience", "0s"];
    let cluster = Cluster::start_with(|setup| setup.arguments(arguments)).await;
    for _ in 0..times(1, 10) {
        let words: [&[&str]; 2] = [&["/bin/sh"], &["-c", "true"]];
        let first = TestImage::with_entrypoint(cluster.engine.docker(), words[0], words[1]).await;
        let second = TestImage::with_entrypoint(cluster.engine.docker(), words[0], words[1]).await;
        let of = |image: &TestImage| Task {
            docker_image: image.name.clone(),
            ..cluster.task(&Deed::Rename.command())
        };
        let running = cluster.submit(of(&first)).await;
        let viewer = cluster.master.watch_log(&running);
        viewer.wait_line("up").await.expect("it runs");

        remove_image(&cluster, &first.name).await;
        let container = cluster.engine.containers_of(&running).await.remove(0);
        cluster.engine.touch_in(&container, "/tmp/end").await;
        let report = cluster.report(&running).await;
        assert_eq!(report.status, "success", "{}", report.logs);

        proxy.hold_requests("/containers/create");
        let waiting = cluster.submit(of(&second)).await;
        proxy.wait_held(1).await;
        remove_image(&cluster, &second.name).await;
        proxy.release();
        let report = cluster.report(&waiting).await;
        assert_eq!(report.status, "failed", "{}", report.logs);
        let told = report.logs.to_ascii_lowercase();
        assert!(told.contains("could not be pulled"), "{}", report.logs);
        assert_eq!(cluster.engine.starts(&waiting).await, 0);
    }
    cluster.finish().await;
}
