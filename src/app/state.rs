//! What lies in a state folder, put together from those whose files they are. Nothing is changed, and no worker is needed.

use std::{
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use crate::{
    journal::look::{self, Beside},
    ports::state::{
        AccessFacts, HistoryFacts, JournalFacts, LockFacts, OwnerFacts, StateFacts, TaskStory,
        Wanted,
    },
    spool,
    state_dir::{self, Identity},
    telemetry::history,
};

/// A worker may start or end while its folder is looked at: then it is looked at again.
const LOOKS: usize = 5;

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
    let (events, unreadable) = history::count(folder)?;
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

/// What the journal of a state folder knows of those tasks, and whether a worker has the folder.
///
/// # Errors
/// There is no folder, no journal, or it cannot be read.
pub fn tasks_of(folder: &Path, wanted: &Wanted) -> io::Result<(LockFacts, Vec<TaskStory>)> {
    std::fs::read_dir(folder)?;
    let path = folder.join("journal.db");
    std::fs::metadata(&path)?;
    let lock = lock_of(folder)?;
    let stories = look::stories(&path, beside(lock), wanted);
    Ok((lock, stories.map_err(io::Error::other)?))
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
