//! A registry on loopback, Debian's `docker-registry` with a configuration of ours, so that pulls are real and the network
//! is not needed.

use std::process::Command;

use bollard::Docker;
use bollard::auth::DockerCredentials;
use bollard::query_parameters::{PushImageOptions, TagImageOptions};
use futures_util::TryStreamExt as _;
use tempfile::TempDir;

use super::engine::BUSYBOX;
use super::gate::Gate;
use super::image::remove_image;
use super::process::Process;
use super::unique;

/// The user of a guarded registry, and the password.
pub(crate) const LOGIN: (&str, &str) = ("marked", "secret-of-the-registry");

/// `LOGIN`, as the registry wants it: bcrypt.
const HTPASSWD: &str = "marked:$2b$05$abcdefghijklmnopqrstuuIwTm9henchirBqUfvuoNrWExGiIP5SK\n";

/// A running registry; it ends with this value, and what was pushed is gone.
#[derive(Debug)]
pub(crate) struct Registry {
    address: String,
    login: Option<DockerCredentials>,
    _process: Process,
    _root: TempDir,
}

impl Registry {
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// One that nobody gets anything from but with `LOGIN`.
    pub(crate) async fn start_guarded() -> Self {
        let (user, password) = LOGIN;
        let login = DockerCredentials {
            username: Some(user.to_owned()),
            password: Some(password.to_owned()),
            ..DockerCredentials::default()
        };
        Self::start_with(Some(login)).await
    }

    async fn start_with(login: Option<DockerCredentials>) -> Self {
        let root = tempfile::tempdir().expect("a folder for the registry");
        let config = root.path().join("config.yml");
        let storage = root.path().join("storage");
        let mut text = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {storage:?}}}}}\nhttp: {{addr: \"127.0.0.1:0\"}}\n"
        );
        if login.is_some() {
            let users = root.path().join("htpasswd");
            std::fs::write(&users, HTPASSWD).expect("its users can be written");
            text += &format!("auth: {{htpasswd: {{realm: test, path: {users:?}}}}}\n");
        }
        std::fs::write(&config, text).expect("its configuration can be written");
        let process = Process::start(
            "docker-registry",
            Command::new("docker-registry").arg("serve").arg(&config),
        );
        let line = process.wait_line("listening on 127.0.0.1:").await;
        let port = line
            .split("listening on 127.0.0.1:")
            .nth(1)
            .unwrap_or_default();
        let port: String = port.chars().take_while(char::is_ascii_digit).collect();
        Self {
            address: format!("127.0.0.1:{port}"),
            login,
            _process: process,
            _root: root,
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Pushes busybox under a new name and leaves the engine without that name. Returns the repository's name alone.
    pub(crate) async fn push_busybox(&self, docker: &Docker) -> String {
        self.push(docker, BUSYBOX).await
    }

    /// Pushes any image of the engine, likewise.
    pub(crate) async fn push(&self, docker: &Docker, image: &str) -> String {
        let name = unique("pulled");
        let repository = format!("{}/{name}", self.address);
        let tag = TagImageOptions {
            repo: Some(repository.clone()),
            tag: Some("1".to_owned()),
        };
        docker
            .tag_image(image, Some(tag))
            .await
            .expect("it can be tagged");
        let push = PushImageOptions {
            tag: Some("1".to_owned()),
            ..PushImageOptions::default()
        };
        let progress = docker.push_image(&repository, Some(push), self.login.clone());
        progress
            .try_collect::<Vec<_>>()
            .await
            .expect("it can be pushed");
        remove_image(docker, &format!("{repository}:1")).await;
        name
    }

    /// The reference of something pushed.
    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}:1", self.address)
    }

    /// A second address of this registry that lets nothing through until it is opened.
    pub(crate) async fn behind_gate(&self) -> Gate {
        Gate::shut(self.address.clone()).await
    }
}
