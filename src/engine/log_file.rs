//! Reads the files of the `local` log driver: `container.log`, which the engine renames to `container.log.1` when it is full, that
//! to `.2`, and so on. What is read is what was printed, byte for byte. Files that are open are read to their ends, however the
//! engine renames or removes them meanwhile; what is no entry is passed over, and told.

mod entry;
#[cfg(test)]
mod tests;
mod watch;

use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::timeout;

use self::entry::{Entry, Found};
use super::{DockerEngine, call::path_part, failure, run::present_run};
use crate::{
    domain::{id::ContainerId, log_line::Source},
    ports::{
        engine::{EngineError, Frame},
        engine_log::{EngineLog, EngineRun, Place, Step},
    },
};

/// The driver's name for the engine.
pub(super) const DRIVER: &str = "local";

/// So many files of a container are kept by the engine, the one that it writes among them.
pub(super) const FILES: usize = 4;

/// Bytes that are read at once: several of the longest entries, and a fraction of what is in memory anyway.
const READ: u64 = 256 * 1024;

/// Where the kernel cannot tell of changes, or loses one, files are looked at so often.
const LOOK: Duration = Duration::from_secs(1);

impl DockerEngine {
    /// The files of a container of ours, where they are written and can be read here.
    pub(super) async fn open_log_file(
        &self,
        container: &ContainerId,
        root: &Path,
    ) -> Result<Option<Box<dyn EngineLog>>, EngineError> {
        let id = path_part(&container.0)?;
        let docker = self.line.docker()?;
        let found = docker.inspect_container(id, None).await;
        let found = found.map_err(failure::of_call)?;
        let log = found.host_config.and_then(|host| host.log_config);
        let is_plain = log.is_some_and(|log| {
            let compress = log
                .config
                .as_ref()
                .and_then(|config| config.get("compress"));
            log.typ.as_deref() == Some(DRIVER)
                && compress.is_some_and(|compress| compress == "false")
        });
        let id = found.id.unwrap_or_default();
        // Where the folder is there, it is this engine's: the name is one that it has drawn.
        if !is_plain
            || tokio::fs::read_dir(containers_folder(root, &id))
                .await
                .is_err()
        {
            return Ok(None);
        }
        let file_size = size_of_one(self.options.log_size);
        Ok(Some(Box::new(LogFile::new(root, &id, file_size))))
    }
}

/// Bytes of each file, where all together are to have so many.
pub(super) fn size_of_one(all: u64) -> u64 {
    all / FILES as u64
}

/// Where the engine keeps what it knows of a container.
fn containers_folder(root: &Path, id: &str) -> PathBuf {
    root.join("containers").join(id)
}

/// One container's files.
pub(super) struct LogFile {
    /// The engine's.
    root: PathBuf,
    /// The container's, below it.
    folder: PathBuf,
    /// The engine begins another file after about so many bytes.
    file_size: u64,
    /// Oldest first; the first one is being read.
    files: VecDeque<Open>,
    begins_at_the_first_byte: bool,
}

/// A file, and how far it was read.
struct Open {
    file: File,
    device: u64,
    inode: u64,
    at: u64,
    /// When the entry before `at` was written.
    written: i64,
    /// Both, before the last frames.
    before: Option<(u64, i64)>,
    /// Its size when something stood at `at` that was not a whole entry.
    unfinished: Option<u64>,
}

impl LogFile {
    /// The files of a container of the engine that has its data at `root`. There need not be any yet.
    pub(super) fn new(root: &Path, container: &str, file_size: u64) -> Self {
        Self {
            root: root.to_owned(),
            folder: containers_folder(root, container).join("local-logs"),
            file_size,
            files: VecDeque::new(),
            begins_at_the_first_byte: true,
        }
    }

    /// Opens files that are newer than those that are open; whether there are any. From the newest to the oldest, the way that
    /// the engine renames them: so one may be met twice, but none is missed.
    fn look(&mut self) -> io::Result<bool> {
        let known = self.files.back().map(|last| (last.device, last.inode));
        let mut newer: Vec<Open> = Vec::new();
        for number in 0..FILES {
            let name = match number {
                0 => "container.log".to_owned(),
                _ => format!("container.log.{number}"),
            };
            let Some(open) = Open::at(&self.folder.join(name))? else {
                continue;
            };
            let identity = Some((open.device, open.inode));
            if identity == known {
                break;
            }
            if newer
                .iter()
                .all(|one| Some((one.device, one.inode)) != identity)
            {
                newer.push(open);
            }
        }
        if self.files.is_empty() {
            self.begins_at_the_first_byte = newer.len() < FILES;
        }
        let is_any = !newer.is_empty();
        self.files.extend(newer.into_iter().rev());
        Ok(is_any)
    }

