//! Reads on where a stream broke off, or where nobody has read. While the container runs, it attaches anew, reads the engine's
//! own record of the output up to the new stream, and goes on with that; after the container's end the record is all there is.
//! So that no byte is appended twice or left out, the record's end is joined with the spool where that is certain, or else the
//! two are compared from their beginning; and the record is joined with the stream where its last lines are the stream's first
//! ones. What was read from it has the engine's times. What cannot be proven is said in the log.
//!
//! Output that says the same over and over has no such place, and a stream that brings too much meanwhile is let go. Then it comes
//! through the record for a while, which costs the engine more and replaces bytes that are no UTF-8.
//!
//! The record may end before the log: an engine whose disk is busy writes down later what it has sent, and one that died never. So
//! what the log is ahead by is compared with what comes there, and only what differs is new.
//!
//! An engine that dies loses what it had read and not written down, in both of its ways at once. So where one died under a
//! source that was busy, that is said at the place, although nothing shows there. And one that died within an entry leaves half
//! of it: what it cannot read there is said to be missing, and what it can read behind that is appended by its times.

mod beside;
mod deaths;
mod record;
mod seam;
mod search;
mod side;
mod splice;
mod survey;
mod track;

use std::{
    io, mem,
    sync::Arc,
    time::{Duration, SystemTime},
};

use log::{info, warn};
use tokio::{task::spawn_blocking, time::sleep};

use self::{
    beside::{Beside, Full, WAITING, WAITING_SOON},
    record::{Reading, Record},
    survey::{Survey, Tail},
    track::number_of,
};
use super::{
    markers::{ENGINE_DIED, NOT_PROVABLE, UNKNOWN_MISSING, UNREADABLE},
    reader::{ReadEnd, Work, stream},
};
use crate::{
    actors::engine_watch::ride_out,
    domain::log_joint::{Joint, contains, join},
    ports::engine::{ContainerState, EngineError},
};

/// Between two looks at a container that has not been started yet.
const LOOK: Duration = Duration::from_millis(500);

/// Between two readings of a record that broke off while the engine is there.
const AGAIN: Duration = Duration::from_millis(200);

/// So often in a row the engine fails to read its record, with nothing new in between, before that is taken for its last word.
const TRIES: u32 = 3;

/// A new stream brings its first lines meanwhile, as most do.
const FIRST_LINES: Duration = Duration::from_millis(700);

/// What a stream has brought is in the record that long after, and the other way round.
const SETTLED: Duration = Duration::from_millis(300);

/// Where a stream cannot be joined, so much new output is read from the record before that is tried again; twice as much each time.
const FOLLOWED: u64 = 1 << 20;

/// Reads one container's output until the container has ended.
pub(super) struct CatchUp {
    work: Work,
    record: Record,
    /// How often in a row the engine could not read the record, with nothing new in between.
    failures: u32,
    /// The last stream brought too much while the record was read. It may be less the next time: there is less to read then.
    was_let_go: bool,
    /// So many new bytes of the record are to be read before a stream is tried again.
    to_follow: Option<u64>,
    /// And so many the next time.
    next_to_follow: u64,
}

impl CatchUp {
    /// `broke_off`: when a stream did that this worker has read until then.
    pub(super) fn new(work: Work, broke_off: Option<SystemTime>) -> Self {
        let mut record = Record::new(work.clone());
        if let Some(at) = broke_off {
            record.deaths.add(at);
        }
        Self {
            work,
            record,
            failures: 0,
            was_let_go: false,
            to_follow: None,
            next_to_follow: FOLLOWED,
        }
    }

    pub(super) async fn run(mut self) -> ReadEnd {
        info!(task:% = self.work.task; "reading on from the engine's record of the output");
        loop {
            let Some(state) = self.state().await else {
                return ReadEnd::Broken;
            };
            self.forget_mere_break().await;
            let end = match (state, self.to_follow) {
                (ContainerState::Created, _) => {
                    sleep(LOOK).await;
                    continue;
                }
                (ContainerState::Running, None) => self.attach_anew().await,
                (ContainerState::Running, Some(bytes)) => self.follow(bytes).await,
                (ContainerState::Exited(_), _) => self.read_to_its_end().await,
            };
            match end {
                Ok(None) => sleep(AGAIN).await,
                Ok(Some(end)) => return end,
                Err(error) => {
                    warn!(task:% = self.work.task, error:%; "the spool cannot be compared with the engine's record");
                    return ReadEnd::Broken;
                }
            }
        }
    }

