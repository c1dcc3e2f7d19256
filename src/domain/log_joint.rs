//! Finds the end of a log in the engine's record of the same output. The record may begin later, and its bytes may have been
//! changed: each byte that is no UTF-8 is one U+FFFD there, and so is each byte of a character that lies across the edge of one of
//! its entries. So two lines are the same where they differ in rows of bytes beyond ASCII alone.
//!
//! The true place is one where log and record agree: so the place is known where there is only one such.

use std::{
    collections::{VecDeque, hash_map::DefaultHasher},
    hash::Hasher,
};

use super::log_line::LINE_LIMIT;

/// How many of the last lines are compared: more than a loop of a program prints before it says the same again, and a few kB of
/// memory.
const LINES: usize = 256;

/// Bytes of the parts in which Docker writes longer lines, all with the time of the first part.
const PART: usize = 16_384;

/// U+FFFD in UTF-8.
const REPLACED: &[u8] = "\u{FFFD}".as_bytes();

/// The end of what a log has of one source.
#[derive(Debug, Clone, Default)]
pub struct Tail {
    lines: Lines,
    /// The last whole lines as hashes, at most [`LINES`].
    last: VecDeque<u64>,
    /// How many whole lines there were in all.
    count: usize,
    open: Vec<u8>,
    /// Whether more than [`LINE_LIMIT`] bytes stood behind the last newline: then there is no place to be found.
    is_endless: bool,
}

impl Tail {
    /// Takes in the next bytes of the log.
    pub fn push(&mut self, bytes: &[u8]) {
        let (last, count) = (&mut self.last, &mut self.count);
        self.lines.push(bytes, |line, _| {
            remember(last, line, LINES);
            *count += 1;
        });
        let newline = bytes.iter().rposition(|byte| *byte == b'\n');
        if let Some(newline) = newline {
            self.open.clear();
            self.is_endless = false;
            self.open.extend_from_slice(&bytes[newline + 1..]);
        } else {
            self.open.extend_from_slice(bytes);
        }
        if self.open.len() > LINE_LIMIT {
            self.open.clear();
            self.is_endless = true;
        }
    }

    /// The bytes behind the last newline; empty where they are more than [`LINE_LIMIT`].
    #[must_use]
    pub fn open(&self) -> &[u8] {
        &self.open
    }

    /// Whether the record may have parts of the line that the log ends within: the engine writes parts before the line ends where
    /// there are [`PART`] bytes of it.
    #[must_use]
    pub fn has_parts(&self) -> bool {
        self.is_endless || self.open.len() >= PART
    }
}

fn remember(lines: &mut VecDeque<u64>, line: u64, most: usize) {
    if lines.len() == most {
        lines.pop_front();
    }
    lines.push_back(line);
}

/// Looks for the last whole line of a log in the record.
#[derive(Debug)]
pub struct Search<'a> {
    tail: &'a Tail,
    lines: Lines,
    /// The record's last lines as hashes, as many as the tail has.
    seen: VecDeque<u64>,
    count: usize,
    places: usize,
    /// The number of the record's bytes that end with the line, at its last place.
    place: u64,
}

impl<'a> Search<'a> {
    /// Looks for the end of a log with this tail.
    #[must_use]
    pub fn new(tail: &'a Tail) -> Self {
        Self {
            tail,
            lines: Lines::default(),
            seen: VecDeque::new(),
            count: 0,
            places: 0,
            place: 0,
        }
    }

    /// Takes in the next bytes of the record.
    pub fn push(&mut self, bytes: &[u8]) {
        let (tail, seen) = (self.tail, &mut self.seen);
        let is_all = tail.count == tail.last.len();
        let (count, places, place) = (&mut self.count, &mut self.places, &mut self.place);
        self.lines.push(bytes, |line, end| {
            if tail.last.is_empty() {
                return;
            }
            remember(seen, line, tail.last.len());
            *count += 1;
            // Where the record has had fewer lines than the log, only those are compared.
            let mut pairs = seen.iter().rev().zip(tail.last.iter().rev());
            let is_beyond = is_all && *count > tail.count;
            if !is_beyond && pairs.all(|(seen, last)| seen == last) {
                *places += 1;
                *place = end;
            }
        });
    }

    /// How many bytes of the record end with the log's last whole line; `None` where that stands nowhere, or at several places. 0
    /// where the log has no whole line.
    #[must_use]
    pub fn place(&self) -> Option<u64> {
        if self.tail.is_endless {
            return None;
        }
        match (self.tail.count, self.places) {
            (0, _) => Some(0),
            (_, 1) => Some(self.place),
            _ => None,
        }
    }
}

/// Removes from `open`, the log's unfinished line, what `told` repeats of it; returns how many bytes of `told` those are. `None`:
/// `told` is something else.
pub fn pass_over(open: &mut Vec<u8>, told: &[u8]) -> Option<usize> {
    let (mut of_log, mut of_told) = (0, 0);
    while of_log < open.len() && of_told < told.len() {
        let log = &open[of_log..];
        let character = first_character(&told[of_told..]);
        let (of_one, of_other) = if log.starts_with(character) {
            (character.len(), character.len())
        } else if character == REPLACED && !log[0].is_ascii() {
            (1, REPLACED.len())
        } else if character.starts_with(log) {
            // The log ends within this character.
            (log.len(), log.len())
        } else {
            return None;
        };
        of_log += of_one;
        of_told += of_other;
    }
    open.drain(..of_log);
    Some(of_told)
}

