//! A cursor: a reader's own place in a log. It reads the file itself, on blocking threads, up to the length that the writer
//! published: so it never sees half a record, and holds nobody up.

use std::{io, sync::Arc};

use async_trait::async_trait;
use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
};

use super::{FileSpool, State, reader::Reader};
use crate::{
    domain::log_line::Line,
    ports::spool::{LogCursor, LogItem, LogRange, RawItem},
};

/// A cursor. A future of it may be dropped at any await: the read goes on, and the next call takes its result.
pub(super) struct FileCursor {
    growth: watch::Receiver<State>,
    /// The reader between two reads; `None` while a blocking thread has it.
    reader: Option<Box<Reader>>,
    reading: Option<JoinHandle<(Box<Reader>, io::Result<Item>)>>,
}

/// The result of one read, by what was asked for.
enum Item {
    Lines(LogItem),
    Bytes(RawItem),
}

impl FileCursor {
    pub(super) fn new(spool: Arc<FileSpool>, range: LogRange) -> Self {
        Self {
            growth: spool.state.subscribe(),
            reader: Some(Box::new(Reader::new(spool, range))),
            reading: None,
        }
    }

    async fn read(&mut self, read: fn(&mut Reader) -> io::Result<Item>) -> io::Result<Item> {
        // Wait for the turn before taking the reader: a caller that hangs up while it waits loses nothing.
        let turn = match self.reader.as_ref().and_then(|reader| reader.turns()) {
            Some(turns) => Some(turns.acquire_owned().await.map_err(io::Error::other)?),
            None => None,
        };
        if let Some(mut reader) = self.reader.take() {
            self.reading = Some(spawn_blocking(move || {
                let item = read(&mut reader);
                drop(turn);
                (reader, item)
            }));
        }
        let Some(reading) = &mut self.reading else {
            return Err(io::Error::other("this reader of the log has failed before"));
        };
        let joined = reading.await;
        self.reading = None;
        let (reader, item) = joined.map_err(io::Error::other)?;
        self.reader = Some(reader);
        item
    }
}

#[async_trait]
impl LogCursor for FileCursor {
    async fn next(&mut self) -> io::Result<LogItem> {
        match self.read(|reader| reader.lines().map(Item::Lines)).await? {
            Item::Lines(item) => Ok(item),
            Item::Bytes(_) => Err(io::Error::other("this reader of the log reads bytes")),
        }
    }

    async fn next_bytes(&mut self) -> io::Result<RawItem> {
        match self.read(|reader| reader.bytes().map(Item::Bytes)).await? {
            Item::Bytes(item) => Ok(item),
            Item::Lines(_) => Err(io::Error::other("this reader of the log reads lines")),
        }
    }

    fn take_unfinished(&mut self) -> Vec<Line> {
        self.reader
            .as_mut()
            .map(|reader| reader.finish())
            .unwrap_or_default()
    }

    async fn grown(&mut self) {
        let Some(at) = self.reader.as_ref().map(|reader| reader.at()) else {
            return;
        };
        // The spool lives as long as this cursor, so the channel stays open and only growth ends the wait.
        let more = |state: &State| state.len > at || state.end.is_some();
        let _ = self.growth.wait_for(more).await;
    }
}
