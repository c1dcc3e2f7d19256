//! The durable history of the actors' lives, so that `worker-node events` can tell the story after a crash, offline too. One
//! JSON line per event and one `write` per line: a crash of the process loses nothing, a power cut the last moments, and
//! nobody waits for a disk. Two files of 8 MiB at most; the older one is dropped when the newer one is full. Beside it, in files of its
//! own, the book of who changed what: no flood of calls pushes the story of the actors out, and no crashing actor that book.

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

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Book {
    /// The lives of the actors.
    Lifecycle,
    /// Who changed what.
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

/// A file is full at this many bytes: tens of thousands of events, and a second to read.
const FILE_LIMIT: u64 = 8 * 1024 * 1024;

/// One edge in the life of an actor, or one thing that somebody changed. A field that is `None` is left away.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HistoryEvent {
    /// When, in RFC 3339.
    pub ts: String,
    /// Whose.
    pub actor: String,
    /// Which edge: starting, started, stopping, stopped, panicked, hung, restarting, gave_up, recovered. Or what was changed: assign,
    /// cancel, move, restart, retry, drop.
    pub event: String,
    /// Counts the incarnations of the actor from 1; 0 in the other book.
    #[serde(skip_serializing_if = "is_zero")]
    pub generation: u64,
    /// Why.
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
    /// How long the phase took that ends here, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// How long the incarnation had run, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_ms: Option<u64>,
    /// Who asked: the address from which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// The names in the certificate that was shown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificate: Vec<String>,
    /// The user of this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<u32>,
    /// So many entries before this one are missing: they came faster than they could be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Writes the history. Shared by reference; a lock orders the writers.
#[derive(Debug)]
pub struct History {
    folder: PathBuf,
    book: Book,
    limit: u64,
    file: Mutex<Open>,
}

/// The newer file.
#[derive(Debug)]
struct Open {
    file: File,
    length: u64,
    /// Its last line has no end: the next one begins with a newline, or the two would be one.
    torn: bool,
}

impl History {
    /// Goes on with a book in a folder, or begins one.
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

    /// Writes one event, whole or not at all for readers.
    ///
    /// # Errors
    /// It is not in the file: the disk is full, or a full file cannot be put aside.
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

    /// Says that the process lives, without writing anything.
    ///
    /// # Errors
    /// The file is another user's.
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

/// Reads a book in a folder, oldest event first. Lines that are torn or damaged are left out; a file that is not there is
/// an empty one. Works beside a writer, and without one.
///
/// # Errors
/// A file is there and cannot be opened.
pub fn read(folder: &Path, book: Book) -> io::Result<impl Iterator<Item = HistoryEvent> + use<>> {
    // The newer one is opened first: if it is put aside in between, it is read twice rather than missed.
    let newer = lines(&folder.join(book.newer()))?;
    let older = lines(&folder.join(book.older()))?;
    Ok(older
        .chain(newer)
        .filter_map(|line| serde_json::from_slice(&line).ok()))
}

/// How many events there are, and how many lines that are none: torn by a crash, or damaged.
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
    // What cannot be read ends the file: an iterator of errors would not end.
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
