//! Tries whether the engine holds a container's own layer, and that alone, to a size. Most engines refuse such a wish, some take it
//! and do nothing, and some count the image too (btrfs). So into a container of a large image, which is never started, a small file
//! must fit and a large one must not.

use std::io;

use bollard::{body_full, models::ContainerCreateBody, query_parameters::UploadToContainerOptions};

use super::super::{DockerEngine, failure};
use crate::{
    domain::id::ContainerId,
    ports::engine::{ContainerPlan, EngineError, Image, Trial},
};

/// The size that the container's layer is given, in bytes.
const SIZE: u64 = 4 << 20;
/// The size of its image, in bytes: larger than the layer may be.
const IMAGE: usize = 8 << 20;
/// The size of a file that must fit into the layer, in bytes.
const LITTLE: usize = 1 << 20;
/// The size of a file that must not fit, in bytes.
const MUCH: usize = 6 << 20;

impl DockerEngine {
    /// Whether the engine holds layers to a size. `image` is the trial's empty image: where the engine refuses a size even for a
    /// container of that, no large image is made.
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
        // An engine without room for it is nobody's fault here: it is told by what else it lacks.
        let large = self.import(archive_of("image", IMAGE)?).await;
        let Some(large) = known(large)? else {
            return Ok(false);
        };
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

/// The result of a call, or `None` where the engine refused it. It is an error only if the engine did not answer.
fn known<T>(answer: Result<T, EngineError>) -> Result<Option<T>, EngineError> {
    match answer {
        Err(error @ (EngineError::Away(_) | EngineError::Deadline(_))) => Err(error),
        done => Ok(done.ok()),
    }
}

/// An archive of one file of random bytes, which no file system can compress.
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
