//! The durable history of the actors' lives, for `worker-node events`, also after a crash and without a worker. One JSON line per
//! event and one `write` per line, without `fsync`: a crash of the process loses nothing, a power cut the last moments, and no
//! caller waits for a disk. Two files of 8 MiB at most: when the newer one is full it replaces the older one. A second such book,
//! in files of its own, tells who changed what: so no flood of calls pushes out the story of the actors, and no crashing actor
//! that book.

mod follow;
pub mod process;

pub use self::follow::Follower;

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

/// One of the two books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Book {
    /// The lives of the actors: `lifecycle.jsonl`.
    Lifecycle,
    /// Who changed what: `audit.jsonl`.
    Audit,
}

impl Book {
    fn newer(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle.jsonl",
            Self::Audit => "audit.jsonl",
        }
    }

    fn older(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle.1.jsonl",
            Self::Audit => "audit.1.jsonl",
        }
    }
}

/// Most bytes of one file: tens of thousands of events, which are read in a second.
const FILE_LIMIT: u64 = 8 * 1024 * 1024;

/// An event in the life of an actor, or a change that somebody made. A field that is `None` is left out of the line.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryEvent {
    /// When it happened, in RFC 3339.
    pub ts: String,
    /// The actor that it happened to, or that the change was about.
    pub actor: String,
    /// In a life: starting, started, stopping, stopped, panicked, hung, restarting, gave_up or recovered. A change: assign,
    /// cancel, move, restart, retry, drop and the like.
    pub event: String,
    /// The incarnation of the actor, counted from 1; 0 for a change.
    #[serde(skip_serializing_if = "is_zero")]
    pub generation: u64,
    /// Why it happened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Restarts used within the window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u32>,
    /// Restarts that the window allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intensity: Option<u32>,
    /// The window, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_ms: Option<u64>,
    /// Time until the restart, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_ms: Option<u64>,
    /// How long the phase took that ended with this event, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// How long the incarnation had run, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_ms: Option<u64>,
    /// The address of the caller who made the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The names in the caller's certificate.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificate: Vec<String>,
    /// The id of the user of this machine who made the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<u32>,
    /// Events that are missing before this one: they came faster than they could be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Writes one book. A lock orders the writers of this process.
#[derive(Debug)]
pub struct History {
    folder: PathBuf,
    book: Book,
    limit: u64,
    file: Mutex<Open>,
}

/// The newer file of the book, open for appending.
#[derive(Debug)]
struct Open {
    file: File,
    length: u64,
    /// The file's last line was cut short: the next one begins with a newline, since otherwise the two would be one damaged line.
    torn: bool,
}

impl History {
    /// Opens a book in a folder for appending; a missing file is made.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(folder: &Path, book: Book) -> io::Result<Self> {
        Self::with_limit(folder, book, FILE_LIMIT)
    }

    fn with_limit(folder: &Path, book: Book, limit: u64) -> io::Result<Self> {
        Ok(Self {
            folder: folder.to_owned(),
            book,
            limit,
            file: Mutex::new(Open::newer(folder, book)?),
        })
    }

    /// Writes one event, in one `write`, so that a reader sees the whole line or none of it.
    ///
    /// # Errors
    /// The event is not in the file: the disk is full, or the full file cannot be renamed.
    pub fn append(&self, event: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        let mut open = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if open.length > 0 && open.length + line.len() as u64 > self.limit {
            let (newer, older) = (self.book.newer(), self.book.older());
            fs::rename(self.folder.join(newer), self.folder.join(older))?;
            *open = Open::newer(&self.folder, self.book)?;
        }
        open.write(line)
    }

    /// Sets the file's time of change to `now`, as a sign of life, without writing anything.
    ///
    /// # Errors
    /// The file belongs to another user.
    pub fn touch(&self, now: SystemTime) -> io::Result<()> {
        let open = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        open.file.set_modified(now)
    }
}