    /// Of a container that runs: reads the record up to a new stream, and then the stream.
    async fn attach_anew(&mut self) -> io::Result<Option<ReadEnd>> {
        let mut beside = match self.work.engine.attach(&self.work.container).await {
            Ok(frames) => Beside::new(frames, Arc::clone(&self.work.clock)),
            Err(EngineError::Conflict(_)) => {
                // It is paused, and says nothing anyway.
                self.follow_next();
                return Ok(None);
            }
            Err(error) => return Ok(self.cut(error).await),
        };
        for _ in 0..TRIES {
            beside.settle(FIRST_LINES).await;
            let due = beside.bytes();
            beside.settle(SETTLED).await;
            let reading = self.read_beside(&mut beside).await?;
            let by_then = beside.bytes();
            beside.settle(SETTLED).await;
            beside.drain().await;
            if beside.is_over() {
                self.broke_off().await;
                return Ok(None);
            }
            if beside.is_let_go() {
                match reading {
                    Reading::Whole => {}
                    Reading::Torn(behind) => self.record.append_behind(behind).await?,
                    Reading::Cut(error) => return Ok(self.cut(error).await),
                }
                if !mem::replace(&mut self.was_let_go, true) {
                    return Ok(None);
                }
                break;
            }
            let held = beside.held();
            let joints = match reading {
                Reading::Whole => self.joints(&held, due).await?,
                Reading::Torn(behind) => self.join_behind(behind, &held, due, by_then).await?,
                Reading::Cut(error) => {
                    let end = self.cut(error).await;
                    if self.failures < TRIES {
                        return Ok(end);
                    }
                    // What comes from here on is to be had from the stream alone.
                    self.failures = 0;
                    self.work.note(UNREADABLE).await;
                    [Joint::At(0); 2]
                }
            };
            if joints.contains(&Joint::Unknown) {
                break;
            }
            if !joints.contains(&Joint::Early) {
                return Ok(self.go_on(beside, joints).await);
            }
        }
        self.follow_next();
        Ok(None)
    }

    /// Reads the record while the stream is held.
    async fn read_beside(&mut self, beside: &mut Beside) -> io::Result<Reading> {
        let _turn = beside.during(Full::LetGo, self.record.turn()).await;
        let full = if self.record.deaths.is_any_new() {
            Full::Wait(WAITING_SOON)
        } else {
            Full::LetGo
        };
        let survey = beside.during(full, self.record.survey()).await;
        let full = match survey {
            Ok(Survey::Torn(_)) => Full::Wait(WAITING),
            Ok(Survey::Sound(_)) | Err(_) => Full::LetGo,
        };
        let reading = self.record.read_to_its_end(survey);
        beside.during(full, reading).await
    }

    fn follow_next(&mut self) {
        self.to_follow = Some(self.next_to_follow);
        self.next_to_follow = self.next_to_follow.saturating_mul(2);
    }

    /// Where a stream goes on, that was opened before the record was read, and of which so much came in time for that.
    async fn joints(&self, held: &[Vec<u8>; 2], due: [usize; 2]) -> io::Result<[Joint; 2]> {
        let mut joints = [Joint::Silent; 2];
        for (number, streamed) in held.iter().enumerate() {
            let (recorded, streamed) = (self.record.sides[number].end(), streamed.clone());
            let due = due[number];
            let joint = spawn_blocking(move || join(&recorded, &streamed, due));
            let joint = self.work.progress.during(joint).await;
            joints[number] = joint.map_err(io::Error::other)?;
        }
        Ok(joints)
    }

    /// The same where the engine cannot read the whole of its record. The stream may have begun before what can be read behind
    /// that place, and then has all of it. What it had not brought by then is in no record that was read.
    async fn join_behind(
        &mut self,
        mut behind: Tail,
        held: &[Vec<u8>; 2],
        due: [usize; 2],
        by_then: [usize; 2],
    ) -> io::Result<[Joint; 2]> {
        let covered = [0, 1].map(|number| contains(&held[number], &behind.bytes_of(number)));
        behind
            .frames
            .retain(|frame| !covered[number_of(frame.source)]);
        self.record.append_behind(behind).await?;
        let first_line = |number: usize| {
            let due = &held[number][..due[number]];
            let newline = due.iter().position(|byte| *byte == b'\n');
            newline.map_or(due.len(), |newline| newline + 1)
        };
        let mut joints = self.joints(held, [0, 1].map(first_line)).await?;
        for (number, joint) in joints.iter_mut().enumerate() {
            if self.record.sides[number].is_empty() {
                *joint = Joint::At(0);
            } else if matches!(joint, Joint::Early | Joint::Unknown) {
                self.work.note(NOT_PROVABLE).await;
                *joint = Joint::At(by_then[number]);
            }
        }
        Ok(joints)
    }

