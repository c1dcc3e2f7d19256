//! Spools: the logs of tasks in files, one file per task. A spool has one writer and any number of cursors, which neither wait
//! for the writer nor hold it up. The log router opens and removes spools; viewers get cursors. No log bytes go through a
//! mailbox.
//!
//! ```text
//! | header: magic, two slots for the hole | id | record | record | (hole) | record | ... | end | footer |
//! ```
//!
//! A record is what came in one piece from one source, with its time of arrival and checksums of its head and its content.
//! Offsets in the file never change: a log over its cap gives disk space back by a hole in the file behind its first quarter,
//! which grows by whole records. Appends are written without `fsync` (a killed process loses none of them, and after a power cut
//! the engine still has the container's output); the end of the log and the extent of the hole are durable.
//!
//! Not here: reading from containers, catching up with the engine's log, retention.

mod backward;
mod cursor;
mod disk;
mod format;
pub mod look;
mod onlooker;
mod open;
mod reader;
mod space;
mod start;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    collections::{HashMap, HashSet},
    fs::{self, DirBuilder, File, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use tokio::{
    sync::{Semaphore, watch},
    task::spawn_blocking,
};

use crate::{
    domain::id::TaskId,
    ports::{
        clock::Clock,
        holdings::{Holdings, Known},
        spool::{LogCursor, LogEnd, LogRange, Piece, Position, Spool, SpoolStore},
    },
};
use cursor::FileCursor;
use disk::{Disk, LinuxDisk};
use format::Hole;
pub use onlooker::look_on;
use space::Space;
use writer::Writer;

/// Bounds on the disk space of spools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one task's log on disk, about. Over it, the middle is dropped: the first quarter and the newest three quarters
    /// are kept.
    pub cap: u64,
    /// With less than this many bytes free on the disk, output of containers is left out, with a marker and a count.
    pub least_free: u64,
}

impl Default for Limits {
    /// 1 GiB per task; 256 MiB of the disk left free for everybody else.
    fn default() -> Self {
        Self {
            cap: 1 << 30,
            least_free: 256 << 20,
        }
    }
}

/// Cursors that may hold a line over 32 KiB whole, up to 1 MiB, at the same time. Further cursors give such lines out in parts.
/// Viewers read bytes, which have a bound of their own.
const LONG_LINES: usize = 8;

/// Cursors that may look for their beginning at the same time; the others wait for a turn. Each search may read a whole log, and
/// hundreds at once would leave no core for the master's calls.
const BEGINNINGS: usize = 1;

/// The spools of one state folder.
pub struct FileSpools {
    house: Arc<House>,
    /// The spools that are held by a task, an actor or a cursor; the rest exist only as files.
    open: Mutex<OpenSpools>,
}

/// What all spools of a folder share.
struct House {
    folder: PathBuf,
    cap: u64,
    space: Space,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    /// Places for cursors that are given long lines whole.
    long_lines: Arc<Semaphore>,
    /// Turns for cursors that look for where they begin.
    beginnings: Arc<Semaphore>,
}

impl House {
    fn new(folder: &Path, limits: Limits, clock: Arc<dyn Clock>, disk: Arc<dyn Disk>) -> Self {
        Self {
            folder: folder.to_owned(),
            cap: limits.cap,
            space: Space::new(folder.to_owned(), limits.least_free, Arc::clone(&disk)),
            disk,
            clock,
            long_lines: Arc::new(Semaphore::new(LONG_LINES)),
            beginnings: Arc::new(Semaphore::new(BEGINNINGS)),
        }
    }

    fn file_of(&self, task: &TaskId) -> PathBuf {
        self.folder.join(stem_of(task) + ".log")
    }
}

#[derive(Default)]
struct OpenSpools {
    slots: HashMap<TaskId, Arc<Slot>>,
    /// Once there are this many slots, unused ones are removed.
    crowded: usize,
}

/// One task's place in the list of open spools. Locked while the task's spool is opened or removed, so that a long scan of one
/// log keeps no other task waiting.
#[derive(Default)]
struct Slot(Mutex<Weak<FileSpool>>);

