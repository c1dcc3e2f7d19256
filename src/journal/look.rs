//! Reading a journal without changing anything: neither the file, nor what SQLite keeps beside it, nor its format. While a worker
//! has it open, it is read beside that worker, which notices nothing. Otherwise even a reader would leave files of SQLite's
//! there, so a copy is read, in a folder that no other user can enter.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};

use super::{
    opening::{self, Fault},
    rows, schema,
};
use crate::ports::{
    journal::JournalError,
    state::{JournalFacts, TaskStory, Wanted},
};

/// The format of the journals that this build writes.
pub const FORMAT: i64 = schema::KNOWN;

/// Whether a process writes to the journal meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// A worker has it open.
    Worker,
    /// No process has it open.
    Nobody,
}

/// Looks at the journal at `path`.
#[must_use]
pub fn look(path: &Path, beside: Beside) -> JournalFacts {
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return JournalFacts::Missing,
        Err(error) => return JournalFacts::Unreadable(error.to_string()),
        Ok(found) if !found.is_file() => return JournalFacts::Damaged("it is no file".into()),
        Ok(_) => {}
    }
    let looked = match beside {
        Beside::Worker => read_beside(path),
        Beside::Nobody => read_copy(path),
    };
    looked.unwrap_or_else(|fault| match fault {
        Fault::Damaged(why) => JournalFacts::Damaged(why),
        Fault::Other(JournalError::Newer { found, known }) => JournalFacts::Newer { found, known },
        Fault::Other(error) => JournalFacts::Unreadable(error.to_string()),
    })
}

/// The names of damaged journals that were renamed aside.
#[must_use]
pub fn set_aside(path: &Path) -> Vec<String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let numbers = opening::damaged(path).unwrap_or_default();
    let names = numbers.iter();
    names.map(|n| format!("{name}.damaged-{n}")).collect()
}

/// What the journal at `path` knows of the wanted tasks, the oldest first. The file is not checked for damage as a whole.
///
/// # Errors
/// It cannot be read: there is none, it is damaged, or a newer program wrote it.
pub fn stories(
    path: &Path,
    beside: Beside,
    wanted: &Wanted,
) -> Result<Vec<TaskStory>, JournalError> {
    let read = || {
        if beside == Beside::Worker
            && let Some(connection) = reader(path)?
        {
            return Ok(rows::stories(&connection, wanted)?);
        }
        let copy = Copy::of(path)?;
        let mut connection = copy.open()?;
        let format = opening::format(&connection)?;
        schema::migrate(&mut connection, format)?;
        Ok(rows::stories(&connection, wanted)?)
    };
    read().map_err(|fault| match fault {
        Fault::Damaged(why) => JournalError::Damaged(why),
        Fault::Other(error) => error,
    })
}

/// A connection to the journal itself; `None` where its format is older: a worker that was not restarted after an update still
/// has the old format, and only a copy may be brought to the new one.
fn reader(path: &Path) -> Result<Option<Connection>, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(opening::BUSY_TIMEOUT)?;
    let format = opening::format(&connection)?;
    Ok((format == schema::KNOWN).then_some(connection))
}

fn read_beside(path: &Path) -> Result<JournalFacts, Fault> {
    let Some(connection) = reader(path)? else {
        return read_copy(path);
    };
    opening::check(&connection, schema::KNOWN)?;
    facts(&connection, schema::KNOWN, path)
}

fn read_copy(path: &Path) -> Result<JournalFacts, Fault> {
    let copy = Copy::of(path)?;
    let mut connection = copy.open()?;
    let format = opening::format(&connection)?;
    opening::check(&connection, format)?;
    // Only the copy is brought to the present format.
    schema::migrate(&mut connection, format)?;
    facts(&connection, format, path)
}

fn facts(connection: &Connection, format: i64, original: &Path) -> Result<JournalFacts, Fault> {
    let size = |suffix| fs::metadata(opening::with_suffix(original, suffix)).map_or(0, |f| f.len());
    // A start of the worker reads this as well, so that it must be readable.
    rows::household(connection)?;
    let (content, lost) = rows::snapshot(connection)?;
    let mode = fs::metadata(original).map_or(0, |found| found.permissions().mode());
    Ok(JournalFacts::Sound {
        format,
        known: schema::KNOWN,
        content: Box::new(content),
        lost,
        bytes: size("") + size("-wal"),
        is_open_to_others: mode & 0o077 != 0,
    })
}

fn unreadable(error: io::Error) -> Fault {
    Fault::Other(JournalError::Broken(error.to_string()))
}

/// A copy of a journal, in a folder of its own.
struct Copy(PrivateFolder);

impl Copy {
    fn of(path: &Path) -> Result<Self, Fault> {
        let copy = Self(PrivateFolder::make().map_err(unreadable)?);
        // Copy the write-ahead log first: what a worker moves from it into the file meanwhile is then in both, not in neither.
        for suffix in ["-wal", ""] {
            match fs::copy(
                opening::with_suffix(path, suffix),
                opening::with_suffix(&copy.path(), suffix),
            ) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && !suffix.is_empty() => {}
                copied => drop(copied.map_err(unreadable)?),
            }
        }
        Ok(copy)
    }

    fn path(&self) -> PathBuf {
        self.0.0.join("journal.db")
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        Connection::open(self.path())
    }
}

/// A folder with mode 0700, removed when this value is dropped.
struct PrivateFolder(PathBuf);

impl PrivateFolder {
    fn make() -> io::Result<Self> {
        let name = format!("worker-node-state-{:032x}", fastrand::u128(..));
        let folder = std::env::temp_dir().join(name);
        // Fails where the path exists already, whoever made it.
        DirBuilder::new().mode(0o700).create(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            log::warn!(folder:? = self.0, error:%; "a copy of the journal was left behind");
        }
    }
}
