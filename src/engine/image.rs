//! Looking for images and pulling them.

use bollard::{
    models::ImageSummary,
    query_parameters::{CreateImageOptions, ListImagesOptions, RemoveImageOptions},
};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::{
    DockerEngine, LOOK, failure,
    progress::{Narrator, Sign},
    reference,
};
use crate::{
    domain::shelf::Stored,
    ports::engine::{EngineError, Image, ImageRef},
};

impl DockerEngine {
    pub(super) async fn look_for_image(
        &self,
        image: &ImageRef,
    ) -> Result<Option<Image>, EngineError> {
        // The field of `ImageRef` is open: a text that did not come from `parse_image` must not become a path.
        let checked = reference::parse(&image.0).map_err(EngineError::Invalid)?;
        let found = self.line.docker()?.inspect_image(&checked.0).await;
        match found.map_err(failure::of_call) {
            Ok(found) => {
                let id = found.id.ok_or_else(|| no_id(image))?;
                let digests = found.repo_digests.unwrap_or_default();
                let repo_digest = reference::repo_digest(&checked, &digests);
                Ok(Some(Image { id, repo_digest }))
            }
            Err(EngineError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn ask_registry(&self, image: &ImageRef) -> Result<String, EngineError> {
        let checked = reference::parse(&image.0).map_err(EngineError::Invalid)?;
        let parts = reference::pullable(&checked).ok_or_else(|| no_such_id(&checked))?;
        let credentials = self.credentials.find(parts.registry).await?;
        let docker = self.line.docker()?;
        let asked = docker.inspect_registry_image(&checked.0, credentials).await;
        let digest = asked.map_err(failure::of_pull)?.descriptor.digest;
        digest.ok_or_else(|| EngineError::Failed(format!("no digest of {} is told", checked.0)))
    }

    pub(super) async fn list_images(&self) -> Result<Vec<Stored>, EngineError> {
        let listed = self
            .line
            .docker()?
            .list_images(None::<ListImagesOptions>)
            .await;
        let listed = listed.map_err(failure::of_call)?;
        Ok(listed.into_iter().map(stored).collect())
    }

    /// Removes a name, and with its last name the image; never by force. Parents without a name may be somebody's build: they stay.
    pub(super) async fn let_go_of_image(&self, name_or_id: &str) -> Result<(), EngineError> {
        let checked = reference::parse(name_or_id).map_err(EngineError::Invalid)?;
        let gently = RemoveImageOptions {
            force: false,
            noprune: true,
            ..RemoveImageOptions::default()
        };
        let docker = self.line.docker()?;
        let removed = docker.remove_image(&checked.0, Some(gently), None).await;
        removed.map(drop).map_err(failure::of_call)
    }

    pub(super) async fn pull_image(
        &self,
        image: &ImageRef,
        progress: &mpsc::Sender<Option<String>>,
    ) -> Result<Image, EngineError> {
        let checked = reference::parse(&image.0).map_err(EngineError::Invalid)?;
        let parts = reference::pullable(&checked).ok_or_else(|| no_such_id(&checked))?;
        let credentials = self.credentials.find(parts.registry).await?;
        let options = CreateImageOptions {
            from_image: Some(parts.name.to_owned()),
            tag: Some(parts.version.to_owned()),
            ..CreateImageOptions::default()
        };
        let docker = self.line.docker()?;
        let mut items = docker.create_image(Some(options), None, credentials);
        let mut narrator = Narrator::default();
        while let Some(item) = items.next().await {
            let sign = narrator.tell(&item.map_err(failure::of_pull)?);
            pass_on(sign, progress).await;
        }
        let found = self.look_for_image(&checked);
        let found = self.line.within(LOOK, "image inspect", found).await?;
        found.ok_or_else(|| {
            EngineError::Failed(format!("{} was pulled, but is not there", checked.0))
        })
    }
}

/// A line waits for its reader; a bare sign of life does not, since a full channel is full of them. A reader that went away
/// ends nothing: the pull ends with its own future.
async fn pass_on(sign: Sign, progress: &mpsc::Sender<Option<String>>) {
    match sign {
        Sign::Line(line) => {
            let _ = progress.send(Some(line)).await;
        }
        Sign::Life => {
            let _ = progress.try_send(None);
        }
    }
}

fn stored(image: ImageSummary) -> Stored {
    // Older engines list this tag for an image that has lost its name.
    let names = image
        .repo_tags
        .into_iter()
        .filter(|tag| tag != "<none>:<none>");
    let normal = |tag: String| reference::parse(&tag).map_or(tag, |reference| reference.0);
    Stored {
        id: image.id,
        tags: names.map(normal).collect(),
        bytes: u64::try_from(image.size).unwrap_or(0),
    }
}

fn no_id(image: &ImageRef) -> EngineError {
    EngineError::Failed(format!("the engine does not tell the id of {}", image.0))
}

fn no_such_id(image: &ImageRef) -> EngineError {
    EngineError::NotFound(format!(
        "no image here has the id {}, and no registry can be asked for an id",
        image.0
    ))
}
