//! Reads on from the engine's record of a container's output, where the engine's log files cannot be read here: the engine is on
//! another machine, the worker may not read the files, or the container has another log driver.
//!
//! An attached stream has no times. So the place where it broke off is searched once, by what the log has last (`joint.rs`): if
//! there is not exactly one such place, a marker stands. From then on only the record is read. With each write the log remembers
//! a time, and how many bytes it has of what the engine tells from that time on (`marks.rs`): so what is told again is passed
//! over by number, and no content is compared.
//!
//! After each break the record is first read to its present end, and then followed as it grows. The stream of a followed record
//! may lack its end, so the end is proven: the container has ended, its record was read to its end after that, and the record's
//! last entry is not later than what was read.
//!
//! An engine that dies loses what it had read and not written. Where it may have died while the container was busy and then
//! silent, a marker stands: at each such place shortly before the time of the break, by the engine's clock; if that time is
//! unknown, at the first such place. One limit: an engine whose clock is set back leaves out, behind a break, what it writes
//! until the clock has caught up.

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

/// Most that two times of the engine differ that belong together: the time of an entry, and the time when a stream brought it
/// here (a busy machine takes a second); the times of two entries in the wrong order (a few ms). What was written within twice
/// this time is read again after a break: a longer time costs time, a shorter one costs markers.
const SLACK: Duration = Duration::from_secs(10);

/// Between two looks at a container that was not started yet, or whose record ends too early: short beside the time that an
/// engine takes to restart, long beside a call.
const AGAIN: Duration = Duration::from_millis(200);

/// How often in a row the engine may fail to read its record, with nothing new in between; then it counts as unreadable.
const TRIES: u32 = 3;

/// Reads one container's output until the container has ended.
pub(super) struct Elsewhere {
    work: Work,
    marks: Marks,
    /// Whether the marks were set from this log.
    is_placed: bool,
    /// Whether the place was found by what the log has last, and nothing was read behind it yet.
    is_joined: bool,
    had: Had,
    /// For stdout and stderr: the part of a line that the log has and that will come again.
    open: [Vec<u8>; 2],
    /// When the next entry must have been written, if that is known: another one means that entries are gone.
    first: Option<SystemTime>,
    /// Whether the engine may have died since the log's last byte while no one read.
    may_have_missed: bool,
    /// When reading broke off, for breaks of which it is not known yet whether the engine died.
    breaks: Vec<Instant>,
    /// Up to when the engine's outages were looked at: it may die while nothing is read here.
    looked: Instant,
    /// When the engine may have died, by its own clock, or a moment later.
    deaths: Vec<SystemTime>,
    pace: Pace,
    /// How often in a row the engine could not read the record, with nothing new in between.
    failures: u32,
    /// How often in a row a read of the record was silent for too long.
    silences: u32,
    /// Whether a failure to write the log was logged.
    said: bool,
}

impl Elsewhere {
    /// `broke_off`: when an attached stream of this process ended; `None` if there was none.
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

    /// The container's state; `None` if it is gone.
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

    /// Reads the record to its present end. Then, if the container has ended, proves that this was all; else follows the record
    /// until it breaks off.
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
                // The record is shorter than it was.
                Had::Bytes(_) => self.lose_place(GONE).await,
                Had::Until(_) => {
                    // All of it was passed over.
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
            // The engine remembers the container's start, so it has lived since.
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

    /// Whether output may be missing behind what was read last, because the engine died. A break may be seen a moment after the
    /// death, on a busy machine.
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

    /// Whether the engine may have died since what was read last: it cannot show that it has lived, because its memory is short
    /// or it is away. Behind a joint it is not asked: where lines repeat, the place may lie behind what its death has cost.
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

    /// Finds the place in the record where the log ends: the one that the log remembers, or else by what the log has last.
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

    /// Gives up the place: what was written later than the log's last byte counts as new. Says so by a marker.
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

    /// Goes back to the mark from which the record can be asked for again; returns its time.
    fn go_back(&mut self) -> SystemTime {
        let mark = self.marks.place();
        self.pace = Pace::default();
        match self.had {
            // Not all entries up to that time were passed over yet.
            Had::Until(_) => self.marks = Marks::since(mark.since),
            Had::Bytes(_) => {
                self.had = Had::Bytes(mark.passed);
                self.first = mark.first;
            }
        }
        mark.since
    }

    /// How long nothing may come. An engine sends nothing while it looks through what was written before the time that it was
    /// asked for: a few GB per minute, if it has a core. So each silence without a byte doubles the next one, up to eleven
    /// minutes.
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
                    // Docker's stream of a growing record may stand still, for example where a file was begun anew.
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
        // Before the pace takes this frame in: the silence in front of it counts.
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
            // The place of the loss is unknown, so the marker stands once.
            self.may_have_missed = false;
        }
        self.failures = 0;
        let read = piece.bytes.len();
        // The log may have the beginning of this line already: that part is passed over if it says the same.
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

    /// Appends new output, and the place behind it if it can be told as a number of bytes.
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
        // While bytes are to be compared, or passed over by their time, the place is not a number of bytes.
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

    /// Decides how the reading ended. The container had ended before its record was read to its end.
    async fn prove(&mut self) -> Result<ReadEnd, EngineError> {
        if self.may_be_lost_here() && self.pace.is_busy(None) && self.may_have_died_here().await {
            self.work.note(ENGINE_DIED).await;
        }
        if self.is_there_more().await? {
            // A half entry ends an answer of the engine without any error.
            self.work.note(UNREADABLE).await;
            return Ok(ReadEnd::Broken);
        }
        Ok(ReadEnd::Whole)
    }

    /// Whether the record has entries later than what was read.
    async fn is_there_more(&self) -> Result<bool, EngineError> {
        let last = self.work.engine.last_written(&self.work.container).await?;
        Ok(last > self.marks.newest().max(Some(self.marks.place().since)))
    }

    /// The engine's answer broke off. Returns how the reading ended, or `None` to read on.
    async fn broke_off(&mut self, error: EngineError, has_ended: bool) -> Option<ReadEnd> {
        match error {
            EngineError::NotFound(_) | EngineError::Unauthorized(_) | EngineError::Invalid(_) => {
                warn!(task:% = self.work.task, error:%; "the engine's record of the output cannot be read");
                return Some(ReadEnd::Broken);
            }
            // The engine is there, and fails.
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
    /// To its end, and on as it grows.
    Following,
}
