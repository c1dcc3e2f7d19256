//! Whether the engine holds a container's own layer, and that alone, to a size. Most refuse such a wish, some take it and do nothing, and
//! some count the image too (btrfs): so in a container of a large image, which is never started, a little must fit and much must not.

use std::io;

use bollard::{body_full, models::ContainerCreateBody, query_parameters::UploadToContainerOptions};

use super::super::{DockerEngine, failure};
use crate::{
    domain::id::ContainerId,
    ports::engine::{ContainerPlan, EngineError, Image, Trial},
};

/// What the container may have, in bytes; what is in its image, what fits, and what does not.
const SIZE: u64 = 4 << 20;
const IMAGE: usize = 8 << 20;
const LITTLE: usize = 1 << 20;
const MUCH: usize = 6 << 20;

impl DockerEngine {
    /// `image` is an empty one: where not even that is given a size, nothing more is tried.
    pub(super) async fn sizes_layers(
        &self,
        trial: &Trial,
        image: &str,
    ) -> Result<bool, EngineError> {
        let plan = ContainerPlan {
            output_folder: None,
            layer_size: Some(SIZE),
            ..super::plan(trial, image)?
        };
        let Some(id) = known(self.make_of_size(&plan).await)? else {
            return Ok(false);
        };
        self.remove_by_force(&id.0).await?;
        let large = self.import(archive_of("image", IMAGE)?).await?;
        let held = self.is_held(&plan, large.clone()).await;
        self.remove_probe(&large).await?;
        held
    }

    async fn is_held(&self, plan: &ContainerPlan, image: String) -> Result<bool, EngineError> {
        let plan = ContainerPlan {
            image: Image {
                id: image,
                repo_digest: None,
            },
            ..plan.clone()
        };
        let Some(id) = known(self.make_of_size(&plan).await)? else {
            return Ok(false);
        };
        let little = known(self.write(&id, LITTLE).await);
        let much = known(self.write(&id, MUCH).await);
        self.remove_by_force(&id.0).await?;
        Ok(little?.is_some() && much?.is_none())
    }

    async fn make_of_size(&self, plan: &ContainerPlan) -> Result<ContainerId, EngineError> {
        let never_started = |body| ContainerCreateBody {
            cmd: Some(vec!["never started".into()]),
            ..body
        };
        self.make(plan, never_started).await
    }

    async fn write(&self, id: &ContainerId, bytes: usize) -> Result<(), EngineError> {
        let options = UploadToContainerOptions {
            path: "/".into(),
            ..UploadToContainerOptions::default()
        };
        let content = body_full(archive_of("written", bytes)?.into());
        let docker = self.line.docker()?;
        let put = docker.upload_to_container(&id.0, Some(options), content);
        put.await.map_err(failure::of_call)
    }
}

/// Whether it was done, where the engine has said so.
fn known<T>(answer: Result<T, EngineError>) -> Result<Option<T>, EngineError> {
    match answer {
        Err(error @ (EngineError::Away(_) | EngineError::Deadline(_))) => Err(error),
        done => Ok(done.ok()),
    }
}

/// One file, of bytes that no file system makes smaller.
fn archive_of(name: &str, bytes: usize) -> Result<Vec<u8>, EngineError> {
    let written = || -> io::Result<Vec<u8>> {
        let content = std::iter::repeat_with(|| fastrand::u8(..)).take(bytes);
        let content: Vec<u8> = content.collect();
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o444);
        header.set_size(bytes as u64);
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_data(&mut header, format!("worker-node-trial-{name}"), &*content)?;
        archive.into_inner()
    };
    written().map_err(|error| EngineError::Failed(error.to_string()))
}
