//! Looks in a record for the end of the spool, where the two are not the same from the beginning on: after one of them has lost
//! something they still have their ends in common, as long as the engine that wrote that part of the record lived.

use std::{fmt, time::SystemTime};

use super::{deaths::BUSY, side::DELIVERY};
use crate::{
    domain::{
        log_line::Source,
        log_overlap::{Lines, TailSearch, beyond},
    },
    ports::engine::Frame,
};

/// Lines that are enough to find a place by, if they stand at one alone, and not later than they came.
const FEW: [usize; 2] = [16, 1];

/// So much of the record is kept that is not newer than the spool.
const KEPT: usize = 64 * 1024;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// The spool's last whole line ends after so many bytes, the last of which were written then.
    Place(u64, Option<SystemTime>),
    /// The record ends with a line before it, after so many bytes, the last of which were written then; the spool has these
    /// beyond that. An engine that writes slowly writes them later, and one that died never.
    Ahead(u64, Option<SystemTime>, Vec<u8>),
    /// It has been lost in the record, with so few others that the source was not busy. What is newer goes on.
    LostByTheRecord,
    /// Nothing.
    Nowhere,
}

impl fmt::Display for Found {
    /// For the operator: sizes, and nothing of what the task wrote.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place(at, _) => write!(f, "after {at} bytes"),
            Self::Ahead(at, _, bytes) => write!(f, "{} bytes beyond {at}", bytes.len()),
            Self::LostByTheRecord => f.write_str("lost by the record"),
            Self::Nowhere => f.write_str("nowhere"),
        }
    }
}

/// See the module.
pub(super) struct Search {
    source: Source,
    /// The spool's last whole lines.
    tail: Vec<u8>,
    /// What is later in the record is not in the spool.
    until: Option<SystemTime>,
    lines: Lines,
    all: Option<TailSearch>,
    found: Option<(u64, Option<SystemTime>)>,
    few: Vec<Few>,
    /// The last of what is not newer than the spool, and where its last whole line ends.
    old: Vec<u8>,
    last_old: (u64, Option<SystemTime>),
}

struct Few {
    search: TailSearch,
    places: usize,
    last: (u64, Option<SystemTime>),
}

impl Search {
    /// Looks for these lines, the last ones of a spool, which has nothing newer than that.
    pub(super) fn new(source: Source, tail: Vec<u8>, newest: Option<SystemTime>) -> Self {
        let few = FEW.iter().filter_map(|lines| {
            Some(Few {
                search: TailSearch::new(last_lines(&tail, *lines))?,
                places: 0,
                last: (0, None),
            })
        });
        Self {
            source,
            until: newest.map(|newest| newest + DELIVERY),
            lines: Lines::default(),
            all: TailSearch::new(&tail),
            found: None,
            few: few.collect(),
            old: Vec::new(),
            last_old: (0, None),
            tail,
        }
    }

    /// Takes more of the record in; whether all of the lines were found.
    pub(super) fn push(&mut self, frame: &Frame) -> bool {
        if frame.source != self.source || self.found.is_some() {
            return self.found.is_some();
        }
        let is_old = frame.time <= self.until;
        self.lines.push(&frame.bytes, |line| {
            let place = (line.end, frame.time);
            if self.found.is_none() && self.all.as_mut().is_some_and(|all| all.push(line)) {
                self.found = Some(place);
            }
            if is_old {
                self.last_old = place;
            }
            for few in self.few.iter_mut().filter(|_| is_old) {
                if few.search.push(line) {
                    few.places += 1;
                    few.last = place;
                }
            }
        });
        if is_old {
            self.keep(frame);
        }
        self.found.is_some()
    }

    fn keep(&mut self, frame: &Frame) {
        self.old.extend_from_slice(&frame.bytes);
        if self.old.len() > 2 * KEPT {
            self.old.drain(..self.old.len() - KEPT);
        }
    }

    pub(super) fn end(self) -> Found {
        if let Some((at, written)) = self.found {
            return Found::Place(at, written);
        }
        if let Some(few) = self.few.iter().find(|few| few.places == 1) {
            let (at, written) = few.last;
            return Found::Place(at, written);
        }
        if self.old.is_empty() && !self.tail.is_empty() && self.tail.len() < BUSY {
            return Found::LostByTheRecord;
        }
        match beyond(&self.tail, &self.old) {
            Some(lost @ 1..) => {
                let (at, written) = self.last_old;
                Found::Ahead(at, written, self.tail[self.tail.len() - lost..].to_vec())
            }
            Some(0) | None => Found::Nowhere,
        }
    }
}

fn last_lines(bytes: &[u8], lines: usize) -> &[u8] {
    let mut newlines = bytes.iter().enumerate().rev();
    let mut newlines = newlines.by_ref().filter(|(_, byte)| **byte == b'\n');
    let begin = newlines.nth(lines).map_or(0, |(at, _)| at + 1);
    &bytes[begin..]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    fn at(seconds: u64) -> Option<SystemTime> {
        Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    }

    fn found(tail: &str, newest: u64, record: &[(u64, &str)]) -> Found {
        let mut search = Search::new(Source::Stdout, tail.into(), at(newest));
        for (time, text) in record {
            search.push(&Frame {
                source: Source::Stdout,
                bytes: Bytes::from((*text).to_owned()),
                time: at(*time),
                entries: 1,
            });
        }
        search.end()
    }

    fn ahead(end: u64, written: u64, lines: &str) -> Found {
        Found::Ahead(end, at(written), lines.into())
    }

    #[test]
    fn all_lines_are_found_wherever_they_stand() {
        let record = [(1, "2\n"), (1, "3\n"), (9, "4\n")];

        assert_eq!(found("2\n3\n", 0, &record), Found::Place(4, at(1)));
    }

    #[test]
    fn few_lines_are_found_where_others_are_missing() {
        // 3 has been lost.
        let record = [(1, "1\n"), (2, "2\n"), (4, "4\n5\n"), (9, "6\n")];

        assert_eq!(found("1\n2\n3\n4\n5\n", 5, &record), Found::Place(8, at(4)));
    }

    #[test]
    fn a_line_that_stands_at_two_places_or_too_late_is_no_place() {
        let twice = [(1, "a\n"), (2, "tick\n"), (3, "b\n"), (4, "tick\n")];
        assert_eq!(found("a\nc\ntick\n", 5, &twice), Found::Nowhere);
        let late = [(1, "a\n"), (7, "c\n")];
        assert_eq!(found("a\nb\nc\n", 5, &late), ahead(2, 1, "b\nc\n"));
    }

    #[test]
    fn what_the_record_has_lost_is_told_from_what_nobody_has() {
        let record = [(1, "1\n"), (2, "2\n"), (9, "5\n")];
        assert_eq!(found("1\n2\n3\n4\n", 5, &record), ahead(4, 2, "3\n4\n"));
        // It may have them yet: later than they came, and all of them or some.
        let slow = [(1, "1\n"), (2, "2\n"), (9, "3\n4\n"), (9, "5\n")];
        assert_eq!(found("0\n1\n2\n3\n4\n", 5, &slow), ahead(4, 2, "3\n4\n"));
        assert_eq!(found("3\n", 5, &[(9, "5\n")]), Found::LostByTheRecord);
        let busy = format!("{}\n", "x".repeat(BUSY));
        assert_eq!(found(&busy, 5, &[(9, "5\n")]), Found::Nowhere);
        // The record goes on elsewhere: something is missing in the spool.
        let others = [(1, "1\n"), (2, "7\n"), (9, "8\n")];
        assert_eq!(found("1\n2\n3\n", 5, &others), Found::Nowhere);
    }
}
