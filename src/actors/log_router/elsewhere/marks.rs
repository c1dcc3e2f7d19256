//! Places in the engine's record: times from which it can be asked for again, with how many bytes of that were read. What the
//! engine tells from a time on is the same each time, so a number of bytes is a place in it.

use std::time::SystemTime;

use super::SLACK;
use crate::{
    domain::log_line::Source,
    ports::{engine::Frame, engine_log::Place, spool::Position},
};

/// A place in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// The engine is asked for what was written from this time on.
    pub(super) since: SystemTime,
    /// When the first entry of that was written; `None` as long as there is none.
    pub(super) first: Option<SystemTime>,
    /// Bytes of stdout and of stderr that were read of it.
    pub(super) passed: [u64; 2],
}

impl Mark {
    /// The mark that a log remembers in `position`; `None` if the position is of another kind.
    pub(super) fn of(position: &Position, appended: (u64, u64)) -> Option<Self> {
        let (since, first) = position.place.in_record()?;
        Some(Self {
            since,
            first,
            passed: [
                appended.0.wrapping_sub(position.stdout),
                appended.1.wrapping_sub(position.stderr),
            ],
        })
    }

    fn read(&mut self, source: Source, time: Option<SystemTime>, bytes: usize) {
        if time >= Some(self.since) {
            self.first = self.first.or(time);
            self.passed[usize::from(source == Source::Stderr)] += bytes as u64;
        }
    }
}

/// A mark that moves on with what is read.
///
/// The two sources are written side by side, so an entry may stand behind one that was written a moment later. What is asked for
/// again must begin before all such moments: so the mark to go back to is at least [`SLACK`] old, and a younger one is prepared.
#[derive(Debug)]
pub(super) struct Marks {
    old: Mark,
    young: Option<Mark>,
    /// The latest time of an entry that was read.
    newest: Option<SystemTime>,
    /// For each source, whether its last entry was a part of a line: further parts have the time of the first one.
    is_within: [bool; 2],
}

impl Marks {
    pub(super) fn at(mark: Mark) -> Self {
        Self {
            old: mark,
            young: None,
            newest: None,
            is_within: [false; 2],
        }
    }

    /// Begins with what the engine tells from this time on.
    pub(super) fn since(since: SystemTime) -> Self {
        Self::at(Mark {
            since,
            first: None,
            passed: [0; 2],
        })
    }

    /// The mark where reading goes on after a break.
    pub(super) fn place(&self) -> Mark {
        self.old
    }

    /// The latest time of an entry that was read.
    pub(super) fn newest(&self) -> Option<SystemTime> {
        self.newest
    }

    /// Takes in the next entry, if all of it was read before.
    pub(super) fn pass(&mut self, frame: &Frame) {
        self.newest = self.newest.max(frame.time);
        self.is_within[usize::from(frame.source == Source::Stderr)] = !ends_a_line(&frame.bytes);
    }

    /// Takes in the next entry, of which `bytes` were not read before.
    pub(super) fn read(&mut self, frame: &Frame, bytes: usize) {
        if bytes == frame.bytes.len()
            && let Some(time) = frame.time
            && self.newest.is_none_or(|newest| time > newest)
            && self.is_within == [false; 2]
        {
            self.mark(time);
        }
        self.pass(frame);
        for mark in [Some(&mut self.old), self.young.as_mut()]
            .into_iter()
            .flatten()
        {
            mark.read(frame.source, frame.time, bytes);
        }
    }

    fn mark(&mut self, since: SystemTime) {
        let is_due = |before: Mark| {
            let age = since.duration_since(before.since);
            age.is_ok_and(|age| age >= SLACK)
        };
        if is_due(self.young.unwrap_or(self.old)) {
            self.old = self.young.unwrap_or(self.old);
            self.young = Some(Mark {
                since,
                first: None,
                passed: [0; 2],
            });
        }
    }

    /// The position that a log with this many bytes has to remember.
    pub(super) fn position(&self, appended: (u64, u64)) -> Position {
        let mark = self.old;
        Position {
            place: Place::at_time(mark.since, mark.first),
            run: 0,
            stdout: appended.0.wrapping_sub(mark.passed[0]),
            stderr: appended.1.wrapping_sub(mark.passed[1]),
        }
    }
}

fn ends_a_line(bytes: &[u8]) -> bool {
    bytes.ends_with(b"\n")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(millis)
    }

    fn frame(source: Source, text: &'static str, millis: u64) -> Frame {
        Frame {
            source,
            bytes: text.into(),
            time: Some(at(millis)),
        }
    }

    fn read(marks: &mut Marks, source: Source, text: &'static str, millis: u64) {
        marks.read(&frame(source, text, millis), text.len());
    }

    fn begun() -> Marks {
        Marks::since(at(1))
    }

    const SECOND: u64 = 1_000;
    const LATER: u64 = 11 * SECOND;

    #[test]
    fn a_position_is_a_place_again() {
        let mut marks = begun();
        read(&mut marks, Source::Stdout, "one\n", 5);
        let position = marks.position((4, 0));

        let mark = Mark::of(&position, (4, 0)).unwrap();
        assert_eq!(mark, marks.place());
        assert_eq!((mark.first, mark.passed), (Some(at(5)), [4, 0]));
        // The record may have more bytes than the log.
        let mark = Mark {
            passed: [9, 0],
            ..mark
        };
        let position = Marks::at(mark).position((3, 0));
        assert_eq!(Mark::of(&position, (4, 0)).unwrap().passed, [10, 0]);
    }

    #[test]
    fn a_place_moves_on_when_it_is_old_enough() {
        let mut marks = begun();
        for number in 1..=4 {
            read(&mut marks, Source::Stdout, "one\n", LATER * number);
        }

        let old = marks.place();
        assert_eq!((old.since, old.passed), (at(3 * LATER), [8, 0]));
    }

    #[test]
    fn what_was_written_before_a_place_and_stands_behind_it_is_not_told_again() {
        let mut marks = begun();
        for number in 1..=3 {
            read(&mut marks, Source::Stdout, "one\n", LATER * number);
        }
        read(&mut marks, Source::Stderr, "two\n", 2 * LATER - 1);

        let old = marks.place();
        assert_eq!((old.since, old.passed), (at(2 * LATER), [8, 0]));
    }

    #[test]
    fn there_is_no_place_within_a_line_or_a_moment() {
        let mut marks = begun();
        read(&mut marks, Source::Stdout, "one", SECOND);
        for number in 1..9 {
            read(&mut marks, Source::Stderr, "two\n", LATER * number);
        }
        assert_eq!(marks.place().since, at(1));

        let mut marks = begun();
        marks.pass(&frame(Source::Stdout, "one\n", LATER));
        read(&mut marks, Source::Stdout, "two\n", LATER);
        marks.read(&frame(Source::Stdout, "six\n", 2 * LATER), 3);
        assert_eq!(marks.young, None);
    }
}
