//! Watches the disks of the worker and of the engine, and the size of the state folder: whether there is room for new tasks. The
//! registry looks at the result.

use std::{path::Path, sync::Arc};

use log::{info, warn};
use tokio::time::Instant;

use super::Tools;
use crate::{supervision::threads::blocking, telemetry::machine::Room};

/// Measuring the state folder takes at most one part in this many of the time: the folder may hold many files.
const SHARE: u32 = 20;

/// Inodes that must be free on a disk: a task takes some of its own, and its container as many as there are folders of its image
/// that it writes to.
const INODES_LOW: u64 = 1_000;

/// The size of the state folder, as measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Used {
    bytes: u64,
    /// When to measure it again.
    good_until: Instant,
}

impl Tools {
    /// Looks at the disks, and publishes the result. Measures the state folder again where the last measurement is too old.
    pub(super) async fn look_at_disk(&self, used: Option<Used>) -> Option<Used> {
        let used = match used {
            Some(used) if Instant::now() < used.good_until => used,
            Some(_) | None => self.measure().await,
        };
        let (room, data_root) = (Arc::clone(&self.room), self.view.data_root());
        let look = move || {
            let engines = data_root.and_then(|root| Some((room(Some(&root)).ok()?, root)));
            Ok::<_, std::io::Error>((room(None)?, engines))
        };
        if let Ok(Ok((own, engines))) = blocking(look).await {
            let low = self.retention().disk_low;
            let of_engine = engines.and_then(|(room, root)| no_room_of_engine(room, &root, low));
            self.tell(self.no_room(own, used.bytes).or(of_engine));
        }
        Some(used)
    }

    async fn measure(&self) -> Used {
        let begun = Instant::now();
        let bytes = self.used_bytes().await;
        Used {
            bytes,
            good_until: begun + begun.elapsed() * SHARE,
        }
    }

    /// Bytes that the state folder takes on the disk. What cannot be measured counts as 0.
    pub(super) async fn used_bytes(&self) -> u64 {
        let (own, holdings) = (Arc::clone(&self.own_space), self.holdings.clone());
        let measured = blocking(move || {
            let held: u64 = holdings.iter().map(|held| held.total_bytes()).sum();
            own().unwrap_or(0) + held
        });
        measured.await.unwrap_or(0)
    }

    fn no_room(&self, own: Room, used: u64) -> Option<String> {
        let retention = self.retention();
        if let Some(why) = no_room(own, retention.disk_low) {
            return Some(why);
        }
        let total = retention.total;
        (used > total).then(|| {
            let (used, total) = (mebibytes(used), mebibytes(total));
            format!("the state folder is full: it takes {used} MiB, and may take {total} MiB")
        })
    }

    fn tell(&self, why: Option<String>) {
        // Send even if nothing has changed: who says that the worker is ready waits for the first look.
        self.pressure.send_modify(|pressure| {
            if pressure.is_some() != why.is_some() {
                match &why {
                    Some(why) => warn!("new tasks are refused: {why}"),
                    None => info!("new tasks are taken again: there is room on the disk"),
                }
            }
            *pressure = why;
        });
    }
}

/// Why the disk of a state folder has no room for a task; `None` if it has. `low` in bytes.
#[must_use]
pub fn no_room(own: Room, low: u64) -> Option<String> {
    if own.bytes < low {
        let (free, low) = (mebibytes(own.bytes), mebibytes(low));
        return Some(format!(
            "the disk is full: {free} MiB are free, {low} MiB are needed"
        ));
    }
    let why = no_inodes(own)?;
    Some(format!(
        "the disk is full: {why}; remove files from the state folder's disk"
    ))
}

/// Why the disk of an engine, which keeps its containers in `root`, has no room for a task; `None` if it has. `low` in bytes. On
/// such a disk creating a container would fail.
#[must_use]
pub fn no_room_of_engine(room: Room, root: &Path, low: u64) -> Option<String> {
    let root = root.display();
    let what = if room.bytes < low {
        let (free, low) = (mebibytes(room.bytes), mebibytes(low));
        format!("{free} MiB are free in {root}, {low} MiB are needed (--disk-low)")
    } else {
        format!("{} in {root}", no_inodes(room)?)
    };
    Some(format!(
        "the engine's disk is full: {what}; remove images and containers there, such as by `docker system prune`"
    ))
}

/// Why a disk that has bytes left may have no place for more files; `None` if it has.
fn no_inodes(room: Room) -> Option<String> {
    let left = room.inodes.filter(|left| *left < INODES_LOW)?;
    Some(format!("{left} inodes are free, {INODES_LOW} are needed"))
}

fn mebibytes(bytes: u64) -> u64 {
    bytes / 1_048_576
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_inodes_is_full_though_it_has_bytes() {
        let room = |inodes| Room {
            bytes: u64::MAX,
            size: u64::MAX,
            inodes,
        };

        for left in [0, 3, INODES_LOW - 1] {
            let why = no_inodes(room(Some(left))).unwrap();
            assert!(why.starts_with(&format!("{left} inodes are free")), "{why}");
        }
        assert_eq!(no_inodes(room(Some(INODES_LOW))), None);
        assert_eq!(no_inodes(room(None)), None, "it counts none");
    }
}
