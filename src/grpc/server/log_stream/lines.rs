//! A log as lines: a stretch of it at a time, which becomes chunks one by one as the connection takes them.

use std::{borrow::Cow, collections::VecDeque, sync::Arc};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{
    super::super::convert::rfc3339,
    RUNNING,
    terminal::{Shown, Terminal},
};
use crate::{
    domain::{log_line::Source, text},
    ports::spool::{Span, Stretch},
    proto::LogChunk,
};

/// The lines of a stretch, as a terminal would show them.
pub(super) struct Lines {
    task: Arc<str>,
    terminal: Terminal,
    stretch: Stretch,
    /// How many spans of the stretch were begun.
    span: usize,
    /// Bytes of the stretch that were taken.
    taken: usize,
    /// Where the present span ends, in bytes of the stretch.
    until: usize,
    /// The source of the line that the last chunk was a part of, if the next one goes on with it.
    open: Option<Source>,
    /// What is sent before the rest of the stretch.
    first: VecDeque<Shown<'static>>,
    stamp: Stamp,
}

impl Lines {
    /// `long_lines` has the places for viewers that may hold a line over 32 KiB whole.
    pub(super) fn new(task: Arc<str>, long_lines: Arc<Semaphore>) -> Self {
        // Kept to the end: a stream keeps as much memory as its longest line took.
        let mut kept: Option<OwnedSemaphorePermit> = None;
        let may_be_long = move || {
            kept = kept
                .take()
                .or_else(|| Arc::clone(&long_lines).try_acquire_owned().ok());
            kept.is_some()
        };
        Self {
            task,
            terminal: Terminal::new(may_be_long),
            stretch: Stretch::default(),
            span: 0,
            taken: 0,
            until: 0,
            open: None,
            first: VecDeque::new(),
            stamp: Stamp::default(),
        }
    }

    /// Goes on with this stretch, once everything before was given out.
    pub(super) fn put(&mut self, stretch: Stretch) {
        self.stretch = stretch;
        (self.span, self.taken, self.until) = (0, 0, 0);
    }

    /// Gives out what is held, too: nothing more comes.
    pub(super) fn finish(&mut self) {
        self.first
            .extend(std::iter::from_fn(|| self.terminal.finish()));
    }

    /// Called once all that is there was given out; returns when there will be something to show all the same.
    pub(super) fn caught_up(&mut self, now: Instant) -> Option<Instant> {
        self.terminal.caught_up(now)
    }

    /// Gives out what is due by now; says whether there is anything.
    pub(super) fn show_due(&mut self, now: Instant) -> bool {
        self.first
            .extend(std::iter::from_fn(|| self.terminal.due(now)));
        !self.first.is_empty()
    }

    /// The next chunk, if there is one without reading on.
    pub(super) fn next(&mut self) -> Option<LogChunk> {
        loop {
            if let Some(shown) = self.first.pop_front() {
                if let Some(chunk) = self.show_first(shown) {
                    return Some(chunk);
                }
                continue;
            }
            if self.taken == self.until && !self.begin_span()? {
                continue;
            }
            let Span { source, micros, .. } = self.stretch.spans[self.span - 1];
            let bytes = &self.stretch.bytes[self.taken..self.until];
            let (taken, shown) = self.terminal.take(source, micros, bytes);
            self.taken += taken;
            match shown {
                None => {}
                Some(shown) if self.open.is_none_or(|open| open == shown.source) => {
                    self.open = shown.continued.then_some(shown.source);
                    return Some(chunk(&self.task, &mut self.stamp, shown));
                }
                Some(shown) => self.first.push_back(shown.into_owned()),
            }
        }
    }

    /// Goes on with the next span; `None` where there is none, `false` where something else comes first.
    fn begin_span(&mut self) -> Option<bool> {
        let span = self.stretch.spans.get_mut(self.span)?;
        if std::mem::take(&mut span.interrupts) {
            self.finish();
            return Some(false);
        }
        self.until = (self.taken + span.len).min(self.stretch.bytes.len());
        self.span += 1;
        Some(self.until > self.taken)
    }

    /// Shows what comes before what is read. The next chunk behind a part of a line goes on with it: where it does not, that
    /// line is ended before.
    fn show_first(&mut self, mut shown: Shown<'static>) -> Option<LogChunk> {
        if let Some(open) = self.open.take_if(|open| *open != shown.source) {
            let closed = self.terminal.close(open, shown.micros);
            self.first.push_front(shown);
            return Some(chunk(&self.task, &mut self.stamp, closed));
        }
        if shown.joins && self.open.is_none() {
            shown.joins = false;
            if shown.text.is_empty() {
                return None;
            }
        }
        self.open = shown.continued.then_some(shown.source);
        Some(chunk(&self.task, &mut self.stamp, shown))
    }
}

fn chunk(task: &str, stamp: &mut Stamp, shown: Shown<'_>) -> LogChunk {
    let content = repaired(shown.text);
    // A master drops empty content, and with it an empty line; where a line was shown already and only ends, it may.
    let is_dropped = content.is_empty() && !shown.joins;
    LogChunk {
        task_id: task.to_owned(),
        content: if is_dropped { " ".to_owned() } else { content },
        timestamp: stamp.of(shown.micros),
        status: RUNNING.to_owned(),
        continued: shown.continued,
        ..LogChunk::default()
    }
}

/// The bytes as UTF-8: one that is none becomes a character of three bytes.
fn repaired(bytes: Cow<'_, [u8]>) -> String {
    match bytes {
        Cow::Borrowed(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => text::repair_utf8(bytes).into_owned(),
        },
        Cow::Owned(bytes) => String::from_utf8(bytes)
            .unwrap_or_else(|error| text::repair_utf8(error.as_bytes()).into_owned()),
    }
}

/// The time that was written last: lines that arrived together share it.
#[derive(Default)]
pub(super) struct Stamp {
    written: Option<(i64, String)>,
}

impl Stamp {
    pub(super) fn of(&mut self, micros: i64) -> String {
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