/// The first character, by its first byte, as far as it is there. A byte that begins no UTF-8 counts as a character.
fn first_character(told: &[u8]) -> &[u8] {
    let length = match told.first() {
        Some(0xC0..=0xDF) => 2,
        Some(0xE0..=0xEF) => 3,
        Some(0xF0..=0xF7) => 4,
        Some(_) | None => 1,
    };
    &told[..length.min(told.len())]
}

/// Finds the whole lines in bytes that come in pieces: gives each line's hash, and how many bytes end with it.
#[derive(Debug, Clone, Default)]
struct Lines {
    hash: DefaultHasher,
    /// Whether the last byte was not ASCII.
    is_foreign: bool,
    read: u64,
}

impl Lines {
    fn push(&mut self, bytes: &[u8], mut tell: impl FnMut(u64, u64)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.read += piece.len() as u64;
            match piece.strip_suffix(b"\n") {
                Some(end) => {
                    self.take(end);
                    self.is_foreign = false;
                    tell(std::mem::take(&mut self.hash).finish(), self.read);
                }
                None => self.take(piece),
            }
        }
    }

    /// Takes in a part of a line.
    fn take(&mut self, bytes: &[u8]) {
        if bytes.is_ascii() {
            return self.take_row(bytes);
        }
        for row in bytes.chunk_by(|one, next| one.is_ascii() == next.is_ascii()) {
            self.take_row(row);
        }
    }

    /// Takes in bytes that are all ASCII, or all not; a row of the latter counts as one byte.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(log: &[u8]) -> Tail {
        let mut tail = Tail::default();
        tail.push(log);
        tail
    }

    fn place(log: &[u8], told: &[u8]) -> Option<u64> {
        let tail = tail(log);
        let mut search = Search::new(&tail);
        search.push(told);
        search.place()
    }

    #[test]
    fn a_log_ends_where_its_last_lines_stand() {
        let told = b"two\nthree\nfour\n";

        assert_eq!(place(b"one\ntwo\nthree\n", told), Some(10));
        assert_eq!(place(b"one\ntwo\nthree\nfo", told), Some(10));
        assert_eq!(place(b"one\ntwo\n", told), Some(4));
        assert_eq!(place(b"two\nthree\nfour\n", told), Some(15));
        assert_eq!(place(b"", told), Some(0));
        assert_eq!(place(b"tw", told), Some(0));
    }

    #[test]
    fn lines_that_stand_nowhere_or_twice_are_no_place() {
        assert_eq!(place(b"one\n", b"two\n"), None);
        assert_eq!(place(b"one\n", b""), None);
        assert_eq!(place(b"tick\ntick\n", b"tick\ntick\n"), None);
        assert_eq!(place(b"a\ntick\n", b"tick\n"), Some(5));
        // The log has one line, so the second is another one.
        assert_eq!(place(b"tick\n", b"tick\ntick\n"), Some(5));
    }

    #[test]
    fn what_was_replaced_on_its_way_is_the_same() {
        let told = "\u{fffd}\u{fffd}.\ncaf\u{fffd}\nnext\n".as_bytes();

        assert_eq!(place(b"\xff.\ncaf\xe9\n", told), Some(15));
    }

    #[test]
    fn a_line_without_an_end_is_no_place() {
        let endless = [&b"one\n"[..], &vec![b'x'; LINE_LIMIT + 1]].concat();

        assert_eq!(place(&endless, b"one\n"), None);
        assert_eq!(place(&[&endless[..], b"\n"].concat(), b"one\n"), None);
    }

    #[test]
    fn a_place_is_always_the_truth() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut told_places = 0;
        for letters in [1, 2, 3, 50] {
            for _ in 0..20_000 {
                let line = |random: &mut fastrand::Rng| {
                    let text = u8::try_from(random.usize(..letters)).unwrap() + b'A';
                    vec![text; random.usize(..3)].into_iter().chain([b'\n'])
                };
                let output: Vec<u8> = (0..12).flat_map(|_| line(&mut random)).collect();
                let line_ends: Vec<usize> = (1..=output.len())
                    .filter(|end| output[end - 1] == b'\n')
                    .collect();
                let ends = line_ends[random.usize(1..line_ends.len())];
                // It begins before the log's last line.
                let before: Vec<_> = line_ends.iter().filter(|end| **end < ends).collect();
                let begins = *before[random.usize(..before.len())];

                if let Some(place) = place(&output[..ends], &output[begins..]) {
                    told_places += 1;
                    assert_eq!(begins + usize::try_from(place).unwrap(), ends, "{output:?}");
                }
            }
        }
        assert!(told_places > 10_000, "{told_places}");
    }

    #[test]
    fn what_the_log_has_of_a_line_is_passed_over_in_any_pieces() {
        let log = b"caf\xc3\xa9 \xff\xe2\x82";
        let told = "caf\u{e9} \u{fffd}\u{20ac} goes on\n".as_bytes();
        for piece in 1..=told.len() {
            let mut open = log.to_vec();
            let mut new = Vec::new();
            // An engine sends whole characters where it changes any.
            let text = std::str::from_utf8(told).unwrap();
            let characters: Vec<_> = text.chars().map(String::from).collect();
            for told in characters.chunks(piece) {
                let told = told.concat().into_bytes();
                let passed = pass_over(&mut open, &told).unwrap();
                new.extend_from_slice(&told[passed..]);
            }
            assert_eq!(new, b"\xac goes on\n", "{piece}");
        }
    }

    #[test]
    fn another_line_is_not_passed_over() {
        assert_eq!(pass_over(&mut b"read, ".to_vec(), b"other"), None);
        assert_eq!(pass_over(&mut b"re".to_vec(), b"rat"), None);
        assert_eq!(pass_over(&mut Vec::new(), b"rat"), Some(0));
    }
}
