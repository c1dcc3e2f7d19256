//! Which of the images that this worker has pulled it lets go of again, and in which order: the ones that nothing has used for the
//! longest first, those that are too old, and others while the engine's disk is over its mark. An image that was there before, that
//! has come or got a name by another hand, or that an open task wants is left alone.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

/// An image that came to the engine by a pull of this worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The engine's id of the image.
    pub id: String,
    /// The image as results of tasks name it: the registry's digest, else its id.
    pub told: String,
    /// The names under which it was pulled, in their normal form.
    pub references: Vec<String>,
    /// When it was pulled first.
    pub pulled_at: SystemTime,
    /// When a task of this image was started or ended last; its pull counts too.
    pub used_at: SystemTime,
}

/// An image on the engine, whosever it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The engine's id of the image.
    pub id: String,
    /// Its names, in their normal form where they have one.
    pub tags: Vec<String>,
    /// Bytes that it takes on the disk, with those that it shares with others.
    pub bytes: u64,
}

/// What a pull brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brought {
    /// An image that was not there before.
    New,
    /// At most one more name for an image that was.
    Nothing,
}

/// How many images are kept, in the words of a kubelet's collection of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upkeep {
    /// An image that was not used for longer goes; `None`: age is no reason.
    pub max_age: Option<Duration>,
    /// From this share of the engine's disk on, in percent, images go whatever their age; from 100 on none does for that.
    pub high: u8,
    /// Once images go, they go while more than this share is used, in percent.
    pub low: u8,
}

/// The pulled images that may go, the one that was not used for the longest first.
#[must_use]
pub fn idle<'a>(
    pulled: &'a [Pulled],
    stored: &[Stored],
    wanted: &HashSet<String>,
) -> Vec<&'a Pulled> {
    let is_there = |image: &Pulled| {
        let mut stored = stored.iter().filter(|stored| stored.id == image.id);
        stored.any(|stored| {
            let mut tags = stored.tags.iter();
            tags.all(|tag| image.references.contains(tag))
        })
    };
    let is_wanted = |image: &Pulled| {
        let mut names = image.references.iter().chain([&image.id, &image.told]);
        names.any(|name| wanted.contains(name))
    };
    let idle = pulled.iter();
    let mut idle: Vec<_> = idle
        .filter(|image| is_there(image) && !is_wanted(image))
        .collect();
    idle.sort_by_key(|image| (image.used_at, image.pulled_at, &image.id));
    idle
}

/// The pulled images that are not on the engine any more.
pub fn gone<'a>(
    pulled: &'a [Pulled],
    stored: &'a [Stored],
) -> impl Iterator<Item = &'a Pulled> + 'a {
    let is_there = |image: &Pulled| stored.iter().any(|stored| stored.id == image.id);
    pulled.iter().filter(move |image| !is_there(image))
}

impl Upkeep {
    /// Whether nothing has used the image for too long. A clock that was set back makes none old.
    #[must_use]
    pub fn is_old(&self, image: &Pulled, now: SystemTime) -> bool {
        let age = now.duration_since(image.used_at).unwrap_or_default();
        self.max_age.is_some_and(|most| age > most)
    }

    /// Whether images go for the disk's sake: from the high mark on, and once one has gone, until the low one is reached.
    #[must_use]
    pub fn is_tight(&self, used_percent: u8, has_begun: bool) -> bool {
        match has_begun {
            _ if self.high >= 100 => false,
            false => used_percent >= self.high,
            true => used_percent > self.low,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn pulled(id: &str, used_on: u32) -> Pulled {
        Pulled {
            id: id.into(),
            told: format!("r/{id}@sha256:{id}"),
            references: vec![format!("r/{id}:1"), format!("r/{id}:latest")],
            pulled_at: UNIX_EPOCH,
            used_at: UNIX_EPOCH + used_on * DAY,
        }
    }

    fn stored(id: &str, tags: &[&str]) -> Stored {
        Stored {
            id: id.into(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            bytes: 1,
        }
    }

    fn ids<'a>(images: impl IntoIterator<Item = &'a Pulled>) -> Vec<&'a str> {
        images.into_iter().map(|image| image.id.as_str()).collect()
    }

    #[test]
    fn the_one_that_was_not_used_for_the_longest_goes_first() {
        let all = [pulled("a", 3), pulled("b", 1), pulled("c", 2)];
        let there = ["a", "b", "c"].map(|id| stored(id, &[]));

        assert_eq!(ids(idle(&all, &there, &HashSet::new())), ["b", "c", "a"]);
    }

    #[test]
    fn what_an_open_task_wants_stays_by_whatever_name_it_goes() {
        let all = [pulled("a", 1)];
        let there = [stored("a", &["r/a:1"])];

        for name in ["a", "r/a@sha256:a", "r/a:1", "r/a:latest"] {
            let wanted = HashSet::from([name.to_owned()]);
            assert_eq!(ids(idle(&all, &there, &wanted)), [""; 0], "{name}");
        }
        assert_eq!(ids(idle(&all, &there, &["r/b:1".into()].into())), ["a"]);
    }

    #[test]
    fn what_others_have_brought_or_named_stays() {
        let all = [pulled("a", 1), pulled("b", 1), pulled("gone", 1)];
        let there = [
            stored("a", &["r/a:1", "somebody/mine:latest"]),
            stored("b", &["r/b:1", "r/b:latest"]),
            stored("foreign", &["r/b:2"]),
        ];

        assert_eq!(ids(idle(&all, &there, &HashSet::new())), ["b"]);
        assert_eq!(ids(gone(&all, &there)), ["gone"]);
    }

    #[test]
    fn age_counts_from_the_last_use_and_may_be_no_reason() {
        let upkeep = |max_age| Upkeep {
            max_age,
            high: 85,
            low: 80,
        };
        let (image, week) = (pulled("a", 10), upkeep(Some(7 * DAY)));
        let day = |day: u32| UNIX_EPOCH + day * DAY;

        assert!(!week.is_old(&image, day(17)));
        assert!(week.is_old(&image, day(18)));
        assert!(!week.is_old(&image, day(0)), "a clock that was set back");
        assert!(!upkeep(None).is_old(&image, day(1_000)));
    }

    #[test]
    fn a_disk_over_the_high_mark_is_brought_down_to_the_low_one() {
        let upkeep = Upkeep {
            max_age: None,
            high: 85,
            low: 80,
        };
        let never = Upkeep {
            high: 100,
            ..upkeep
        };

        for (used, has_begun, tight) in [
            (84, false, false),
            (85, false, true),
            (81, true, true),
            (80, true, false),
        ] {
            assert_eq!(
                upkeep.is_tight(used, has_begun),
                tight,
                "{used} {has_begun}"
            );
            assert!(!never.is_tight(100, has_begun));
        }
    }
}
