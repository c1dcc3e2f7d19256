//! The one writer of a log: takes output in, keeps the log within its cap, and ends it. Runs on blocking threads, one piece of
//! work at a time.

use std::{fs::File, io, ops::ControlFlow, os::unix::fs::FileExt};

use super::{
    FileSpool, State,
    format::{self, Batch, HEAD, Hole, Kind},
    in_micros, open,
};
use crate::{
    domain::{log_line::Source, text},
    ports::spool::{LogEnd, Piece, Position},
};

const NO_SPACE: &str =
    "[worker-node] the disk is almost full: output is left out until there is room again";
const NO_HOLES: &str = "[worker-node] this log is as long as it may be: further output is left out";

/// The state of the writer that readers do not need.
#[derive(Default)]
pub(super) struct Writer {
    /// Generation of the header's slot that was written last.
    generation: u64,
    /// Bytes of container output that the records stand for, gaps included.
    position: u64,
    /// Where the first quarter of the cap ends: the offset, and `position` there. `None` until the log is that long.
    head: Option<(u64, u64)>,
    /// What was left out since there was no room; `None` while output is taken.
    refusing: Option<Refusing>,
    holes: Holes,
}

/// Bytes that were left out and are not in a gap record yet.
#[derive(Default, Clone, Copy)]
struct Refusing {
    stdout: u64,
    stderr: u64,
    /// Whether a marker in the log says so.
    is_marked: bool,
}

impl Refusing {
    fn bytes(self) -> u64 {
        self.stdout + self.stderr
    }
}

/// Whether the file system gives space back in the middle of a file.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Holes {
    #[default]
    Untried,
    Work,
    Fail,
}

impl Writer {
    /// The writer of an existing log.
    pub(super) fn taken_up(generation: u64, position: u64, head: Option<(u64, u64)>) -> Self {
        Self {
            generation,
            position,
            head,
            ..Self::default()
        }
    }

    /// Appends output of a container, and the place in the engine's own log up to which it reaches. While there is no room, both
    /// are left out: the output is counted, and the place does not move past it, so that a later reader reads it again.
    pub(super) fn append(
        &mut self,
        spool: &FileSpool,
        pieces: &[Piece],
        position: Option<Position>,
        micros: i64,
    ) -> io::Result<()> {
        let state = still_open(spool)?;
        if let Some(marker) = self.why_not(spool, &state) {
            self.refuse(spool, pieces, marker, micros);
            return Ok(());
        }
        let size = pieces.iter().map(|piece| piece.bytes.len()).sum::<usize>();
        let mut batch = Batch::new(state.len, micros, size + HEAD * (pieces.len() + 3));
        // In front of the first output that is taken again, in the same write: readers meet the gap at its place.
        self.end_gap(&mut batch);
        for piece in pieces {
            batch.output(
                piece.source,
                piece.time.map_or(micros, in_micros),
                &piece.bytes,
            );
        }
        if let Some(position) = &position {
            batch.position(position);
        }
        let newest = pieces
            .last()
            .map(|piece| piece.time.map_or(micros, in_micros));
        let told = Told {
            newest,
            position,
            gap: self.refusing.unwrap_or_default().bytes(),
        };
        match write(spool, batch, count(pieces), told) {
            Err(error) if is_full(&error) => {
                self.refuse(spool, pieces, NO_SPACE, micros);
                return Ok(());
            }
            written => written?,
        }
        self.move_on(spool, &state, count(pieces));
        self.trim(spool)
    }

    /// Appends a line of the worker's, even where there is no room for output: it is small.
    pub(super) fn note(&mut self, spool: &FileSpool, line: &str, micros: i64) -> io::Result<()> {
        let state = still_open(spool)?;
        let mut batch = Batch::new(state.len, micros, line.len() + HEAD);
        // A text of several lines must not pass for one.
        for line in line.trim_end_matches('\n').split('\n') {
            let line = text::truncate(line, format::RECORD_LIMIT);
            batch.record(Kind::Output(Source::Worker), line.as_bytes());
        }
        write(spool, batch, (0, 0), Told::default())?;
        self.trim(spool)
    }

    /// Ends the log, durably.
    pub(super) fn close(&mut self, spool: &FileSpool, end: LogEnd, micros: i64) -> io::Result<()> {
        let state = spool.state.borrow().clone();
        if state.end.is_some() {
            return Ok(());
        }
        let end = LogEnd {
            trailer: text::truncate(&end.trailer, format::TRAILER_LIMIT).to_owned(),
            ..end
        };
        let mut batch = Batch::new(state.len, micros, 0);
        self.end_gap(&mut batch);
        let len = batch.next();
        batch.end(&end, state.stdout, state.stderr);
        write_at(spool, state.len, &batch.into_bytes())?;
        spool.file.sync_all()?;
        File::open(&spool.house.folder)?.sync_all()?;
        let gap = self.refusing.take().unwrap_or_default();
        spool.state.send_modify(|state| {
            state.len = len;
            state.counted += gap.bytes();
            state.end = Some(end);
        });
        Ok(())
    }