    /// Behind the end of the file that is being read: goes on to the next one, if there is something in it. An empty one is not
    /// the engine's doing (it writes to a new one at once), and then the engine may go on writing to this one.
    fn turn_over(&mut self) -> io::Result<Option<Step>> {
        let next = match self.files.get(1) {
            Some(next) => next.size()?,
            None => 0,
        };
        if next == 0 {
            return Ok(None);
        }
        let rest = match self.files.pop_front() {
            Some(read) => read.size()?.saturating_sub(read.at),
            None => 0,
        };
        Ok(Some(if rest > 0 {
            Step::Torn(rest)
        } else {
            Step::Frames(Vec::new())
        }))
    }
}

impl EngineLog for LogFile {
    fn seek(&mut self, place: Place) -> io::Result<bool> {
        self.look()?;
        let is_its = |open: &Open| (open.device, open.inode) == (place.device, place.inode);
        let Some(number) = self.files.iter().position(is_its) else {
            return Ok(false);
        };
        if !self.files[number].has_entry_before(place)? {
            return Ok(false);
        }
        self.files.drain(..number);
        self.files[0].go_to(place.offset, place.written);
        Ok(true)
    }

    fn place(&self) -> Option<Place> {
        self.files.front().map(|open| Place {
            device: open.device,
            inode: open.inode,
            offset: open.at,
            written: open.written,
        })
    }

    fn begins_at_the_first_byte(&mut self) -> io::Result<bool> {
        if self.files.is_empty() {
            self.look()?;
        }
        Ok(self.begins_at_the_first_byte)
    }

    fn next(&mut self) -> io::Result<Step> {
        loop {
            let is_full = self.files.len() > 1;
            let Some(open) = self.files.front_mut() else {
                if self.look()? {
                    continue;
                }
                return Ok(Step::End);
            };
            if let Some(step) = open.next(is_full)? {
                return Ok(step);
            }
            // What was written to it before it was renamed is seen only when its successor is known.
            if !is_full && self.look()? {
                continue;
            }
            match self.turn_over()? {
                Some(Step::Frames(_)) => {}
                Some(step) => return Ok(step),
                None => return Ok(Step::End),
            }
        }
    }

    fn unread(&mut self) {
        if let Some(open) = self.files.front_mut()
            && let Some((at, written)) = open.before.take()
        {
            open.go_to(at, written);
        }
    }

    fn rest(&self) -> io::Result<u64> {
        let Some(open) = self.files.front() else {
            return Ok(0);
        };
        Ok(open.size()?.saturating_sub(open.at))
    }

    fn file_size(&self) -> u64 {
        self.file_size
    }

    fn run(&self) -> Option<EngineRun> {
        present_run(&self.root)
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        let change = watch::next_change(&self.folder);
        // What came before that is not told.
        let has_more = self.files.iter().any(|open| open.has_more());
        async move {
            match change {
                _ if has_more => {}
                // It ends with an error, since nothing is sent.
                Some(change) => drop(timeout(LOOK, change).await),
                None => tokio::time::sleep(LOOK).await,
            }
        }
        .boxed()
    }
}

impl Open {
    fn at(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let found = file.metadata()?;
        Ok(Some(Self {
            file,
            device: found.dev(),
            inode: found.ino(),
            at: 0,
            written: 0,
            before: None,
            unfinished: None,
        }))
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// More than what was seen.
    fn has_more(&self) -> bool {
        self.size()
            .is_ok_and(|size| size != self.unfinished.unwrap_or(self.at))
    }

    fn go_to(&mut self, at: u64, written: i64) {
        self.at = at;
        self.written = written;
        self.unfinished = None;
    }

    /// Some bytes of it; fewer at its end.
    fn read(&self, at: u64, size: u64) -> io::Result<Bytes> {
        let length = size.saturating_sub(at).min(READ);
        let mut bytes = BytesMut::zeroed(usize::try_from(length).map_err(io::Error::other)?);
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes.freeze())
    }

