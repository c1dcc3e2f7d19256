//! Counts the bytes in a container's log files while its stream is read, before the engine removes old files. So there is always
//! a place in the files of which it is known how many bytes lie before it.

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

/// The log files of a container, counted from their first byte on.
pub(super) struct Counting {
    task: TaskId,
    spool: Arc<dyn Spool>,
    at_work: AtWork,
    counted: Counted,
    /// Bytes that the stream has brought since the last counting.
    since: u64,
}

/// How far the files were counted.
#[derive(Clone, Copy)]
pub(super) struct Counted {
    pub(super) position: Position,
    /// Whether all that lies before the position was counted.
    pub(super) is_sound: bool,
    /// The pace of the container's output there.
    pub(super) pace: Pace,
}

type Work = JoinHandle<io::Result<(Box<dyn EngineLog>, Counted)>>;

enum AtWork {
    /// No counting runs.
    No(Box<dyn EngineLog>),
    Yes(Work),
    /// The files could not be read.
    Failed,
}

impl Counting {
    /// Begins for a container that was not started yet: what the log has already is of earlier containers.
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

    /// The log has this many more bytes of the stream. Begins the next counting when half a file is new.
    pub(super) async fn appended(&mut self, bytes: usize) {
        self.since += bytes as u64;
        if matches!(&self.at_work, AtWork::Yes(work) if work.is_finished()) {
            self.settle().await;
        }
        // Twice per file, so that a file is counted before the engine has filled four others and removes it.
        let is_due = |log: &dyn EngineLog| self.since >= log.file_size() / 2;
        self.at_work = match std::mem::replace(&mut self.at_work, AtWork::Failed) {
            AtWork::No(log) if is_due(&*log) => {
                self.since = 0;
                AtWork::Yes(count(log, self.counted, Arc::clone(&self.spool)))
            }
            other => other,
        };
    }

    /// Takes over the result of a counting that has ended, and writes its place into the log.
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

    /// The stream is over: returns the files, and how far they were counted; `None` if they could not be read.
    pub(super) async fn end(mut self) -> Option<(Box<dyn EngineLog>, Counted)> {
        self.settle().await;
        match self.at_work {
            AtWork::No(log) => Some((log, self.counted)),
            AtWork::Yes(_) | AtWork::Failed => None,
        }
    }
}

/// Counts on, but not further than the stream has come: only what is in the log may lie before a position.
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

/// The position with the bytes of these frames added.
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
