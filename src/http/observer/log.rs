//! A task's log as a stream of bytes: what is there of its end, and then what comes, until the task is done. Who reads slowly holds
//! a place and a cursor in files, and nobody else.

use std::{convert::Infallible, io};

use axum::{
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use tokio::{sync::OwnedSemaphorePermit, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::super::Desk;
use crate::{
    domain::{id::TaskId, log_line::Source},
    grpc::listener::Use,
    ports::spool::{LogCursor, LogRange, RawItem, Start, Stretch},
};

/// What one stream reads.
struct Reading {
    cursor: Box<dyn LogCursor>,
    /// Whose line is not ended yet.
    open: Option<Source>,
    is_over: bool,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
    /// Its connection is in use while nothing comes, too.
    _use: Option<Use>,
}

pub(super) async fn stream(desk: &Desk, task: &str, lines: u64, answers: Option<Use>) -> Response {
    let Ok(place) = desk.logs.clone().try_acquire_owned() else {
        let again = [(header::RETRY_AFTER, "1")];
        let words = "so many logs are being read already that there is no place for one more\n";
        return (StatusCode::SERVICE_UNAVAILABLE, again, words).into_response();
    };
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
    let reading = Reading {
        cursor,
        open: None,
        is_over: false,
        stop: desk.stop.clone(),
        _place: place,
        _use: answers,
    };
    let pieces = stream::unfold(reading, |mut reading| async {
        let piece = reading.next().await?;
        Some((Ok::<_, Infallible>(piece), reading))
    });
    let headers = [
        // No browser is to take it for a page.
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
    /// The next bytes; `None`: the log is over, or the worker stops.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.is_over {
            match self.cursor.next_bytes().await {
                Ok(RawItem::Bytes(stretch)) => return Some(self.lines(&stretch).into()),
                Ok(RawItem::CaughtUp) => {
                    tokio::select! {
                        () = self.cursor.grown() => {}
                        () = self.stop.cancelled() => return None,
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

    /// A line of another writer begins on a line of its own.
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
