//! Containers that are not the worker's: one without any label, one of another worker. Whatever happens, nobody touches them.

use std::collections::HashMap;

use bollard::Docker;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptions, StartContainerOptions};

use crate::harness::{Engine, remove_all_of, unique};

/// Running containers, and what they were like at first.
#[derive(Debug)]
pub(crate) struct Bystanders {
    docker: Docker,
    other_worker: String,
    containers: Vec<(String, String)>,
}

impl Bystanders {
    pub(crate) async fn start(engine: &Engine) -> Self {
        let docker = engine.docker().clone();
        let (other_worker, marked) = (unique("test-worker"), unique("bystander"));
        let worker = ("worker-node.worker".to_owned(), other_worker.clone());
        let task = ("worker-node.task".to_owned(), marked);
        let mut containers = Vec::new();
        for labels in [vec![], vec![worker, task]] {
            let container = run(&docker, labels.into_iter().collect()).await;
            let state = state(&docker, &container).await;
            containers.push((container, state));
        }
        Self {
            docker,
            other_worker,
            containers,
        }
    }

    /// They run as if nothing had happened; then they are removed.
    pub(crate) async fn assert_untouched(self) {
        for (container, before) in &self.containers {
            assert_eq!(state(&self.docker, container).await, *before);
        }
    }
}

impl Drop for Bystanders {
    fn drop(&mut self) {
        let (docker, containers) = (self.docker.clone(), std::mem::take(&mut self.containers));
        let other_worker = self.other_worker.clone();
        crate::harness::run_to_end(async move {
            remove_all_of(other_worker).await;
            for (container, _) in containers {
                crate::harness::remove_container(&docker, &container).await;
            }
        });
    }
}

/// Runs busybox for a long time.
pub(crate) async fn run(docker: &Docker, labels: HashMap<String, String>) -> String {
    run_named(docker, &unique("worker-node-test-bystander"), labels).await
}

/// The same under this name.
pub(crate) async fn run_named(
    docker: &Docker,
    name: &str,
    labels: HashMap<String, String>,
) -> String {
    run_image(docker, name, "busybox:latest", labels).await
}

/// The same of an image that has busybox in it.
pub(crate) async fn run_image(
    docker: &Docker,
    name: &str,
    image: &str,
    labels: HashMap<String, String>,
) -> String {
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(["sleep", "600"].map(str::to_owned).into()),
        labels: Some(labels),
        ..ContainerCreateBody::default()
    };
    let name = CreateContainerOptions {
        name: Some(name.to_owned()),
        ..CreateContainerOptions::default()
    };
    let created = docker.create_container(Some(name), body).await;
    let container = created.expect("it can be created").id;
    let started = docker
        .start_container(&container, None::<StartContainerOptions>)
        .await;
    started.expect("it can be started");
    container
}

/// What it is like.
pub(crate) async fn state(docker: &Docker, container: &str) -> String {
    let found = docker.inspect_container(container, None).await;
    let found = found.expect("it is there");
    format!(
        "{:?} {:?} {:?}",
        found.name, found.state, found.restart_count
    )
}
