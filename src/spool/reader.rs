//! The work of a cursor on its blocking threads: reads record by record, and puts a marker where bytes are missing. A sink makes
//! lines or bytes of it.

use std::{io, mem, sync::Arc};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    FileSpool, State,
    format::{self, HEADER, Kind, Record},
    open,
    start::{self, Begin},
};
use crate::{
    domain::log_line::{Line, LineSplitter, Source},
    ports::spool::{LogEnd, LogItem, LogRange, RawItem, Span, Start, Stretch},
};

/// Bytes that are read at once: one record of the longest that are written. A viewer that takes nothing holds about as much.
const CHUNK: usize = format::RECORD_LIMIT + format::HEAD;

/// Most lines or spans that one read gives out: short ones take more memory than the text in them.
const AT_ONCE: usize = 512;

/// A place in a log.
pub(super) struct Reader {
    spool: Arc<FileSpool>,
    /// Where the viewer wants to begin; `None` once that place was found.
    range: Option<LogRange>,
    begin: Option<Begin>,
    at: u64,
    /// Bytes of the record at `at` that were given out already.
    within: usize,
    /// Bytes of container output before `at`.
    position: u64,
    /// When the last record arrived, in microseconds since the Unix epoch.
    micros: i64,
    splitter: LineSplitter,
}

/// Takes what a reader finds: lines or bytes are made of it.
trait Sink {
    /// Takes output that came in one piece. Returns how many of its bytes were taken: fewer where there is no room for all.
    fn output(&mut self, span: Span, bytes: &[u8]) -> usize;

    /// Takes a line that the reader itself says, such as a marker.
    fn say(&mut self, span: Span, text: String);

    fn is_empty(&self) -> bool;
}

/// Why a read found nothing.
enum Rest {
    CaughtUp,
    End(LogEnd),
}

impl Reader {
    pub(super) fn new(spool: Arc<FileSpool>, range: LogRange) -> Self {
        let places = Arc::clone(&spool.house.long_lines);
        // Kept until the reader is dropped: whoever sends a line keeps as much memory as the longest line took.
        let mut kept: Option<OwnedSemaphorePermit> = None;
        let may_be_long = move || {
            kept = kept
                .take()
                .or_else(|| Arc::clone(&places).try_acquire_owned().ok());
            kept.is_some()
        };
        Self {
            spool,
            range: Some(range),
            begin: None,
            at: HEADER,
            within: 0,
            position: 0,
            micros: 0,
            splitter: LineSplitter::new(may_be_long),
        }
    }

