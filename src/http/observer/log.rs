//! A task's log as a stream of bytes: its last lines, and then what comes, until the log is over. A slow reader holds a cursor in
//! files, and holds up nobody: one reader too many is let in, and the one that came first gets no more.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    sync::{Mutex, PoisonError},
};

use axum::{
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use tokio::task::spawn_blocking;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::super::Desk;
use crate::{
    domain::{id::TaskId, log_line::Source},
    grpc::listener::Use,
    ports::spool::{LogCursor, LogRange, RawItem, Start, Stretch},
};

/// How many logs are read at once.
const READERS: usize = 8;

/// The readers of logs, the one that came first in front. The token of one that has ended is cancelled.
#[derive(Debug, Default)]
pub(in crate::http) struct Readers(Mutex<VecDeque<CancellationToken>>);

impl Readers {
    /// Lets one more reader in; the token that it gets fires when it has to end.
    fn enter(&self) -> CancellationToken {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|reader| !reader.is_cancelled());
        if all.len() == READERS
            && let Some(first) = all.pop_front()
        {
            first.cancel();
        }
        let newcomer = CancellationToken::new();
        all.push_back(newcomer.clone());
        newcomer
    }
}

/// One stream of a log.
struct Reading {
    cursor: Box<dyn LogCursor>,
    /// The source of a line that has no end yet.
    open: Option<Source>,
    is_over: bool,
    /// Fires when the door closes.
    stop: CancellationToken,
    /// Fires when another reader needs the place.
    displaced: CancellationToken,
    _place: DropGuard,
    /// Keeps the connection in use while nothing comes.
    _use: Option<Use>,
}

pub(super) async fn stream(desk: &Desk, task: &str, lines: u64, answers: Option<Use>) -> Response {
    // The log before a place: a question about an unknown task displaces no reader.
    let cursor = match find(desk, task, lines).await {
        Ok(Some(cursor)) => cursor,
        Ok(None) => {
            return (
                StatusCode::NOT_FOUND,
                "there is no log of such a task here\n",
            )
                .into_response();
        }
        Err(error) => {
            let words = format!("the log cannot be read: {error}\n");
            return (StatusCode::INTERNAL_SERVER_ERROR, words).into_response();
        }
    };
    let displaced = desk.readers.enter();
    let reading = Reading {
        cursor,
        open: None,
        is_over: false,
        stop: desk.stop.clone(),
        _place: displaced.clone().drop_guard(),
        displaced,
        _use: answers,
    };
    let pieces = stream::unfold(reading, |mut reading| async {
        let piece = reading.next().await?;
        Some((Ok::<_, Infallible>(piece), reading))
    });
    let headers = [
        // Bytes, so that no browser takes the log for a page.
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, Body::from_stream(pieces)).into_response()
}

async fn find(desk: &Desk, task: &str, lines: u64) -> io::Result<Option<Box<dyn LogCursor>>> {
    let Ok(task) = TaskId::new(task) else {
        return Ok(None);
    };
    let spools = desk.door.spools.clone();
    let found = spawn_blocking(move || spools.find(&task)).await;
    let spool = found.map_err(io::Error::other)??;
    let range = LogRange {
        start: Start::LastLines(lines),
        ..LogRange::default()
    };
    Ok(spool.map(|spool| spool.cursor_from(range)))
}

impl Reading {
    /// The next bytes; `None`: the log is over, the worker stops, or the place is another's.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.is_over && !self.displaced.is_cancelled() {
            match self.cursor.next_bytes().await {
                Ok(RawItem::Bytes(stretch)) => return Some(self.lines(&stretch).into()),
                Ok(RawItem::CaughtUp) => {
                    tokio::select! {
                        () = self.cursor.grown() => {}
                        () = self.stop.cancelled() => return None,
                        () = self.displaced.cancelled() => return None,
                    }
                }
                Ok(RawItem::End(end)) => return Some(self.last(&end.trailer)),
                Err(error) => {
                    return Some(self.last(&format!("the log cannot be read on: {error}")));
                }
            }
        }
        None
    }

    /// The bytes of a stretch; what another source writes begins on a line of its own.
    fn lines(&mut self, stretch: &Stretch) -> Vec<u8> {
        let mut out = Vec::with_capacity(stretch.bytes.len());
        let mut rest = &stretch.bytes[..];
        for span in &stretch.spans {
            let (bytes, after) = rest.split_at(span.len.min(rest.len()));
            rest = after;
            if self.open.is_some_and(|source| source != span.source) {
                out.push(b'\n');
            }
            out.extend_from_slice(bytes);
            self.open = (!bytes.ends_with(b"\n")).then_some(span.source);
        }
        out
    }

    fn last(&mut self, line: &str) -> Bytes {
        self.is_over = true;
        let begins = if self.open.is_some() { "\n" } else { "" };
        format!("{begins}{line}\n").into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_too_many_takes_the_place_of_the_first_that_still_reads() {
        let readers = Readers::default();
        let all: Vec<_> = (0..READERS).map(|_| readers.enter()).collect();
        assert!(all.iter().all(|reader| !reader.is_cancelled()));

        // This reader has read enough.
        all[1].cancel();
        readers.enter();
        assert!(!all[0].is_cancelled(), "there was a place");
        readers.enter();
        assert!(all[0].is_cancelled() && !all[2].is_cancelled());
    }
}