    /// Why no output can be taken now: the text of the marker.
    fn why_not(&self, spool: &FileSpool, state: &State) -> Option<&'static str> {
        if !spool.house.space.is_there() {
            Some(NO_SPACE)
        } else if self.holes == Holes::Fail && state.len >= spool.house.cap {
            Some(NO_HOLES)
        } else {
            None
        }
    }

    /// Counts output that is left out, and says so in a marker, once.
    fn refuse(&mut self, spool: &FileSpool, pieces: &[Piece], marker: &str, micros: i64) {
        let (stdout, stderr) = count(pieces);
        let mut refusing = self.refusing.unwrap_or_default();
        refusing.stdout += stdout;
        refusing.stderr += stderr;
        spool.state.send_if_modified(|state| {
            state.stdout += stdout;
            state.stderr += stderr;
            false
        });
        if !refusing.is_marked {
            // On a disk without one free byte the marker does not fit either. The next refusal tries again, and the gap record
            // tells the count later.
            refusing.is_marked = self.note(spool, marker, micros).is_ok();
        }
        self.refusing = Some(refusing);
    }

    fn end_gap(&self, batch: &mut Batch) {
        if let Some(refusing) = self.refusing {
            batch.gap(refusing.stdout, refusing.stderr);
        }
    }

    fn move_on(&mut self, spool: &FileSpool, before: &State, (stdout, stderr): (u64, u64)) {
        if self.head.is_none() && before.len >= spool.house.cap / 4 {
            self.head = Some((before.len, self.position));
        }
        let gap = self.refusing.take().unwrap_or_default();
        self.position += gap.bytes() + stdout + stderr;
    }

    /// If the log is over its cap, drops the oldest records behind the first quarter: a sixteenth of the cap more than needed, so
    /// that this is seldom done.
    fn trim(&mut self, spool: &FileSpool) -> io::Result<()> {
        let cap = spool.house.cap;
        let state = spool.state.borrow().clone();
        let kept = state.len - state.hole.len();
        let Some(head) = self.head.filter(|_| kept > cap) else {
            return Ok(());
        };
        if !self.can_make_holes(spool, state.len) {
            return Ok(());
        }
        let wanted = kept - cap + cap / 16;
        let hole = grown(spool, &state, head, wanted)?;
        self.generation += 1;
        let slot = format::slot(self.generation, &hole);
        let slot_at = format::slot_offset(self.generation);
        spool.file.write_all_at(&slot, slot_at)?;
        // Durable before the bytes go: after a power cut nobody must take the zeros for records.
        spool.file.sync_data()?;
        // Readers are told before the bytes go, so that one who finds zeros finds the reason too.
        spool.state.send_modify(|state| state.hole = hole);
        // Punch the whole hole each time: the file's blocks at its former end were only partly in it, and kept.
        spool.house.disk.punch(&spool.file, hole.start..hole.end)
    }

    fn can_make_holes(&mut self, spool: &FileSpool, len: u64) -> bool {
        if self.holes == Holes::Untried {
            // Behind the end of the log there is nothing to lose.
            let trial = spool.house.disk.punch(&spool.file, len..len + 1);
            self.holes = if trial.is_ok() {
                Holes::Work
            } else {
                Holes::Fail
            };
        }
        self.holes == Holes::Work
    }
}

/// The hole, grown by as many whole records behind it as make up at least `wanted` bytes.
fn grown(spool: &FileSpool, state: &State, head: (u64, u64), wanted: u64) -> io::Result<Hole> {
    let mut hole = state.hole;
    if hole.len() == 0 {
        let (start, before) = head;
        hole = Hole {
            start,
            end: start,
            before,
            ..Hole::default()
        };
    }
    let goal = hole.end + wanted;
    open::walk(&spool.file, hole.end, state.len, |record| {
        let (stdout, stderr) = record.counts();
        hole.end = record.next;
        hole.stdout += stdout;
        hole.stderr += stderr;
        if hole.end < goal {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    Ok(hole)
}

fn still_open(spool: &FileSpool) -> io::Result<State> {
    let state = spool.state.borrow().clone();
    if state.end.is_some() {
        return Err(io::Error::other("the log is closed"));
    }
    Ok(state)
}

/// What readers learn of a batch beside its length.
#[derive(Default)]
struct Told {
    /// When its last output came, in microseconds since the Unix epoch.
    newest: Option<i64>,
    position: Option<Position>,
    /// Bytes that its gap record says were left out.
    gap: u64,
}

/// Writes a batch at the end of the log and tells readers of it.
fn write(
    spool: &FileSpool,
    batch: Batch,
    (stdout, stderr): (u64, u64),
    told: Told,
) -> io::Result<()> {
    let at = spool.state.borrow().len;
    let bytes = batch.into_bytes();
    write_at(spool, at, &bytes)?;
    spool.state.send_modify(|state| {
        state.len = at + bytes.len() as u64;
        state.counted += told.gap + stdout + stderr;
        state.stdout += stdout;
        state.stderr += stderr;
        state.newest = told.newest.unwrap_or(state.newest);
        state.position = told.position.or(state.position);
    });
    Ok(())
}

/// Writes bytes at the end of the log. After an error the part that was written is cut off again: its rest could look like a
/// record once later bytes lie over its beginning.
fn write_at(spool: &FileSpool, at: u64, bytes: &[u8]) -> io::Result<()> {
    let written = spool.house.disk.write(&spool.file, bytes, at);
    written.inspect_err(|_| {
        if let Err(error) = spool.file.set_len(at) {
            log::warn!(error:%; "a part of a log that was not written well stays behind its end");
        }
    })
}

fn count(pieces: &[Piece]) -> (u64, u64) {
    let of = |wanted: Source| {
        let its = pieces.iter().filter(|piece| piece.source == wanted);
        its.map(|piece| piece.bytes.len() as u64).sum()
    };
    (of(Source::Stdout), of(Source::Stderr))
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded)
}
