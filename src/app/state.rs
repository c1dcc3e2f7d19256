//! The content of a state folder, put together from the readers of its files. Nothing is changed, and no worker is needed.

use std::{
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    sync::Arc,
};

use crate::{
    domain::id::TaskId,
    journal::look::{self, Beside},
    ports::{
        clock::SystemClock,
        spool::{LogCursor, LogRange},
        state::{
            AccessFacts, HistoryFacts, JournalFacts, LockFacts, OwnerFacts, StateFacts, TaskStory,
            Wanted,
        },
    },
    spool,
    state_dir::{self, Identity},
    telemetry::history::{self, Book},
};

/// How often a state folder is looked at again when a worker starts or ends meanwhile.
const LOOKS: usize = 5;

/// The format of the journals that this program writes.
pub const JOURNAL_FORMAT: i64 = look::FORMAT;

/// Reads all that there is to know of a state folder.
///
/// # Errors
/// There is no folder, or it cannot be read.
pub fn state_of(folder: &Path) -> io::Result<StateFacts> {
    // Fail with the folder's error, rather than with that of the first missing file.
    std::fs::read_dir(folder)?;
    let found = std::fs::metadata(folder)?;
    let access = AccessFacts {
        user: found.uid(),
        mode: found.permissions().mode() & 0o7777,
    };
    let owner = Identity::read(folder)?.map(|identity| OwnerFacts {
        worker: identity.worker,
        engine: identity.engine,
    });
    let (lock, journal) = lock_and_journal(folder)?;
    let (events, unreadable) = history::count(folder, Book::Lifecycle)?;
    Ok(StateFacts {
        folder: folder.to_owned(),
        access,
        owner,
        lock,
        journal,
        set_aside: look::set_aside(&folder.join("journal.db")),
        logs: spool::look::look(&folder.join("logs"))?,
        history: HistoryFacts { events, unreadable },
    })
}

/// Returns a reader of tasks from a state folder's journal, which also tells whether a worker has the folder. It fails where
/// there is no folder or no journal, or the journal cannot be read.
pub fn tasks_of(
    folder: &Path,
) -> impl Fn(&Wanted) -> io::Result<(LockFacts, Vec<TaskStory>)> + use<'_> {
    move |wanted| {
        std::fs::read_dir(folder)?;
        let path = folder.join("journal.db");
        std::fs::metadata(&path)?;
        let lock = lock_of(folder)?;
        let stories = look::stories(&path, beside(lock), wanted);
        Ok((lock, stories.map_err(io::Error::other)?))
    }
}

/// Returns an opener of a task's log in a state folder, whether a worker writes it or not; `None` where the task has no log. It
/// fails where the folder cannot be read.
pub fn log_of(
    folder: &Path,
) -> impl Fn(&TaskId, LogRange) -> io::Result<Option<Box<dyn LogCursor>>> + use<'_> {
    move |task, range| {
        std::fs::read_dir(folder)?;
        spool::look_on(&folder.join("logs"), task, range, Arc::new(SystemClock))
    }
}

fn beside(lock: LockFacts) -> Beside {
    match lock {
        LockFacts::Free => Beside::Nobody,
        LockFacts::Held(_) => Beside::Worker,
    }
}

fn lock_and_journal(folder: &Path) -> io::Result<(LockFacts, JournalFacts)> {
    let path = folder.join("journal.db");
    let mut lock = lock_of(folder)?;
    for _ in 0..LOOKS {
        let journal = look::look(&path, beside(lock));
        let before = std::mem::replace(&mut lock, lock_of(folder)?);
        if lock == before {
            return Ok((lock, journal));
        }
    }
    Ok((lock, look::look(&path, Beside::Nobody)))
}

fn lock_of(folder: &Path) -> io::Result<LockFacts> {
    let held = state_dir::held_by(folder)?;
    Ok(held.map_or(LockFacts::Free, LockFacts::Held))
}
