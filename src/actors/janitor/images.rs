//! Removes images that this worker pulled and nothing uses. The engine has the last word: without force it removes no image that
//! has a container. An image that it refuses to remove is left alone until the next round.

use std::{sync::Arc, time::SystemTime};

use log::{debug, info};

use super::{Tools, no_room_of_engine};
use crate::{
    domain::{
        record::Change,
        shelf::{self, Pulled, Stored, Upkeep},
    },
    failpoint,
    ports::{engine::EngineError, journal::Household, shelf::ImageShelf},
    supervision::threads::blocking,
};

impl Tools {
    pub(super) async fn collect_images(&self, household: &Household) {
        failpoint!("janitor.images");
        // An engine that is away has its images in the next round.
        if household.images.is_empty() {
            return;
        }
        let wanted = household.images_wanted.iter();
        let wanted = wanted.flat_map(|(name, ran)| {
            let normal = self.engine.parse_image(name).map(|image| image.0).ok();
            normal.into_iter().chain(ran.clone())
        });
        let collection = Collection {
            shelf: self.engine.as_ref(),
            pulled: &household.images,
            wanted: wanted.collect(),
            upkeep: self.retention().images,
            now: self.clock.now(),
        };
        let removed = collection.run(async |begun| self.is_tight(begun).await);
        let removed = removed.await.into_iter().map(Change::ImageRemoved);
        let removed: Vec<_> = removed.collect();
        if !removed.is_empty() {
            // No rule of the journal refuses this.
            let _ = self.records.keep(removed).await;
        }
    }

    /// Whether the engine's disk is so full that images must go. Where the disk cannot be looked at, never.
    async fn is_tight(&self, begun: Begun) -> bool {
        let Some(root) = self.view.data_root() else {
            return false;
        };
        let (room, at) = (Arc::clone(&self.room), root.clone());
        let Ok(Ok(room)) = blocking(move || room(Some(&at))).await else {
            return false;
        };
        let (upkeep, low) = (self.retention().images, self.retention().disk_low);
        upkeep.is_tight(room.used_percent(), begun.0)
            || upkeep.high < 100 && no_room_of_engine(room, &root, low).is_some()
    }
}

/// Whether images have been removed for the disk's sake in this round.
#[derive(Debug, Clone, Copy)]
struct Begun(bool);

/// One round of removing images.
struct Collection<'a> {
    shelf: &'a dyn ImageShelf,
    pulled: &'a [Pulled],
    wanted: std::collections::HashSet<String>,
    upkeep: Upkeep,
    now: SystemTime,
}

impl Collection<'_> {
    /// Removes images that are too old, or while the disk is tight; returns the ids of all recorded images that are gone, now or
    /// before.
    async fn run(&self, is_tight: impl AsyncFn(Begun) -> bool) -> Vec<String> {
        let Ok(stored) = self.shelf.images().await else {
            return Vec::new();
        };
        let gone = shelf::gone(self.pulled, &stored);
        let mut removed: Vec<_> = gone.map(|image| image.id.clone()).collect();
        let mut begun = Begun(false);
        for image in shelf::idle(self.pulled, &stored, &self.wanted) {
            let is_old = self.upkeep.is_old(image, self.now);
            if !is_old {
                begun = Begun(is_tight(begun).await);
                if !begun.0 {
                    break;
                }
            }
            if self.remove(image, &stored).await {
                let why = match is_old {
                    true => "nothing has used it for too long",
                    false => "the engine's disk is full",
                };
                info!(image = image.told, why; "an image that was pulled for tasks is removed");
                removed.push(image.id.clone());
            }
        }
        removed
    }

    /// Removes an image by its id, which works only while it has at most one name: further names are removed before.
    async fn remove(&self, image: &Pulled, stored: &[Stored]) -> bool {
        let tags = stored.iter().find(|stored| stored.id == image.id);
        let tags = tags.map_or(&[][..], |stored| &stored.tags);
        for name in tags.iter().skip(1).chain([&image.id]) {
            match self.shelf.remove_image(name).await {
                Ok(()) | Err(EngineError::NotFound(_)) => {}
                Err(error) => {
                    debug!(image = image.told, error:%; "an image is left where it is");
                    return false;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
