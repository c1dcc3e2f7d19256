//! Reads the files of the `local` log driver: `container.log`, which the engine renames to `container.log.1` when it is full, that
//! to `.2`, and so on. What is read is what was printed, byte for byte. Open files are read to their ends, however the engine
//! renames or removes them meanwhile; bytes that are no entry are passed over, and counted for a marker.

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

/// How many files of a container the engine keeps, the one that it writes included.
pub(super) const FILES: usize = 4;

/// Bytes that are read at once: several of the longest entries, and a fraction of what is in memory anyway.
const READ: u64 = 256 * 1024;

/// Time between two looks at the files where the kernel cannot tell of changes, or loses one.
const LOOK: Duration = Duration::from_secs(1);

impl DockerEngine {
    /// The log files of a container of ours; `None` where it has another log driver, or they are compressed or cannot be read here.
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
        // A folder of this name is this engine's: the id in it is a random number that the engine has drawn.
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

/// Bytes of each file, where all together may have `all`.
pub(super) fn size_of_one(all: u64) -> u64 {
    all / FILES as u64
}

/// The engine's folder for a container.
fn containers_folder(root: &Path, id: &str) -> PathBuf {
    root.join("containers").join(id)
}

/// The log files of one container.
pub(super) struct LogFile {
    /// The engine's folder for all its data.
    root: PathBuf,
    /// The folder of the container's log files, below `root`.
    folder: PathBuf,
    /// Bytes after about which the engine begins another file.
    file_size: u64,
    /// The open files, the oldest first, which is the one being read.
    files: VecDeque<Open>,
    begins_at_the_first_byte: bool,
}

/// An open file, and how far it was read.
struct Open {
    file: File,
    device: u64,
    inode: u64,
    at: u64,
    /// When the entry before `at` was written, in nanoseconds since the epoch.
    written: i64,
    /// `at` and `written` before the last frames, for `unread`.
    before: Option<(u64, i64)>,
    /// The file's size when the bytes at `at` were not a whole entry.
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

    /// Opens files that are newer than the open ones; says whether there are any. Goes from the newest to the oldest, the way that
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

    /// At the end of the file that is being read: goes on to the next one, unless that is empty. An empty one is not the engine's
    /// doing (it writes to a new one at once), and then the engine may go on writing to this one.
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
            // The last bytes before the file was renamed are surely seen only once its successor is known.
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
        // The watch does not tell of bytes that came before it.
        let has_more = self.files.iter().any(|open| open.has_more());
        async move {
            match change {
                _ if has_more => {}
                // The receiver ends with an error, since nothing is ever sent.
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

    /// Whether the file has more bytes than were read, or found to be no whole entry.
    fn has_more(&self) -> bool {
        self.size()
            .is_ok_and(|size| size != self.unfinished.unwrap_or(self.at))
    }

    fn go_to(&mut self, at: u64, written: i64) {
        self.at = at;
        self.written = written;
        self.unfinished = None;
    }

    /// The bytes from `at` on, `READ` at most; fewer at the end.
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

    /// The next step in this file; `None` at its present end. Nothing more is written to a file that `is_full`.
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
        // The engine writes an entry in one call: one that is not whole after the file has grown will never be.
        let then = self.unfinished.replace(size);
        let has_grown = then.is_some_and(|then| then < size);
        let was_searched = then == Some(size) && !is_full;
        if was_searched || !(found == Found::Nothing || has_grown || is_full) {
            return Ok(None);
        }
        self.pass_over(size)
    }

    /// Goes to the next entry behind bytes that are none; `None` where the file has no entry yet.
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
            // An entry that begins in these bytes may end in the next ones.
            from += (bytes.len() - entry::LONGEST).max(1) as u64;
        }
        Ok(None)
    }

    /// Whether the entry before that place is the one that the place was taken behind.
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
    // Most places are ruled out by the length alone.
    entry::length_at(bytes, at).is_some_and(|length| (1..=entry::LONGEST).contains(&length))
        && matches!(entry::read(&bytes.slice(at..)), Found::Entry(_))
}

/// Makes one frame of entries that have the same source and millisecond and follow each other.
#[derive(Default)]
struct Merging {
    frames: Vec<Frame>,
    /// Source and millisecond of the last frame, which still grows.
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
