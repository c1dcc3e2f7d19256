//! Logs in memory: whole lines, and every reader gets all of them.

use std::{
    io, mem,
    sync::{Arc, Mutex, Weak},
    time::SystemTime,
};

use async_trait::async_trait;
use rustix::io::Errno;

use super::super::world::{Shared, World};
use crate::{
    domain::{
        id::TaskId,
        log_line::{Line, Source},
    },
    ports::{
        clock::Clock,
        holdings::{Holdings, Known},
        spool::{
            LogCursor, LogEnd, LogItem, LogRange, Piece, Position, RawItem, Spool, SpoolStore,
        },
    },
};

/// The port of the logs.
pub(in super::super) struct Spools(pub(in super::super) Shared);

impl SpoolStore for Spools {
    fn open(&self, task: &TaskId) -> io::Result<Arc<dyn Spool>> {
        let mut state = self.0.lock();
        if let Some(spool) = state.disk.spools.get(task) {
            return Ok(spool.clone());
        }
        state.writes()?;
        state.disk.room_for_a_log()?;
        let spool = Arc::new(MemorySpool {
            world: Arc::downgrade(&self.0),
            log: Mutex::default(),
        });
        state.disk.spools.insert(task.clone(), spool.clone());
        Ok(spool)
    }

    fn find(&self, task: &TaskId) -> io::Result<Option<Arc<dyn Spool>>> {
        let state = self.0.lock();
        let spool = state.disk.spools.get(task).cloned();
        Ok(spool.map(|spool| spool as Arc<dyn Spool>))
    }

    fn remove(&self, task: &TaskId) -> io::Result<()> {
        let mut state = self.0.lock();
        state.writes()?;
        state.disk.spools.remove(task);
        Ok(())
    }
}

impl Holdings for Spools {
    fn total_bytes(&self) -> u64 {
        0
    }

    fn strangers(&self, _: &Known) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn remove_stranger(&self, _: &str) -> io::Result<()> {
        Ok(())
    }
}

/// A log. Appends are durable at once.
pub(super) struct MemorySpool {
    /// The world that holds it.
    world: Weak<World>,
    log: Mutex<Log>,
}

#[derive(Clone, Default)]
struct Log {
    /// The log's lines, whole.
    lines: Vec<Line>,
    appended: (u64, u64),
    position: Option<Position>,
    newest: Option<SystemTime>,
    end: Option<LogEnd>,
}

impl MemorySpool {
    fn world(&self) -> Shared {
        self.world.upgrade().expect("a world around its logs")
    }

    fn write(&self, room: Room, write: impl FnOnce(&mut Log)) -> io::Result<()> {
        {
            let world = self.world();
            let state = world.lock();
            if room == Room::Needed {
                state.disk.room_for_a_log()?;
            }
            state.writes()?;
        }
        let mut log = self.log.lock().unwrap();
        if log.end.is_some() {
            return Err(Errno::BADF.into());
        }
        write(&mut log);
        Ok(())
    }

    fn take(&self, pieces: Vec<Piece>, position: Option<Position>) -> io::Result<()> {
        let now = self.world().now();
        let is_full = self.world().lock().disk.is_full;
        self.write(Room::Kept, |log| {
            for piece in pieces {
                log.appended.0 += piece.bytes.len() as u64;
                let time = piece.time.unwrap_or(now);
                log.newest = Some(time);
                match is_full {
                    true => log.lines.extend(lines(Source::Worker, LEFT_OUT, now)),
                    false => log.lines.extend(lines(piece.source, &piece.bytes, time)),
                }
            }
            log.position = position.or(log.position);
        })
    }
}

/// The line in place of output that a full disk did not take; for this line there is room.
const LEFT_OUT: &[u8] = b"[worker-node] the disk is full: output is left out";

/// Whether a write needs room on the disk.
#[derive(PartialEq, Eq)]
enum Room {
    Needed,
    Kept,
}

fn lines(source: Source, bytes: &[u8], time: SystemTime) -> impl Iterator<Item = Line> + '_ {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let micros = i64::try_from(since.as_micros()).unwrap();
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines.map(move |line| Line {
        source,
        micros,
        bytes: line.strip_suffix(b"\n").unwrap_or(line).to_vec(),
        continued: false,
    })
}

#[async_trait]
impl Spool for MemorySpool {
    async fn append(&self, pieces: Vec<Piece>) -> io::Result<()> {
        self.take(pieces, None)
    }

    async fn append_up_to(&self, pieces: Vec<Piece>, position: Position) -> io::Result<()> {
        self.take(pieces, Some(position))
    }

    async fn note(&self, line: String) -> io::Result<()> {
        let now = self.world().now();
        let line = lines(Source::Worker, line.as_bytes(), now);
        // A note is small: a full disk takes it, as the real spool assumes.
        self.write(Room::Kept, |log| log.lines.extend(line))
    }

    async fn close(&self, end: LogEnd) -> io::Result<()> {
        if self.end().is_some() {
            return Ok(());
        }
        self.write(Room::Needed, |log| log.end = Some(end))
    }

    fn end(&self) -> Option<LogEnd> {
        self.log.lock().unwrap().end.clone()
    }

    fn appended(&self) -> (u64, u64) {
        self.log.lock().unwrap().appended
    }

    fn position(&self) -> Option<Position> {
        self.log.lock().unwrap().position
    }

    fn newest(&self) -> Option<SystemTime> {
        self.log.lock().unwrap().newest
    }

    fn cursor_from(&self, _: LogRange) -> Box<dyn LogCursor> {
        Box::new(MemoryCursor {
            log: self.log.lock().unwrap().clone(),
        })
    }
}

/// The content of a log when it was opened for reading.
struct MemoryCursor {
    log: Log,
}

#[async_trait]
impl LogCursor for MemoryCursor {
    async fn next(&mut self) -> io::Result<LogItem> {
        let lines = mem::take(&mut self.log.lines);
        Ok(match (lines.is_empty(), &self.log.end) {
            (false, _) => LogItem::Lines(lines),
            (true, Some(end)) => LogItem::End(end.clone()),
            (true, None) => LogItem::CaughtUp,
        })
    }

    async fn next_bytes(&mut self) -> io::Result<RawItem> {
        Ok(RawItem::CaughtUp)
    }

    fn take_unfinished(&mut self) -> Vec<Line> {
        Vec::new()
    }

    async fn grown(&mut self) {
        std::future::pending().await
    }
}
