//! One viewer's log stream: bytes from a cursor on the spool become chunks, of one line each or of many. Owns the viewer's place
//! and nothing else: it is pulled by the connection, so that a slow viewer holds one stretch of the log and slows nobody; when a
//! viewer hangs up, nothing of it is left.
//!
//! Hundreds of thousands of chunks a second pass here: reading is awaited once per stretch, and a line becomes a chunk only
//! when the connection takes it.

mod lines;
mod terminal;

use std::{panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::UNIX_EPOCH};

use futures_util::{Stream, StreamExt, stream};
use log::{error, warn};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use self::lines::Lines;
use super::super::{
    convert::{self, rfc3339},
    status::Denied,
};
use crate::{
    domain::{id::TaskId, log_line::LINE_LIMIT, text},
    ports::{
        clock::{Clock, SystemClock},
        spool::{LogCursor, LogEnd, RawItem, Stretch},
    },
    proto::LogChunk,
};

/// The status of every chunk but the last.
const RUNNING: &str = "running";

/// Bytes of a task's id that are shown in our log.
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

/// How a viewer gets a log.
pub(super) enum Form {
    /// A line to a chunk, as a terminal would show it; with the places for viewers that may hold a long line whole.
    Lines(Arc<Semaphore>),
    /// Bytes as they were printed, many lines to a chunk.
    Batches,
}

/// A viewer's place in a log.
pub(super) struct LogStream {
    task: Arc<str>,
    cursor: Box<dyn LogCursor>,
    follow: Follow,
    stop: CancellationToken,
    ready: Ready,
    /// When the last byte arrived, in microseconds: the trailer has no time of its own.
    last_arrival: Option<i64>,
    /// The chunk that closes the stream, once all the rest was sent.
    last: Option<LogChunk>,
    over: bool,
}

/// What can be sent before more is read.
enum Ready {
    Lines(Box<Lines>),
    Batch(Option<Stretch>),
}

impl LogStream {
    /// A stream that starts where the cursor stands. `stop` ends it, wherever it is.
    pub(super) fn new(
        task: &TaskId,
        cursor: Box<dyn LogCursor>,
        follow: Follow,
        form: Form,
        stop: CancellationToken,
    ) -> Self {
        let task: Arc<str> = task.as_str().into();
        let ready = match form {
            Form::Lines(long_lines) => {
                Ready::Lines(Box::new(Lines::new(Arc::clone(&task), long_lines)))
            }
            Form::Batches => Ready::Batch(None),
        };
        Self {
            task,
            cursor,
            follow,
            stop,
            ready,
            last_arrival: None,
            last: None,
            over: false,
        }
    }

    /// The stream for the connection. A panic of the cursor ends this stream alone.
    pub(super) fn into_chunks(self) -> ChunkStream {
        let task = Arc::clone(&self.task);
        let chunks = stream::unfold(Box::new(self), |mut log| async move {
            let chunk = log.next().await?;
            Some((chunk, log))
        });
        let chunks = AssertUnwindSafe(chunks).catch_unwind().map(move |chunk| {
            let chunk = chunk.unwrap_or_else(|_| {
                error!(task:% = text::escape(&task, SHOWN); "the reader of a log panicked");
                Err(Denied::Panicked)
            });
            chunk.map_err(Status::from)
        });
        Box::pin(chunks)
    }

    async fn next(&mut self) -> Option<Result<LogChunk, Denied>> {
        loop {
            if let Some(chunk) = self.ready() {
                return Some(Ok(chunk));
            }
            if self.over {
                return self.last.take().map(Ok);
            }
            let stop = self.stop.clone();
            let filled = tokio::select! {
                // The stop first: a log that always has something to send would keep the server from ending.
                biased;
                () = stop.cancelled() => Err(Denied::Stopping),
                filled = self.fill() => filled,
            };
            if let Err(denied) = filled {
                self.over = true;
                return Some(Err(denied));
            }
        }
    }

    fn ready(&mut self) -> Option<LogChunk> {
        match &mut self.ready {
            Ready::Lines(lines) => lines.next(),
            Ready::Batch(batch) => Some(convert::log::batch(&self.task, RUNNING, batch.take()?)),
        }
    }

    /// Reads on until there is something to send, or the stream is over.
    async fn fill(&mut self) -> Result<(), Denied> {
        loop {
            let read = self.cursor.next_bytes().await;
            match read.map_err(|error| self.unreadable(&error))? {
                RawItem::Bytes(stretch) => {
                    self.put(stretch);
                    return Ok(());
                }
                RawItem::End(end) => {
                    self.last = Some(self.last_chunk(&end));
                    self.finish();
                    return Ok(());
                }
                RawItem::CaughtUp => match self.follow {
                    Follow::ToTheEnd => {
                        if self.wait().await {
                            return Ok(());
                        }
                    }
                    Follow::No => {
                        self.finish();
                        return Ok(());
                    }
                },
            }
        }
    }

    fn put(&mut self, stretch: Stretch) {
        let last = stretch.spans.last().map(|span| span.micros);
        self.last_arrival = last.or(self.last_arrival);
        match &mut self.ready {
            Ready::Lines(lines) => lines.put(stretch),
            Ready::Batch(batch) => *batch = Some(stretch),
        }
    }

    fn finish(&mut self) {
        self.over = true;
        if let Ready::Lines(lines) = &mut self.ready {
            lines.finish();
        }
    }

    /// Waits until the log has grown, or something is to be shown all the same; true for the latter.
    async fn wait(&mut self) -> bool {
        let Ready::Lines(lines) = &mut self.ready else {
            self.cursor.grown().await;
            return false;
        };
        let Some(due) = lines.caught_up(Instant::now()) else {
            self.cursor.grown().await;
            return false;
        };
        tokio::select! {
            () = self.cursor.grown() => lines.show_due(Instant::now()),
            () = sleep_until(due) => lines.show_due(due),
        }
    }

    fn last_chunk(&self, end: &LogEnd) -> LogChunk {
        let trailer = text::truncate(&end.trailer, LINE_LIMIT);
        LogChunk {
            task_id: self.task.to_string(),
            // The master drops empty content, and with it the end.
            content: if trailer.is_empty() { " " } else { trailer }.to_owned(),
            timestamp: rfc3339(self.last_arrival.unwrap_or_else(now)),
            is_complete: true,
            status: end.word.in_log().to_owned(),
            ..LogChunk::default()
        }
    }

    fn unreadable(&self, error: &std::io::Error) -> Denied {
        warn!(task:% = text::escape(&self.task, SHOWN), error:%; "a log cannot be read");
        Denied::Unreadable(error.to_string())
    }
}

fn now() -> i64 {
    let since = SystemClock.now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(i64::MAX)
}
