//! Rounds over an engine's images in memory, on a disk of a hundred places of which each image takes five.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use async_trait::async_trait;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);
const EACH: u8 = 5;

/// Ids and names of the images, and the ids of those that have a container.
#[derive(Default)]
struct Shelf {
    stored: Mutex<Vec<Stored>>,
    in_use: Vec<&'static str>,
}

impl Shelf {
    fn of(images: &[(&str, &[&str])]) -> Self {
        let stored = images.iter().map(|(id, tags)| Stored {
            id: (*id).into(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            bytes: 1,
        });
        Self {
            stored: Mutex::new(stored.collect()),
            in_use: Vec::new(),
        }
    }

    fn ids(&self) -> Vec<String> {
        let stored = self.stored.lock().unwrap();
        stored.iter().map(|image| image.id.clone()).collect()
    }
}

#[async_trait]
impl ImageShelf for Shelf {
    async fn images(&self) -> Result<Vec<Stored>, EngineError> {
        Ok(self.stored.lock().unwrap().clone())
    }

    /// Removes an image as Docker does.
    async fn remove_image(&self, name: &str) -> Result<(), EngineError> {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |image: &Stored| image.id == name || image.tags.iter().any(|tag| tag == name);
        let found = stored.iter().position(is_it);
        let found = found.ok_or_else(|| EngineError::NotFound("no such image".into()))?;
        let image = &mut stored[found];
        let has_more = image.tags.len() > 1;
        if has_more && image.id != name {
            image.tags.retain(|tag| tag != name);
            return Ok(());
        }
        if has_more || self.in_use.contains(&image.id.as_str()) {
            return Err(EngineError::Conflict("must be forced".into()));
        }
        stored.remove(found);
        Ok(())
    }
}

/// An image pulled as `r/ID:1` and used last on that day.
fn pulled(id: &str, used_on: u32) -> Pulled {
    Pulled {
        id: id.into(),
        told: id.into(),
        references: vec![format!("r/{id}:1"), format!("r/{id}:latest")],
        pulled_at: UNIX_EPOCH,
        used_at: UNIX_EPOCH + used_on * DAY,
    }
}

/// What a round on day 10 removes, from a disk that is `full` at its beginning: over 85 of 100 is too much, 80 is enough.
async fn round(shelf: &Shelf, pulled: &[Pulled], full: u8) -> Vec<String> {
    let upkeep = Upkeep {
        max_age: Some(7 * DAY),
        high: 85,
        low: 80,
    };
    let collection = Collection {
        shelf,
        pulled,
        wanted: ["r/wanted:1".to_owned()].into(),
        upkeep,
        now: UNIX_EPOCH + 10 * DAY,
    };
    let before = shelf.ids().len();
    let is_tight = async |begun: Begun| {
        let freed = u8::try_from(before - shelf.ids().len()).unwrap() * EACH;
        upkeep.is_tight(full - freed, begun.0)
    };
    collection.run(is_tight).await
}

#[tokio::test]
async fn old_images_go_though_the_disk_has_room_and_younger_ones_stay() {
    let shelf = Shelf::of(&[("old", &["r/old:1"]), ("young", &["r/young:1"])]);

    let removed = round(&shelf, &[pulled("old", 1), pulled("young", 5)], 10).await;

    assert_eq!(removed, ["old"]);
    assert_eq!(shelf.ids(), ["young"]);
}

#[tokio::test]
async fn over_the_high_mark_the_least_recently_used_go_until_the_low_one() {
    let ids = ["a", "b", "c", "d"];
    let shelf = || Shelf::of(&ids.map(|id| (id, &[][..])));
    let pulled = [
        pulled("a", 8),
        pulled("b", 6),
        pulled("c", 9),
        pulled("d", 7),
    ];

    let (full, below) = (shelf(), shelf());

    assert_eq!(round(&full, &pulled, 90).await, ["b", "d"]);
    assert_eq!(full.ids(), ["a", "c"]);
    assert_eq!(round(&below, &pulled, 84).await, [""; 0]);
}

#[tokio::test]
async fn what_is_foreign_wanted_renamed_or_has_a_container_stays_on_a_full_disk() {
    let mut shelf = Shelf::of(&[
        ("foreign", &["r/foreign:1"]),
        ("wanted", &["r/wanted:1"]),
        ("renamed", &["r/renamed:1", "mine:latest"]),
        ("running", &["r/running:1"]),
        ("ours", &["r/ours:1", "r/ours:latest"]),
    ]);
    shelf.in_use.push("running");
    let ours = ["wanted", "renamed", "running", "ours"].map(|id| pulled(id, 1));

    let removed = round(&shelf, &ours, 100).await;

    assert_eq!(removed, ["ours"]);
    assert_eq!(shelf.ids(), ["foreign", "wanted", "renamed", "running"]);
}

#[tokio::test]
async fn what_went_by_another_hand_or_before_it_could_be_written_down_is_forgotten() {
    let shelf = Shelf::of(&[("there", &["r/there:1"])]);

    let forgotten = round(&shelf, &[pulled("gone", 9), pulled("there", 9)], 10).await;

    assert_eq!(forgotten, ["gone"]);
    assert_eq!(shelf.ids(), ["there"]);
}
