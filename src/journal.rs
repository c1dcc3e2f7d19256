//! The journal in SQLite: the one place in which SQL is spoken. Owns the file `journal.db` beside which SQLite keeps its
//! write-ahead log, its format, and the rule that a record's phase only grows. The journal actor calls it, on a thread that
//! may block. It decides nothing about tasks, and it does not lock the state folder: whoever opens it holds that lock.
//!
//! A batch of requests is one transaction with a savepoint per request, so that a hundred tasks cost one `fsync`. With
//! `synchronous=FULL` a commit is on the disk when it returns, power cut included.

mod json;
mod opening;
mod reserve;
mod rows;
mod schema;
mod steps;
#[cfg(test)]
mod tests;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior};

use crate::{
    domain::{
        id::TaskId,
        record::{Change, Snapshot},
    },
    ports::{
        clock::Clock,
        journal::{JournalError, JournalStore, Known, Refused},
    },
};
pub use reserve::{RESERVE, Reserve};
use steps::Stop;

/// The journal, open. One per process and file.
pub struct SqliteJournal {
    connection: Connection,
    clock: Arc<dyn Clock>,
}

/// What opening a journal brought.
pub struct Opened {
    /// Ready for use.
    pub journal: SqliteJournal,
    /// Where a damaged file that stood in the way lies now; the journal is empty then. The caller says so to the operator
    /// and rebuilds what it can from the containers.
    pub set_aside: Option<PathBuf>,
}

impl SqliteJournal {
    /// Opens the journal at `path`, made new (mode 0600) where there is none. A damaged one is set aside under another name.
    /// The clock dates tombstones, which are forgotten after 30 days.
    ///
    /// # Errors
    /// `Newer`: nothing was touched. `Full`, and `Broken` with what to look at.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Opened, JournalError> {
        let (connection, set_aside) = opening::open(path)?;
        let journal = Self { connection, clock };
        Ok(Opened { journal, set_aside })
    }
}

impl JournalStore for SqliteJournal {
    fn snapshot(&mut self) -> Result<Snapshot, JournalError> {
        // A transaction, so that its four queries see one moment.
        let reading = self.connection.transaction().map_err(|e| failure(&e))?;
        rows::snapshot(&reading).map_err(|e| failure(&e))
    }

    fn find(&mut self, task: &TaskId) -> Result<Option<Known>, JournalError> {
        find(&self.connection, task).map_err(|e| failure(&e))
    }

    fn commit(
        &mut self,
        requests: &[Vec<Change>],
    ) -> Result<Vec<Result<(), Refused>>, JournalError> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        let now = rows::nanos(self.clock.now());
        commit(&mut self.connection, requests, now).map_err(|e| failure(&e))
    }
}

fn find(connection: &Connection, task: &TaskId) -> rusqlite::Result<Option<Known>> {
    if let Some(record) = rows::task(connection, task).optional()? {
        return Ok(Some(Known::Record(Box::new(record))));
    }
    let stone = rows::tombstone(connection, task).optional()?;
    Ok(stone.map(Known::Retired))
}

fn commit(
    connection: &mut Connection,
    requests: &[Vec<Change>],
    now: i64,
) -> rusqlite::Result<Vec<Result<(), Refused>>> {
    // Dropped without a commit, a transaction rolls back: so an error below leaves nothing behind.
    let mut batch = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut answers = Vec::with_capacity(requests.len());
    for request in requests {
        let request_alone = batch.savepoint()?;
        let applied = request
            .iter()
            .try_for_each(|change| steps::apply(&request_alone, change, now));
        answers.push(match applied {
            Ok(()) => Ok(request_alone.commit()?),
            Err(Stop::Refused(refused)) => {
                request_alone.finish()?;
                Err(refused)
            }
            Err(Stop::Sql(error)) => return Err(error),
        });
    }
    if requests.iter().flatten().any(steps::leaves_a_trace) {
        steps::forget_old_traces(&batch, now)?;
    }
    batch.commit()?;
    Ok(answers)
}

/// Turns SQLite's error into the caller's decision: wait for space, or give the journal up.
fn failure(error: &rusqlite::Error) -> JournalError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => JournalError::Full(error.to_string()),
        _ => JournalError::Broken(error.to_string()),
    }
}
