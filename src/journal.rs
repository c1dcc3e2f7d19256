//! The journal in SQLite: the one place in which SQL is spoken. It owns the file `journal.db` (beside which SQLite keeps its
//! write-ahead log), the file's format, and the rule that a record's phase only grows. The journal actor calls it on a thread
//! that may block. It decides nothing about tasks, and does not lock the state folder: whoever opens the journal holds that lock.
//!
//! A batch of requests is one transaction with a savepoint per request, so that a hundred tasks cost one `fsync`. With
//! `synchronous=FULL` a commit is on the disk when it returns, power cut included.

mod json;
pub mod look;
#[cfg(test)]
pub(crate) mod model;
mod opening;
mod reserve;
mod rows;
mod schema;
mod steps;
#[cfg(test)]
mod tests;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior, ffi};

use crate::{
    domain::{
        id::TaskId,
        record::{Change, Snapshot},
    },
    ports::{
        clock::Clock,
        journal::{Household, JournalError, JournalReader, JournalStore, Known, Refused},
    },
};
use reserve::Reserve;
use steps::Stop;

/// The journal, open. One per process and file.
pub struct SqliteJournal {
    connection: Connection,
    clock: Arc<dyn Clock>,
    /// `None` where the disk does not tell its size.
    reserve: Option<Reserve>,
    path: PathBuf,
    /// The identity of the file that was opened; `None` where it could not be looked at.
    identity: Option<Identity>,
}

/// Device and inode: they tell a file from another one of the same name.
type Identity = (u64, u64);

/// The result of opening a journal.
pub struct Opened {
    /// The journal, ready for use.
    pub journal: SqliteJournal,
    /// Where a damaged file was renamed to; the journal is empty then. The caller tells the operator, and rebuilds what it can
    /// from the containers.
    pub set_aside: Option<PathBuf>,
    /// There was no file, and one was made.
    pub is_new: bool,
}

impl SqliteJournal {
    /// Opens the journal at `path`; a missing one is made (mode 0600). A damaged one is renamed aside, and the newest three of
    /// those are kept. If the disk is full, the journal's reserve is removed, and opening is tried once more. The clock dates the
    /// tombstones, which are forgotten after 30 days.
    ///
    /// # Errors
    /// `Newer`: a newer program wrote the file, and nothing was touched. `Full`: the disk is. `Broken`: anything else, with what
    /// to look at.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Opened, JournalError> {
        let reserve = Reserve::beside(path).ok();
        let is_new = !path.exists();
        let opened = match opening::open(path) {
            Err(JournalError::Full(_)) if given_up(reserve.as_ref()) => opening::open(path),
            opened => opened,
        };
        let (connection, set_aside) = opened?;
        let mut journal = Self {
            connection,
            clock,
            reserve,
            path: path.to_owned(),
            identity: identity(path),
        };
        journal.keep_room();
        Ok(Opened {
            journal,
            set_aside,
            is_new,
        })
    }

    /// All records that can be read, finished ones included.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn snapshot(&mut self) -> Result<Snapshot, JournalError> {
        // A transaction, so that its queries see one moment.
        let reading = self.connection.transaction().map_err(|e| failure(&e))?;
        let (snapshot, _) = rows::snapshot(&reading).map_err(|e| failure(&e))?;
        Ok(snapshot)
    }

    fn keep_room(&mut self) {
        if let Some(Err(error)) = self.reserve.as_ref().map(Reserve::fill_of_plenty) {
            log::debug!(error:%; "no space is kept back for the journal");
        }
    }
}

