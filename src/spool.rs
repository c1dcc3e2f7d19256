//! Logs of tasks in files: one file per task, written by one writer, read by any number of cursors that neither wait for it
//! nor hold it up. The log router opens and removes spools; viewers get cursors. Bytes never go through a mailbox.
//!
//! ```text
//! | header: magic, two slots for the hole | id | record | record | (hole) | record | ... | end | footer |
//! ```
//!
//! A record is what came in one piece from one source, with its time of arrival and checksums of its head and its content.
//! Offsets in the file never change: over its cap, a log gives disk space back by a hole after its first quarter, which
//! grows at record boundaries. What is appended is written without `fsync` (a kill of this process loses none of it, and
//! after a power cut the container's engine has it still); the end is durable, and so is the extent of the hole.
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

/// How much the spools may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one task's log on disk, about; the first quarter and a rolling last three quarters are kept.
    pub cap: u64,
    /// With less than this many bytes free on the disk, output of containers is left out, with a marker and a count.
    pub least_free: u64,
}

impl Default for Limits {
    /// 1 GiB per task, and 256 MiB left for everybody else.
    fn default() -> Self {
        Self {
            cap: 1 << 30,
            least_free: 256 << 20,
        }
    }
}

/// So many cursors at once that read lines are given those over 32 KiB whole, up to 1 MiB; others get them in parts. Viewers read
/// bytes, and have a bound of their own.
const LONG_LINES: usize = 8;

/// So many cursors at once look for where they begin, and the others wait for their turn: each may go through a whole log, and
/// hundreds of them would leave no core to whoever calls.
const BEGINNINGS: usize = 1;

/// The spools of one state folder.
pub struct FileSpools {
    house: Arc<House>,
    /// The spools that somebody holds; the others are files alone.
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
    /// At this many slots those that nobody uses are forgotten.
    crowded: usize,
}

/// Locked while its spool is opened or removed, so that a long scan keeps nobody else waiting.
#[derive(Default)]
struct Slot(Mutex<Weak<FileSpool>>);

/// One task's log.
struct FileSpool {
    /// Handed to cursors and blocking threads: while one of them lives, the store gives out this very spool.
    myself: Weak<FileSpool>,
    house: Arc<House>,
    file: File,
    /// What readers may rely on. Changed by the writer alone.
    state: watch::Sender<State>,
    writer: Arc<tokio::sync::Mutex<Writer>>,
}

/// What is true of a log right now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct State {
    /// Whole records lie below this offset.
    len: u64,
    /// What was dropped from the middle.
    hole: Hole,
    /// Bytes of containers that the records below `len` stand for, gaps included.
    counted: u64,
    /// Bytes ever appended.
    stdout: u64,
    /// Bytes ever appended.
    stderr: u64,
    /// The time of the last of them in microseconds; 0 where there is none, or none is known.
    newest: i64,
    /// Where the engine's files go on.
    position: Option<Position>,
    /// How it ended.
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
        // Whoever holds a spool knows why.
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

/// A file's name without its ending: it holds nothing of what the id holds.
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
    /// Nobody opens it now, and nobody holds its spool.
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

    /// Does a piece of the writer's work on a blocking thread. The lock is taken first, and in the order of the calls; it goes
    /// with the work, so that a caller who is dropped midway neither cuts it short nor lets the next one overtake.
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

/// As records have it: microseconds since the epoch.
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

/// No lock here is held across anything that could leave half a change behind, so a poisoned one is as good as new.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
