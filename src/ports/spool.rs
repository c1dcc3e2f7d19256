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

/// Which byte of a log stands where in the engine's own files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Where reading goes on; the default stands for the first byte of the first file.
    pub place: Place,
    /// The engine's run that had written what lies before it; 0: unknown.
    pub run: u64,
    /// Bytes of stdout that the log had, or was to have, before that place.
    pub stdout: u64,
    /// The same of stderr.
    pub stderr: u64,
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
    fn cursor(&self) -> Box<dyn LogCursor>;
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

/// A reader with its own place in a log. Sees each line once and in order per source.
#[async_trait]
pub trait LogCursor: Send {
    /// Reads on from its place; never waits for the log to grow.
    ///
    /// # Errors
    /// The disk's.
    async fn next(&mut self) -> io::Result<LogItem>;

    /// Gives out the unfinished lines that are held back, for a viewer that does not follow.
    fn take_unfinished(&mut self) -> Vec<Line>;

    /// Waits until there may be more than what `next` has seen.
    async fn grown(&mut self);
}
