//! Whether an engine can read the end of its own record. One that died within an entry has left half of it, and reading over
//! that, engines leave out others too, some without a word. What they do not get wrong is how many entries they were asked for:
//! so the end of a record is sound as far back as just as many come.

use std::{cmp::Ordering, collections::VecDeque, mem, ops::RangeInclusive, time::SystemTime};

use tokio::time::sleep;

use super::{AGAIN, TRIES, track::number_of};
use crate::{
    actors::log_router::reader::{Patience, Work},
    ports::engine::{EngineError, Frame},
};

/// Entries that are asked for first, and how many times as many next.
const FIRST: usize = 64;
const MORE: usize = 4;

/// Bytes that are kept of the end of a record, to be appended where the whole of it cannot be compared.
const KEPT: usize = 16 << 20;

/// An entry that the engine is writing has fewer than this many behind it.
const BEING_WRITTEN: usize = 8;

/// Looks for the place where a record cannot be read, at most.
const LOOKS: usize = 100;

/// When the place has been found, so many entries more are tried, and fewer and fewer.
const LAST_STEPS: usize = 64;

/// What a record's end is worth.
pub(super) enum Survey {
    /// It can be read. The end of it reaches back beyond the time that was asked for, as far as it is kept.
    Sound(Tail),
    /// It cannot be read over some place.
    Torn(Tear),
}

/// A place that the engine cannot read over.
pub(super) struct Tear {
    /// More than this lies behind it.
    sound: Tail,
    behind: Behind,
}

/// How many entries lie behind a place that the engine cannot read over.
#[derive(Clone, Copy)]
enum Behind {
    /// As it failed there in the way of most engines.
    About(usize),
    Fewer(usize),
}

/// The last entries of a record.
#[derive(Default)]
pub(super) struct Tail {
    asked: usize,
    entries: usize,
    pub(super) frames: VecDeque<Frame>,
    bytes: usize,
    /// How many entries were written when, to the millisecond; of all that came.
    times: Vec<(Option<SystemTime>, usize)>,
    pub(super) oldest: Option<SystemTime>,
    pub(super) newest: Option<SystemTime>,
}

