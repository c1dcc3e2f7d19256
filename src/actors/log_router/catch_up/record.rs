//! Reads the engine's record of a container's output, and appends to the spool what is new.

use std::{
    io, mem,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{StreamExt, stream::iter};
use log::info;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    ENGINE_DIED, NOT_PROVABLE, UNKNOWN_MISSING, UNREADABLE,
    deaths::{BUSY, Deaths, Passed},
    search::{Found, Search},
    side::{Place, Side},
    splice::{Splice, splice},
    survey::{Survey, Tail, behind, survey},
    track::{TAIL, Taken, Track, number_of, tail},
};
use crate::{
    actors::log_router::reader::{BATCH, Patience, Work},
    domain::log_line::Source,
    ports::{
        engine::{EngineError, Frame, Frames},
        spool::Piece,
    },
};

/// A record that has this much in common with the spool begins where the container began.
const PROOF: u64 = 4_096;

/// So far back from the spool's newest bytes the record must be readable.
const OVERLAP: Duration = Duration::from_secs(1);

/// Which part of a record is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// From its beginning to its present end.
    All,
    /// To what was written then.
    Until(SystemTime),
    /// And on as it grows, to so many new bytes.
    Following(u64),
}

/// Why a reading of the record ended.
enum Pass {
    /// The record ended, or what was wanted of it.
    End,
    /// It broke off.
    Cut(EngineError),
    /// A source's record is not what the spool has, after so many bytes, and whether that is the first beyond a death.
    Differs(usize, u64, Option<Passed>),
}

/// What has become of a reading of the record.
pub(super) enum Reading {
    /// The spool has all of it.
    Whole,
    /// But for what the engine cannot read, and for this, which lies behind that.
    Torn(Tail),
    /// It broke off.
    Cut(EngineError),
}

/// The record of one container's output.
pub(super) struct Record {
    work: Work,
    /// Stdout and stderr.
    pub(super) sides: [Side; 2],
    /// What was written later was not in the spool when the reading began.
    newest: Option<SystemTime>,
    pub(super) deaths: Deaths,
    /// It has brought something new since somebody asked.
    pub(super) has_grown: bool,
    /// Bytes of it that were appended in the present reading.
    appended: u64,
}

impl Record {
    pub(super) fn new(work: Work) -> Self {
        Self {
            work,
            sides: Default::default(),
            newest: None,
            deaths: Deaths::default(),
            has_grown: false,
            appended: 0,
        }
    }

