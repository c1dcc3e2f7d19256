//! Making a log file, and opening an existing one: finding where its whole records end, what was dropped, and how it ended.

use std::{
    fs::{self, File, OpenOptions},
    io,
    ops::ControlFlow,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{
    House, State,
    format::{self, Batch, FOOTER, HEADER, Hole, Kind, Record},
    writer::Writer,
};
use crate::{
    domain::{id::TaskId, log_line::Source},
    ports::spool::Position,
};

/// Bytes that are read at once while a log is opened.
const CHUNK: usize = 256 * 1024;

/// An opened log file, with its state and its writer.
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) state: State,
    pub(super) writer: Writer,
}

/// Makes a new log with the task's id as its first record. A file at the path is emptied.
pub(super) fn create(path: &Path, task: &TaskId) -> io::Result<Opened> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    let mut header = format::new_header();
    let mut first = Batch::new(HEADER, 0, 0);
    first.record(Kind::Id, task.as_str().as_bytes());
    header.extend(first.into_bytes());
    file.write_all_at(&header, 0)?;
    let state = State {
        len: header.len() as u64,
        ..State::default()
    };
    let writer = Writer::default();
    Ok(Opened {
        file,
        state,
        writer,
    })
}

/// Opens the existing log. One that is another task's, or whose beginning is damaged while it has no end, is renamed aside and
/// counts as none.
pub(super) fn find(path: &Path, task: &TaskId, house: &House) -> io::Result<Option<Opened>> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let size = file.metadata()?.len();
    let opened = match Beginning::read(&file, size, task)? {
        Beginning::NotTheTasks => None,
        Beginning::Damaged(hole) => {
            finished(&file, size, hole)?.map(|state| (state, Writer::default()))
        }
        Beginning::Whole(generation, hole) => Some(match finished(&file, size, hole)? {
            Some(state) => (state, Writer::default()),
            None => taken_up(&file, size, generation, hole, task, house)?,
        }),
    };
    let Some((state, writer)) = opened else {
        let aside = set_aside_name(path);
        log::warn!(task:%, bytes = size, aside:?; "the log of a task cannot be read; it was set aside");
        fs::rename(path, aside)?;
        return Ok(None);
    };
    Ok(Some(Opened {
        file,
        state,
        writer,
    }))
}

/// The state of the task's log at this moment for a process that only reads it: nothing is mended, and a record that is not whole
/// yet does not exist. `before` is the state at the last look: the scan goes on from there. `None` where the file is no
/// readable log of this task.
pub(super) fn look(
    file: &File,
    task: &TaskId,
    before: Option<&State>,
) -> io::Result<Option<State>> {
    let size = file.metadata()?.len();
    let (generation, hole) = match Beginning::read(file, size, task)? {
        Beginning::NotTheTasks => return Ok(None),
        Beginning::Damaged(hole) => return finished(file, size, hole),
        Beginning::Whole(generation, hole) => (generation, hole),
    };
    if let Some(state) = finished(file, size, hole)? {
        return Ok(Some(state));
    }
    let scan = match before.filter(|before| before.hole == hole) {
        Some(before) => Scan::behind(before).over(file, size)?,
        None => scanned(file, size, hole, u64::MAX)?,
    };
    let (state, _) = scan.result(generation, hole);
    Ok(Some(state))
}

/// The name that a file gets which stood in a log's place and could not be read.
pub(super) fn set_aside_name(path: &Path) -> PathBuf {
    path.with_extension("log.damaged")
}

/// The header of a log file and the record of the task's id behind it.
enum Beginning {
    /// Both are whole: generation and hole of the newest slot.
    Whole(u64, Hole),
    /// Header or id record is damaged. The log is still the task's if it has a whole end; the hole is the newest that is known.
    Damaged(Hole),
    NotTheTasks,
}

impl Beginning {
    fn read(file: &File, size: u64, task: &TaskId) -> io::Result<Self> {
        let id = task.as_str().as_bytes();
        let mut beginning = vec![0; format::new_header().len() + format::HEAD + id.len()];
        if size < beginning.len() as u64 {
            return Ok(Self::NotTheTasks);
        }
        file.read_exact_at(&mut beginning, 0)?;
        let header = format::read_header(&beginning).filter(|(_, hole)| hole.end <= size);
        let hole = header.map(|(_, hole)| hole).unwrap_or_default();
        let first = &beginning[format::new_header().len()..];
        let Ok(Some(record)) = format::read_record(first, HEADER) else {
            return Ok(Self::Damaged(hole));
        };
        let is_the_tasks = record.kind == Kind::Id && record.content == id;
        Ok(match header {
            _ if !record.is_whole() => Self::Damaged(hole),
            _ if !is_the_tasks => Self::NotTheTasks,
            Some((generation, hole)) => Self::Whole(generation, hole),
            None => Self::Damaged(hole),
        })
    }
}

