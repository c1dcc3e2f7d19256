//! A reader's own place in a log. It reads the file itself, on blocking threads, and looks at the writer's published state
//! before it does: so it never sees half a record, and holds nobody up.

use std::{io, mem, sync::Arc};

use async_trait::async_trait;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    task::{JoinHandle, spawn_blocking},
};

use super::{
    FileSpool, State,
    format::{self, HEADER, Kind, Record},
    open,
};
use crate::{
    domain::log_line::{Line, LineSplitter, Source},
    ports::spool::{LogCursor, LogItem},
};

/// How much of a log is read at once: one record of the longest that are written. A viewer that takes nothing holds about as much.
const CHUNK: usize = format::RECORD_LIMIT + format::HEAD;

/// Lines that are given out at once: where they are short, they take more memory than what they say.
const LINES: usize = 512;

/// A cursor. Its future may be dropped at any await: the reading goes on, and the next call takes what it brought.
pub(super) struct FileCursor {
    growth: watch::Receiver<State>,
    /// At rest; away while it reads.
    reader: Option<Box<Reader>>,
    reading: Option<JoinHandle<(Box<Reader>, io::Result<LogItem>)>>,
}

impl FileCursor {
    pub(super) fn new(spool: Arc<FileSpool>) -> Self {
        Self {
            growth: spool.state.subscribe(),
            reader: Some(Box::new(Reader::new(spool))),
            reading: None,
        }
    }
}

#[async_trait]
impl LogCursor for FileCursor {
    async fn next(&mut self) -> io::Result<LogItem> {
        if let Some(mut reader) = self.reader.take() {
            self.reading = Some(spawn_blocking(move || {
                let item = reader.next();
                (reader, item)
            }));
        }
        let Some(reading) = &mut self.reading else {
            return Err(io::Error::other("this reader of the log has failed before"));
        };
        let joined = reading.await;
        self.reading = None;
        let (reader, item) = joined.map_err(io::Error::other)?;
        self.reader = Some(reader);
        item
    }

    fn take_unfinished(&mut self) -> Vec<Line> {
        self.reader
            .as_mut()
            .map(|reader| reader.finish())
            .unwrap_or_default()
    }

    async fn grown(&mut self) {
        let Some(at) = self.reader.as_ref().map(|reader| reader.at) else {
            return;
        };
        // The spool lives as long as this cursor does, so the wait ends by growth alone.
        let more = |state: &State| state.len > at || state.end.is_some();
        let _ = self.growth.wait_for(more).await;
    }
}

struct Reader {
    spool: Arc<FileSpool>,
    at: u64,
    /// Bytes of the record there whose lines were given out already.
    within: usize,
    /// Bytes of containers that lie before `at`.
    position: u64,
    /// When the last record arrived.
    micros: i64,
    splitter: LineSplitter,
}

impl Reader {
    fn new(spool: Arc<FileSpool>) -> Self {
        let places = Arc::clone(&spool.house.long_lines);
        // Kept to the end: what sends a line keeps as much memory as its longest one took.
        let mut kept: Option<OwnedSemaphorePermit> = None;
        let may_be_long = move || {
            kept = kept
                .take()
                .or_else(|| Arc::clone(&places).try_acquire_owned().ok());
            kept.is_some()
        };
        Self {
            spool,
            at: HEADER,
            within: 0,
            position: 0,
            micros: 0,
            splitter: LineSplitter::new(may_be_long),
        }
    }

    fn next(&mut self) -> io::Result<LogItem> {
        let mut lines = Vec::new();
        loop {
            let state = self.spool.state.borrow().clone();
            if state.hole.holds(self.at) {
                self.leap(&state, &mut lines);
            } else if self.at < state.len {
                self.read_on(&state, &mut lines)?;
            }
            if !lines.is_empty() {
                return Ok(LogItem::Lines(lines));
            }
            if self.at < state.len {
                continue;
            }
            let Some(end) = state.end else {
                return Ok(LogItem::CaughtUp);
            };
            lines = self.finish();
            return Ok(if lines.is_empty() {
                LogItem::End(end)
            } else {
                LogItem::Lines(lines)
            });
        }
    }

    fn finish(&mut self) -> Vec<Line> {
        let mut lines = Vec::new();
        self.splitter.finish(self.micros, |line| lines.push(line));
        lines
    }

    fn read_on(&mut self, state: &State, lines: &mut Vec<Line>) -> io::Result<()> {
        let until = if self.at < state.hole.start {
            state.hole.start
        } else {
            state.len
        };
        let mut chunk = Vec::new();
        open::read_chunk(&self.spool.file, self.at, until, CHUNK, &mut chunk)?;
        let began = (self.at, self.within);
        let mut rest = chunk.as_slice();
        while let Ok(Some(record)) = format::read_record(rest, self.at)
            && self.take(&record, lines)
        {
            rest = &rest[record.content.len() + format::HEAD..];
        }
        if (self.at, self.within) == began {
            self.stumble(until, lines);
        }
        Ok(())
    }

    /// Takes a record in; `false` where its content went into the hole meanwhile, or where there is no room for more lines: then it
    /// goes on within it.
    fn take(&mut self, record: &Record<'_>, lines: &mut Vec<Line>) -> bool {
        if !record.is_whole() {
            if self.spool.state.borrow().hole.holds(record.at) {
                return false;
            }
            self.say_damaged(record.content.len() as u64, lines);
        } else if let Kind::Output(source) = record.kind {
            let room = LINES.saturating_sub(lines.len());
            let rest = &record.content[self.within..];
            let emit = |line| lines.push(line);
            self.within += self.splitter.push(source, record.micros, rest, room, emit);
            if self.within < record.content.len() {
                return false;
            }
        } else if record.kind == Kind::Gap {
            let (stdout, stderr) = record.counts();
            self.micros = record.micros;
            self.say_left_out(stdout + stderr, lines);
        }
        let (stdout, stderr) = record.counts();
        self.position += stdout + stderr;
        self.micros = record.micros;
        self.within = 0;
        self.at = record.next;
        true
    }

    /// No record where one should be: it went into the hole just now, or the disk has lost it.
    fn stumble(&mut self, until: u64, lines: &mut Vec<Line>) {
        if !self.spool.state.borrow().hole.holds(self.at) {
            self.say_damaged(until - self.at, lines);
            self.within = 0;
            self.at = until;
        }
    }

    fn leap(&mut self, state: &State, lines: &mut Vec<Line>) {
        self.position += mem::take(&mut self.within) as u64;
        let missing = state.hole.behind().saturating_sub(self.position);
        self.say_left_out(missing, lines);
        self.at = state.hole.end;
        self.position = state.hole.behind();
    }

    fn say_left_out(&mut self, bytes: u64, lines: &mut Vec<Line>) {
        self.say(format!("[worker-node] {bytes} bytes left out here"), lines);
    }

    fn say_damaged(&mut self, bytes: u64, lines: &mut Vec<Line>) {
        let what =
            format!("[worker-node] {bytes} bytes of this log are damaged, and left out here");
        self.say(what, lines);
    }

    /// What stands on the two sides of a marker never makes one line.
    fn say(&mut self, text: String, lines: &mut Vec<Line>) {
        lines.extend(self.finish());
        lines.push(Line {
            source: Source::Worker,
            micros: self.micros,
            bytes: text.into_bytes(),
            continued: false,
        });
    }
}
