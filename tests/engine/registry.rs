//! A registry on the loopback interface, which engines take without TLS.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use bollard::{
    auth::DockerCredentials,
    query_parameters::{PushImageOptions, RemoveImageOptions, TagImageOptions},
};
use futures_util::TryStreamExt;
use tempfile::TempDir;

use crate::bench::Bench;

/// Passwords by user: one that is plain, and one that makes every way of writing base64 differ.
pub(crate) const PLAIN: (&str, &str) = ("plain", "secret");
pub(crate) const ODD: (&str, &str) = ("odd", "~~~???>>>");

const HTPASSWD: &str = "\
plain:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a
odd:$2b$05$abcdefghijklmnopqrstuufX1dqr/hduLLuYEDPImHG4TdLeCq/0G
";

/// Whether a registry asks for credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    Open,
    Htpasswd,
}

/// A running registry; ends with this value.
pub(crate) struct Registry {
    process: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Registry {
    pub(crate) fn start(guard: Guard) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:0\n",
            path("data")
        );
        if guard == Guard::Htpasswd {
            std::fs::write(path("htpasswd"), HTPASSWD).unwrap();
            let file = path("htpasswd");
            config += &format!("auth:\n  htpasswd:\n    realm: test\n    path: {file}\n");
        }
        std::fs::write(path("config.yml"), config).unwrap();
        let mut process = Command::new("docker-registry")
            .args(["serve", &path("config.yml")])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("these tests need Debian's docker-registry");
        let address = announced(&mut process);
        Self {
            process,
            address,
            _folder: folder,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it, and tells where it was.
    pub(crate) fn stop(self) -> SocketAddr {
        self.address
    }

    /// Brings an image of that content here under `name`, and away from the engine.
    pub(crate) async fn offer(&self, bench: &Bench, name: &str, content: &[u8]) -> String {
        self.offer_as(bench, (name, "1"), content).await
    }

    /// The same, under a tag.
    pub(crate) async fn offer_as(
        &self,
        bench: &Bench,
        (name, tag): (&str, &str),
        content: &[u8],
    ) -> String {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        archive
            .append_data(&mut header, "content", content)
            .unwrap();
        let local = bench.imported(name, archive.into_inner().unwrap()).await;
        let docker = &bench.docker;
        let repository = format!("{}/{name}", self.address);
        let named = TagImageOptions {
            repo: Some(repository.clone()),
            tag: Some(tag.into()),
        };
        docker.tag_image(&local.id, Some(named)).await.unwrap();
        let push = PushImageOptions {
            tag: Some(tag.into()),
            ..Default::default()
        };
        let pushing = docker.push_image(&repository, Some(push), Some(credentials()));
        pushing.try_collect::<Vec<_>>().await.unwrap();
        let force = RemoveImageOptions {
            force: true,
            ..Default::default()
        };
        docker
            .remove_image(&local.id, Some(force), None)
            .await
            .unwrap();
        let reference = format!("{repository}:{tag}");
        bench.remove_later(&reference);
        reference
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn credentials() -> DockerCredentials {
    DockerCredentials {
        username: Some(PLAIN.0.into()),
        password: Some(PLAIN.1.into()),
        ..Default::default()
    }
}

/// Reads where it listens out of its log, and goes on reading so that it is never blocked.
fn announced(process: &mut Child) -> SocketAddr {
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
        let (_, after) = line.split_once("listening on ")?;
        let end = after.find(|c: char| !(c.is_ascii_digit() || ".:".contains(c)));
        after[..end.unwrap_or(after.len())].parse().ok()
    });
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    address.expect("the registry says where it listens")
}