    async fn go_on(&mut self, beside: Beside, joints: [Joint; 2]) -> Option<ReadEnd> {
        info!(task:% = self.work.task; "reading the output itself again");
        self.was_let_go = false;
        let known = joints.map(|joint| match joint {
            Joint::At(bytes) => bytes,
            Joint::Silent | Joint::Early | Joint::Unknown => 0,
        });
        let open = [0, 1].map(|number| {
            let is_open = joints[number] == Joint::Silent;
            is_open.then_some(self.record.sides[number].last)
        });
        let frames = seam::close(&self.work, beside.after(known), open);
        match stream(&self.work, frames).await {
            Ok(()) => Some(ReadEnd::Whole),
            Err(broke_off) => {
                self.record.deaths.add(broke_off);
                None
            }
        }
    }

    /// Of a container that runs, and whose record and stream have no place in common.
    async fn follow(&mut self, bytes: u64) -> io::Result<Option<ReadEnd>> {
        self.to_follow = None;
        self.was_let_go = false;
        match self.record.follow(bytes).await? {
            Reading::Cut(error) => Ok(self.cut(error).await),
            Reading::Whole | Reading::Torn(_) => Ok(None),
        }
    }

    /// Of a container that has ended.
    async fn read_to_its_end(&mut self) -> io::Result<Option<ReadEnd>> {
        let _turn = self.record.turn().await;
        let survey = self.record.survey().await;
        match self.record.read_to_its_end(survey).await? {
            Reading::Whole => Ok(Some(ReadEnd::Whole)),
            Reading::Torn(behind) => {
                self.record.append_behind(behind).await?;
                Ok(Some(ReadEnd::Broken))
            }
            Reading::Cut(error) => {
                let end = self.cut(error).await;
                if self.failures >= TRIES {
                    self.work.note(UNREADABLE).await;
                    return Ok(Some(ReadEnd::Broken));
                }
                Ok(end)
            }
        }
    }

    /// What to do when the engine broke off; `None`: read on.
    async fn cut(&mut self, error: EngineError) -> Option<ReadEnd> {
        if is_final(&error) {
            warn!(task:% = self.work.task, error:%; "the engine's record of the output cannot be read");
            return Some(ReadEnd::Broken);
        }
        match error {
            // It is there.
            EngineError::Failed(_) => {
                let before = if mem::take(&mut self.record.has_grown) {
                    0
                } else {
                    self.failures
                };
                self.failures = before + 1;
            }
            _ => self.record.deaths.add(self.work.clock.now()),
        }
        self.ride_out(&error).await;
        None
    }

    /// A stream has ended that was not gone on with.
    async fn broke_off(&mut self) {
        let at = self.work.clock.now();
        if !self.work.has_just_ended().await {
            self.record.deaths.add(at);
        }
    }

    /// Where the last stream broke off without its engine, there is nothing to say.
    async fn forget_mere_break(&mut self) {
        let engine = &self.work.engine;
        if self.record.deaths.is_last_new()
            && matches!(engine.was_started(&self.work.container).await, Ok(true))
        {
            // It remembers the container's start: it has lived since, and only the stream broke off.
            self.record.deaths.forget_last();
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
}

impl Work {
    /// Says something in the log, and to the operator.
    pub(super) async fn note(&self, text: &str) {
        warn!(task:% = self.task; "{text}");
        if let Err(error) = self.spool.note(text.to_owned()).await {
            warn!(task:% = self.task, error:%; "a marker is not in the log");
        }
    }

    /// Whether it has ended, and the engine was there to see it: then its stream ended for that reason.
    pub(super) async fn has_just_ended(&self) -> bool {
        match self.engine.inspect(&self.container.0).await {
            Ok(facts) => matches!(facts.state, ContainerState::Exited(_)),
            Err(EngineError::NotFound(_)) => true,
            Err(_) => false,
        }
    }
}

/// Another try would fail in the same way.
fn is_final(error: &EngineError) -> bool {
    match error {
        EngineError::NotFound(_) | EngineError::Unauthorized(_) | EngineError::Invalid(_) => true,
        EngineError::Away(_)
        | EngineError::Deadline(_)
        | EngineError::Conflict(_)
        | EngineError::Failed(_) => false,
    }
}
