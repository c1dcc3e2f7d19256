//! Where a task's log is kept: written by one reader of the container and by the task itself, read by any number of cursors.

use std::{io, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use bytes::Bytes;

use super::engine_log::Place;
use crate::domain::{
    id::TaskId,
    log_line::{Line, Source},
    outcome::StatusWord,
};

/// Opens and removes spools. Calls may block: use a blocking thread.
pub trait SpoolStore: Send + Sync {
    /// Opens the task's spool for writing, made new or taken up again after its last whole record. There is one spool
    /// handle per task in the process: a second call returns the same one.
    ///
    /// # Errors
    /// The disk's.
    fn open(&self, task: &TaskId) -> io::Result<Arc<dyn Spool>>;

    /// Opens the task's spool only if there is one already.
    ///
    /// # Errors
    /// The disk's.
    fn find(&self, task: &TaskId) -> io::Result<Option<Arc<dyn Spool>>>;

    /// Removes it. Cursors that are open read on to the end of what was there.
    ///
    /// # Errors
    /// The disk's.
    fn remove(&self, task: &TaskId) -> io::Result<()>;
}

/// The last thing in a log: how the task ended, for viewers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEnd {
    /// The contract's word.
    pub word: StatusWord,
    /// The trailer line.
    pub trailer: String,
}

/// What a container wrote at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// stdout or stderr.
    pub source: Source,
    /// As it was written, not split into lines.
    pub bytes: Bytes,
    /// When, as far as somebody noted it; `None` for what has just come.
    pub time: Option<SystemTime>,
}

/// Which byte of a log stands where in the engine's own files, or in what the engine tells of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Where reading goes on; the default stands for the first byte of the first file.
    pub place: Place,
    /// The engine's run that had written what lies before it; 0: unknown.
    pub run: u64,
    /// Bytes of stdout that the log had, or was to have, before that place. In a record, whose bytes may be more than those in the
    /// log: modulo 2^64, the log's bytes less those of the record from that place on.
    pub stdout: u64,
    /// The same of stderr.
    pub stderr: u64,
}

/// Where a reader of a log begins. What is asked for is looked for in what is there at the first reading; a place that there is
/// not yet is the present end, and one before the first line is that line. It costs no more reading than what is given out
/// then: places are found from the end of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// At the first line.
    #[default]
    First,
    /// Behind so many bytes of the container, both streams and what was dropped counted. The worker's own lines that stand
    /// at that very place are given out too.
    Offset(u64),
    /// So many lines before the end, in the order of their ends; an unfinished one counts. 0: with what comes from now on.
    LastLines(u64),
    /// With the first line whose end came at that time or later. Where the clock was set back meanwhile, what came before the
    /// last line that is older is left out.
    Since(SystemTime),
}

/// Which streams of the container a reader wants. The worker's own lines come with each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Streams {
    /// stdout and stderr, in the order in which they came.
    #[default]
    Both,
    /// stdout alone.
    Stdout,
    /// stderr alone.
    Stderr,
}

impl Streams {
    /// Whether what comes from there is wanted.
    #[must_use]
    pub fn wants(self, source: Source) -> bool {
        match (self, source) {
            (Self::Both, _)
            | (_, Source::Worker)
            | (Self::Stdout, Source::Stdout)
            | (Self::Stderr, Source::Stderr) => true,
            (Self::Stdout, Source::Stderr) | (Self::Stderr, Source::Stdout) => false,
        }
    }
}

/// What a reader wants of a log: all of it by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogRange {
    /// From where on.
    pub start: Start,
    /// Of which streams; lines of the others don't count.
    pub streams: Streams,
}

/// One task's log. Appending never waits for a reader.
#[async_trait]
pub trait Spool: Send + Sync {
    /// Appends what a container wrote, in the order given. Over the cap it keeps on taking bytes, and drops from the
    /// middle of the log, counting.
    ///
    /// # Errors
    /// The disk's; what was appended before stays.
    async fn append(&self, pieces: Vec<Piece>) -> io::Result<()>;

    /// As [`Spool::append`], and remembers in the same write where the engine's files go on behind that.
    ///
    /// # Errors
    /// The disk's; what was appended before stays.
    async fn append_up_to(&self, pieces: Vec<Piece>, position: Position) -> io::Result<()>;

    /// Appends one line of the worker's own: progress, a marker.
    ///
    /// # Errors
    /// The disk's.
    async fn note(&self, line: String) -> io::Result<()>;

    /// Ends the log. Durable when it returns; a second call changes nothing; what is appended later is refused.
    ///
    /// # Errors
    /// The disk's.
    async fn close(&self, end: LogEnd) -> io::Result<()>;

    /// How it ended, if it did.
    fn end(&self) -> Option<LogEnd>;

    /// Bytes of each source that were ever appended (stdout, stderr), dropped ones included.
    fn appended(&self) -> (u64, u64);

    /// The last position that it was told, in this process or a former one.
    fn position(&self) -> Option<Position>;

    /// When the last output of the container came, or was written where the engine told that; `None`: none has.
    fn newest(&self) -> Option<SystemTime>;

    /// A reader from the first line on.
    fn cursor(&self) -> Box<dyn LogCursor> {
        self.cursor_from(LogRange::default())
    }

    /// A reader of a part of it.
    fn cursor_from(&self, range: LogRange) -> Box<dyn LogCursor>;
}

/// What a cursor finds next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogItem {
    /// Some lines: 512 at most, and about 64 KiB of them (or one line that is longer).
    Lines(Vec<Line>),
    /// Nothing more now; unfinished lines are held back.
    CaughtUp,
    /// The log is over; nothing follows.
    End(LogEnd),
}

/// Some of a log as it was printed, not split into lines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stretch {
    /// What the spans cover, one behind the other: 64 KiB at most (or one span that is longer, up to 1 MiB).
    pub bytes: Bytes,
    /// In the order of their arrival; 512 at most.
    pub spans: Vec<Span>,
}

/// What came in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// From where. A line of the worker's own comes whole, with its newline.
    pub source: Source,
    /// Bytes of the container before it, both streams and what was dropped counted: `Start::Offset` finds it again.
    pub offset: u64,
    /// When it arrived, in microseconds since the Unix epoch, or was written where the engine told that.
    pub micros: i64,
    /// Of the stretch's bytes, so many.
    pub len: usize,
    /// A line of the worker's that stands for bytes that are missing: no line of the container goes on across it.
    pub interrupts: bool,
}

/// What a cursor that reads bytes finds next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawItem {
    /// Some bytes, never none.
    Bytes(Stretch),
    /// Nothing more now.
    CaughtUp,
    /// The log is over; nothing follows.
    End(LogEnd),
}

/// A reader with its own place in a log. Sees each line once and in order per source. It reads lines, or bytes: whoever
/// has begun with one goes on with it.
#[async_trait]
pub trait LogCursor: Send {
    /// Reads on from its place; never waits for the log to grow.
    ///
    /// # Errors
    /// The disk's.
    async fn next(&mut self) -> io::Result<LogItem>;

    /// As `next`, but bytes as they were printed. Nothing is held back.
    ///
    /// # Errors
    /// The disk's.
    async fn next_bytes(&mut self) -> io::Result<RawItem>;

    /// Gives out the unfinished lines that are held back, for a viewer that does not follow.
    fn take_unfinished(&mut self) -> Vec<Line>;

    /// Waits until there may be more than what `next` or `next_bytes` has seen.
    async fn grown(&mut self);
}
