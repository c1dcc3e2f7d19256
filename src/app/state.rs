//! What lies in a state folder, put together from those whose files they are. Nothing is changed, and no worker is needed.

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

/// A worker may start or end while its folder is looked at: then it is looked at again.
const LOOKS: usize = 5;

/// Of the journals that this program writes.
pub const JOURNAL_FORMAT: i64 = look::FORMAT;

/// Looks at a state folder.
///
/// # Errors
/// There is none, or it cannot be read.
pub fn state_of(folder: &Path) -> io::Result<StateFacts> {
    // Says what is wrong with the folder, rather than with the first file that is not in it.
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

/// Reads what the journal of a state folder knows of tasks, and whether a worker has the folder. It fails where there is no
/// folder, no journal, or it cannot be read.
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

/// Opens the log of a task in a state folder, whether a worker writes it or not, if there is one. It fails where there is no
/// folder, or it cannot be read.
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
