//! Where the engine's own record of a container's output goes on beyond what is in the spool. The spool has the very bytes; the
//! record may have been changed on its way (each byte that is no UTF-8 is one U+FFFD there, and so is each byte of a character
//! that lies across the edge of one of its frames), may have lost bytes in a crash, and may have been cut at its beginning. So
//! the two are compared, never counted.

use std::{collections::hash_map::DefaultHasher, hash::Hasher};

/// U+FFFD in UTF-8.
const REPLACED: &[u8] = "\u{FFFD}".as_bytes();

/// Compares one source's bytes in the spool with the engine's record of them, both in pieces.
#[derive(Debug, Default)]
pub struct Comparison {
    spooled: Queue,
    spool_is_over: bool,
    logged: Queue,
    /// Bytes of the record that are in the spool.
    equal: u64,
}

/// What is known after a step of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// More of the spool is needed.
    WantsSpooled,
    /// More of the record is needed.
    WantsLogged,
    /// The record holds all of the spool; these bytes of it are the first new ones.
    Whole(Vec<u8>),
    /// They differ after so many bytes of the record.
    Differs(u64),
}

/// What one look at the heads of both sides says.
enum Look {
    /// So many bytes of the spool are so many of the record.
    Equal(usize, usize),
    /// It is decided, or more is needed.
    Told(Compared),
}

impl Comparison {
    /// Takes more of the spool in.
    pub fn spooled(&mut self, bytes: &[u8]) {
        self.spooled.push(bytes);
    }

    /// The spool has no more than it has given.
    pub fn spool_is_over(&mut self) {
        self.spool_is_over = true;
    }

    /// How many bytes of what the spool has given have not been found in the record.
    #[must_use]
    pub fn spooled_rest(&self) -> usize {
        self.spooled.rest().len()
    }

    /// Takes more of the record in.
    pub fn logged(&mut self, bytes: &[u8]) {
        self.logged.push(bytes);
    }

    /// Compares as far as possible.
    pub fn step(&mut self) -> Compared {
        loop {
            match self.look(self.spooled.rest(), self.logged.rest()) {
                Look::Equal(of_spool, of_record) => {
                    self.spooled.skip(of_spool);
                    self.logged.skip(of_record);
                    self.equal += of_record as u64;
                }
                Look::Told(told) => return told,
            }
        }
    }

    fn look(&self, spooled: &[u8], logged: &[u8]) -> Look {
        if spooled.is_empty() {
            return Look::Told(if self.spool_is_over {
                Compared::Whole(logged.to_vec())
            } else {
                Compared::WantsSpooled
            });
        }
        let Some(character) = first_character(logged) else {
            return Look::Told(Compared::WantsLogged);
        };
        match equal_characters(spooled, logged) {
            0 => self.look_at_one(spooled, character),
            equal => Look::Equal(equal, equal),
        }
    }

    /// The first characters differ as bytes.
    fn look_at_one(&self, spooled: &[u8], character: &[u8]) -> Look {
        if character.starts_with(spooled) {
            // The spool ends within the character; the record has the whole of it, now that it came.
            return if self.spool_is_over {
                Look::Equal(spooled.len(), spooled.len())
            } else {
                Look::Told(Compared::WantsSpooled)
            };
        }
        if character == REPLACED && !spooled[0].is_ascii() {
            return Look::Equal(1, REPLACED.len());
        }
        Look::Told(Compared::Differs(self.equal))
    }
}

/// Bytes that are taken from the front in small pieces, and so not moved each time.
#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    begin: usize,
}

impl Queue {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.begin));
        self.bytes.extend_from_slice(bytes);
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.begin..]
    }

    fn skip(&mut self, count: usize) {
        self.begin += count;
    }
}

/// How many bytes at the beginning are the same on both sides, up to the end of a character of the record.
fn equal_characters(spooled: &[u8], logged: &[u8]) -> usize {
    let both = spooled.len().min(logged.len());
    let mut equal = if spooled[..both] == logged[..both] {
        both
    } else {
        let pairs = spooled.iter().zip(logged);
        pairs.take_while(|(spool, record)| spool == record).count()
    };
    while equal > 0 && !is_boundary(logged, equal) {
        equal -= 1;
    }
    equal
}

/// Whether a character of the record ends before `at`: at the end of what is there, that depends on the last one's length.
fn is_boundary(logged: &[u8], at: usize) -> bool {
    match logged.get(at) {
        Some(byte) => is_first(*byte),
        None => {
            let last = logged.iter().rposition(|byte| is_first(*byte));
            last.is_none_or(|last| first_character(&logged[last..]).is_some())
        }
    }
}

