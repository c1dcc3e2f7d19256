//! Converts a client's request for a log to a range, and a log's bytes to chunks. Chunks of lines are made where they are sent.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::status::Denied;
use crate::{
    domain::log_line::Source,
    ports::spool::{LogRange, Span, Start, Streams, Stretch},
    proto::{LogChunk, LogPiece, LogSource, TaskLogRequest, task_log_request::Start as AskedStart},
};

/// The part of a log that a request asks for. A start outside of the log means its nearest end.
///
/// # Errors
/// The source that is asked for does not exist, or cannot be had alone.
pub(in super::super) fn range(request: &TaskLogRequest) -> Result<LogRange, Denied> {
    let start = match request.start {
        None => Start::First,
        Some(AskedStart::Offset(offset)) => Start::Offset(offset),
        Some(AskedStart::LastLines(lines)) => Start::LastLines(lines),
        Some(AskedStart::Since(micros)) => Start::Since(time(micros)),
    };
    let streams = match LogSource::try_from(request.only) {
        Ok(LogSource::Unspecified) => Streams::Both,
        Ok(LogSource::Stdout) => Streams::Stdout,
        Ok(LogSource::Stderr) => Streams::Stderr,
        Ok(LogSource::Worker) | Err(_) => return Err(Denied::NoSuchSource(request.only)),
    };
    Ok(LogRange { start, streams })
}

/// A time in microseconds since the epoch; an earlier one is the epoch: no log is older.
fn time(micros: i64) -> SystemTime {
    let since = Duration::from_micros(u64::try_from(micros).unwrap_or(0));
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

/// A chunk of bytes, for a client that asked for batches.
pub(in super::super) fn batch(task: &str, status: &str, stretch: Stretch) -> LogChunk {
    LogChunk {
        task_id: task.to_owned(),
        status: status.to_owned(),
        data: stretch.bytes,
        pieces: stretch.spans.iter().map(piece).collect(),
        ..LogChunk::default()
    }
}

fn piece(span: &Span) -> LogPiece {
    let source = match span.source {
        Source::Stdout => LogSource::Stdout,
        Source::Stderr => LogSource::Stderr,
        Source::Worker => LogSource::Worker,
    };
    LogPiece {
        length: span.len as u64,
        source: source.into(),
        offset: span.offset,
        time: span.micros,
    }
}