/// The quick way to open a log: the footer of a closed log leads to its end record, which has the counts. `None` where the log
/// was not closed.
fn finished(file: &File, size: u64, hole: Hole) -> io::Result<Option<State>> {
    let mut footer = [0; FOOTER];
    let Some(footer_at) = size.checked_sub(FOOTER as u64) else {
        return Ok(None);
    };
    file.read_exact_at(&mut footer, footer_at)?;
    let Some(at) = format::read_footer(&footer).filter(|at| (HEADER..footer_at).contains(at))
    else {
        return Ok(None);
    };
    let mut bytes = vec![0; usize::try_from(footer_at - at).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, at)?;
    let Ok(Some(record)) = format::read_record(&bytes, at) else {
        return Ok(None);
    };
    let whole = record.kind == Kind::End && record.is_whole();
    let end = whole.then(|| format::read_end(record.content)).flatten();
    Ok(end.map(|(end, stdout, stderr)| State {
        len: at,
        hole,
        counted: stdout + stderr,
        stdout,
        stderr,
        // Only appending needs this time, and nothing is appended to a closed log.
        newest: 0,
        position: None,
        end: Some(end),
    }))
}

/// The slow way to open a log: reads every record, and cuts off an end that is not whole.
fn taken_up(
    file: &File,
    size: u64,
    generation: u64,
    hole: Hole,
    task: &TaskId,
    house: &House,
) -> io::Result<(State, Writer)> {
    let scan = scanned(file, size, hole, house.cap / 4)?;
    if scan.good.at < size {
        let bytes = size - scan.good.at;
        log::warn!(task:%, bytes; "the log of a task has an unfinished end; it was cut off");
        file.set_len(scan.good.at)?;
    }
    if hole.len() > 0 {
        // The process that recorded the hole may have died before it gave the space back.
        if let Err(error) = house.disk.punch(file, hole.start..hole.end) {
            log::warn!(task:%, error:%; "a log's dropped part still takes up space");
        }
    }
    Ok(scan.result(generation, hole))
}

fn scanned(file: &File, size: u64, hole: Hole, head_limit: u64) -> io::Result<Scan> {
    let mut scan = Scan::new(head_limit);
    let first = if hole.len() > 0 { hole.start } else { size };
    walk(file, HEADER, first, |record| scan.see(record))?;
    if hole.len() > 0 {
        scan.skip(&hole);
        walk(file, hole.end, size, |record| scan.see(record))?;
    }
    Ok(scan)
}

/// The state of a log up to one record, as a scan finds it.
#[derive(Clone, Copy, Default)]
struct Counted {
    at: u64,
    stdout: u64,
    stderr: u64,
    newest: i64,
    position: Option<Position>,
}

struct Scan {
    head_limit: u64,
    /// Where the first quarter of the cap ends: the offset, and the bytes of container output before it.
    head: Option<(u64, u64)>,
    seen: Counted,
    /// The counts up to the last record that is whole. A damaged record in the middle does not cost the records behind it
    /// (readers say it is damaged); at the end of the file it was never finished, and is cut off.
    good: Counted,
}

impl Scan {
    fn new(head_limit: u64) -> Self {
        Self {
            head_limit,
            head: None,
            seen: Counted::default(),
            good: Counted::default(),
        }
    }

    /// A scan that goes on from the end of an earlier one.
    fn behind(state: &State) -> Self {
        let mut scan = Self::new(u64::MAX);
        scan.seen = Counted {
            at: state.len,
            stdout: state.stdout,
            stderr: state.stderr,
            newest: state.newest,
            position: state.position,
        };
        scan.good = scan.seen;
        scan
    }

    fn over(mut self, file: &File, size: u64) -> io::Result<Self> {
        walk(file, self.seen.at, size, |record| self.see(record))?;
        Ok(self)
    }

