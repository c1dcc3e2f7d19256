//! Following the history as it grows: what is in the files first, then each event as it is written, whichever process writes it.
//! So it goes on through a crash of the worker and its next start. It reads the files alone, and asks no worker.

use std::{
    fs::File,
    io::{self, Read},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags},
    io::Errno,
};

use super::{Book, HistoryEvent};

/// Bytes for what the kernel reports at once; the rest is reported at the next look.
const BUFFER: usize = 4_096;

/// Follows one book. See the module.
#[derive(Debug)]
pub struct Follower {
    book: Book,
    newer: PathBuf,
    /// The inotify descriptor: it becomes readable when something in the folder changes.
    bell: OwnedFd,
    /// The older file, until it has been read.
    older: Option<Tail>,
    tail: Option<Tail>,
}

impl Follower {
    /// Begins with the oldest event in a folder.
    ///
    /// # Errors
    /// The folder is not there, or cannot be watched or read.
    pub fn open(folder: &Path, book: Book) -> io::Result<Self> {
        let bell = inotify::init(CreateFlags::CLOEXEC)?;
        let occasions = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVE_SELF
            | WatchFlags::DELETE_SELF
            | WatchFlags::ONLYDIR;
        // Watch before reading, so that nothing is missed that is written in between.
        inotify::add_watch(&bell, folder, occasions)?;
        let newer = folder.join(book.newer());
        let tail = Tail::open(&newer)?;
        // If the newer file was renamed in between, it is the older one now, and must not be read twice.
        let same = tail.as_ref().map(|tail| tail.inode);
        let older =
            Tail::open(&folder.join(book.older()))?.filter(|older| Some(older.inode) != same);
        Ok(Self {
            book,
            newer,
            bell,
            older,
            tail,
        })
    }

    /// Waits for events, and returns those that have come since the last call, oldest first; never none. Blocks.
    ///
    /// # Errors
    /// The files cannot be read, or the folder is gone.
    pub fn more(&mut self) -> io::Result<Vec<HistoryEvent>> {
        loop {
            let events = self.written()?;
            if !events.is_empty() {
                return Ok(events);
            }
            self.wait()?;
        }
    }

    fn written(&mut self) -> io::Result<Vec<HistoryEvent>> {
        let mut events = Vec::new();
        if let Some(mut older) = self.older.take() {
            older.read_into(&mut events)?;
        }
        // Look for a new file first: so the last lines that were written to the present file before it was renamed are still read
        // from it.
        let next = self.next_file()?;
        if let Some(tail) = &mut self.tail {
            tail.read_into(&mut events)?;
        }
        if let Some(mut next) = next {
            next.read_into(&mut events)?;
            self.tail = Some(next);
        }
        Ok(events)
    }

    /// The newer file, opened, if it is not the file that is being read.
    fn next_file(&self) -> io::Result<Option<Tail>> {
        let present = self.tail.as_ref().map(|tail| tail.inode);
        Ok(Tail::open(&self.newer)?.filter(|next| Some(next.inode) != present))
    }

    fn wait(&self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut rings = inotify::Reader::new(&self.bell, &mut buffer);
        let mut ours = false;
        while !(ours && rings.is_buffer_empty()) {
            let ring = match rings.next() {
                Ok(ring) => ring,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let gone = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED;
            if ring.events().intersects(gone) {
                return Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    "the state folder is gone",
                ));
            }
            // The journal lies in the same folder, and changes all the time. A report without a name means that there were too
            // many.
            ours |= ring
                .file_name()
                .is_none_or(|name| name.to_bytes() == self.book.newer().as_bytes());
        }
        Ok(())
    }
}

/// A file of the book that is read to its end, again and again.
#[derive(Debug)]
struct Tail {
    file: File,
    inode: u64,
    /// The beginning of a line whose end is not written yet.
    unfinished: Vec<u8>,
}

impl Tail {
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let inode = file.metadata()?.ino();
        Ok(Some(Self {
            file,
            inode,
            unfinished: Vec::new(),
        }))
    }

    /// Adds the events that were written since the last call. Damaged lines are left out.
    fn read_into(&mut self, events: &mut Vec<HistoryEvent>) -> io::Result<()> {
        self.file.read_to_end(&mut self.unfinished)?;
        let Some(end) = self.unfinished.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(());
        };
        let rest = self.unfinished.split_off(end + 1);
        let lines = self.unfinished.split(|byte| *byte == b'\n');
        events.extend(lines.filter_map(|line| serde_json::from_slice(line).ok()));
        self.unfinished = rest;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write, thread};

    use super::{super::History, *};

    fn event(generation: u64) -> HistoryEvent {
        HistoryEvent {
            ts: "2026-11-23T18:29:22.929Z".into(),
            actor: "registry".into(),
            event: "started".into(),
            generation,
            ..HistoryEvent::default()
        }
    }

    fn more(follower: &mut Follower) -> Vec<u64> {
        let events = follower.more().unwrap();
        events.iter().map(|event| event.generation).collect()
    }

    #[test]
    fn what_is_there_comes_first_and_then_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path(), Book::Lifecycle).unwrap();
        history.append(&event(1)).unwrap();
        history.append(&event(2)).unwrap();
        let mut follower = Follower::open(folder.path(), Book::Lifecycle).unwrap();
        assert_eq!(more(&mut follower), [1, 2]);

        let waiting = thread::spawn(move || more(&mut follower));
        fs::write(folder.path().join("journal.db"), "not ours").unwrap();
        history.append(&event(3)).unwrap();

        assert_eq!(waiting.join().unwrap(), [3]);
    }

    #[test]
    fn a_history_that_begins_later_is_followed_from_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let mut follower = Follower::open(folder.path(), Book::Lifecycle).unwrap();

        let waiting = thread::spawn(move || more(&mut follower));
        History::open(folder.path(), Book::Lifecycle)
            .unwrap()
            .append(&event(1))
            .unwrap();

        assert_eq!(waiting.join().unwrap(), [1]);
    }

    #[test]
    fn nothing_is_missed_or_told_twice_when_a_full_file_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        // A file holds a few events only.
        let history = History::with_limit(folder.path(), Book::Lifecycle, 300).unwrap();
        for generation in 0..5 {
            history.append(&event(generation)).unwrap();
        }
        let mut follower = Follower::open(folder.path(), Book::Lifecycle).unwrap();

        let mut told = more(&mut follower);
        for generation in 5..50 {
            history.append(&event(generation)).unwrap();
            told.extend(more(&mut follower));
        }

        let first = told[0];
        assert_eq!(told, (first..50).collect::<Vec<_>>());
    }

    #[test]
    fn a_line_is_told_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let line = serde_json::to_vec(&event(7)).unwrap();
        let (beginning, end) = line.split_at(20);
        let mut file = File::create(folder.path().join("lifecycle.jsonl")).unwrap();
        file.write_all(beginning).unwrap();
        let mut follower = Follower::open(folder.path(), Book::Lifecycle).unwrap();
        assert_eq!(follower.written().unwrap(), []);

        file.write_all(end).unwrap();
        assert_eq!(follower.written().unwrap(), []);
        file.write_all(b"\n").unwrap();

        assert_eq!(follower.written().unwrap(), [event(7)]);
    }

    #[test]
    fn a_folder_that_goes_away_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut follower = Follower::open(folder.path(), Book::Lifecycle).unwrap();

        drop(folder);

        assert_eq!(follower.more().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
