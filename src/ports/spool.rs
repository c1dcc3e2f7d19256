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
    /// An error of the disk.
    fn open(&self, task: &TaskId) -> io::Result<Arc<dyn Spool>>;

    /// Opens the task's spool only if there is one already.
    ///
    /// # Errors
    /// An error of the disk.
    fn find(&self, task: &TaskId) -> io::Result<Option<Arc<dyn Spool>>>;

    /// Removes the task's spool. Cursors that are open read on to the end of what was there.
    ///
    /// # Errors
    /// An error of the disk.
    fn remove(&self, task: &TaskId) -> io::Result<()>;
}

/// The last thing in a log: how the task ended, for viewers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEnd {
    /// The outcome, in the contract's word.
    pub word: StatusWord,
    /// The trailer line.
    pub trailer: String,
}

/// What a container wrote at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The stream that it was written to: stdout or stderr.
    pub source: Source,
    /// The bytes as they were written, not split into lines.
    pub bytes: Bytes,
    /// When they were written, as far as that is known; `None`: they have just come.
    pub time: Option<SystemTime>,
}

/// Where in the engine's own files, or in its record, a log goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The place where reading goes on; the default stands for the first byte of the first file.
    pub place: Place,
    /// The engine's run that had written what lies before it; 0: unknown.
    pub run: u64,
    /// Bytes of stdout that the log had, or was to have, before that place. In a record, whose bytes may be more than those in the
    /// log: modulo 2^64, the log's bytes less those of the record from that place on.
    pub stdout: u64,
    /// The same of stderr.
    pub stderr: u64,
}

/// Where a reader of a log begins. The place is looked for in what the log has at the first reading; one that there is not yet is
/// the present end, and one before the first line is that line. Places are found from the end of the log, so that finding one costs
/// no more reading than what is given out then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// At the first line.
    #[default]
    First,
    /// Behind this many bytes of the container, both streams and what was dropped counted. The worker's own lines that stand at
    /// that very place are given out too.
    Offset(u64),
    /// This many lines before the end, in the order of their ends; an unfinished one counts. 0: with what comes from now on.
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
    /// Whether bytes of this source are wanted.
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
    /// The place to begin at.
    pub start: Start,
    /// The streams to read; lines of the others don't count.
    pub streams: Streams,
}

/// One task's log. Appending never waits for a reader.
#[async_trait]
pub trait Spool: Send + Sync {
    /// Appends what a container wrote, in the order given. Over the cap it keeps on taking bytes, and drops from the
    /// middle of the log, counting.
    ///
    /// # Errors
    /// An error of the disk; what was appended before stays.
    async fn append(&self, pieces: Vec<Piece>) -> io::Result<()>;

    /// As [`Spool::append`], and remembers in the same write where the engine's files go on behind that.
    ///
    /// # Errors
    /// An error of the disk; what was appended before stays.
    async fn append_up_to(&self, pieces: Vec<Piece>, position: Position) -> io::Result<()>;

    /// Appends one line of the worker's own: progress, a marker.
    ///
    /// # Errors
    /// An error of the disk.
    async fn note(&self, line: String) -> io::Result<()>;

    /// Ends the log. Durable when it returns; a second call changes nothing; what is appended later is refused.
    ///
    /// # Errors
    /// An error of the disk.
    async fn close(&self, end: LogEnd) -> io::Result<()>;

    /// How the log ended; `None`: it has not.
    fn end(&self) -> Option<LogEnd>;

    /// Bytes of each source that were ever appended (stdout, stderr), dropped ones included.
    fn appended(&self) -> (u64, u64);

    /// The last position that the spool was told, in this process or a former one.
    fn position(&self) -> Option<Position>;

    /// When the container's last output came, or was written where the engine told that; `None`: there is none.
    fn newest(&self) -> Option<SystemTime>;

    /// A reader from the first line on.
    fn cursor(&self) -> Box<dyn LogCursor> {
        self.cursor_from(LogRange::default())
    }

    /// A reader of a part of the log.
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
    /// The bytes of all spans, one behind the other: 64 KiB at most (or one span that is longer, up to 1 MiB).
    pub bytes: Bytes,
    /// The spans in the order of their arrival; 512 at most.
    pub spans: Vec<Span>,
}

/// What came in one piece, from one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The source. A line of the worker's own comes whole, with its newline.
    pub source: Source,
    /// Bytes of the container before this span, both streams and what was dropped counted: `Start::Offset` finds it again.
    pub offset: u64,
    /// When it arrived, in microseconds since the Unix epoch, or was written where the engine told that.
    pub micros: i64,
    /// How many of the stretch's bytes are this span's.
    pub len: usize,
    /// Whether it is a line of the worker's that stands for missing bytes: no line of the container goes on across it.
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
    /// An error of the disk.
    async fn next(&mut self) -> io::Result<LogItem>;

    /// As `next`, but bytes as they were printed. Nothing is held back.
    ///
    /// # Errors
    /// An error of the disk.
    async fn next_bytes(&mut self) -> io::Result<RawItem>;

    /// Gives out the unfinished lines that are held back, for a viewer that does not follow.
    fn take_unfinished(&mut self) -> Vec<Line>;

    /// Waits until there may be more than what `next` or `next_bytes` has seen.
    async fn grown(&mut self);
}