impl Tail {
    /// Asks for so many entries. What the engine says of its record instead of an entry ends it.
    pub(super) async fn read(work: &Work, entries: usize) -> Result<Self, EngineError> {
        let mut tail = Self {
            asked: entries,
            ..Self::default()
        };
        let mut frames = match work.engine.last_logs(&work.container, entries).await {
            Err(EngineError::Failed(_)) => return Ok(tail),
            opened => opened?,
        };
        let mut patience = Patience::new(work);
        while let Some(frame) = patience.next(&mut frames).await? {
            match frame {
                Ok(frame) => tail.take(frame),
                Err(EngineError::Failed(_)) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(tail)
    }

    fn take(&mut self, frame: Frame) {
        self.entries += frame.entries;
        self.bytes += frame.bytes.len();
        self.oldest = self.oldest.or(frame.time);
        self.newest = self.newest.max(frame.time);
        self.times.push((frame.time, frame.entries));
        self.frames.push_back(frame);
        while self.bytes > KEPT
            && let Some(first) = self.frames.pop_front()
        {
            self.bytes -= first.bytes.len();
        }
    }

    /// What is kept of a source.
    pub(super) fn bytes_of(&self, number: usize) -> Vec<u8> {
        let its = self.frames.iter();
        let its = its.filter(|frame| number_of(frame.source) == number);
        its.flat_map(|frame| frame.bytes.iter().copied()).collect()
    }

    /// All came that were asked for, so none is half.
    fn is_sound(&self) -> bool {
        self.entries >= self.asked
    }

    /// Of one that is not sound: most engines end at a half entry; then what came lies before that, and so many behind it.
    fn behind(&self) -> Option<usize> {
        let behind = self.asked.saturating_sub(self.entries + 1);
        (self.entries > 0 && behind > 0).then_some(behind)
    }

    /// Whether it begins before that time; not, where there is none.
    fn reaches(&self, since: Option<SystemTime>) -> bool {
        since.is_some_and(|since| self.oldest.is_some_and(|oldest| oldest < since))
    }

    /// Whether it begins earlier than another one. Many entries may be of one millisecond.
    fn reaches_beyond(&self, other: &Self) -> bool {
        let of_the_first = |tail: &Self| *tail.before(tail.oldest).end();
        match self.oldest.cmp(&other.oldest) {
            Ordering::Less => true,
            Ordering::Equal => of_the_first(self) > of_the_first(other),
            Ordering::Greater => false,
        }
    }

    /// How many entries were written before a time, and how many by then: one that was written then may be on either side.
    fn before(&self, time: Option<SystemTime>) -> RangeInclusive<usize> {
        let count = |is_before: fn(&Option<SystemTime>, &Option<SystemTime>) -> bool| {
            let times = self.times.iter();
            let times = times.filter(|(its, _)| is_before(its, &time));
            times.map(|(_, entries)| entries).sum::<usize>()
        };
        count(PartialOrd::lt)..=count(PartialOrd::le)
    }
}

/// Surveys the end of a record, back to before that time; without one, to its beginning.
pub(super) async fn survey(work: &Work, since: Option<SystemTime>) -> Result<Survey, EngineError> {
    let mut sound = Tail::default();
    let mut entries = FIRST;
    loop {
        let (tail, extent) = look(work, entries, sound.entries).await?;
        match extent {
            Extent::Sound if !tail.reaches(since) => {
                sound = tail;
                entries *= MORE;
            }
            Extent::Sound | Extent::All => return Ok(Survey::Sound(tail)),
            Extent::Torn(behind) => return Ok(Survey::Torn(Tear { sound, behind })),
        }
    }
}

/// What so many last entries are.
enum Extent {
    /// Every one of them came.
    Sound,
    /// There are no more.
    All,
    /// There are more, and not every one came.
    Torn(Behind),
}

/// The engine may be writing: half an entry that is whole the next time is no half entry. `sound`: so many are known to be.
async fn look(work: &Work, entries: usize, sound: usize) -> Result<(Tail, Extent), EngineError> {
    let mut tries = TRIES;
    loop {
        let tail = Tail::read(work, entries).await?;
        if tail.is_sound() {
            return Ok((tail, Extent::Sound));
        }
        if is_all(work, &tail).await? {
            return Ok((tail, Extent::All));
        }
        // Some engines leave out but a few; then it tells nothing.
        let mut behind = tail.behind().filter(|behind| *behind > sound);
        if let Some(told) = behind.filter(|told| *told > BEING_WRITTEN) {
            let nearer = told + told / 4 + LAST_STEPS;
            if nearer < entries {
                // It is seen twice, and the second time from nearer; else it lies farther back.
                if !Tail::read(work, nearer).await?.is_sound() {
                    return Ok((tail, Extent::Torn(Behind::About(told))));
                }
                behind = None;
            }
        }
        tries -= 1;
        if tries == 0 {
            let behind = behind.map_or(Behind::Fewer(entries), Behind::About);
            return Ok((tail, Extent::Torn(behind)));
        }
        sleep(AGAIN).await;
    }
}

/// Whether fewer came because there are no more. Then as many as came are sound when they are asked for again, and those that
/// are new among them stand for those that are not there any more: as many entries at the end as were before their beginning.
async fn is_all(work: &Work, tail: &Tail) -> Result<bool, EngineError> {
    if tail.entries == 0 {
        let mut all = work.engine.logs(&work.container).await?;
        let first = Patience::new(work).next(&mut all).await?;
        return Ok(first.transpose()?.is_none());
    }
    let again = Tail::read(work, tail.entries).await?;
    if again.times == tail.times {
        return Ok(true);
    }
    let gone = tail.before(again.oldest);
    let old = again.before(tail.newest);
    let new = again.entries - old.end()..=again.entries - old.start();
    let is_as_many = gone.start() <= new.end() && new.start() <= gone.end();
    Ok(again.is_sound() && again.oldest <= tail.newest && is_as_many)
}

/// All that can be read behind a tear. The record grows meanwhile, and the engine may be writing when it is read: so what was
/// found is tried to be improved until that fails.
pub(super) async fn behind(work: &Work, tear: Tear) -> Result<Tail, EngineError> {
    let known = tear.sound.entries;
    let mut step = match tear.behind {
        Behind::About(behind) => behind - known,
        Behind::Fewer(torn) => (torn - known) / 2,
    };
    let mut is_told = matches!(tear.behind, Behind::About(_));
    let (mut best, mut has_grown) = (tear.sound, false);
    for _ in 0..LOOKS {
        if step == 0 {
            if !mem::take(&mut has_grown) {
                break;
            }
            step = LAST_STEPS;
        }
        let known = grown(work, &best).await?;
        let tail = Tail::read(work, known + step).await?;
        if !tail.is_sound() {
            let behind = tail.behind().and_then(|behind| behind.checked_sub(known));
            let behind = behind.filter(|behind| *behind > 0);
            is_told = behind.is_some();
            step = behind.unwrap_or(step / 2);
        } else if best.entries == 0 || tail.reaches_beyond(&best) {
            (best, has_grown) = (tail, true);
            if is_told {
                // There is not much more.
                step = step.min(LAST_STEPS);
            }
        } else {
            // The record has grown by more than that meanwhile.
            step *= 2;
        }
    }
    Ok(best)
}

/// How many entries there are from where a tail began, now.
async fn grown(work: &Work, tail: &Tail) -> Result<usize, EngineError> {
    if tail.entries == 0 {
        return Ok(0);
    }
    let mut frames = work.engine.last_logs(&work.container, tail.entries).await?;
    let first = Patience::new(work).next(&mut frames).await?.transpose()?;
    let first = first.and_then(|frame| frame.time);
    Ok(tail.entries + tail.before(first).start())
}