/// One task's log.
struct FileSpool {
    /// Handed to cursors and blocking threads: while one of them lives, the store gives out this very spool.
    myself: Weak<FileSpool>,
    house: Arc<House>,
    file: File,
    /// What readers may rely on. Only the writer changes it.
    state: watch::Sender<State>,
    writer: Arc<tokio::sync::Mutex<Writer>>,
}

/// The state of a log as its writer publishes it to readers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    /// All bytes of the file below this offset are whole records.
    len: u64,
    /// The part that was dropped from the middle.
    hole: Hole,
    /// Bytes of containers that the records below `len` stand for, gaps included.
    counted: u64,
    /// Bytes of stdout that were ever appended or left out.
    stdout: u64,
    /// Bytes of stderr that were ever appended or left out.
    stderr: u64,
    /// When the newest output of the container came, in microseconds since the Unix epoch; 0 where there is none or its time is
    /// unknown.
    newest: i64,
    /// Where reading goes on in the engine's own log of the container.
    position: Option<Position>,
    /// How the log ended; `None` while it grows.
    end: Option<LogEnd>,
}

impl FileSpools {
    /// Opens the folder, made (mode 0700) where there is none.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(folder: &Path, limits: Limits, clock: Arc<dyn Clock>) -> io::Result<Self> {
        Self::on_disk(folder, limits, clock, Arc::new(LinuxDisk))
    }

    fn on_disk(
        folder: &Path,
        limits: Limits,
        clock: Arc<dyn Clock>,
        disk: Arc<dyn Disk>,
    ) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        Ok(Self {
            house: Arc::new(House::new(folder, limits, clock, disk)),
            open: Mutex::default(),
        })
    }

    fn slot(&self, task: &TaskId) -> Arc<Slot> {
        let mut open = lock(&self.open);
        if open.slots.len() >= open.crowded {
            open.slots.retain(|_, slot| !slot.is_idle());
            open.crowded = 2 * open.slots.len() + 64;
        }
        Arc::clone(open.slots.entry(task.clone()).or_default())
    }
}

impl SpoolStore for FileSpools {
    fn open(&self, task: &TaskId) -> io::Result<Arc<dyn Spool>> {
        let slot = self.slot(task);
        let mut known = lock(&slot.0);
        if let Some(spool) = known.upgrade() {
            return Ok(spool);
        }
        let path = self.house.file_of(task);
        let opened = match open::find(&path, task, &self.house)? {
            Some(opened) => opened,
            None => open::create(&path, task)?,
        };
        let spool = FileSpool::new(opened, &self.house);
        *known = Arc::downgrade(&spool);
        Ok(spool)
    }

    fn find(&self, task: &TaskId) -> io::Result<Option<Arc<dyn Spool>>> {
        let slot = self.slot(task);
        let mut known = lock(&slot.0);
        if let Some(spool) = known.upgrade() {
            return Ok(Some(spool));
        }
        let Some(opened) = open::find(&self.house.file_of(task), task, &self.house)? else {
            return Ok(None);
        };
        let spool = FileSpool::new(opened, &self.house);
        *known = Arc::downgrade(&spool);
        Ok(Some(spool))
    }

