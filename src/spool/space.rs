//! Whether the disk has room for more output: asked at most once a second, however many spools are written.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::{disk::Disk, lock};

/// How long an answer is good for. A disk that takes 1 GB/s does not go from the limit to nothing in it.
const FRESH: Duration = Duration::from_secs(1);

/// The room left on one folder's disk.
pub(super) struct Space {
    folder: PathBuf,
    least_free: u64,
    disk: Arc<dyn Disk>,
    seen: Mutex<Option<(Instant, bool)>>,
}

impl Space {
    pub(super) fn new(folder: PathBuf, least_free: u64, disk: Arc<dyn Disk>) -> Self {
        Self {
            folder,
            least_free,
            disk,
            seen: Mutex::new(None),
        }
    }

    /// Room enough for output. A disk that does not answer is taken to have room: its writes will tell.
    pub(super) fn is_there(&self) -> bool {
        let now = Instant::now();
        let mut seen = lock(&self.seen);
        match *seen {
            Some((at, room)) if now.duration_since(at) < FRESH => room,
            _ => {
                let free = self.disk.free(&self.folder).unwrap_or(u64::MAX);
                let room = free >= self.least_free;
                *seen = Some((now, room));
                room
            }
        }
    }
}
