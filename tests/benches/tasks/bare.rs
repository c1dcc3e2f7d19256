//! The engine without a worker: create, attach, start, wait, remove, one call after the other, some loops side by side. Its
//! containers are made as the worker makes them, from what the engine says of one that it made, so that a comparison tells
//! what the worker costs and not what a container costs.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{ContainerCreateBody, ContainerInspectResponse};
use bollard::query_parameters::{
    AttachContainerOptions, CreateContainerOptions, RemoveContainerOptions, StartContainerOptions,
    WaitContainerOptions,
};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::harness::unique;
use crate::stage::{IMAGE, Stage};

/// What every container of a comparison runs.
pub(crate) const COMMAND: &str = "true";

/// A way to run containers.
pub(crate) struct BareLoop {
    docker: Docker,
    like_a_task: ContainerCreateBody,
    plain: ContainerCreateBody,
    _outputs: TempDir,
}

impl BareLoop {
    /// Looks at a container of the worker's and makes others like it.
    pub(crate) async fn like_a_task(stage: &Stage) -> Self {
        let task = stage.task("exec sleep 600");
        let id = task.task_id.clone();
        stage.offer(task).await;
        let seen = container_of(stage, &id).await;
        let outputs = tempfile::tempdir().expect("a folder for outputs");
        let bare = Self {
            docker: stage.docker.clone(),
            like_a_task: copied(seen, &outputs),
            plain: ContainerCreateBody {
                image: Some(IMAGE.to_owned()),
                cmd: Some(vec![COMMAND.to_owned()]),
                ..ContainerCreateBody::default()
            },
            _outputs: outputs,
        };
        stage.master.cancel(&id).await;
        stage.report(&id, "cancelled").await;
        stage.wait_removed(&id).await;
        bare
    }

    /// One container as the worker makes it: the time from before its create to the answer of its wait.
    pub(crate) async fn run(&self) -> Duration {
        self.run_one(&self.like_a_task).await
    }

    /// One container of which nothing is said but its image and its command.
    pub(crate) async fn run_plain(&self) -> Duration {
        self.run_one(&self.plain).await
    }

    async fn run_one(&self, body: &ContainerCreateBody) -> Duration {
        let begun = Instant::now();
        let id = self.create(body).await;
        let attached = self
            .docker
            .attach_container(&id, Some(both_streams()))
            .await;
        let mut output = attached.expect("attach").output;
        let reading = tokio::spawn(async move { while output.next().await.is_some() {} });
        let started = self
            .docker
            .start_container(&id, None::<StartContainerOptions>);
        started.await.expect("start");
        let options = WaitContainerOptions {
            condition: "not-running".to_owned(),
        };
        match self.docker.wait_container(&id, Some(options)).next().await {
            Some(Ok(_)) => {}
            other => panic!("a container of `{COMMAND}` ended as {other:?}"),
        }
        let took = begun.elapsed();
        reading.await.expect("the output is read");
        remove(&self.docker, &id).await.expect("remove");
        took
    }

    /// What it asks the engine for, to be changed.
    pub(crate) fn body(&self) -> ContainerCreateBody {
        self.like_a_task.clone()
    }

    /// Removes a container, running or not.
    pub(crate) async fn remove(&self, id: &str) {
        remove(&self.docker, id).await.expect("remove");
    }

    /// Creates a container; its id.
    pub(crate) async fn create(&self, body: &ContainerCreateBody) -> String {
        let options = CreateContainerOptions {
            name: Some(unique("bench")),
            ..CreateContainerOptions::default()
        };
        let created = self.docker.create_container(Some(options), body.clone());
        created.await.expect("create").id
    }

    /// Runs this many, so many loops at once; how many that makes per second.
    pub(crate) async fn rate(&self, containers: usize, loops: usize) -> f64 {
        let left = AtomicUsize::new(containers);
        let begun = Instant::now();
        join_all((0..loops).map(|_| async {
            while take_one(&left) {
                self.run().await;
            }
        }))
        .await;
        per_second(containers, begun.elapsed())
    }
}

fn take_one(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
        left.checked_sub(1)
    })
    .is_ok()
}

/// How many per second that is.
#[expect(clippy::cast_precision_loss, reason = "some dozens")]
pub(crate) fn per_second(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// What the engine says of the task's container. It lists a container a little sooner than it tells of it, and rings no
/// bell: so this looks again and again.
async fn container_of(stage: &Stage, task: &str) -> ContainerInspectResponse {
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    loop {
        looks.tick().await;
        for id in stage.containers_of(task).await {
            if let Ok(seen) = stage.docker.inspect_container(&id, None).await {
                return seen;
            }
        }
    }
}

/// The request that would make such a container again, but not as one of the worker's: the same number of labels, of the same
/// sizes, under names that no worker looks for.
fn copied(seen: ContainerInspectResponse, outputs: &TempDir) -> ContainerCreateBody {
    let config = serde_json::to_value(seen.config).expect("it came as JSON");
    let mut body: ContainerCreateBody =
        serde_json::from_value(config).expect("what is shown can be asked for");
    body.cmd = Some(vec![COMMAND.to_owned()]);
    body.hostname = None;
    let labels = body.labels.take().unwrap_or_default().into_iter();
    let renamed = labels.map(|(name, value)| (name.replace("worker-node", "bench-nobody"), value));
    body.labels = Some(renamed.collect());
    let mut host = seen.host_config.expect("every container has one");
    for mount in host.mounts.iter_mut().flatten() {
        mount.source = outputs.path().to_str().map(ToOwned::to_owned);
    }
    body.host_config = Some(host);
    body
}

fn both_streams() -> AttachContainerOptions {
    AttachContainerOptions {
        stream: true,
        stdout: true,
        stderr: true,
        ..AttachContainerOptions::default()
    }
}

async fn remove(docker: &Docker, id: &str) -> Result<(), Error> {
    let options = RemoveContainerOptions {
        v: true,
        force: true,
        ..RemoveContainerOptions::default()
    };
    docker.remove_container(id, Some(options)).await
}
