//! Reads on from the engine's own log files of a container, to the container's end, and proves that the log has all of its
//! output.
//!
//! The engine gives output in two ways, by its stream and by its files. Both carry the same bytes, and each may lack an end. So
//! what the log has of a stream is a number of bytes to be passed over in the files; from then on the log remembers its place in
//! them. No content is compared.
//!
//! An engine that dies loses what it had read and not written. What it had sent is in the log and not in its files, and what the
//! next run writes is new. So at a death the passing over ends, and a marker stands if the container was busy.

#[cfg(test)]
mod tests;

use std::{io, sync::Arc, time::SystemTime};

use log::{debug, warn};
use tokio::sync::watch;

use super::{
    counting::Counted,
    had::Had,
    markers::{CUT, ENGINE_DIED, GONE, NOT_PROVABLE, TORN},
    pace::Pace,
    reader::{Progress, ReadEnd},
};
use crate::{
    domain::{id::TaskId, log_line::Source},
    ports::{
        clock::Clock,
        engine::Frame,
        engine_log::{EngineLog, EngineRun, Place, Step},
        spool::{Piece, Position, Spool},
    },
    supervision::threads::blocking,
};

/// Tells a reader that the container has ended.
#[derive(Debug, Clone, Default)]
pub(super) struct Ended(Arc<watch::Sender<bool>>);

impl Ended {
    /// Tells that the container has ended.
    pub(super) fn tell(&self) {
        self.0.send_replace(true);
    }

    pub(super) fn is_told(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the container has ended.
    pub(super) async fn told(&self) {
        // The sender lives as long as `self`.
        let _ = self.0.subscribe().wait_for(|ended| *ended).await;
    }
}

/// The run of the engine after the one whose entries are being read.
#[derive(Debug, Clone, Copy)]
struct NextRun {
    id: u64,
    /// When it started: its entries are later.
    since: SystemTime,
}

/// The reader of one container's log files.
pub(super) struct FromFile {
    task: TaskId,
    spool: Arc<dyn Spool>,
    progress: Progress,
    ended: Ended,
    /// The open files; `None` while a blocking thread has them.
    log: Option<Box<dyn EngineLog>>,
    had: Had,
    /// The run of the engine that has written the entries being read; 0: unknown.
    run: u64,
    /// Set once that run is over: entries from its successor's start on are the successor's.
    next_run: Option<NextRun>,
    /// Whether that run ended while no one read.
    was_missed: bool,
    /// When that run was last seen alive.
    alive: Option<SystemTime>,
    pace: Pace,
    clock: Arc<dyn Clock>,
    /// Whether a failure to write or read was logged.
    said: bool,
}

impl FromFile {
    /// A reader that is to go on where the log ends.
    pub(super) fn new(
        task: TaskId,
        spool: Arc<dyn Spool>,
        progress: Progress,
        ended: Ended,
        log: Box<dyn EngineLog>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            task,
            spool,
            progress,
            ended,
            log: Some(log),
            had: Had::NOTHING,
            run: 0,
            next_run: None,
            was_missed: false,
            alive: None,
            pace: Pace::default(),
            clock,
            said: false,
        }
    }

    /// Reads on in a process that has not read this container before: looks for the place that the log remembers.
    pub(super) async fn at_the_logs_place(mut self) -> ReadEnd {
        let position = self.spool.position().unwrap_or_default();
        let sought = self
            .with_log(move |log| {
                let found = match position.place {
                    place if place == Place::default() => log.begins_at_the_first_byte()?,
                    place => log.seek(place)?,
                };
                Ok((found, log.run()))
            })
            .await;
        let (found, run) = match sought {
            Ok(sought) => sought,
            Err(error) => return self.give_up(&error).await,
        };
        self.had = self.beyond(&position);
        if !found {
            self.note(GONE).await;
            // A place that is in no file does not tell what the files have beyond it.
            if self.had != Had::NOTHING || position.place.in_record().is_some() {
                self.had = self.until_now();
            }
        }
        debug!(task:% = self.task; "reading on from the engine's log files");
        self.run = position.run;
        let present = run.map_or(0, |run| run.id);
        self.was_missed = found && position.run != 0 && present != position.run;
        self.run().await
    }

    /// Reads on in the process that has read the container's stream until `ended`, and has counted the files so far.
    pub(super) async fn behind_a_stream(mut self, counted: Counted, ended: SystemTime) -> ReadEnd {
        self.run = counted.position.run;
        self.pace = counted.pace;
        self.alive = Some(ended);
        if counted.is_sound {
            self.had = self.beyond(&counted.position);
        } else {
            self.note(NOT_PROVABLE).await;
            self.had = self.until_now();
        }
        self.run().await
    }

    /// How much the log has beyond a position.
    fn beyond(&self, position: &Position) -> Had {
        let (stdout, stderr) = self.spool.appended();
        Had::Bytes([
            stdout.saturating_sub(position.stdout),
            stderr.saturating_sub(position.stderr),
        ])
    }

    fn until_now(&self) -> Had {
        self.spool.newest().map_or(Had::NOTHING, Had::Until)
    }