fn is_first(byte: u8) -> bool {
    byte & 0b1100_0000 != 0b1000_0000
}

/// The first character of the record, if the whole of it is there. A record that is no UTF-8 has characters of one byte.
fn first_character(logged: &[u8]) -> Option<&[u8]> {
    let length = match *logged.first()? {
        0xC0..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xF7 => 4,
        _ => 1,
    };
    logged.get(..length)
}

/// Looks in the engine's record for the last lines of the spool, where the two cannot be compared from the beginning.
#[derive(Debug)]
pub struct TailSearch {
    lines: Vec<u64>,
    /// For each number of lines matched: how many still are when the next one is not.
    fallback: Vec<usize>,
    matched: usize,
}

impl TailSearch {
    /// Looks for the whole lines in `tail`; `None` where there is none.
    #[must_use]
    pub fn new(tail: &[u8]) -> Option<Self> {
        let lines: Vec<u64> = lines_of(tail).map(|line| line.hash).collect();
        let fallback = fallbacks(&lines);
        (!lines.is_empty()).then_some(Self {
            lines,
            fallback,
            matched: 0,
        })
    }

    /// Takes the record's next line in; whether it is the last one of those that are looked for, behind the others.
    pub fn push(&mut self, line: Line) -> bool {
        while self.matched > 0 && self.lines[self.matched] != line.hash {
            self.matched = self.fallback[self.matched];
        }
        if self.lines[self.matched] == line.hash {
            self.matched += 1;
        }
        let is_found = self.matched == self.lines.len();
        if is_found {
            self.matched = self.fallback[self.matched];
        }
        is_found
    }
}

/// How much of a spool's last lines follows the last one of these lines of the record; `None` where that is not among them.
#[must_use]
pub fn beyond(tail: &[u8], recorded: &[u8]) -> Option<usize> {
    let last = lines_of(recorded).last()?;
    let its = lines_of(tail)
        .filter(|line| line.hash == last.hash)
        .last()?;
    Some(tail.len() - usize::try_from(its.end).ok()?)
}

/// Knuth, Morris and Pratt: the longest beginning of the lines that is an end of the first `n` of them, for each `n`.
pub(super) fn fallbacks(lines: &[u64]) -> Vec<usize> {
    let mut fallback = vec![0; lines.len() + 1];
    let mut matched = 0;
    for number in 1..lines.len() {
        while matched > 0 && lines[number] != lines[matched] {
            matched = fallback[matched];
        }
        if lines[number] == lines[matched] {
            matched += 1;
        }
        fallback[number + 1] = matched;
    }
    fallback
}

/// A whole line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// The line as a number, the same for a line and for what the record made of it: a row of bytes that are not ASCII counts
    /// as one.
    pub(super) hash: u64,
    /// How many bytes end with it and its newline.
    pub end: u64,
}

/// Finds the whole lines in bytes that come in pieces. A record has hundreds of megabytes, so a piece is looked at as a whole,
/// and not byte by byte.
#[derive(Debug, Default)]
pub struct Lines {
    hash: DefaultHasher,
    /// The last byte was not ASCII.
    is_foreign: bool,
    read: u64,
}

impl Lines {
    /// Takes more bytes in, and tells of the lines that end in them.
    pub fn push(&mut self, bytes: &[u8], mut tell: impl FnMut(Line)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.read += piece.len() as u64;
            match piece.strip_suffix(b"\n") {
                Some(end) => {
                    self.take(end);
                    self.is_foreign = false;
                    tell(Line {
                        hash: std::mem::take(&mut self.hash).finish(),
                        end: self.read,
                    });
                }
                None => self.take(piece),
            }
        }
    }

    /// Takes a part of a line in.
    fn take(&mut self, bytes: &[u8]) {
        if bytes.is_ascii() {
            return self.take_row(bytes);
        }
        for row in bytes.chunk_by(|one, next| one.is_ascii() == next.is_ascii()) {
            self.take_row(row);
        }
    }

    /// Of bytes that are ASCII, or of ones that are not.
    fn take_row(&mut self, row: &[u8]) {
        let Some(first) = row.first() else { return };
        let was_foreign = std::mem::replace(&mut self.is_foreign, !first.is_ascii());
        if !self.is_foreign {
            self.hash.write(row);
        } else if !was_foreign {
            self.hash.write_u8(0xFF);
        }
    }
}

/// The whole lines of these bytes.
pub(super) fn lines_of(bytes: &[u8]) -> impl Iterator<Item = Line> {
    let mut lines = Vec::new();
    Lines::default().push(bytes, |line| lines.push(line));
    lines.into_iter()
}

#[cfg(test)]
mod tests;
