//! Images made for one test: busybox with another configuration. Removed when dropped.

use bollard::Docker;
use bollard::models::{ContainerConfig, ContainerCreateBody};
use bollard::query_parameters::{
    CommitContainerOptions, CreateContainerOptions, RemoveImageOptions,
};

use super::engine::{BUSYBOX, connected, remove_container};
use super::unique;

/// An image that exists in the engine alone: no registry has it.
#[derive(Debug)]
pub(crate) struct TestImage {
    /// Its reference.
    pub(crate) name: String,
}

impl TestImage {
    /// Busybox with what `config` sets.
    pub(crate) async fn from_busybox(docker: &Docker, config: ContainerConfig) -> Self {
        let repository = unique("worker-node-test-image");
        let container = create(docker, &repository).await;
        let options = CommitContainerOptions {
            container: Some(container.clone()),
            repo: Some(repository.clone()),
            tag: Some("1".to_owned()),
            ..CommitContainerOptions::default()
        };
        docker
            .commit_container(options, config)
            .await
            .expect("a container can be committed");
        remove_container(docker, &container).await;
        Self {
            name: format!("{repository}:1"),
        }
    }

    /// Busybox with this entrypoint and default command.
    pub(crate) async fn with_entrypoint(
        docker: &Docker,
        entrypoint: &[&str],
        command: &[&str],
    ) -> Self {
        let owned = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
        let config = ContainerConfig {
            entrypoint: owned(entrypoint),
            cmd: owned(command),
            ..ContainerConfig::default()
        };
        Self::from_busybox(docker, config).await
    }
}

impl Drop for TestImage {
    fn drop(&mut self) {
        let name = self.name.clone();
        super::run_to_end(async move {
            remove_image(&connected().await, &name).await;
        });
    }
}

async fn create(docker: &Docker, name: &str) -> String {
    let body = ContainerCreateBody {
        image: Some(BUSYBOX.to_owned()),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptions {
        name: Some(name.to_owned()),
        ..CreateContainerOptions::default()
    };
    let created = docker.create_container(Some(options), body).await;
    created.expect("a container of busybox can be created").id
}

pub(crate) async fn remove_image(docker: &Docker, name: &str) {
    let options = RemoveImageOptions {
        force: true,
        ..RemoveImageOptions::default()
    };
    let _already_gone = docker.remove_image(name, Some(options), None).await;
}
