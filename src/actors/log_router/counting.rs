//! Counts a container's files up while its stream is read, a file behind another, before the engine removes them: so there is
//! always a place in them of which it is known how many bytes lie before it.

use std::{io, sync::Arc};

use log::warn;
use tokio::task::{JoinHandle, spawn_blocking};

use super::pace::Pace;
use crate::{
    domain::{id::TaskId, log_line::Source},
    ports::{
        engine::Frame,
        engine_log::{EngineLog, Step},
        spool::{Position, Spool},
    },
};

/// A container's files, counted from their first byte on.
pub(super) struct Counting {
    task: TaskId,
    spool: Arc<dyn Spool>,
    at_work: AtWork,
    counted: Counted,
    /// Bytes that the stream has brought since the files were counted last.
    since: u64,
}

/// How far the files were counted.
#[derive(Clone, Copy)]
pub(super) struct Counted {
    pub(super) position: Position,
    /// Everything before it was counted.
    pub(super) is_sound: bool,
    /// At which pace the container printed there.
    pub(super) pace: Pace,
}

type Work = JoinHandle<io::Result<(Box<dyn EngineLog>, Counted)>>;

enum AtWork {
    /// Not now.
    No(Box<dyn EngineLog>),
    Yes(Work),
    /// The files could not be read.
    Failed,
}

impl Counting {
    /// Begins with a container that has not been started. What the log has already is none of this container's.
    pub(super) async fn begin(
        task: TaskId,
        spool: Arc<dyn Spool>,
        log: Box<dyn EngineLog>,
    ) -> io::Result<Self> {
        let (stdout, stderr) = spool.appended();
        let position = Position {
            run: log.run().map_or(0, |run| run.id),
            stdout,
            stderr,
            ..Position::default()
        };
        spool.append_up_to(Vec::new(), position).await?;
        Ok(Self {
            task,
            spool,
            at_work: AtWork::No(log),
            counted: Counted {
                position,
                is_sound: true,
                pace: Pace::default(),
            },
            since: 0,
        })
    }

    /// The log has so many bytes more of the stream.
    pub(super) async fn appended(&mut self, bytes: usize) {
        self.since += bytes as u64;
        if matches!(&self.at_work, AtWork::Yes(work) if work.is_finished()) {
            self.settle().await;
        }
        // Twice in a file, so that one is counted before four others are full.
        let is_due = |log: &dyn EngineLog| self.since >= log.file_size() / 2;
        self.at_work = match std::mem::replace(&mut self.at_work, AtWork::Failed) {
            AtWork::No(log) if is_due(&*log) => {
                self.since = 0;
                AtWork::Yes(count(log, self.counted, Arc::clone(&self.spool)))
            }
            other => other,
        };
    }

    /// Takes over what was counted, and writes it down.
    async fn settle(&mut self) {
        let work = match std::mem::replace(&mut self.at_work, AtWork::Failed) {
            AtWork::Yes(work) => work,
            other => {
                self.at_work = other;
                return;
            }
        };
        let counted = work.await.map_err(io::Error::other).and_then(|done| done);
        let written = match counted {
            Ok((log, counted)) => {
                self.counted = counted;
                self.at_work = AtWork::No(log);
                let position = counted.is_sound.then_some(counted.position);
                match position {
                    Some(position) => self.spool.append_up_to(Vec::new(), position).await,
                    None => Ok(()),
                }
            }
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            warn!(task:% = self.task, error:%; "the engine's log files cannot be counted");
        }
    }

    /// The stream is over: gives the files back, and up to where they were counted.
    pub(super) async fn end(mut self) -> Option<(Box<dyn EngineLog>, Counted)> {
        self.settle().await;
        match self.at_work {
            AtWork::No(log) => Some((log, self.counted)),
            AtWork::Yes(_) | AtWork::Failed => None,
        }
    }
}

/// Counts on, as far as the stream has come: what lies before a position is in the log.
fn count(mut log: Box<dyn EngineLog>, mut counted: Counted, spool: Arc<dyn Spool>) -> Work {
    spawn_blocking(move || {
        loop {
            match log.next()? {
                Step::Frames(frames) => {
                    let next = behind(counted.position, &frames);
                    let (stdout, stderr) = spool.appended();
                    if next.stdout > stdout || next.stderr > stderr {
                        log.unread();
                        break;
                    }
                    frames.iter().for_each(|frame| counted.pace.take(frame));
                    counted.position = next;
                }
                Step::Torn(_) | Step::Cut => counted.is_sound = false,
                Step::End => break,
            }
        }
        if let Some(place) = log.place() {
            counted.position.place = place;
        }
        Ok((log, counted))
    })
}

/// The counts behind these.
fn behind(position: Position, frames: &[Frame]) -> Position {
    let of = |source| {
        let its = frames.iter().filter(|frame| frame.source == source);
        its.map(|frame| frame.bytes.len() as u64).sum::<u64>()
    };
    Position {
        stdout: position.stdout + of(Source::Stdout),
        stderr: position.stderr + of(Source::Stderr),
        ..position
    }
}