    fn see(&mut self, record: &Record<'_>) -> ControlFlow<()> {
        if record.kind == Kind::End {
            // An end record without a footer: the close was cut short, so nobody was told that the log had ended.
            return ControlFlow::Break(());
        }
        if self.head.is_none() && record.at >= self.head_limit {
            self.head = Some((record.at, self.seen.stdout + self.seen.stderr));
        }
        let (stdout, stderr) = record.counts();
        self.seen.at = record.next;
        self.seen.stdout += stdout;
        self.seen.stderr += stderr;
        if matches!(record.kind, Kind::Output(Source::Stdout | Source::Stderr)) {
            self.seen.newest = record.micros;
        }
        if record.kind == Kind::Position && record.is_whole() {
            self.seen.position = format::read_position(record.content);
        }
        if record.is_whole() {
            self.good = self.seen;
        }
        ControlFlow::Continue(())
    }

    fn skip(&mut self, hole: &Hole) {
        self.head = Some((hole.start, hole.before));
        self.seen.at = hole.end;
        self.seen.stdout += hole.stdout;
        self.seen.stderr += hole.stderr;
        self.good = self.seen;
    }

    fn result(self, generation: u64, hole: Hole) -> (State, Writer) {
        let Counted {
            at,
            stdout,
            stderr,
            newest,
            position,
        } = self.good;
        let state = State {
            len: at,
            hole,
            counted: stdout + stderr,
            stdout,
            stderr,
            newest,
            position,
            end: None,
        };
        let head = self.head.filter(|(head, _)| *head <= at);
        (state, Writer::taken_up(generation, stdout + stderr, head))
    }
}

/// Shows the records between two offsets in order, until the callback breaks or no whole record follows.
pub(super) fn walk(
    file: &File,
    from: u64,
    until: u64,
    mut see: impl FnMut(&Record<'_>) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut at = from;
    let mut chunk = Vec::new();
    loop {
        let began = at;
        read_chunk(file, at, until, CHUNK, &mut chunk)?;
        let mut rest = chunk.as_slice();
        while let Ok(Some(record)) = format::read_record(rest, at) {
            if see(&record).is_break() {
                return Ok(());
            }
            let length = record.content.len() + format::HEAD;
            at = record.next;
            rest = &rest[length..];
        }
        if at == began {
            return Ok(());
        }
    }
}

/// The offset of the first record behind damage, between two offsets; `until` where there is none. A head's checksum covers its
/// own offset, so output of a task passes for a record only if the task guesses its offset in the log.
pub(super) fn next_record(file: &File, from: u64, until: u64) -> io::Result<u64> {
    let mut at = from;
    let mut chunk = Vec::new();
    while at < until {
        let left = usize::try_from(until - at).unwrap_or(usize::MAX);
        read_up_to(file, at, left.min(CHUNK), &mut chunk)?;
        let mut place = 0;
        while let Some(next) = format::find_head(&chunk[place..]) {
            place += next;
            let found = at + place as u64;
            if let Ok(Some(_)) = format::record_length(&chunk[place..], found) {
                return Ok(found);
            }
            place += 1;
        }
        if chunk.len() < CHUNK {
            return Ok(until);
        }
        // A head that began in this chunk's last bytes is whole in the next one.
        at += (CHUNK - format::HEAD + 1) as u64;
    }
    Ok(until)
}

/// Reads the bytes between two offsets, at most `most` of them; more only if the first record is longer.
pub(super) fn read_chunk(
    file: &File,
    at: u64,
    until: u64,
    most: usize,
    chunk: &mut Vec<u8>,
) -> io::Result<()> {
    let left = usize::try_from(until.saturating_sub(at)).unwrap_or(usize::MAX);
    read_up_to(file, at, left.min(most), chunk)?;
    match format::record_length(chunk, at) {
        Ok(Some(length)) if length > chunk.len() && length <= left => {
            read_up_to(file, at, length, chunk)
        }
        _ => Ok(()),
    }
}

/// Reads `wanted` bytes at the offset `at`; fewer where the file ends before.
pub(super) fn read_up_to(
    file: &File,
    at: u64,
    wanted: usize,
    chunk: &mut Vec<u8>,
) -> io::Result<()> {
    chunk.resize(wanted, 0);
    let mut filled = 0;
    while filled < wanted {
        match file.read_at(&mut chunk[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    chunk.truncate(filled);
    Ok(())
}
