//! A log read from its file alone: by another process than the writer's, or while no worker runs. Nothing is mended, made or
//! locked; a record that is not whole yet does not exist yet.

use std::{fs::File, io, os::unix::fs::MetadataExt, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::sleep;

use super::{
    FileSpool, House, Limits, cursor::FileCursor, disk::LinuxDisk, open, open::Opened,
    writer::Writer,
};
use crate::{
    domain::{id::TaskId, log_line::Line},
    ports::{
        clock::Clock,
        spool::{LogCursor, LogItem, LogRange, RawItem},
    },
};

/// How often a log that is followed is looked at: no delay for a person, and next to no cost.
const PERIOD: Duration = Duration::from_millis(100);

/// A cursor over the task's log in `folder`; `None` where the task has no log.
///
/// # Errors
/// The disk's; `InvalidData` where the file is no log of that task.
pub fn look_on(
    folder: &Path,
    task: &TaskId,
    range: LogRange,
    clock: Arc<dyn Clock>,
) -> io::Result<Option<Box<dyn LogCursor>>> {
    let house = Arc::new(House::new(
        folder,
        Limits::default(),
        clock,
        Arc::new(LinuxDisk),
    ));
    let file = match File::open(house.file_of(task)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let Some(state) = open::look(&file, task, None)? else {
        let what = "its beginning is damaged, or it is another task's";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    };
    let opened = Opened {
        file,
        state,
        writer: Writer::default(),
    };
    let spool = FileSpool::new(opened, &house);
    Ok(Some(Box::new(Onlooker {
        cursor: FileCursor::new(Arc::clone(&spool), range),
        spool,
        task: task.clone(),
    })))
}

/// A cursor that looks at the file itself to see whether the log has grown.
struct Onlooker {
    cursor: FileCursor,
    spool: Arc<FileSpool>,
    task: TaskId,
}

impl Onlooker {
    /// Looks at the file again, and says whether the log has changed since the last look.
    ///
    /// # Errors
    /// The disk's; `NotFound` once the file was removed and nothing of it is left to be read.
    fn look(&self) -> io::Result<bool> {
        let before = self.spool.state.borrow().clone();
        let now = open::look(&self.spool.file, &self.task, Some(&before))?;
        let Some(now) = now.filter(|now| *now != before) else {
            let is_gone = self.spool.file.metadata()?.nlink() == 0;
            return match is_gone && before.end.is_none() {
                true => Err(io::Error::new(
                    io::ErrorKind::NotFound,
                    "it was removed meanwhile",
                )),
                false => Ok(false),
            };
        };
        self.spool.state.send_replace(now);
        Ok(true)
    }
}

#[async_trait]
impl LogCursor for Onlooker {
    async fn next(&mut self) -> io::Result<LogItem> {
        match self.cursor.next().await? {
            LogItem::CaughtUp if self.look()? => self.cursor.next().await,
            item => Ok(item),
        }
    }

    async fn next_bytes(&mut self) -> io::Result<RawItem> {
        match self.cursor.next_bytes().await? {
            RawItem::CaughtUp if self.look()? => self.cursor.next_bytes().await,
            item => Ok(item),
        }
    }

    fn take_unfinished(&mut self) -> Vec<Line> {
        self.cursor.take_unfinished()
    }

    async fn grown(&mut self) {
        // If the file cannot be looked at, the next read returns the error.
        while matches!(self.look(), Ok(false)) {
            sleep(PERIOD).await;
        }
    }
}