    fn remove(&self, task: &TaskId) -> io::Result<()> {
        let slot = self.slot(task);
        let mut known = lock(&slot.0);
        *known = Weak::new();
        let path = self.house.file_of(task);
        for file in [open::set_aside_name(&path), path] {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Holdings for FileSpools {
    fn total_bytes(&self) -> u64 {
        let Ok(entries) = fs::read_dir(&self.house.folder) else {
            return 0;
        };
        // `blocks` counts units of 512 bytes, whatever the file system's own block is; holes do not count.
        entries
            .flatten()
            .filter_map(|entry| entry.metadata().ok())
            .map(|metadata| metadata.blocks() * 512)
            .sum()
    }

    fn strangers(&self, known: &Known) -> io::Result<Vec<String>> {
        let all = known.unfinished.iter().chain(&known.finished);
        let mut theirs: HashSet<String> = all.map(stem_of).collect();
        // A spool that somebody holds is in use, even where the list lacks its task.
        theirs.extend(lock(&self.open).in_use().map(stem_of));
        let mut strangers = Vec::new();
        for entry in fs::read_dir(&self.house.folder)? {
            let Ok(name) = entry?.file_name().into_string() else {
                continue;
            };
            let stem = name.strip_suffix(".damaged").unwrap_or(&name);
            if let Some(stem) = stem.strip_suffix(".log")
                && is_stem(stem)
                && !theirs.contains(stem)
            {
                strangers.push(name);
            }
        }
        Ok(strangers)
    }

    fn remove_stranger(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.house.folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl OpenSpools {
    fn in_use(&self) -> impl Iterator<Item = &TaskId> {
        let used = self.slots.iter().filter(|(_, slot)| !slot.is_idle());
        used.map(|(task, _)| task)
    }
}

/// The name of a task's file without its ending: a digest, so that no id can name another place.
fn stem_of(task: &TaskId) -> String {
    let digest = Sha256::digest(task.as_str());
    digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn is_stem(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Slot {
    /// Nobody is opening the spool now, and nobody holds it.
    fn is_idle(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) == 1 && lock(&self.0).strong_count() == 0
    }
}

impl FileSpool {
    fn new(opened: open::Opened, house: &Arc<House>) -> Arc<Self> {
        Arc::new_cyclic(|myself| Self {
            myself: Weak::clone(myself),
            house: Arc::clone(house),
            file: opened.file,
            state: watch::Sender::new(opened.state),
            writer: Arc::new(tokio::sync::Mutex::new(opened.writer)),
        })
    }

    fn myself(&self) -> Arc<Self> {
        self.myself
            .upgrade()
            .expect("it is borrowed, so somebody holds it")
    }

    /// Does a piece of the writer's work on a blocking thread. The lock is taken before the thread starts, in the order of the
    /// calls, and moves into the work: a caller that is dropped midway neither cuts its work short nor lets the next caller
    /// overtake it.
    async fn write(
        &self,
        work: impl FnOnce(&mut Writer, &FileSpool) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let mut writer = Arc::clone(&self.writer).lock_owned().await;
        let spool = self.myself();
        spawn_blocking(move || work(&mut writer, &spool))
            .await
            .map_err(io::Error::other)?
    }

    /// Microseconds since the Unix epoch.
    fn now(&self) -> i64 {
        in_micros(self.house.clock.now())
    }
}

/// The time as records store it: microseconds since the Unix epoch; 0 for times before it.
fn in_micros(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    })
}

#[async_trait]
impl Spool for FileSpool {
    async fn append(&self, pieces: Vec<Piece>) -> io::Result<()> {
        let micros = self.now();
        self.write(move |writer, spool| writer.append(spool, &pieces, None, micros))
            .await
    }

    async fn append_up_to(&self, pieces: Vec<Piece>, position: Position) -> io::Result<()> {
        let micros = self.now();
        self.write(move |writer, spool| writer.append(spool, &pieces, Some(position), micros))
            .await
    }

    async fn note(&self, line: String) -> io::Result<()> {
        let micros = self.now();
        self.write(move |writer, spool| writer.note(spool, &line, micros))
            .await
    }

    async fn close(&self, end: LogEnd) -> io::Result<()> {
        let micros = self.now();
        self.write(move |writer, spool| writer.close(spool, end, micros))
            .await
    }

    fn end(&self) -> Option<LogEnd> {
        self.state.borrow().end.clone()
    }

    fn appended(&self) -> (u64, u64) {
        let state = self.state.borrow();
        (state.stdout, state.stderr)
    }

    fn position(&self) -> Option<Position> {
        self.state.borrow().position
    }

    fn newest(&self) -> Option<SystemTime> {
        let micros = u64::try_from(self.state.borrow().newest).ok()?;
        (micros > 0).then(|| UNIX_EPOCH + Duration::from_micros(micros))
    }

    fn cursor_from(&self, range: LogRange) -> Box<dyn LogCursor> {
        Box::new(FileCursor::new(self.myself(), range))
    }
}

/// Takes a lock even after a panic of its holder: no lock of this module is held across anything that could leave half a change.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