impl Open {
    fn newer(folder: &Path, book: Book) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(folder.join(book.newer()))?;
        let length = file.metadata()?.len();
        let mut last = [b'\n'];
        if length > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        Ok(Self {
            file,
            length,
            torn: last != [b'\n'],
        })
    }

    fn write(&mut self, mut line: Vec<u8>) -> io::Result<()> {
        if self.torn {
            line.insert(0, b'\n');
        }
        let written = self.file.write(&line)?;
        self.length += written as u64;
        if written > 0 {
            self.torn = written < line.len();
        }
        if written < line.len() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

/// Reads a book in a folder, the oldest event first. Damaged lines are left out; a missing file counts as empty. Works beside a
/// writer, and without one.
///
/// # Errors
/// A file is there and cannot be opened.
pub fn read(folder: &Path, book: Book) -> io::Result<impl Iterator<Item = HistoryEvent> + use<>> {
    // Open the newer one first: if it is renamed in between, it is read twice rather than missed.
    let newer = lines(&folder.join(book.newer()))?;
    let older = lines(&folder.join(book.older()))?;
    Ok(older
        .chain(newer)
        .filter_map(|line| serde_json::from_slice(&line).ok()))
}

/// The number of events in a book, and of lines that are not events: cut short by a crash, or damaged.
///
/// # Errors
/// A file is there and cannot be opened.
pub fn count(folder: &Path, book: Book) -> io::Result<(usize, usize)> {
    let (mut events, mut unreadable) = (0, 0);
    for name in [book.older(), book.newer()] {
        for line in lines(&folder.join(name))?.filter(|line| !line.is_empty()) {
            match serde_json::from_slice::<HistoryEvent>(&line) {
                Ok(_) => events += 1,
                Err(_) => unreadable += 1,
            }
        }
    }
    Ok((events, unreadable))
}

fn lines(path: &Path) -> io::Result<impl Iterator<Item = Vec<u8>> + use<>> {
    let file = match File::open(path) {
        Ok(file) => Some(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    // A read error ends the file: an iterator that yields errors could go on for ever.
    Ok(file
        .into_iter()
        .flat_map(|file| BufReader::new(file).split(b'\n').map_while(Result::ok)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(generation: u64) -> HistoryEvent {
        HistoryEvent {
            ts: "2026-11-23T18:29:22.929Z".into(),
            actor: "registry".into(),
            event: "started".into(),
            generation,
            ..HistoryEvent::default()
        }
    }

    fn generations(folder: &Path) -> Vec<u64> {
        read(folder, Book::Lifecycle)
            .unwrap()
            .map(|event| event.generation)
            .collect()
    }

    #[test]
    fn what_is_written_is_read_back_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let told = HistoryEvent {
            cause: Some("panicked: a\nb".into()),
            restarts: Some(2),
            intensity: Some(5),
            window_ms: Some(30_000),
            backoff_ms: Some(200),
            duration_ms: Some(3),
            uptime_ms: Some(4_000),
            peer: Some("10.0.0.1:5".into()),
            certificate: vec!["m".into()],
            user: Some(0),
            missing: Some(7),
            ..event(1)
        };
        History::open(folder.path(), Book::Lifecycle)
            .unwrap()
            .append(&told)
            .unwrap();
        History::open(folder.path(), Book::Lifecycle)
            .unwrap()
            .append(&event(2))
            .unwrap();

        let read: Vec<_> = read(folder.path(), Book::Lifecycle).unwrap().collect();

        assert_eq!(read, [told, event(2)]);
    }

    #[test]
    fn no_history_is_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();

        assert!(generations(folder.path()).is_empty());
    }

    #[test]
    fn a_torn_last_line_costs_only_itself() {
        let folder = tempfile::tempdir().unwrap();
        History::open(folder.path(), Book::Lifecycle)
            .unwrap()
            .append(&event(1))
            .unwrap();
        let path = folder.path().join("lifecycle.jsonl");
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"ts\":\"2026\xff").unwrap();
        assert_eq!(generations(folder.path()), [1], "while it is the last");

        History::open(folder.path(), Book::Lifecycle)
            .unwrap()
            .append(&event(2))
            .unwrap();

        assert_eq!(generations(folder.path()), [1, 2]);
    }

    #[test]
    fn the_history_is_bounded_and_keeps_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let limit = 1_000;
        let history = History::with_limit(folder.path(), Book::Lifecycle, limit).unwrap();
        for generation in 0..100 {
            history.append(&event(generation)).unwrap();
        }

        let kept = generations(folder.path());

        for name in ["lifecycle.jsonl", "lifecycle.1.jsonl"] {
            assert!(fs::metadata(folder.path().join(name)).unwrap().len() <= limit);
        }
        assert!(kept.len() > 10, "{kept:?}");
        assert_eq!(kept.last(), Some(&99));
        assert!(kept.is_sorted(), "oldest first");
        assert_eq!(kept.len() as u64, 100 - kept[0], "no gap: {kept:?}");
    }

    #[test]
    fn a_full_file_is_put_aside_by_the_next_process_too() {
        let folder = tempfile::tempdir().unwrap();
        for generation in 0..20 {
            let history = History::with_limit(folder.path(), Book::Lifecycle, 300).unwrap();
            history.append(&event(generation)).unwrap();
        }

        assert_eq!(generations(folder.path()).last(), Some(&19));
        let length = fs::metadata(folder.path().join("lifecycle.jsonl"))
            .unwrap()
            .len();
        assert!(length <= 300, "{length}");
    }
}
