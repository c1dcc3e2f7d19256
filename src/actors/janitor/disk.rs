//! The watch on the disk: whether it, and the state folder, have room for new tasks. What is found is the registry's to look at.

use std::sync::Arc;

use log::{info, warn};
use tokio::{task::spawn_blocking, time::Instant};

use super::Tools;

/// Measuring the state folder takes no more than this part of the time: it may hold many files.
const SHARE: u32 = 20;

/// What the state folder takes, as measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Used {
    bytes: u64,
    /// Measured anew from then on.
    good_until: Instant,
}

impl Tools {
    /// Looks, and tells the registry. What the state folder takes is measured where the last figure is too old.
    pub(super) async fn look_at_disk(&self, used: Option<Used>) -> Option<Used> {
        let used = match used {
            Some(used) if Instant::now() < used.good_until => used,
            Some(_) | None => self.measure().await,
        };
        let free_space = Arc::clone(&self.free_space);
        if let Ok(Ok(free)) = spawn_blocking(move || free_space()).await {
            self.tell(self.no_room(free, used.bytes));
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

    /// Bytes that the state folder takes on the disk. What cannot be measured takes nothing.
    pub(super) async fn used_bytes(&self) -> u64 {
        let (own, holdings) = (Arc::clone(&self.own_space), self.holdings.clone());
        let measured = spawn_blocking(move || {
            let held: u64 = holdings.iter().map(|held| held.total_bytes()).sum();
            own().unwrap_or(0) + held
        });
        measured.await.unwrap_or(0)
    }

    fn no_room(&self, free: u64, used: u64) -> Option<String> {
        let (low, total) = (self.retention.disk_low, self.retention.total);
        if free < low {
            let (free, low) = (mebibytes(free), mebibytes(low));
            return Some(format!(
                "the disk is full: {free} MiB are free, {low} MiB are needed"
            ));
        }
        (used > total).then(|| {
            let (used, total) = (mebibytes(used), mebibytes(total));
            format!("the state folder is full: it takes {used} MiB, and may take {total} MiB")
        })
    }

    fn tell(&self, why: Option<String>) {
        self.pressure.send_if_modified(|pressure| {
            let changed = pressure.is_some() != why.is_some();
            if changed {
                match &why {
                    Some(why) => warn!("new tasks are refused: {why}"),
                    None => info!("new tasks are taken again: there is room on the disk"),
                }
            }
            *pressure = why;
            changed
        });
    }
}

fn mebibytes(bytes: u64) -> u64 {
    bytes / 1_048_576
}
