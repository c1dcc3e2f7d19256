//! What an operator is told of images, and pulls at an operator's wish, which go through the same actor as the pulls for tasks.

use std::{collections::HashMap, sync::Arc};

use futures_util::{StreamExt, stream};
use tokio::{select, sync::broadcast::error::RecvError, time::Instant};

use crate::{
    actors::{
        images::{GetImage, ImagesActor, PullTicket},
        journal::Records,
    },
    domain::{callers::Caller, shelf::Stored},
    ports::{
        admin::{AdminError, ImageView, PullStep, PullSteps},
        engine::ImageRef,
        journal::Household,
        shelf::ImageShelf,
    },
    supervision::Slot,
};

/// Parses an image's name as a person writes it, or says what is wrong with it.
pub type ParseImage = Arc<dyn Fn(&str) -> Result<ImageRef, String> + Send + Sync>;

/// The sources of what is told of images, and the actor that pulls.
#[derive(Clone)]
pub struct ImageDesk {
    /// The images that the engine has.
    pub shelf: Arc<dyn ImageShelf>,
    /// Parses an image's name.
    pub parse: ParseImage,
    /// The actor that pulls.
    pub actor: Slot<ImagesActor>,
    /// The journal: which images this worker pulled, and which ones its tasks want.
    pub records: Records,
}

impl ImageDesk {
    pub(super) async fn views(&self) -> Result<Vec<ImageView>, AdminError> {
        let stored = self.shelf.images().await;
        let stored = stored.map_err(|error| AdminError::Lost(error.to_string()))?;
        let household = self.records.household().await;
        Ok(views(stored, &household, &self.parse))
    }

    pub(super) async fn pull(
        &self,
        caller: &Caller,
        image: &str,
        deadline: Instant,
    ) -> Result<PullSteps, AdminError> {
        let image = match (self.parse)(image) {
            Ok(image) => image,
            Err(why) => return Ok(stream::iter([Ok(PullStep::Failed(why))]).boxed()),
        };
        let user = caller.operator();
        let asked = self
            .actor
            .ask_idempotent(GetImage { image, user }, deadline);
        let ticket = asked.await.map_err(|_| AdminError::Unavailable)?;
        Ok(steps(ticket))
    }
}

/// The steps of a pull: its lines, then its end. The pull goes on only while somebody takes them.
fn steps(ticket: PullTicket) -> PullSteps {
    let steps = stream::unfold(Some(ticket), async |ticket| {
        let mut ticket = ticket?;
        if let Some(line) = next_line(&mut ticket).await {
            return Some((PullStep::Line(line), Some(ticket)));
        }
        let end = match ticket.image.await {
            Ok(image) => PullStep::Here(image.told()),
            Err(why) => PullStep::Failed(why),
        };
        Some((end, None))
    });
    steps.map(Ok).boxed()
}

/// The next line of the pull's progress; `None` when no more comes.
async fn next_line(ticket: &mut PullTicket) -> Option<String> {
    let image = ticket.image.clone();
    loop {
        select! {
            biased;
            line = ticket.progress.recv() => match line {
                Ok(line) => return Some(line),
                // An operator who reads slowly misses some lines.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            },
            _ = image.clone() => return ticket.progress.try_recv().ok(),
        }
    }
}

/// The images as an operator sees them: those that this worker pulled first, the last used of them first.
fn views(stored: Vec<Stored>, household: &Household, parse: &ParseImage) -> Vec<ImageView> {
    let wanted: Vec<_> = household
        .images_wanted
        .iter()
        .map(|(name, ran)| {
            ran.clone()
                .or_else(|| parse(name).ok().map(|image| image.0))
        })
        .collect();
    let ours: HashMap<_, _> = household
        .images
        .iter()
        .map(|image| (image.id.as_str(), image))
        .collect();
    let view = |image: Stored| {
        let ours = ours.get(image.id.as_str());
        let told = ours.map_or(&image.id, |ours| &ours.told).clone();
        // Tasks name an image by what the engine told of it, by its id, or by a tag.
        let is_it =
            |name: &&String| **name == told || **name == image.id || image.tags.contains(name);
        ImageView {
            tasks: wanted.iter().flatten().filter(is_it).count() as u64,
            names: image.tags,
            bytes: image.bytes,
            ours: ours.map(|ours| (ours.pulled_at, ours.used_at)),
            id: image.id,
            told,
        }
    };
    let mut views: Vec<_> = stored.into_iter().map(view).collect();
    views.sort_by(|one, other| {
        let used = |view: &ImageView| view.ours.map(|(_, used)| used);
        let by_use = used(other).cmp(&used(one));
        by_use.then_with(|| one.names.cmp(&other.names))
    });
    views
}

#[cfg(test)]
pub(super) mod tests;
