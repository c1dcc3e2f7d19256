//! Reads on from the engine's record of a container's output, where its files cannot be read here: an engine on another machine, a
//! worker that may not read them, a container that has another log driver.
//!
//! A stream that was attached has no times, so where it broke off is looked for once, by what the log has last (`joint.rs`): at one
//! place alone, or there is a marker. From then on the record is the source for good, and the log remembers in each write a time
//! and how much of what the engine tells from then on it has (`marks.rs`): what is told again is passed over by that number, and no
//! content is compared.
//!
//! After each break the record is first read to its present end, and then as it grows. The stream that grows may lack its end, so
//! the end is proven: the container has ended, its record was read to its end after that, and the record's last entry is not later
//! than what was read.
//!
//! An engine that dies loses what it had read and not written. Where it may have died, and the container was busy and then silent, a
//! marker stands: at each such place shortly before the time of the break, by the engine's clock; at the first one where nobody
//! knows that time. One limit: an engine whose clock is set back leaves out, behind a break, what it writes until its clock has caught up.

mod joint;
mod marks;
#[cfg(test)]
mod tests;

use std::{
    mem,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::StreamExt;
use log::{debug, warn};
use tokio::time::{Instant, sleep, timeout};

use self::{
    joint::{Joint, find},
    marks::{Mark, Marks},
};
use super::{
    had::Had,
    markers::{ENGINE_DIED, GONE, NOT_PROVABLE, UNREADABLE},
    pace::Pace,
    reader::{BATCH, Patience, ReadEnd, SILENCE, Work},
};
use crate::{
    actors::engine_watch::ride_out,
    domain::{log_joint::pass_over, log_line::Source},
    ports::{
        engine::{ContainerState, EngineError, Frame, Frames},
        spool::Piece,
    },
};

/// What two moments of the engine's are apart at most that belong together: when it wrote an entry, and when a stream brought that
/// here (a busy machine takes a second); two entries of which the later one stands before the other (a few ms). What was written
/// within twice this is read again after a break: more costs time, less costs markers.
const SLACK: Duration = Duration::from_secs(10);

/// Between two looks at a container that has not been started, or whose record ends too early: short beside what an engine takes to
/// come back, long beside a call.
const AGAIN: Duration = Duration::from_millis(200);

/// So often in a row the engine fails to read its record, with nothing new in between, before that is taken for its last word.
const TRIES: u32 = 3;

/// Reads one container's output until the container has ended.
pub(super) struct Elsewhere {
    work: Work,
    marks: Marks,
    /// The marks are those of this log.
    is_placed: bool,
    /// The place in the record was found by what the log has last, and has not been read on from yet.
    is_joined: bool,
    had: Had,
    /// What the log has of a line of stdout and of stderr that comes again.
    open: [Vec<u8>; 2],
    /// When the first entry was written that is to come, where that is known.
    first: Option<SystemTime>,
    /// The engine may have died since the log's last byte, while nobody read.
    may_have_missed: bool,
    /// When what was read broke off, where it is not known yet whether the engine died then.
    breaks: Vec<Instant>,
    /// Up to when the engine's outages were looked at: it may die while nothing is read here.
    looked: Instant,
    /// When it may have died, or a moment before, by its clock.
    deaths: Vec<SystemTime>,
    pace: Pace,
    /// How often in a row the engine could not read the record, with nothing new in between.
    failures: u32,
    /// How often in a row its record was silent.
    silences: u32,
    /// Something is in the log that is not written anywhere.
    said: bool,
}

impl Elsewhere {
    /// `broke_off`: when a stream did that this worker has read until then.
    pub(super) fn new(work: Work, broke_off: Option<Instant>) -> Self {
        Self {
            work,
            marks: Marks::since(SystemTime::UNIX_EPOCH),
            is_placed: false,
            is_joined: false,
            had: Had::NOTHING,
            open: Default::default(),
            first: None,
            may_have_missed: broke_off.is_none(),
            breaks: broke_off.into_iter().collect(),
            looked: Instant::now(),
            deaths: Vec::new(),
            pace: Pace::default(),
            failures: 0,
            silences: 0,
            said: false,
        }
    }

    pub(super) async fn run(mut self) -> ReadEnd {
        debug!(task:% = self.work.task; "reading on from the engine's record of the output");
        loop {
            let has_ended = match self.state().await {
                None => return ReadEnd::Broken,
                Some(ContainerState::Created) => {
                    sleep(AGAIN).await;
                    continue;
                }
                Some(ContainerState::Running) => false,
                Some(ContainerState::Exited(_)) => true,
            };
            match self.read(has_ended).await {
                Ok(None) => sleep(AGAIN).await,
                Ok(Some(end)) => return end,
                Err(error) => {
                    if let Some(end) = self.broke_off(error, has_ended).await {
                        return end;
                    }
                }
            }
        }
    }

    /// Where the container stands; `None` when it is gone.
    async fn state(&self) -> Option<ContainerState> {
        loop {
            match self.work.engine.inspect(&self.work.container.0).await {
                Ok(facts) => return Some(facts.state),
                Err(EngineError::NotFound(_)) => return None,
                Err(error) => self.ride_out(&error).await,
            }
        }
    }

    async fn ride_out(&self, error: &EngineError) {
        let back = ride_out(&self.work.view, error);
        self.work.progress.during(back).await;
    }

    /// Reads the record to its present end, and as it grows until it breaks off; of a container that has ended, to its end.
    async fn read(&mut self, has_ended: bool) -> Result<Option<ReadEnd>, EngineError> {
        self.catch_up().await?;
        if has_ended {
            return self.prove().await.map(Some);
        }
        self.is_joined = false;
        debug!(task:% = self.work.task; "following the engine's record of the output");
        let since = self.go_back();
        let (engine, container) = (&self.work.engine, &self.work.container);
        let frames = engine.follow(container, since).await?;
        self.pass(frames, Reading::Following).await?;
        Ok(None)
    }

    async fn catch_up(&mut self) -> Result<(), EngineError> {
        let turn = Arc::clone(&self.work.turns).acquire_owned();
        let _turn = self.work.progress.during(turn).await;
        self.look_for_a_death().await?;
        if !self.is_placed {
            self.find_place().await?;
            self.is_placed = true;
        }
        loop {
            let since = self.go_back();
            let (engine, container) = (&self.work.engine, &self.work.container);
            let frames = engine.logs(container, since).await?;
            self.pass(frames, Reading::ToItsEnd).await?;
            match self.had {
                Had::NOTHING if self.first.is_none() => return Ok(()),
                // It is shorter than it was.
                Had::Bytes(_) => self.lose_place(GONE).await,
                Had::Until(_) => {
                    // All of that was passed over.
                    self.had = Had::NOTHING;
                    self.append(Vec::new()).await;
                    return Ok(());
                }
            }
        }
    }

    async fn look_for_a_death(&mut self) -> Result<(), EngineError> {
        let now = Instant::now();
        let looked = mem::replace(&mut self.looked, now);
        self.breaks.extend(self.work.view.outages_after(looked));
        if !self.may_have_missed && self.breaks.is_empty() {
            return Ok(());
        }
        let engine = &self.work.engine;
        if engine.was_started(&self.work.container).await? {
            // It remembers the container's start: it has lived since.
            self.may_have_missed = false;
            self.breaks.clear();
            return Ok(());
        }
        let now = engine.time().await?;
        let breaks = self.breaks.drain(..);
        let deaths = breaks.filter_map(|broke_off| now.checked_sub(broke_off.elapsed()));
        self.deaths.extend(deaths);
        Ok(())
    }

    /// Whether something that the engine lost at its death may be missing behind what was read last. A break is seen a moment after
    /// the death, on a busy machine.
    fn may_be_lost_here(&self) -> bool {
        let is_near = |death: &SystemTime| {
            let since = |last| death.duration_since(last).ok();
            self.pace
                .last()
                .and_then(since)
                .is_some_and(|since| since <= SLACK)
        };
        self.may_have_missed || self.deaths.iter().any(is_near)
    }

    /// Whether the engine cannot show that it has lived since what was read last: where its memory is short, or it is away. Behind a
    /// joint it shows nothing: where lines say the same, the place may lie behind what its death has cost.
    async fn may_have_died_here(&mut self) -> bool {
        let Some(last) = self.pace.last().filter(|_| !self.is_joined) else {
            return true;
        };
        let has_lived = self.work.engine.has_lived_since(last).await;
        if matches!(has_lived, Ok(true)) {
            self.may_have_missed = false;
            self.deaths.clear();
        }
        !matches!(has_lived, Ok(true))
    }

    /// Where the log ends in the record.
    async fn find_place(&mut self) -> Result<(), EngineError> {
        let spool = &self.work.spool;
        let appended = spool.appended();
        let position = spool.position();
        if let Some(mark) = position.and_then(|position| Mark::of(&position, appended)) {
            self.marks = Marks::at(mark);
        } else if appended != (0, 0) {
            match find(&self.work).await? {
                Joint::At(mark, open) => {
                    self.is_joined = true;
                    self.marks = Marks::at(mark);
                    self.open = open;
                    self.append(Vec::new()).await;
                }
                Joint::Unknown(ended) => {
                    self.lose_place(NOT_PROVABLE).await;
                    self.marks = Marks::since(ended);
                    self.had = Had::Until(ended);
                }
            }
        }
        Ok(())
    }

    /// What follows the log is not known: what was written later than its last byte is new.
    async fn lose_place(&mut self, marker: &str) {
        self.work.note(marker).await;
        let newest = self.marks.newest().max(self.work.spool.newest());
        let newest = newest.unwrap_or(SystemTime::UNIX_EPOCH);
        self.marks = Marks::since(newest);
        self.had = Had::Until(newest);
        self.open = Default::default();
        self.first = None;
        self.pace = Pace::default();
    }

    /// To where the record is to be asked for again: from when on.
    fn go_back(&mut self) -> SystemTime {
        let mark = self.marks.place();
        self.pace = Pace::default();
        match self.had {
            // Not all of that has been passed over.
            Had::Until(_) => self.marks = Marks::since(mark.since),
            Had::Bytes(_) => {
                self.had = Had::Bytes(mark.passed);
                self.first = mark.first;
            }
        }
        mark.since
    }

    /// How long nothing may come. An engine says nothing while it looks through what was written before the time that it is asked
    /// for: a few GB/min, where it has a core. So each silence without a byte doubles the next one, up to eleven minutes.
    fn patience(&self, reading: Reading) -> Duration {
        match reading {
            Reading::Following => SILENCE,
            Reading::ToItsEnd => SILENCE * 2_u32.pow(self.silences.min(6)),
        }
    }

    async fn pass(&mut self, frames: Frames, reading: Reading) -> Result<(), EngineError> {
        let mut batches = frames.ready_chunks(BATCH);
        let mut patience = Patience::new(&self.work);
        loop {
            let batch = match timeout(self.patience(reading), patience.next(&mut batches)).await {
                Ok(Ok(Some(batch))) => {
                    self.silences = 0;
                    batch
                }
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(silent)) => {
                    self.breaks.push(Instant::now());
                    return Err(silent);
                }
                Err(_) if reading == Reading::Following => {
                    // Docker's stream of what grows may stand still, for one where a file was begun anew.
                    if self.is_there_more().await? {
                        return Ok(());
                    }
                    continue;
                }
                Err(_) => {
                    self.silences += 1;
                    self.breaks.push(Instant::now());
                    return Err(EngineError::Away("its record is silent".into()));
                }
            };
            if batch.iter().any(Result::is_err) {
                self.breaks.push(Instant::now());
            }
            let (mut new, mut broken) = (Vec::new(), None);
            for frame in batch {
                match frame {
                    Ok(frame) => self.take(frame, &mut new, reading).await,
                    Err(error) => broken = Some(error),
                }
            }
            self.append(new).await;
            if let Some(error) = broken {
                return Err(error);
            }
        }
    }

    async fn take(&mut self, frame: Frame, new: &mut Vec<Piece>, reading: Reading) {
        if let Some(first) = self.first.take()
            && frame.time != Some(first)
        {
            self.lose_place(GONE).await;
        }
        let (length, number) = (
            frame.bytes.len(),
            usize::from(frame.source == Source::Stderr),
        );
        let may_be_lost = self.may_be_lost_here()
            && self.pace.has_stopped_before(&frame)
            && self.may_have_died_here().await;
        if matches!(self.had, Had::Bytes(_)) {
            self.pace.take(&frame);
        }
        let Some(mut piece) = self.had.new_of(frame.clone()) else {
            match self.had {
                Had::Bytes(_) => self.marks.pass(&frame),
                Had::Until(_) => self.marks.read(&frame, length),
            }
            return;
        };
        if may_be_lost {
            self.append(mem::take(new)).await;
            self.work.note(ENGINE_DIED).await;
        }
        if may_be_lost || reading == Reading::Following {
            // Nobody knows where: it is told once.
            self.may_have_missed = false;
        }
        self.failures = 0;
        let read = piece.bytes.len();
        match pass_over(&mut self.open[number], &piece.bytes) {
            Some(passed) => drop(piece.bytes.split_to(passed)),
            None => {
                self.append(mem::take(new)).await;
                self.work.note(NOT_PROVABLE).await;
                self.open[number].clear();
            }
        }
        self.marks.read(&frame, read);
        if !piece.bytes.is_empty() {
            new.push(piece);
        }
    }

    /// Appends what is new, and where the record goes on behind that.
    async fn append(&mut self, pieces: Vec<Piece>) {
        let spool = &self.work.spool;
        let count = |source| {
            let its = pieces.iter().filter(|piece| piece.source == source);
            its.map(|piece| piece.bytes.len() as u64).sum::<u64>()
        };
        let (stdout, stderr) = spool.appended();
        let appended = (
            stdout + count(Source::Stdout),
            stderr + count(Source::Stderr),
        );
        // What is still to be compared, or passed over by its time, is no number of bytes.
        let is_counted = self.open.iter().all(Vec::is_empty) && matches!(self.had, Had::Bytes(_));
        let position = is_counted.then(|| self.marks.position(appended));
        let appended = match position {
            Some(position) if spool.position() != Some(position) => {
                spool.append_up_to(pieces, position).await
            }
            _ if pieces.is_empty() => return,
            _ => spool.append(pieces).await,
        };
        if let Err(error) = appended
            && !mem::replace(&mut self.said, true)
        {
            warn!(task:% = self.work.task, error:%; "a log cannot be written; its container goes on");
        }
    }

    /// The container had ended when its record was read to its end.
    async fn prove(&mut self) -> Result<ReadEnd, EngineError> {
        if self.may_be_lost_here() && self.pace.is_busy(None) && self.may_have_died_here().await {
            self.work.note(ENGINE_DIED).await;
        }
        if self.is_there_more().await? {
            // Half an entry ends what is told without a word.
            self.work.note(UNREADABLE).await;
            return Ok(ReadEnd::Broken);
        }
        Ok(ReadEnd::Whole)
    }

    /// Whether the record has more than what was read.
    async fn is_there_more(&self) -> Result<bool, EngineError> {
        let last = self.work.engine.last_written(&self.work.container).await?;
        Ok(last > self.marks.newest().max(Some(self.marks.place().since)))
    }

    /// The engine did; `None`: read on.
    async fn broke_off(&mut self, error: EngineError, has_ended: bool) -> Option<ReadEnd> {
        match error {
            EngineError::NotFound(_) | EngineError::Unauthorized(_) | EngineError::Invalid(_) => {
                warn!(task:% = self.work.task, error:%; "the engine's record of the output cannot be read");
                return Some(ReadEnd::Broken);
            }
            // It is there.
            EngineError::Failed(_) | EngineError::Conflict(_) => {
                self.failures += 1;
                if self.failures == TRIES {
                    self.work.note(UNREADABLE).await;
                }
                if self.failures >= TRIES && has_ended {
                    return Some(ReadEnd::Broken);
                }
            }
            EngineError::Away(_) | EngineError::Deadline(_) => {}
        }
        self.ride_out(&error).await;
        None
    }
}

/// How the record is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// To its present end.
    ToItsEnd,
    /// And as it grows.
    Following,
}