    async fn run(mut self) -> ReadEnd {
        loop {
            let has_ended = self.ended.is_told();
            let next = self.with_log(|log| Ok((log.next()?, log.run()))).await;
            self.progress.goes_on();
            let (step, run) = match next {
                Ok(next) => next,
                Err(error) if has_ended => return self.give_up(&error).await,
                Err(error) => {
                    self.say("the engine's log file cannot be read; trying on", &error);
                    self.changed().await;
                    continue;
                }
            };
            self.look_at_the_run(run);
            match step {
                Step::Frames(frames) => self.take(frames).await,
                Step::Torn(_) => self.note(TORN).await,
                Step::Cut => {
                    self.had = Had::NOTHING;
                    self.note(CUT).await;
                }
                Step::End if has_ended => return self.end().await,
                Step::End => self.changed().await,
            }
        }
    }

    /// Uses the log files on a blocking thread.
    async fn with_log<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut dyn EngineLog) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let mut log = self
            .log
            .take()
            .ok_or_else(|| io::Error::other("its reader has failed before"))?;
        let worked = blocking(move || {
            let worked = work(&mut *log);
            (log, worked)
        });
        let (log, worked) = worked.await.map_err(io::Error::other)?;
        self.log = Some(log);
        worked
    }

    /// Waits until the files have changed, or the container has ended.
    async fn changed(&mut self) {
        let Some(log) = &self.log else {
            return self.ended.told().await;
        };
        tokio::select! {
            biased;
            () = log.changed() => {}
            () = self.ended.told() => {}
        }
    }

    /// Notes which run of the engine is alive. Called after reading what that run may have written, and before those entries are
    /// taken for the last run's.
    fn look_at_the_run(&mut self, present: Option<EngineRun>) {
        let Some(present) = present else {
            return;
        };
        if self.run == 0 {
            self.run = present.id;
        }
        let now = self.clock.now();
        if present.id == self.run {
            self.alive = Some(now);
        } else if self.next_run.is_none_or(|next| next.id != present.id) {
            self.next_run = now.checked_sub(present.age).map(|since| NextRun {
                id: present.id,
                since,
            });
        }
    }

    async fn take(&mut self, frames: Vec<Frame>) {
        let mut pieces = Vec::with_capacity(frames.len());
        for frame in frames {
            if let Some(next) = self.next_run
                && frame.time.is_some_and(|time| time >= next.since)
            {
                self.append(std::mem::take(&mut pieces), None).await;
                self.pass_a_death(next).await;
            }
            self.pace.take(&frame);
            pieces.extend(self.had.new_of(frame));
        }
        let position = self.position(&pieces);
        if !pieces.is_empty() {
            self.append(pieces, position).await;
        }
    }

    /// The place in the files up to which the log will have the output with these pieces; `None` while that is unknown.
    fn position(&self, new: &[Piece]) -> Option<Position> {
        let Had::Bytes(had) = self.had else {
            return None;
        };
        let (stdout, stderr) = self.spool.appended();
        let count = |source| {
            let its = new.iter().filter(|piece| piece.source == source);
            its.map(|piece| piece.bytes.len() as u64).sum::<u64>()
        };
        Some(Position {
            place: self.log.as_ref()?.place()?,
            run: self.run,
            stdout: stdout + count(Source::Stdout) - had[0],
            stderr: stderr + count(Source::Stderr) - had[1],
        })
    }

    async fn append(&mut self, pieces: Vec<Piece>, position: Option<Position>) {
        let appended = match position {
            Some(position) => self.spool.append_up_to(pieces, position).await,
            None if pieces.is_empty() => return,
            None => self.spool.append(pieces).await,
        };
        if let Err(error) = appended {
            self.say("a log cannot be written; its container goes on", &error);
        }
    }

    /// The entries that follow are of the engine's next run.
    async fn pass_a_death(&mut self, next: NextRun) {
        debug!(task:% = self.task; "the output goes on behind a restart of the engine");
        if self.is_anything_lost() {
            self.note(ENGINE_DIED).await;
        }
        self.had = Had::NOTHING;
        self.run = next.id;
        self.next_run = None;
        self.was_missed = false;
        self.pace = Pace::default();
    }

    /// Whether the engine may have lost output at its death.
    fn is_anything_lost(&self) -> bool {
        self.was_missed || self.pace.is_busy(self.alive)
    }

    /// Ends the reading: the container has ended, and the engine writes all of its output before it tells the end.
    async fn end(mut self) -> ReadEnd {
        let rest = self.with_log(|log| Ok((log.rest()?, log.place()))).await;
        let (rest, place) = match rest {
            Ok(rest) => rest,
            Err(error) => return self.give_up(&error).await,
        };
        if rest > 0 {
            self.note(TORN).await;
        }
        if self.next_run.is_some() && self.is_anything_lost() {
            self.note(ENGINE_DIED).await;
        }
        if place.is_none() && self.spool.appended() != (0, 0) {
            warn!(task:% = self.task; "the engine's log files are gone before the log was proven to be whole");
            return ReadEnd::Broken;
        }
        ReadEnd::Whole
    }

    async fn give_up(&mut self, error: &io::Error) -> ReadEnd {
        warn!(task:% = self.task, error:%; "the engine's log file cannot be read");
        self.note(GONE).await;
        ReadEnd::Broken
    }

    /// Logs a failure once.
    fn say(&mut self, what: &str, error: &io::Error) {
        if !std::mem::replace(&mut self.said, true) {
            warn!(task:% = self.task, error:%; "{what}");
        }
    }

    /// Says something in the task's log and in the worker's.
    async fn note(&mut self, text: &str) {
        warn!(task:% = self.task; "{text}");
        if let Err(error) = self.spool.note(text.to_owned()).await {
            self.say("a marker is not in the log", &error);
        }
    }
}
