//! The logs, watched: what containers print and what viewers read, in bytes.

use std::{io, sync::Arc, time::SystemTime};

use async_trait::async_trait;
use prometheus_client::metrics::counter::Counter;

use super::{Counters, Metrics};
use crate::{
    domain::{
        id::TaskId,
        log_line::{Line, Source},
    },
    ports::spool::{
        LogCursor, LogEnd, LogItem, LogRange, Piece, Position, RawItem, Spool, SpoolStore,
    },
};

/// Spools that count what is appended to them.
pub struct CountedSpools {
    spools: Arc<dyn SpoolStore>,
    metrics: Arc<Metrics>,
}

impl CountedSpools {
    /// Counts what `spools` take.
    #[must_use]
    pub fn new(spools: Arc<dyn SpoolStore>, metrics: Arc<Metrics>) -> Self {
        Self { spools, metrics }
    }

    fn counted(&self, spool: Arc<dyn Spool>) -> Arc<dyn Spool> {
        Arc::new(CountedSpool {
            spool,
            printed: self.metrics.printed.clone(),
        })
    }
}

impl SpoolStore for CountedSpools {
    fn open(&self, task: &TaskId) -> io::Result<Arc<dyn Spool>> {
        Ok(self.counted(self.spools.open(task)?))
    }

    fn find(&self, task: &TaskId) -> io::Result<Option<Arc<dyn Spool>>> {
        let found = self.spools.find(task)?;
        Ok(found.map(|spool| self.counted(spool)))
    }

    fn remove(&self, task: &TaskId) -> io::Result<()> {
        self.spools.remove(task)
    }
}

struct CountedSpool {
    spool: Arc<dyn Spool>,
    printed: Counters<1>,
}

impl CountedSpool {
    fn count(&self, pieces: &[Piece]) {
        for (source, name) in [(Source::Stdout, "stdout"), (Source::Stderr, "stderr")] {
            let of_it = pieces.iter().filter(|piece| piece.source == source);
            let bytes: usize = of_it.map(|piece| piece.bytes.len()).sum();
            if bytes > 0 {
                let labels = [("stream", name)];
                self.printed.get_or_create(&labels).inc_by(bytes as u64);
            }
        }
    }
}

#[async_trait]
impl Spool for CountedSpool {
    async fn append(&self, pieces: Vec<Piece>) -> io::Result<()> {
        self.count(&pieces);
        self.spool.append(pieces).await
    }

    async fn append_up_to(&self, pieces: Vec<Piece>, position: Position) -> io::Result<()> {
        self.count(&pieces);
        self.spool.append_up_to(pieces, position).await
    }

    async fn note(&self, line: String) -> io::Result<()> {
        self.spool.note(line).await
    }

    async fn close(&self, end: LogEnd) -> io::Result<()> {
        self.spool.close(end).await
    }

    fn end(&self) -> Option<LogEnd> {
        self.spool.end()
    }

    fn appended(&self) -> (u64, u64) {
        self.spool.appended()
    }

    fn position(&self) -> Option<Position> {
        self.spool.position()
    }

    fn newest(&self) -> Option<SystemTime> {
        self.spool.newest()
    }

    fn cursor_from(&self, range: LogRange) -> Box<dyn LogCursor> {
        self.spool.cursor_from(range)
    }
}

/// A viewer's cursor that counts what it gives out.
pub(super) struct CountedCursor {
    cursor: Box<dyn LogCursor>,
    viewed: Counter,
}

impl CountedCursor {
    pub(super) fn new(cursor: Box<dyn LogCursor>, viewed: Counter) -> Self {
        Self { cursor, viewed }
    }
}

#[async_trait]
impl LogCursor for CountedCursor {
    async fn next(&mut self) -> io::Result<LogItem> {
        let item = self.cursor.next().await?;
        if let LogItem::Lines(lines) = &item {
            let bytes: usize = lines.iter().map(|line| line.bytes.len()).sum();
            self.viewed.inc_by(bytes as u64);
        }
        Ok(item)
    }

    async fn next_bytes(&mut self) -> io::Result<RawItem> {
        let item = self.cursor.next_bytes().await?;
        if let RawItem::Bytes(stretch) = &item {
            self.viewed.inc_by(stretch.bytes.len() as u64);
        }
        Ok(item)
    }

    fn take_unfinished(&mut self) -> Vec<Line> {
        self.cursor.take_unfinished()
    }

    async fn grown(&mut self) {
        self.cursor.grown().await;
    }
}
