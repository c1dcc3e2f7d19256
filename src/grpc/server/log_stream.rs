//! One viewer's log stream: lines from a cursor on the spool become chunks, one line each. Owns the viewer's place and nothing
//! else: it is pulled by the connection, so that a slow viewer holds one batch of lines and slows nobody, and a viewer that
//! hangs up takes all of it along.
//!
//! Hundreds of thousands of chunks a second pass here: awaiting happens once per batch, and a line becomes a chunk only when
//! the connection takes it.

use std::{panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::UNIX_EPOCH, vec};

use futures_util::{Stream, StreamExt, stream};
use log::{error, warn};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::super::{convert::rfc3339, status::Denied};
use crate::{
    domain::{
        id::TaskId,
        log_line::{LINE_LIMIT, Line},
        text,
    },
    ports::{
        clock::{Clock, SystemClock},
        spool::{LogCursor, LogEnd, LogItem},
    },
    proto::LogChunk,
};

/// The status of every chunk but the last.
const RUNNING: &str = "running";

/// So much of a task's id is shown in our log, in bytes.
const SHOWN: usize = 64;

/// What the server sends to one viewer.
pub(super) type ChunkStream = Pin<Box<dyn Stream<Item = Result<LogChunk, Status>> + Send>>;

/// Whether a viewer stays for what the task has yet to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    /// Until the log is over.
    ToTheEnd,
    /// Until what is there now has been sent.
    No,
}

/// A viewer's place in a log.
pub(super) struct LogStream {
    task: Arc<str>,
    cursor: Box<dyn LogCursor>,
    follow: Follow,
    stop: CancellationToken,
    /// When the last line arrived, in microseconds: the trailer has no time of its own.
    last_arrival: Option<i64>,
    over: bool,
}

impl LogStream {
    /// Starts where the cursor stands. `stop` ends the stream, wherever it is.
    pub(super) fn new(
        task: &TaskId,
        cursor: Box<dyn LogCursor>,
        follow: Follow,
        stop: CancellationToken,
    ) -> Self {
        Self {
            task: task.as_str().into(),
            cursor,
            follow,
            stop,
            last_arrival: None,
            over: false,
        }
    }

    /// The stream for the connection. A panic of the cursor ends this stream alone.
    pub(super) fn into_chunks(self) -> ChunkStream {
        let task = Arc::clone(&self.task);
        let batches = stream::unfold(self, |mut log| async move {
            let batch = log.next_batch().await?;
            Some((batch, log))
        });
        let batches = AssertUnwindSafe(batches).catch_unwind().map(move |batch| {
            batch.unwrap_or_else(|_| {
                error!(task:% = text::escape(&task, SHOWN); "the reader of a log panicked");
                Batch::denied(&task, Denied::Panicked)
            })
        });
        Box::pin(batches.map(stream::iter).flatten())
    }

    async fn next_batch(&mut self) -> Option<Batch> {
        if self.over {
            return None;
        }
        let stop = self.stop.clone();
        let batch = tokio::select! {
            biased;
            () = stop.cancelled() => Err(Denied::Stopping),
            batch = self.read() => batch,
        };
        Some(batch.unwrap_or_else(|denied| {
            self.over = true;
            Batch::denied(&self.task, denied)
        }))
    }

    async fn read(&mut self) -> Result<Batch, Denied> {
        loop {
            match self
                .cursor
                .next()
                .await
                .map_err(|error| self.unreadable(&error))?
            {
                LogItem::Lines(lines) => return Ok(self.lines(lines)),
                LogItem::End(end) => return Ok(self.end(&end)),
                LogItem::CaughtUp => match self.follow {
                    Follow::ToTheEnd => self.cursor.grown().await,
                    Follow::No => {
                        self.over = true;
                        let held_back = self.cursor.take_unfinished();
                        return Ok(self.lines(held_back));
                    }
                },
            }
        }
    }