    /// Waits for a turn to read it.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        let turn = Arc::clone(&self.work.turns).acquire_owned();
        self.work.progress.during(turn).await.ok()
    }

    /// Whether it can be read, since the spool's newest bytes were written.
    pub(super) async fn survey(&mut self) -> Result<Survey, EngineError> {
        self.begin();
        let since = self.newest.map(|newest| newest - OVERLAP);
        survey(&self.work, since).await
    }

    /// Reads it to its present end, and appends what is new.
    pub(super) async fn read_to_its_end(
        &mut self,
        survey: Result<Survey, EngineError>,
    ) -> io::Result<Reading> {
        let found = match survey {
            Ok(Survey::Sound(tail)) => return self.read_sound(tail).await,
            Ok(Survey::Torn(tear)) => behind(&self.work, tear).await,
            Err(error) => Err(error),
        };
        match found {
            Ok(behind) => self.read_torn(behind).await,
            Err(error) => Ok(Reading::Cut(error)),
        }
    }

    /// Reads on as it grows, to so many new bytes. Half an entry, if there is one, is not noticed.
    pub(super) async fn follow(&mut self, bytes: u64) -> io::Result<Reading> {
        self.begin();
        let read = self.read(Part::Following(bytes)).await?;
        Ok(read.map_or_else(Reading::Cut, |()| Reading::Whole))
    }

    /// What stands in the spool is compared from the beginning on, and nothing was appended since this.
    fn begin(&mut self) {
        self.newest = self.work.spool.newest();
        self.sides = Default::default();
        self.appended = 0;
    }

    /// Reads a record that can be read since the spool's newest bytes were written.
    async fn read_sound(&mut self, tail: Tail) -> io::Result<Reading> {
        if self.read_end(&tail).await? {
            return Ok(Reading::Whole);
        }
        match self.read(Part::All).await? {
            Ok(()) if self.sides.iter().any(|side| side.last >= tail.newest) => {
                self.say_last_deaths().await;
                Ok(Reading::Whole)
            }
            // It ends at half an entry of long ago, and what lies behind that was read otherwise.
            Ok(()) | Err(EngineError::Failed(_)) => {
                self.append_newer(tail, None).await?;
                Ok(Reading::Whole)
            }
            Err(error) => Ok(Reading::Cut(error)),
        }
    }

    /// Appends what is new in a record's end, where that alone tells where the spool ends; whether it does.
    async fn read_end(&mut self, tail: &Tail) -> io::Result<bool> {
        let Some(newest) = self.newest.filter(|newest| self.tells_deaths(*newest)) else {
            return Ok(false);
        };
        let since = newest - OVERLAP;
        let splice = splice(&self.work, tail, since, newest).await?;
        let Some(Splice { frames, places }) = splice else {
            return Ok(false);
        };
        for (side, place) in self.sides.iter_mut().zip(places) {
            side.place = place;
        }
        let frames = Box::pin(iter(frames.into_iter().map(Ok)));
        if !matches!(self.pass(frames, Part::All).await?, Pass::End) {
            self.begin();
            return Ok(false);
        }
        for side in &mut self.sides {
            // What a source has in the record before this end is older.
            side.last = side.last.max(Some(since));
        }
        self.say_last_deaths().await;
        Ok(true)
    }

    /// Whether what was written since then, and a moment before, tells all there is to say of deaths.
    fn tells_deaths(&self, then: SystemTime) -> bool {
        let (stdout, stderr) = self.work.spool.appended();
        let is_later = |source| {
            let first = self.deaths.first_new(source);
            first.is_none_or(|death| death >= then)
        };
        (stdout == 0 || is_later(0)) && (stderr == 0 || is_later(1))
    }

    /// Of deaths behind which the record has nothing yet.
    async fn say_last_deaths(&mut self) {
        for number in 0..2 {
            if let Some(passed) = self.sides[number].pace.stop(&self.deaths)
                && self.deaths.is_to_be_said(number, passed)
            {
                self.work.note(ENGINE_DIED).await;
            }
        }
    }

    /// Reads a record with half an entry, and behind it this.
    async fn read_torn(&mut self, behind: Tail) -> io::Result<Reading> {
        let until = behind.oldest.map_or(Part::All, Part::Until);
        Ok(match self.read(until).await? {
            Ok(()) | Err(EngineError::Failed(_)) => Reading::Torn(behind),
            Err(error) => Reading::Cut(error),
        })
    }

    /// Appends what lies behind the place that the engine cannot read.
    pub(super) async fn append_behind(&mut self, behind: Tail) -> io::Result<()> {
        self.deaths.all_said();
        self.append_newer(behind, Some(UNREADABLE)).await
    }

    /// Appends what lies in a record's end beyond the spool, behind a marker, or one that is due where that place is not known.
    async fn append_newer(&mut self, tail: Tail, marker: Option<&str>) -> io::Result<()> {
        let before = self.sides.each_ref().map(|side| side.last);
        let frames = || Box::pin(iter(tail.frames.clone().into_iter().map(Ok)));
        self.begin();
        let mut is_known = true;
        for number in 0..2 {
            // What is in memory does not break off.
            let place = self.search(number, frames()).await.unwrap_or_default();
            is_known &= place.is_some();
            self.sides[number].place = place.unwrap_or(Place::Newer);
        }
        if let Some(marker) = marker.or((!is_known).then_some(NOT_PROVABLE)) {
            self.work.note(marker).await;
        }
        while let Pass::Differs(number, ..) = self.pass(frames(), Part::All).await? {
            self.sides[number].place = Place::Newer;
        }
        for (side, before) in self.sides.iter_mut().zip(before) {
            side.last = side.last.max(before);
        }
        Ok(())
    }

    /// Reads a part of the record, as often as it takes to find where it goes on beyond the spool.
    async fn read(&mut self, part: Part) -> io::Result<Result<(), EngineError>> {
        loop {
            self.sides.iter_mut().for_each(Side::begin);
            let container = &self.work.container;
            let opened = match part {
                Part::All | Part::Until(_) => self.work.engine.logs(container).await,
                Part::Following(_) => self.work.engine.follow(container).await,
            };
            let frames = match opened {
                Ok(frames) => frames,
                Err(error) => return Ok(Err(error)),
            };
            match self.pass(frames, part).await? {
                Pass::End => return Ok(Ok(())),
                Pass::Cut(error) => return Ok(Err(error)),
                Pass::Differs(number, at, passed) => {
                    if let Err(error) = self.find_place(number, at, passed).await {
                        return Ok(Err(error));
                    }
                }
            }
        }
    }

    /// Reads it once, and appends what is new.
    async fn pass(&mut self, frames: Frames, part: Part) -> io::Result<Pass> {
        let [stdout, stderr] = &self.sides;
        let mut tracks = [
            stdout.track(&self.work.spool, Source::Stdout, self.newest),
            stderr.track(&self.work.spool, Source::Stderr, self.newest),
        ];
        let mut batches = frames.ready_chunks(BATCH);
        let mut patience = Patience::new(&self.work);
        let pass = loop {
            match patience.next(&mut batches).await {
                Ok(Some(mut batch)) => {
                    let is_last = cut_off(&mut batch, part);
                    match self.take(batch, &mut tracks).await? {
                        Pass::End if is_last || self.is_enough(part) => break Pass::End,
                        Pass::End => {}
                        other => break other,
                    }
                }
                Ok(None) => break Pass::End,
                Err(silent) => break Pass::Cut(silent),
            }
        };
        for (side, track) in self.sides.iter_mut().zip(&tracks) {
            side.stop(track);
        }
        Ok(pass)
    }

    fn is_enough(&self, part: Part) -> bool {
        matches!(part, Part::Following(bytes) if self.appended >= bytes)
    }

    async fn take(
        &mut self,
        batch: Vec<Result<Frame, EngineError>>,
        tracks: &mut [Track; 2],
    ) -> io::Result<Pass> {
        let mut new = Vec::new();
        let mut pass = Pass::End;
        for frame in batch {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    pass = Pass::Cut(error);
                    break;
                }
            };
            let number = number_of(frame.source);
            let passed = self.sides[number].see(&frame, &self.deaths);
            let (bytes, lost) = match tracks[number].take(frame.bytes, frame.time).await? {
                Taken::New(bytes) if bytes.is_empty() => continue,
                Taken::New(bytes) => (bytes, 0),
                Taken::Elsewhere(bytes, lost) => (bytes, lost),
                Taken::Differs(at) => {
                    pass = Pass::Differs(number, at, passed);
                    break;
                }
            };
            if let Some(marker) = self.marker(number, lost, passed) {
                self.work.spool.append(mem::take(&mut new)).await?;
                self.work.note(marker).await;
            }
            self.appended += bytes.len() as u64;
            new.push(Piece {
                source: frame.source,
                bytes,
                time: frame.time,
            });
        }
        self.has_grown |= !new.is_empty();
        self.work.spool.append(new).await?;
        Ok(pass)
    }

    /// What is to be said before new output, where the record lacks so much that the spool has.
    fn marker(
        &mut self,
        number: usize,
        lost: usize,
        passed: Option<Passed>,
    ) -> Option<&'static str> {
        if lost >= BUSY {
            if let Some(passed) = passed {
                self.deaths.is_news(number, passed);
            }
            return Some(NOT_PROVABLE);
        }
        let is_due = passed.is_some_and(|passed| self.deaths.is_to_be_said(number, passed));
        is_due.then_some(ENGINE_DIED)
    }

    /// The record of a source is not what the spool has: it was cut at its beginning, the spool in its middle, or the record
    /// lacks bytes. Where the spool's end does not stand in it either, what was written later goes on.
    async fn find_place(
        &mut self,
        number: usize,
        at: u64,
        passed: Option<Passed>,
    ) -> Result<(), EngineError> {
        let source = [Source::Stdout, Source::Stderr][number];
        info!(task:% = self.work.task, source:?, bytes = at; "the engine's record has something else than the log after these bytes");
        let place = match &self.sides[number].place {
            Place::Unknown => {
                let frames = self.work.engine.logs(&self.work.container).await?;
                self.search(number, frames).await?
            }
            Place::Within(..) | Place::Ahead(..) | Place::After(..) | Place::Newer => None,
        };
        self.sides[number].place = match place {
            Some(place) => place,
            None => {
                let is_later = at < PROOF && self.sides[number].place == Place::Unknown;
                let marker = if is_later {
                    UNKNOWN_MISSING
                } else {
                    NOT_PROVABLE
                };
                self.work.note(marker).await;
                if let Some(passed) = passed {
                    self.deaths.is_news(number, passed);
                }
                Place::Newer
            }
        };
        Ok(())
    }

    /// Where the spool's end stands in a record, or what follows it. Half an entry ends the record; a search that broke off
    /// says nothing.
    async fn search(
        &self,
        number: usize,
        mut frames: Frames,
    ) -> Result<Option<Place>, EngineError> {
        let source = [Source::Stdout, Source::Stderr][number];
        let tail = tail(self.work.spool.cursor(), source, TAIL);
        let Ok((tail, unfinished)) = self.work.progress.during(tail).await else {
            return Ok(None);
        };
        let mut search = Search::new(source, tail, self.newest);
        let mut patience = Patience::new(&self.work);
        loop {
            match patience.next(&mut frames).await? {
                Some(Ok(frame)) if search.push(&frame) => break,
                Some(Ok(_)) => {}
                Some(Err(EngineError::Failed(_))) | None => break,
                Some(Err(error)) => return Err(error),
            }
        }
        let found = search.end();
        info!(task:% = self.work.task, source:?, found:%; "looked for the log's end in the engine's record");
        Ok(match found {
            Found::Place(at, written) => Some(Place::Within(at, written, unfinished)),
            Found::Ahead(at, written, lines) => {
                Some(Place::Ahead(at, written, [lines, unfinished].concat()))
            }
            Found::LostByTheRecord => Some(Place::Newer),
            Found::Nowhere => None,
        })
    }
}

/// Leaves what belongs to the wanted part; whether nothing of it follows.
fn cut_off(batch: &mut Vec<Result<Frame, EngineError>>, part: Part) -> bool {
    let Part::Until(time) = part else {
        return false;
    };
    let is_later = |item: &Result<Frame, _>| matches!(item, Ok(frame) if frame.time >= Some(time));
    let end = batch.iter().position(is_later);
    end.is_some_and(|end| {
        batch.truncate(end);
        true
    })
}