    /// What comes next in this file; nothing more is written to one that `is_full`.
    fn next(&mut self, is_full: bool) -> io::Result<Option<Step>> {
        let size = self.size()?;
        if size < self.at {
            self.go_to(0, 0);
            return Ok(Some(Step::Cut));
        }
        let mut bytes = self.read(self.at, size)?;
        let mut frames = Merging::default();
        self.before = Some((self.at, self.written));
        let found = loop {
            match entry::read(&bytes) {
                Found::Entry(entry) => {
                    bytes = bytes.slice(entry.size..);
                    self.go_to(self.at + entry.size as u64, entry.written);
                    frames.take(&entry);
                }
                found => break found,
            }
        };
        let frames = frames.into_frames();
        if !frames.is_empty() {
            return Ok(Some(Step::Frames(frames)));
        }
        if size == self.at {
            return Ok(None);
        }
        // The engine writes an entry at once. So where the file has grown and it is still not whole, it will never be.
        let then = self.unfinished.replace(size);
        let has_grown = then.is_some_and(|then| then < size);
        let was_searched = then == Some(size) && !is_full;
        if was_searched || !(found == Found::Nothing || has_grown || is_full) {
            return Ok(None);
        }
        self.pass_over(size)
    }

    /// Goes to the next entry behind something that is none, where there is one.
    fn pass_over(&mut self, size: u64) -> io::Result<Option<Step>> {
        let mut from = self.at + 1;
        while from < size {
            let bytes = self.read(from, size)?;
            let is_all = from + bytes.len() as u64 == size;
            let found = (0..bytes.len()).find(|at| is_entry(&bytes, *at));
            if let Some(at) = found {
                let to = from + at as u64;
                let passed = to - self.at;
                self.go_to(to, self.written);
                return Ok(Some(Step::Torn(passed)));
            }
            if is_all || bytes.is_empty() {
                break;
            }
            // One that begins here may end in what is read next.
            from += (bytes.len() - entry::LONGEST).max(1) as u64;
        }
        Ok(None)
    }

    /// Whether the entry before that place is the one that was there.
    fn has_entry_before(&self, place: Place) -> io::Result<bool> {
        if place.offset == 0 {
            return Ok(true);
        }
        if place.offset > self.size()? {
            return Ok(false);
        }
        let from = place
            .offset
            .saturating_sub((entry::LONGEST + 2 * entry::LENGTH) as u64);
        let bytes = self.read(from, place.offset)?;
        let Some(length_at) = bytes.len().checked_sub(entry::LENGTH) else {
            return Ok(false);
        };
        let length = entry::length_at(&bytes, length_at).unwrap_or(usize::MAX);
        let start = length_at.checked_sub(length.saturating_add(entry::LENGTH));
        Ok(start.is_some_and(|start| {
            let found = entry::read(&bytes.slice(start..));
            matches!(found, Found::Entry(entry) if entry.written == place.written)
        }))
    }
}

fn is_entry(bytes: &Bytes, at: usize) -> bool {
    // Most places are none by their first bytes.
    entry::length_at(bytes, at).is_some_and(|length| (1..=entry::LONGEST).contains(&length))
        && matches!(entry::read(&bytes.slice(at..)), Found::Entry(_))
}

/// Entries that become frames.
#[derive(Default)]
struct Merging {
    frames: Vec<Frame>,
    /// The last one, still growing: its source and its millisecond.
    last: Option<(Source, i64)>,
    bytes: BytesMut,
}

impl Merging {
    fn take(&mut self, entry: &Entry) {
        let whose = Some((entry.source, entry.written.div_euclid(1_000_000)));
        if self.last != whose {
            self.end();
            self.last = whose;
        }
        self.bytes.extend_from_slice(&entry.line);
        if entry.has_newline {
            self.bytes.extend_from_slice(b"\n");
        }
    }

    fn end(&mut self) {
        let Some((source, millisecond)) = self.last.take() else {
            return;
        };
        let since = Duration::from_millis(u64::try_from(millisecond).unwrap_or_default());
        self.frames.push(Frame {
            source,
            bytes: self.bytes.split().freeze(),
            time: Some(time_at(since)),
        });
    }

    fn into_frames(mut self) -> Vec<Frame> {
        self.end();
        self.frames
    }
}

fn time_at(since: Duration) -> SystemTime {
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}
