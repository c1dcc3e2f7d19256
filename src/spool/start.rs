//! Finding where a reader begins: turns an offset, a number of lines or a time into a place in the file. Each source has a place
//! of its own, since lines of the sources lie among each other.

use std::{cmp::Ordering, io, ops::ControlFlow};

use super::{
    FileSpool, State,
    backward::{self, Walked},
    format::{HEADER, Kind, Record},
    in_micros,
};
use crate::{
    domain::log_line::{LINE_LIMIT, Source},
    ports::spool::{LogRange, Start, Streams},
};

/// How often the search is done anew when the log loses what was just searched. Then the last result counts.
const TRIES: usize = 3;

/// Where a reader begins: the result of the search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begin {
    /// Offset of the first record to be read.
    pub(super) at: u64,
    /// Bytes of container output before that record.
    pub(super) position: u64,
    /// The search met damage before it had found as much as was asked for.
    pub(super) is_cut: bool,
    /// For stdout, stderr and the worker's lines: everything before this place is left out.
    cuts: [Place; 3],
}

/// The place of a byte in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Offset of its record.
    at: u64,
    within: usize,
    /// Bytes of container output before the record.
    position: u64,
}

impl Begin {
    /// The beginning of the log.
    fn first(streams: Streams) -> Self {
        Self::at(HEADER, 0, 0, streams)
    }

    fn at(at: u64, within: usize, position: u64, streams: Streams) -> Self {
        let place = Place {
            at,
            within,
            position,
        };
        let mut begin = Self {
            at,
            position,
            is_cut: false,
            cuts: [place; 3],
        };
        begin.leave_out(streams);
        begin
    }

    fn leave_out(&mut self, streams: Streams) {
        for source in [Source::Stdout, Source::Stderr] {
            if !streams.wants(source) {
                self.cuts[side(source)].at = u64::MAX;
            }
        }
    }

    /// How many of a record's first bytes are left out for this source; `None`: all of them.
    pub(super) fn left_out(&self, source: Source, at: u64) -> Option<usize> {
        let cut = self.cuts[side(source)];
        match at.cmp(&cut.at) {
            Ordering::Less => None,
            Ordering::Equal => Some(cut.within),
            Ordering::Greater => Some(0),
        }
    }
}

fn side(source: Source) -> usize {
    match source {
        Source::Stdout => 0,
        Source::Stderr => 1,
        Source::Worker => 2,
    }
}

/// Finds where `range` begins in the log as it is now.
pub(super) fn find(spool: &FileSpool, range: LogRange) -> io::Result<Begin> {
    let mut begin = Begin::first(range.streams);
    for _ in 0..TRIES {
        let state = spool.state.borrow().clone();
        begin = match range.start {
            Start::First | Start::Offset(0) => return Ok(begin),
            Start::Offset(offset) => at_offset(spool, &state, offset, range.streams)?,
            Start::LastLines(lines) => {
                Lines::new(&state, range.streams, Wanted::Last(lines)).find(spool, &state)?
            }
            Start::Since(time) => Lines::new(&state, range.streams, Wanted::Since(in_micros(time)))
                .find(spool, &state)?,
        };
        // Damage that was met may be the hole, which has just grown over it: then search again.
        if !begin.is_cut || spool.state.borrow().hole == state.hole {
            break;
        }
    }
    Ok(begin)
}

/// The parts of the log around the hole, the last one first: (begin, end, bytes of container output before the end).
fn parts(state: &State) -> Vec<(u64, u64, u64)> {
    let hole = &state.hole;
    if hole.len() == 0 {
        return vec![(HEADER, state.len, state.counted)];
    }
    vec![
        (hole.end, state.len, state.counted),
        (HEADER, hole.start, hole.before),
    ]
}

fn at_offset(spool: &FileSpool, state: &State, offset: u64, streams: Streams) -> io::Result<Begin> {
    let hole = &state.hole;
    if hole.len() > 0 && (hole.before..hole.behind()).contains(&offset) {
        // The reader leaps over the rest of the hole, and says how many bytes that were.
        return Ok(Begin::at(hole.start, 0, offset, streams));
    }
    let in_first = hole.len() > 0 && offset < hole.before;
    let (from, until, mut position) = parts(state)[usize::from(in_first)];
    let mut begin = Begin::at(until, 0, position, streams);
    let walked = backward::walk(&spool.file, from, until, |record| {
        let (stdout, stderr) = record.counts();
        let before = position.saturating_sub(stdout + stderr);
        if before < offset {
            if position > offset {
                let within = match record.kind {
                    Kind::Output(_) => usize::try_from(offset - before).unwrap_or(usize::MAX),
                    Kind::Id | Kind::Gap | Kind::End | Kind::Position => 0,
                };
                begin = Begin::at(record.at, within, before, streams);
            }
            return ControlFlow::Break(());
        }
        position = before;
        begin = Begin::at(record.at, 0, before, streams);
        ControlFlow::Continue(())
    })?;
    begin.is_cut = walked == Walked::ToDamage && position > offset;
    Ok(begin)
}