    fn lines(&mut self, lines: Vec<Line>) -> Batch {
        self.last_arrival = lines.last().map(|line| line.micros).or(self.last_arrival);
        Batch {
            task: Arc::clone(&self.task),
            lines: fitting(lines).into_iter(),
            stamp: Stamp::default(),
            last: None,
        }
    }

    fn end(&mut self, end: &LogEnd) -> Batch {
        self.over = true;
        let micros = self.last_arrival.unwrap_or_else(now);
        let last = LogChunk {
            task_id: self.task.to_string(),
            content: shown(text::truncate(&end.trailer, LINE_LIMIT).to_owned()),
            timestamp: rfc3339(micros),
            is_complete: true,
            status: end.word.in_log().to_owned(),
            continued: false,
        };
        Batch {
            last: Some(Ok(last)),
            ..Batch::empty(&self.task)
        }
    }

    fn unreadable(&self, error: &std::io::Error) -> Denied {
        warn!(task:% = text::escape(&self.task, SHOWN), error:%; "a log cannot be read");
        Denied::Unreadable(error.to_string())
    }
}

/// Some lines, not yet chunks, and at the very end what closes the stream.
struct Batch {
    task: Arc<str>,
    lines: vec::IntoIter<Line>,
    stamp: Stamp,
    last: Option<Result<LogChunk, Denied>>,
}

impl Batch {
    fn empty(task: &Arc<str>) -> Self {
        Self {
            task: Arc::clone(task),
            lines: Vec::new().into_iter(),
            stamp: Stamp::default(),
            last: None,
        }
    }

    fn denied(task: &Arc<str>, denied: Denied) -> Self {
        Self {
            last: Some(Err(denied)),
            ..Self::empty(task)
        }
    }
}

impl Iterator for Batch {
    type Item = Result<LogChunk, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(line) = self.lines.next() else {
            return Some(self.last.take()?.map_err(Status::from));
        };
        Some(Ok(LogChunk {
            task_id: String::from(&*self.task),
            timestamp: self.stamp.of(line.micros),
            content: shown(repaired(line.bytes)),
            is_complete: false,
            status: RUNNING.to_owned(),
            continued: line.continued,
        }))
    }
}

/// The last time written: lines that arrived together share it.
#[derive(Default)]
struct Stamp {
    written: Option<(i64, String)>,
}

impl Stamp {
    fn of(&mut self, micros: i64) -> String {
        match &self.written {
            Some((same, text)) if *same == micros => text.clone(),
            _ => {
                let text = rfc3339(micros);
                self.written = Some((micros, text.clone()));
                text
            }
        }
    }
}

fn repaired(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| text::repair_utf8(error.as_bytes()).into_owned())
}

/// The master drops empty content, and with it the line.
fn shown(content: String) -> String {
    if content.is_empty() {
        " ".to_owned()
    } else {
        content
    }
}

/// Cuts lines over the limit into parts: repaired, each byte may become three, and a chunk must stay under 3.5 MiB.
/// Containers' lines come cut already; this is for lines of the worker's own.
fn fitting(lines: Vec<Line>) -> Vec<Line> {
    if lines.iter().all(|line| line.bytes.len() <= LINE_LIMIT) {
        return lines;
    }
    lines.into_iter().flat_map(parts).collect()
}

fn parts(mut line: Line) -> Vec<Line> {
    let mut parts = Vec::new();
    while line.bytes.len() > LINE_LIMIT {
        let continues = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
        let back = line.bytes[LINE_LIMIT - 3..=LINE_LIMIT]
            .iter()
            .rev()
            .take_while(|byte| continues(byte))
            .count();
        // Four in a row are no character: then the place does not matter.
        let end = LINE_LIMIT - back % 4;
        let rest = line.bytes.split_off(end);
        parts.push(Line {
            bytes: std::mem::replace(&mut line.bytes, rest),
            continued: true,
            ..line
        });
    }
    parts.push(line);
    parts
}

fn now() -> i64 {
    let since = SystemClock.now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
