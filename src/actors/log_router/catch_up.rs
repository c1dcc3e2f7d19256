//! Reads on where a stream broke off, or where nobody has read: from the engine's own record of the output, which is compared
//! with the spool from the beginning, so that no byte is appended twice or left out. What is appended has the engine's times.
//! What cannot be proven is said in the log.
//!
//! It does not attach again: where a new stream would begin within the record, nobody tells. So from here on the output
//! comes through the record, which costs the engine more and replaces bytes that are no UTF-8.
//!
//! An engine that dies loses what it had read and not written down, in both of its ways at once. So where one died under a
//! source that was busy, that is said at the place, although nothing shows there. And one that died within a line leaves half a
//! line, behind which it reads no more of its own record: then that is said, and the output itself is read from there on.

mod track;

use std::{
    io, mem,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::StreamExt;
use log::{info, warn};
use tokio::time::sleep;

use self::track::{Mode, Spooled, Taken, Track, number_of, tail};
use super::reader::{BATCH, Patience, Progress, ReadEnd, Work, stream};
use crate::{
    actors::engine_watch::ride_out,
    domain::{log_line::Source, log_overlap::TailSearch},
    ports::{
        engine::{ContainerState, EngineError, Frame, Frames},
        spool::Piece,
    },
};

/// Between two looks at a container that has not been started yet.
const LOOK: Duration = Duration::from_millis(500);

/// Between two readings of a record that broke off while the engine is there.
const AGAIN: Duration = Duration::from_millis(200);

/// So often in a row the engine fails to read its record, with nothing new in between, before that is taken for its last word.
const TRIES: u32 = 3;

/// A record that has this much in common with the spool begins where the container began.
const PROOF: u64 = 4_096;

/// A source that wrote this much shortly before an engine died was busy: some of it may not have been written down.
const BUSY: u64 = 16 * 1024;

/// Deaths of engines that are remembered for one container.
const DEATHS: usize = 16;

/// What stands in a log where bytes may be missing.
const NOT_PROVABLE: &str = "[worker-node] continuity is not provable here: the engine's record of this output does not go on \
                            where the stream broke off";
const ENGINE_DIED: &str =
    "[worker-node] continuity is not provable here: the engine died while this output was written";
const UNREADABLE: &str = "[worker-node] an unknown number of bytes is missing here: the engine cannot read its record of this output";
const UNKNOWN_MISSING: &str =
    "[worker-node] an unknown number of bytes is missing here: the engine's record begins later";

/// Where the record of one source goes on beyond the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// To be found by comparing from the beginning.
    Unknown,
    /// After so many bytes of the record, when this unfinished line of the spool has been skipped.
    Within(u64, Vec<u8>),
    /// After so many bytes of the record.
    After(u64),
}

/// Reads one container's record until the container has ended.
pub(super) struct CatchUp {
    work: Work,
    progress: Progress,
    /// Of stdout and stderr.
    places: [Place; 2],
    /// When engines died, or the last stream alone broke off.
    broke_off: Vec<SystemTime>,
    /// About so many of these places there is nothing more to say, of each source.
    said: [usize; 2],
    /// How often in a row the engine could not read the record, with nothing new in between.
    failures: u32,
    /// When the last line was written that was read of the record.
    last: Option<SystemTime>,
}

/// Why a reading of the record ended.
enum Pass {
    /// The record ended.
    End,
    /// It broke off.
    Cut(EngineError),
    /// It ended before its newest line.
    Short,
    /// A source's record is not what the spool has, after so many bytes.
    Differs(usize, u64),
}

impl CatchUp {
    /// `broke_off`: when a stream did that this worker has read until then.
    pub(super) fn new(work: Work, progress: Progress, broke_off: Option<SystemTime>) -> Self {
        Self {
            work,
            progress,
            places: [Place::Unknown, Place::Unknown],
            broke_off: broke_off.into_iter().collect(),
            said: [0; 2],
            failures: 0,
            last: None,
        }
    }