fn identity(path: &Path) -> Option<Identity> {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// Removes the reserve; whether there was one, and so the journal has more space now.
fn given_up(reserve: Option<&Reserve>) -> bool {
    let given_up = reserve.map_or(Ok(false), Reserve::give_up);
    given_up.unwrap_or_else(|error| {
        log::warn!(error:%; "the journal's reserve cannot be given up");
        false
    })
}

/// A connection that only reads: thanks to the write-ahead log it waits for no commit, and no commit waits for it.
struct SqliteReader(Connection);

impl SqliteReader {
    /// Reads in a transaction, so that several queries see one moment.
    fn read<T>(
        &mut self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, JournalError> {
        let reading = self.0.transaction().map_err(|e| failure(&e))?;
        read(&reading).map_err(|e| failure(&e))
    }
}

impl JournalReader for SqliteReader {
    fn unfinished(&mut self) -> Result<Snapshot, JournalError> {
        self.read(rows::unfinished)
    }

    fn household(&mut self) -> Result<Household, JournalError> {
        self.read(rows::household)
    }
}

impl JournalStore for SqliteJournal {
    fn reader(&self) -> Result<Box<dyn JournalReader>, JournalError> {
        let reader = opening::reader(&self.path).map_err(|e| failure(&e))?;
        Ok(Box::new(SqliteReader(reader)))
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

    fn make_room(&mut self) {
        if given_up(self.reserve.as_ref()) {
            log::warn!(
                "the disk is full; the journal's reserve is given up for what tasks come to"
            );
        }
        // Moves what it can from the write-ahead log into the file, so that the log begins again instead of growing. How far that
        // comes does not matter.
        let checkpoint = "PRAGMA wal_checkpoint(PASSIVE)";
        let _ = self.connection.query_row(checkpoint, [], |_| Ok(()));
    }

    fn tend(&mut self) -> Result<(), JournalError> {
        // SQLite goes on writing to a file that was removed, and the next start would not find it.
        if self.identity.is_some() && identity(&self.path) != self.identity {
            return Err(JournalError::Damaged(
                "its file was removed or replaced".into(),
            ));
        }
        self.keep_room();
        Ok(())
    }
}

/// What the journal knows of a task. The row of a finished task is not checked when the journal is opened, so it may turn out to
/// be unreadable here.
fn find(connection: &Connection, task: &TaskId) -> rusqlite::Result<Option<Known>> {
    match read(connection, task) {
        Err(error) if is_unreadable(&error) && !rows::is_unfinished(connection, task)? => {
            log::error!(task:%, error:%; "what the journal holds of a finished task cannot be read");
            Ok(Some(Known::Unreadable))
        }
        found => found,
    }
}

fn read(connection: &Connection, task: &TaskId) -> rusqlite::Result<Option<Known>> {
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
    // A transaction that is dropped without a commit rolls back, so an error below leaves nothing behind.
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
            // Only this request is refused: the others in the batch have nothing to do with it.
            Err(Stop::Sql(error)) if error.sqlite_error_code() == Some(ErrorCode::TooBig) => {
                request_alone.finish()?;
                Err(Refused::TooBig)
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

/// Turns SQLite's error into the caller's decision: wait for space, open the journal anew, or give it up.
fn failure(error: &rusqlite::Error) -> JournalError {
    use ErrorCode::{DatabaseCorrupt, DiskFull, NotADatabase};
    let text = error.to_string();
    match error.sqlite_error_code() {
        Some(DiskFull) => JournalError::Full(text),
        // The index of the write-ahead log could not grow: only a full disk prevents that.
        Some(_) if error.sqlite_extended_error_code() == Some(ffi::SQLITE_IOERR_SHMSIZE) => {
            JournalError::Full(text)
        }
        Some(DatabaseCorrupt | NotADatabase) => JournalError::Damaged(text),
        Some(_) if opening::is_torn(error) => JournalError::Damaged(text),
        None if is_unreadable(error) => JournalError::Damaged(text),
        Some(_) | None => JournalError::Broken(text),
    }
}

/// Whether SQLite read the row well, but its content could not be understood.
fn is_unreadable(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{
        FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error,
    };
    matches!(
        error,
        FromSqlConversionFailure(..)
            | IntegralValueOutOfRange(..)
            | InvalidColumnType(..)
            | Utf8Error(..)
    )
}
