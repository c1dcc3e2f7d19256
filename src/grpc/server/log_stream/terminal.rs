//! A task's output as a person sees it, line by line, as a terminal would show it: of states that a carriage return overwrites, the
//! last one; an unfinished line once its source has been silent for a second; a long line in parts. Pure: it is told the time, and
//! what it shows is for others to send.
//!
//! A client that needs every byte asks for bytes.

use std::{borrow::Cow, fmt, mem, time::Duration};

use memchr::{memchr, memchr2, memrchr};
use tokio::time::Instant;

use crate::domain::log_line::{LINE_LIMIT, SHORT, Source, split_character};

/// How long a source must be silent before its unfinished line is shown, and how often at most a state is shown that the next
/// one will overwrite: a person sees that something goes on, and a log of a progress bar stays short.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// A line to be shown, or a part or a state of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown<'a> {
    /// The source that wrote it.
    pub(super) source: Source,
    /// As the container wrote it; may be no UTF-8, may be empty, is at most 1 MiB.
    pub(super) text: Cow<'a, [u8]>,
    /// When its last byte arrived, in microseconds since the Unix epoch.
    pub(super) micros: i64,
    /// Whether it goes on with what was shown last of the same source, which was `continued`.
    pub(super) joins: bool,
    /// Whether what is shown next of the same source goes on with it.
    pub(super) continued: bool,
}

impl Shown<'_> {
    /// The same with a text of its own.
    pub(super) fn into_owned(self) -> Shown<'static> {
        Shown {
            source: self.source,
            text: Cow::Owned(self.text.into_owned()),
            micros: self.micros,
            joins: self.joins,
            continued: self.continued,
        }
    }
}

/// The unfinished lines of both streams of a container.
pub(super) struct Terminal {
    stdout: Side,
    stderr: Side,
    room: Room,
}

/// How long a line, or a part of one, may be.
struct Room {
    /// Bytes.
    longest: usize,
    may_be_long: Box<dyn FnMut() -> bool + Send>,
}

impl Room {
    /// The bytes that a line of this length may have at once.
    fn of(&mut self, length: usize) -> usize {
        if length > self.longest && self.longest < LINE_LIMIT && (self.may_be_long)() {
            self.longest = LINE_LIMIT;
        }
        self.longest
    }
}

/// The unfinished line of one stream.
#[derive(Debug)]
struct Side {
    source: Source,
    /// The line's present state: what came since the last carriage return that was followed by something.
    held: Vec<u8>,
    micros: i64,
    /// Whether a carriage return came behind it: what comes next, but for a newline, overwrites it.
    is_returned: bool,
    /// Whether the line had other states before.
    overwrites: bool,
    /// Whether a part of the line was shown, and what is held goes on with that.
    is_open: bool,
    /// Whether what is held was shown, as a state.
    is_shown: bool,
    /// Whether something came since the last look at the clock.
    is_new: bool,
    due: Option<Instant>,
}

impl fmt::Debug for Terminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminal").finish_non_exhaustive()
    }
}

impl Terminal {
    /// `may_be_long` is asked at a line over 32 KiB whether up to 1 MiB of it may be held, and once it has said so never again.
    pub(super) fn new(may_be_long: impl FnMut() -> bool + Send + 'static) -> Self {
        Self {
            stdout: Side::of(Source::Stdout),
            stderr: Side::of(Source::Stderr),
            room: Room {
                longest: SHORT,
                may_be_long: Box::new(may_be_long),
            },
        }
    }

    /// Takes in some of what one source wrote. Returns how many bytes it took, never none, and what there is to show of them.
    pub(super) fn take<'a>(
        &mut self,
        source: Source,
        micros: i64,
        bytes: &'a [u8],
    ) -> (usize, Option<Shown<'a>>) {
        let side = match source {
            Source::Stdout => &mut self.stdout,
            Source::Stderr => &mut self.stderr,
            Source::Worker => return workers_line(micros, bytes),
        };
        side.micros = micros;
        if side.is_blank()
            && let Some(end) = memchr(b'\n', bytes)
            && end <= self.room.longest
        {
            let text = last_state(&bytes[..end]);
            return (end + 1, Some(line(source, micros, text)));
        }
        side.take(bytes, &mut self.room)
    }

    /// Shows what is held, source by source, until nothing is: nothing goes on with it any more.
    pub(super) fn finish(&mut self) -> Option<Shown<'static>> {
        let sides = [&mut self.stdout, &mut self.stderr];
        sides.into_iter().find_map(|side| {
            if side.held.is_empty() && !side.is_open {
                *side = Side::of(side.source);
                return None;
            }
            side.end_line()
        })
    }

    /// Ends the line of which a part was shown, since something else comes between. What is held then begins a line of its own.
    pub(super) fn close(&mut self, source: Source, micros: i64) -> Shown<'static> {
        match source {
            Source::Stdout => self.stdout.is_open = false,
            Source::Stderr => self.stderr.is_open = false,
            Source::Worker => {}
        }
        closing(source, micros)
    }

    /// Called once all that is there was taken in; returns when there will be something to show, if nothing more comes.
    pub(super) fn caught_up(&mut self, now: Instant) -> Option<Instant> {
        let sides = [&mut self.stdout, &mut self.stderr];
        let dues = sides.map(|side| side.caught_up(now));
        dues.into_iter().flatten().min()
    }

    /// What is to be shown by now; asked until there is nothing.
    pub(super) fn due(&mut self, now: Instant) -> Option<Shown<'static>> {
        let sides = [&mut self.stdout, &mut self.stderr];
        sides.into_iter().find_map(|side| side.due(now))
    }
}