    /// Everything before this offset of the file was read.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn lines(&mut self) -> io::Result<LogItem> {
        let mut sink = Lines {
            splitter: mem::replace(&mut self.splitter, LineSplitter::new(|| false)),
            lines: Vec::new(),
        };
        let rest = self.read(&mut sink);
        if let Ok(Some(Rest::End(_))) = rest {
            sink.finish(self.micros);
        }
        let Lines { splitter, lines } = sink;
        self.splitter = splitter;
        Ok(match rest? {
            _ if !lines.is_empty() => LogItem::Lines(lines),
            Some(Rest::End(end)) => LogItem::End(end),
            Some(Rest::CaughtUp) | None => LogItem::CaughtUp,
        })
    }

    pub(super) fn bytes(&mut self) -> io::Result<RawItem> {
        let mut sink = Bytes::default();
        let rest = self.read(&mut sink)?;
        // A viewer that does not take the bytes may hold them for long.
        sink.bytes.shrink_to_fit();
        Ok(match rest {
            Some(Rest::End(end)) => RawItem::End(end),
            Some(Rest::CaughtUp) => RawItem::CaughtUp,
            None => RawItem::Bytes(Stretch {
                bytes: sink.bytes.into(),
                spans: sink.spans,
            }),
        })
    }

    /// Gives out the lines that have no newline yet.
    pub(super) fn finish(&mut self) -> Vec<Line> {
        let mut lines = Vec::new();
        self.splitter.finish(self.micros, |line| lines.push(line));
        lines
    }

    /// The turns of which the next read needs one: while the reader has yet to search for its beginning. Otherwise `None`.
    pub(super) fn turns(&self) -> Option<Arc<Semaphore>> {
        let looks = self.range.is_some_and(|range| range.start != Start::First);
        looks.then(|| Arc::clone(&self.spool.house.beginnings))
    }

    /// Reads until the sink has something (`None`), or says why there is nothing.
    fn read(&mut self, sink: &mut impl Sink) -> io::Result<Option<Rest>> {
        if let Some(range) = self.range {
            let begin = start::find(&self.spool, range)?;
            (self.at, self.position) = (begin.at, begin.position);
            self.begin = Some(begin);
            self.range = None;
            if begin.is_cut {
                let what = "[worker-node] what lies before this is damaged: it begins here";
                self.say(what.to_owned(), sink);
            }
        }
        loop {
            let state = self.spool.state.borrow().clone();
            if state.hole.holds(self.at) {
                self.leap(&state, sink);
            } else if self.at < state.len {
                self.read_on(&state, sink)?;
            }
            if !sink.is_empty() {
                return Ok(None);
            }
            if self.at < state.len {
                continue;
            }
            return Ok(Some(match state.end {
                None => Rest::CaughtUp,
                Some(end) => Rest::End(end),
            }));
        }
    }

    fn read_on(&mut self, state: &State, sink: &mut impl Sink) -> io::Result<()> {
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
            && self.take(&record, sink)
        {
            rest = &rest[record.content.len() + format::HEAD..];
        }
        if (self.at, self.within) == began {
            self.stumble(until, sink)?;
        }
        Ok(())
    }

    /// Gives a record to the sink; `false` where its content went into the hole meanwhile, or where the sink has no room for all
    /// of it: the next read goes on within the record.
    fn take(&mut self, record: &Record<'_>, sink: &mut impl Sink) -> bool {
        if !record.is_whole() {
            if self.spool.state.borrow().hole.holds(record.at) {
                return false;
            }
            self.say_damaged(record.content.len() as u64, sink);
        } else if let Kind::Output(source) = record.kind {
            if !self.take_output(source, record, sink) {
                return false;
            }
        } else if record.kind == Kind::Gap {
            let (stdout, stderr) = record.counts();
            self.micros = record.micros;
            self.say_left_out(stdout + stderr, sink);
        }
        let (stdout, stderr) = record.counts();
        self.position += stdout + stderr;
        self.micros = record.micros;
        self.within = 0;
        self.at = record.next;
        true
    }

    fn take_output(&mut self, source: Source, record: &Record<'_>, sink: &mut impl Sink) -> bool {
        let begin = self.begin.as_ref();
        let left_out = begin.map_or(Some(0), |begin| begin.left_out(source, record.at));
        let Some(left_out) = left_out else {
            return true;
        };
        let length = record.content.len();
        self.within = self.within.max(left_out).min(length);
        if self.within == length && source != Source::Worker {
            return true;
        }
        let rest = &record.content[self.within..];
        let before = match source {
            Source::Stdout | Source::Stderr => self.within as u64,
            Source::Worker => 0,
        };
        let span = Span {
            source,
            offset: self.position + before,
            micros: record.micros,
            len: rest.len(),
            interrupts: false,
        };
        self.within += sink.output(span, rest);
        self.within == length
    }

    /// Deals with a place where no record begins although one should: it went into the hole just now, or the disk has lost it.
    /// Lost bytes count as one record of the kind that the damaged head names: right where a single byte of the head is wrong.
    fn stumble(&mut self, until: u64, sink: &mut impl Sink) -> io::Result<()> {
        let mut head = Vec::new();
        open::read_up_to(&self.spool.file, self.at, format::HEAD, &mut head)?;
        let next = open::next_record(&self.spool.file, self.at + 1, until)?;
        if !self.spool.state.borrow().hole.holds(self.at) {
            let lost = next - self.at;
            self.say_damaged(lost, sink);
            if format::looks_like_output(&head) {
                self.position += lost.saturating_sub(format::HEAD as u64);
            }
            self.within = 0;
            self.at = next;
        }
        Ok(())
    }

    fn leap(&mut self, state: &State, sink: &mut impl Sink) {
        self.position += mem::take(&mut self.within) as u64;
        let missing = state.hole.behind().saturating_sub(self.position);
        self.say_left_out(missing, sink);
        self.at = state.hole.end;
        self.position = state.hole.behind();
    }

    fn say_left_out(&self, bytes: u64, sink: &mut impl Sink) {
        self.say(format!("[worker-node] {bytes} bytes left out here"), sink);
    }

    fn say_damaged(&self, bytes: u64, sink: &mut impl Sink) {
        let what =
            format!("[worker-node] {bytes} bytes of this log are damaged, and left out here");
        self.say(what, sink);
    }

    fn say(&self, text: String, sink: &mut impl Sink) {
        let span = Span {
            source: Source::Worker,
            offset: self.position,
            micros: self.micros,
            len: text.len(),
            interrupts: true,
        };
        sink.say(span, text);
    }
}

/// Makes lines of what a reader finds.
struct Lines {
    splitter: LineSplitter,
    lines: Vec<Line>,
}

impl Lines {
    fn finish(&mut self, micros: i64) {
        let lines = &mut self.lines;
        self.splitter.finish(micros, |line| lines.push(line));
    }
}

impl Sink for Lines {
    fn output(&mut self, span: Span, bytes: &[u8]) -> usize {
        let room = AT_ONCE.saturating_sub(self.lines.len());
        let lines = &mut self.lines;
        let emit = |line| lines.push(line);
        self.splitter
            .push(span.source, span.micros, bytes, room, emit)
    }

    /// Ends the unfinished lines first: text on the two sides of a marker never makes one line.
    fn say(&mut self, span: Span, text: String) {
        self.finish(span.micros);
        self.lines.push(Line {
            source: span.source,
            micros: span.micros,
            bytes: text.into_bytes(),
            continued: false,
        });
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

/// Makes bytes and spans of what a reader finds.
#[derive(Default)]
struct Bytes {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

impl Bytes {
    fn add(&mut self, span: Span, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if let Some(last) = self.spans.last_mut()
            && span.source != Source::Worker
            && (last.source, last.micros) == (span.source, span.micros)
            && last.offset + last.len as u64 == span.offset
        {
            last.len += bytes.len();
            return;
        }
        self.spans.push(Span {
            len: bytes.len(),
            ..span
        });
    }
}

impl Sink for Bytes {
    fn output(&mut self, span: Span, bytes: &[u8]) -> usize {
        let fits = self.bytes.len() + bytes.len() < format::RECORD_LIMIT;
        if !bytes.is_empty() && !self.is_empty() && (!fits || self.spans.len() >= AT_ONCE) {
            return 0;
        }
        if span.source == Source::Worker {
            let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
            self.add(span, &[line, b"\n"].concat());
        } else {
            self.add(span, bytes);
        }
        bytes.len()
    }

    fn say(&mut self, span: Span, text: String) {
        self.add(span, &[text.as_bytes(), b"\n"].concat());
    }

    fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }
}