    pub(super) async fn run(mut self) -> ReadEnd {
        info!(task:% = self.work.task; "reading on from the engine's record of the output");
        loop {
            let Some(state) = self.state().await else {
                return ReadEnd::Broken;
            };
            self.forget_mere_break().await;
            let end = match state {
                ContainerState::Created => {
                    sleep(LOOK).await;
                    continue;
                }
                ContainerState::Running => self.follow().await,
                ContainerState::Exited(_) => self.read_to_its_end().await,
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

    /// Of a container that runs.
    async fn follow(&mut self) -> io::Result<Option<ReadEnd>> {
        let engine = &self.work.engine;
        let pass = match engine.follow(&self.work.container, &self.broke_off).await {
            Ok(frames) => self.pass(frames).await?,
            Err(error) => Pass::Cut(error),
        };
        let end = self.after(pass).await;
        if self.failures < TRIES {
            return Ok(end);
        }
        // What comes from here on is to be had from the output itself.
        self.failures = 0;
        let Ok(frames) = self.work.engine.attach(&self.work.container).await else {
            return Ok(None);
        };
        self.note(UNREADABLE).await;
        match stream(&self.work, frames, &self.progress).await {
            Ok(()) => Ok(Some(ReadEnd::Whole)),
            Err(broke_off) => {
                self.note_break(broke_off);
                Ok(None)
            }
        }
    }

    /// Of a container that has ended.
    async fn read_to_its_end(&mut self) -> io::Result<Option<ReadEnd>> {
        let engine = Arc::clone(&self.work.engine);
        self.last = None;
        let newest = match engine.newest_log(&self.work.container).await {
            Ok(newest) => Some(newest),
            // Its last line cannot be read. Those before it may.
            Err(EngineError::Failed(_)) if self.failures + 1 >= TRIES => None,
            Err(error) => return Ok(self.after(Pass::Cut(error)).await),
        };
        let pass = match engine.logs(&self.work.container, &self.broke_off).await {
            Ok(frames) => match self.pass(frames).await? {
                // It goes on behind half a line, and the engine has not said so.
                Pass::End if newest.is_none_or(|newest| self.last < newest) => Pass::Short,
                pass => pass,
            },
            Err(error) => Pass::Cut(error),
        };
        if matches!(pass, Pass::End) {
            return Ok(Some(ReadEnd::Whole));
        }
        let is_short = matches!(pass, Pass::Short);
        let end = self.after(pass).await;
        if is_short || self.failures >= TRIES {
            self.note(UNREADABLE).await;
            return Ok(Some(ReadEnd::Broken));
        }
        Ok(end)
    }

    /// What to do after a reading of the record; `None`: read on.
    async fn after(&mut self, pass: Pass) -> Option<ReadEnd> {
        match pass {
            Pass::End | Pass::Short => {}
            Pass::Differs(source, at) => self.find_place(source, at).await,
            Pass::Cut(error) if is_final(&error) => {
                warn!(task:% = self.work.task, error:%; "the engine's record of the output cannot be read");
                return Some(ReadEnd::Broken);
            }
            Pass::Cut(error) => {
                match error {
                    // It is there.
                    EngineError::Failed(_) => self.failures += 1,
                    _ => self.note_break(self.work.clock.now()),
                }
                self.ride_out(&error).await;
            }
        }
        None
    }

    fn note_break(&mut self, at: SystemTime) {
        if self.broke_off.len() == DEATHS {
            self.broke_off.remove(0);
            self.said = self.said.map(|said| said.saturating_sub(1));
        }
        self.broke_off.push(at);
    }

    /// Where the last stream broke off without its engine, there is nothing to say.
    async fn forget_mere_break(&mut self) {
        let engine = &self.work.engine;
        let is_new = self.said.iter().all(|said| *said < self.broke_off.len());
        if is_new && matches!(engine.was_started(&self.work.container).await, Ok(true)) {
            // It remembers the container's start: it has lived since, and only the stream broke off.
            self.broke_off.pop();
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
        self.progress.away();
        ride_out(&self.work.view, error).await;
        self.progress.read(0);
    }

    /// Reads the record once, and appends what is new.
    async fn pass(&mut self, frames: Frames) -> io::Result<Pass> {
        let mut tracks = [self.track(Source::Stdout), self.track(Source::Stderr)];
        let mut batches = frames.ready_chunks(BATCH);
        let mut patience = Patience::new(&self.work);
        let pass = loop {
            match patience.next(&mut batches).await {
                Ok(Some(batch)) => match self.take(batch, &mut tracks).await? {
                    Pass::End => {}
                    other => break other,
                },
                Ok(None) => break Pass::End,
                Err(silent) => break Pass::Cut(silent),
            }
        };
        for (place, track) in self.places.iter_mut().zip(&tracks) {
            // What has been compared is compared again: the record may have lost its beginning by then.
            if matches!(track.mode, Mode::Appending) && *place != Place::Unknown {
                *place = Place::After(track.read);
            }
        }
        Ok(pass)
    }

    async fn take(
        &mut self,
        batch: Vec<Result<Frame, EngineError>>,
        tracks: &mut [Track; 2],
    ) -> io::Result<Pass> {
        let (mut new, mut read) = (Vec::new(), 0);
        let mut pass = Pass::End;
        for frame in batch {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => {
                    pass = Pass::Cut(error);
                    break;
                }
            };
            read += frame.bytes.len();
            self.last = self.last.max(frame.time);
            let number = number_of(frame.source);
            match tracks[number].take(frame.bytes).await? {
                Taken::New(bytes) if bytes.is_empty() => {}
                Taken::New(bytes) => {
                    if let Some(beyond) = frame.beyond
                        && beyond.moment >= self.said[number]
                    {
                        self.said[number] = beyond.moment + 1;
                        if beyond.just_before >= BUSY {
                            self.work.spool.append(mem::take(&mut new)).await?;
                            self.note(ENGINE_DIED).await;
                        }
                    }
                    new.push(Piece {
                        source: frame.source,
                        bytes,
                        time: frame.time,
                    });
                }
                Taken::Differs(at) => {
                    if let Some(beyond) = frame.beyond {
                        self.said[number] = self.said[number].max(beyond.moment + 1);
                    }
                    pass = Pass::Differs(number, at);
                    break;
                }
            }
        }
        if !new.is_empty() {
            self.failures = 0;
        }
        self.work.spool.append(new).await?;
        self.progress.read(read);
        Ok(pass)
    }

    fn track(&self, source: Source) -> Track {
        let mode = match &self.places[number_of(source)] {
            Place::Unknown => Mode::comparing(Spooled::From(self.work.spool.cursor(), source)),
            Place::Within(at, line) => Mode::Skipping(*at, Spooled::These(line.clone())),
            Place::After(at) => Mode::Skipping(*at, Spooled::These(Vec::new())),
        };
        Track { mode, read: 0 }
    }

    /// The record of a source is not what the spool has: it was cut at its beginning, the spool in its middle, or the record
    /// lacks bytes.
    async fn find_place(&mut self, number: usize, at: u64) {
        self.places[number] = match mem::replace(&mut self.places[number], Place::Unknown) {
            Place::Unknown => match self.search(number).await {
                Some(place) => place,
                None if at >= PROOF => {
                    self.note(NOT_PROVABLE).await;
                    Place::After(at)
                }
                None => {
                    self.note(UNKNOWN_MISSING).await;
                    Place::After(0)
                }
            },
            Place::Within(at, _) | Place::After(at) => {
                self.note(NOT_PROVABLE).await;
                Place::After(at)
            }
        };
    }

    /// Where the last lines of the spool stand in the record.
    async fn search(&self, number: usize) -> Option<Place> {
        let source = [Source::Stdout, Source::Stderr][number];
        let (tail, unfinished) = tail(self.work.spool.cursor(), source).await.ok()?;
        let mut search = TailSearch::new(&tail)?;
        let logs = self.work.engine.logs(&self.work.container, &[]);
        let mut frames = logs.await.ok()?;
        while let Some(Ok(frame)) = frames.next().await {
            self.progress.read(frame.bytes.len());
            if frame.source == source
                && let Some(at) = search.push(&frame.bytes)
            {
                return Some(Place::Within(at, unfinished));
            }
        }
        None
    }

    async fn note(&self, text: &str) {
        warn!(task:% = self.work.task; "{text}");
        if let Err(error) = self.work.spool.note(text.to_owned()).await {
            warn!(task:% = self.work.task, error:%; "a marker is not in the log");
        }
    }
}

impl Work {
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