/// A line of the worker's own.
fn workers_line(micros: i64, bytes: &[u8]) -> (usize, Option<Shown<'_>>) {
    let end = memchr(b'\n', bytes).unwrap_or(bytes.len());
    let taken = (end + 1).min(bytes.len());
    (taken, Some(line(Source::Worker, micros, &bytes[..end])))
}

/// The end of a line that was shown already.
fn closing(source: Source, micros: i64) -> Shown<'static> {
    Shown {
        joins: true,
        ..line(source, micros, b"")
    }
}

fn line(source: Source, micros: i64, text: &[u8]) -> Shown<'_> {
    Shown {
        source,
        text: Cow::Borrowed(text),
        micros,
        joins: false,
        continued: false,
    }
}

/// What is left of a whole line after its carriage returns.
fn last_state(line: &[u8]) -> &[u8] {
    let Some(last) = memrchr(b'\r', line) else {
        return line;
    };
    if last + 1 < line.len() {
        return &line[last + 1..];
    }
    let end = line.iter().rposition(|byte| *byte != b'\r');
    let line = &line[..end.map_or(0, |end| end + 1)];
    let begin = memrchr(b'\r', line);
    &line[begin.map_or(0, |begin| begin + 1)..]
}

impl Side {
    /// A stream of which nothing has come yet.
    fn of(source: Source) -> Self {
        Self {
            source,
            held: Vec::new(),
            micros: 0,
            is_returned: false,
            overwrites: false,
            is_open: false,
            is_shown: false,
            is_new: false,
            due: None,
        }
    }

    /// Whether nothing of a line has come.
    fn is_blank(&self) -> bool {
        self.held.is_empty() && !self.is_open && !self.is_returned && !self.overwrites
    }

    fn take<'a>(&mut self, bytes: &[u8], room: &mut Room) -> (usize, Option<Shown<'a>>) {
        self.is_new = true;
        let mut taken = 0;
        while let Some(byte) = bytes.get(taken) {
            match byte {
                b'\n' => return (taken + 1, self.end_line()),
                b'\r' => {
                    self.is_returned = true;
                    taken += 1;
                }
                _ if self.is_returned => {
                    if let Some(closed) = self.overwrite() {
                        return (taken, Some(closed));
                    }
                }
                _ => {
                    let rest = &bytes[taken..];
                    let run = memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
                    let longest = room.of(self.held.len() + run);
                    self.is_shown = false;
                    if self.held.len() + run > longest {
                        let (part, _) = rest.split_at(longest - self.held.len());
                        self.held.extend_from_slice(part);
                        return (taken + part.len(), self.part());
                    }
                    self.held.extend_from_slice(&rest[..run]);
                    taken += run;
                }
            }
        }
        (taken, None)
    }

    /// Begins the line's next state. If a part of the one before was shown, and was to go on, its line ends.
    fn overwrite(&mut self) -> Option<Shown<'static>> {
        self.is_returned = false;
        self.overwrites = true;
        self.is_shown = false;
        self.held.clear();
        let is_open = mem::take(&mut self.is_open);
        is_open.then(|| closing(self.source, self.micros))
    }

    /// Ends the line: its newline came, or the end of the log.
    fn end_line(&mut self) -> Option<Shown<'static>> {
        let ended = mem::replace(self, Self::of(self.source));
        (!ended.is_shown).then_some(Shown {
            source: ended.source,
            text: Cow::Owned(ended.held),
            micros: ended.micros,
            joins: ended.is_open,
            continued: false,
        })
    }

    /// Shows what is held, but for a character that has not all come, and goes on with it.
    fn part(&mut self) -> Option<Shown<'static>> {
        let kept = split_character(&mut self.held);
        let text = mem::replace(&mut self.held, kept);
        (!text.is_empty()).then(|| Shown {
            source: self.source,
            text: Cow::Owned(text),
            micros: self.micros,
            joins: mem::replace(&mut self.is_open, true),
            continued: true,
        })
    }

    fn caught_up(&mut self, now: Instant) -> Option<Instant> {
        if mem::take(&mut self.is_new) {
            let due = now + PATIENCE;
            self.due = match self.due {
                Some(before) if self.is_state() => Some(before),
                _ => Some(due),
            };
        }
        if self.held.is_empty() || self.is_shown {
            self.due = None;
        }
        self.due
    }

    /// Whether what is held overwrites something, or will be overwritten.
    fn is_state(&self) -> bool {
        self.overwrites || self.is_returned
    }

    fn due(&mut self, now: Instant) -> Option<Shown<'static>> {
        self.due.take_if(|due| *due <= now)?;
        if !self.is_state() {
            return self.part();
        }
        self.is_shown = true;
        Some(Shown {
            source: self.source,
            text: Cow::Owned(self.held.clone()),
            micros: self.micros,
            joins: mem::take(&mut self.is_open),
            continued: false,
        })
    }
}

#[cfg(test)]
mod tests;