/// Which lines a reader wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// The last ones; this many are still to be found.
    Last(u64),
    /// Lines whose end came at this time or later, in microseconds since the Unix epoch.
    Since(i64),
}

/// Searches backward for the beginning of the wanted lines.
struct Lines {
    wanted: Wanted,
    streams: Streams,
    /// Bytes of container output before the records that were looked at.
    position: u64,
    /// Set once no further line is wanted: the offset where that was found. From then on only the beginnings of wanted lines are
    /// searched, and no further back than a line may be long.
    beginnings: Option<u64>,
    sources: [Side; 3],
}

/// What the search knows of one source.
#[derive(Debug, Clone, Copy)]
struct Side {
    /// Where the first wanted line of the source begins, or the furthest place back that is known to belong to it.
    cut: Place,
    /// Whether the beginning of a wanted line lies further back.
    is_within_line: bool,
    /// Whether no output of the source was seen behind this place: the next output found may have no newline at its end.
    is_fresh: bool,
}

impl Lines {
    fn new(state: &State, streams: Streams, wanted: Wanted) -> Self {
        let end = Place {
            at: state.len,
            within: 0,
            position: state.counted,
        };
        let side = Side {
            cut: end,
            is_within_line: false,
            is_fresh: true,
        };
        Self {
            wanted,
            streams,
            position: state.counted,
            beginnings: None,
            sources: [side; 3],
        }
    }

    fn find(mut self, spool: &FileSpool, state: &State) -> io::Result<Begin> {
        let mut is_cut = false;
        for (from, until, position) in parts(state) {
            self.position = position;
            match backward::walk(&spool.file, from, until, |record| self.see(record))? {
                Walked::Enough => break,
                Walked::ToTheBeginning => self.interrupt(),
                Walked::ToDamage => {
                    is_cut = true;
                    break;
                }
            }
        }
        Ok(self.begin(is_cut))
    }

    fn begin(&self, is_cut: bool) -> Begin {
        let cuts = self.sources.map(|side| side.cut);
        let first = cuts.into_iter().min().unwrap_or(cuts[0]);
        let mut begin = Begin {
            at: first.at,
            position: first.position,
            is_cut,
            cuts,
        };
        begin.leave_out(self.streams);
        begin
    }

    fn see(&mut self, record: &Record<'_>) -> ControlFlow<()> {
        let (stdout, stderr) = record.counts();
        self.position = self.position.saturating_sub(stdout + stderr);
        match record.kind {
            Kind::Output(Source::Worker) => self.note(record),
            Kind::Output(source) if self.streams.wants(source) => self.output(source, record),
            Kind::Gap => self.interrupt(),
            Kind::Output(_) | Kind::Id | Kind::End | Kind::Position => {}
        }
        let Some(far) = self.beginnings else {
            return ControlFlow::Continue(());
        };
        let looks_on = self.sources.iter().any(|side| side.is_within_line);
        if looks_on && record.at + LINE_LIMIT as u64 > far {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    }

    /// Takes in a line of the worker's: each is a record of its own.
    fn note(&mut self, record: &Record<'_>) {
        if self.wants_one_more(record) {
            self.sources[side(Source::Worker)].cut = self.place(record, 0);
        }
    }

    fn output(&mut self, source: Source, record: &Record<'_>) {
        let mut side = self.sources[side(source)];
        let content = record.content;
        if side.is_fresh && !content.is_empty() {
            side.is_fresh = false;
            side.is_within_line = content.last() != Some(&b'\n') && self.wants_one_more(record);
        }
        for newline in memchr::memrchr_iter(b'\n', content) {
            if side.is_within_line {
                side.cut = self.place(record, newline + 1);
            }
            side.is_within_line = self.wants_one_more(record);
            if !side.is_within_line {
                break;
            }
        }
        if side.is_within_line {
            // The line begins here, unless an earlier record goes on with it.
            side.cut = self.place(record, 0);
        }
        self.sources[self::side(source)] = side;
    }

    fn wants_one_more(&mut self, record: &Record<'_>) -> bool {
        if self.beginnings.is_some() {
            return false;
        }
        let (wants, is_last) = match &mut self.wanted {
            Wanted::Last(left) => {
                let wants = *left > 0;
                *left = left.saturating_sub(1);
                (wants, *left == 0)
            }
            Wanted::Since(micros) => {
                let wants = record.micros >= *micros;
                (wants, !wants)
            }
        };
        if is_last {
            self.beginnings = Some(record.next);
        }
        wants
    }

    /// Notes that bytes are missing here: no line goes on across the place.
    fn interrupt(&mut self) {
        for side in &mut self.sources {
            side.is_within_line = false;
            side.is_fresh = true;
        }
    }

    fn place(&self, record: &Record<'_>, within: usize) -> Place {
        Place {
            at: record.at,
            within,
            position: self.position,
        }
    }
}
