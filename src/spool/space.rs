//! Whether the disk has room for more output: asked at most once a second, however many spools are written.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use super::{disk::Disk, lock};

/// How long a measurement is used. A disk may fill up within that time: then the write fails, and its output is left out as well.
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

    /// Whether there is room for output. A disk that does not answer counts as having room: the write will fail.
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
