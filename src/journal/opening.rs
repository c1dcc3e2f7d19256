//! Opening the file: permissions, the check for damage, and setting a damaged file aside, so that no start of the worker
//! can fail for ever on its own state.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use rustix::fs::OFlags;

use super::{failure, rows, schema};
use crate::ports::journal::JournalError;

/// How long a statement waits for another connection, such as an operator's tool, before it fails as busy.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Prepared statements that are kept: more than there are, so that each is prepared once.
const STATEMENTS: usize = 64;
/// Bytes to which SQLite cuts its write-ahead log back after it has grown.
const WAL_SIZE_LIMIT: i64 = 16 * 1024 * 1024;

/// Damaged journals that are kept, the newest, for a person to look at. Older ones are removed.
const SET_ASIDE: usize = 3;
/// No version of this program counts formats that far: a higher number means damage rather than a newer program.
const FORMATS: i64 = 1_000;

/// Why a file could not be opened.
pub(super) enum Fault {
    /// It is no journal, or a damaged one: it is renamed aside.
    Damaged(String),
    /// Anything else: the file stays where it is.
    Other(JournalError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        use ErrorCode::{
            ConstraintViolation, DatabaseCorrupt, NotADatabase, OutOfMemory, ReadOnly, TooBig,
            TypeMismatch, Unknown,
        };
        match error.sqlite_error_code() {
            // Unknown is SQLite's general error: a missing table or column, say. ReadOnly comes from the file's header here,
            // since that the file can be written was checked before. TooBig and OutOfMemory come from lengths in the file.
            Some(
                DatabaseCorrupt | NotADatabase | TypeMismatch | ConstraintViolation | Unknown
                | ReadOnly | TooBig | OutOfMemory,
            )
            // No code of SQLite: it read the row well, but the content could not be understood.
            | None => Self::Damaged(error.to_string()),
            Some(_) if is_torn(&error) => Self::Damaged(error.to_string()),
            Some(_) => Self::Other(failure(&error)),
        }
    }
}

/// Whether SQLite reports an error of the disk where in truth the file does not hold what it should.
pub(super) fn is_torn(error: &rusqlite::Error) -> bool {
    let torn = [ffi::SQLITE_IOERR_SHORT_READ, ffi::SQLITE_IOERR_CORRUPTFS];
    let code = error.sqlite_extended_error_code();
    code.is_some_and(|code| torn.contains(&code))
}

/// Opens the journal; the second value is the path that a damaged one was renamed to.
pub(super) fn open(path: &Path) -> Result<(Connection, Option<PathBuf>), JournalError> {
    let damage = match open_whole(path) {
        Ok(connection) => return Ok((connection, None)),
        Err(Fault::Other(error)) => return Err(at(path, error)),
        Err(Fault::Damaged(damage)) => damage,
    };
    let set_aside = set_aside(path).map_err(|error| at(path, unusable("set aside", &error)))?;
    log::warn!(damage, set_aside:? = set_aside; "the journal is damaged; it was set aside");
    match open_whole(path) {
        Ok(connection) => Ok((connection, Some(set_aside))),
        Err(Fault::Other(error)) => Err(at(path, error)),
        Err(Fault::Damaged(damage)) => Err(JournalError::Broken(format!(
            "a new file at {} is damaged at once: {damage}",
            path.display()
        ))),
    }
}

fn open_whole(path: &Path) -> Result<Connection, Fault> {
    are_files(path)?;
    make_private(path).map_err(|error| Fault::Other(unusable("opened", &error)))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Before anything else touches the file: a newer version's file must stay exactly as it is.
    let found = format(&connection)?;
    check(&connection, found)?;
    configure(&connection)?;
    schema::migrate(&mut connection, found)?;
    // What a start of the worker reads must be readable. Finished tasks are not read here: there may be any number of them, and
    // every start would wait for that. A damaged row of one is found when the task is asked for.
    rows::unfinished(&connection)?;
    Ok(connection)
}

/// A second connection, which only reads, to a journal that this process has open.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    Ok(connection)
}

/// Checks for a folder or a pipe in the place of a file: it is no journal, and opening it would fail at every start, or block for
/// ever.
fn are_files(path: &Path) -> Result<(), Fault> {
    for suffix in SUFFIXES {
        let file = with_suffix(path, suffix);
        match fs::symlink_metadata(&file) {
            Ok(found) if !found.is_file() => {
                return Err(Fault::Damaged(format!("{} is no file", file.display())));
            }
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

/// The format of the file; an error where it is newer than this program, or no format at all.
pub(super) fn format(connection: &Connection) -> Result<i64, Fault> {
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = schema::KNOWN;
    if found > FORMATS {
        return Err(Fault::Damaged(format!("its format is {found}")));
    }
    if found > known {
        return Err(Fault::Other(JournalError::Newer { found, known }));
    }
    Ok(found)
}

/// Makes the file where it is missing, and sets its mode to 0600. SQLite gives its own files the same mode.
fn make_private(path: &Path) -> io::Result<()> {
    let is_new = !path.try_exists()?;
    let file = open_or_make(path).or_else(|error| {
        if is_new || error.kind() != io::ErrorKind::PermissionDenied {
            return Err(error);
        }
        // The file may be this user's with a wrong mode: then mend the mode and try again.
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        open_or_make(path)
    })?;
    if file.metadata()?.permissions().mode() & 0o777 != 0o600 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    if is_new {
        sync_folder(path)?;
    }
    Ok(())
}

/// Follows no link: the file that a link leads to may be another's.
fn open_or_make(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

pub(super) fn check(connection: &Connection, found: i64) -> Result<(), Fault> {
    let objects: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if found == 0 && objects == 0 {
        return Ok(());
    }
    let application: i64 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if found <= 0 || application != schema::APPLICATION_ID {
        return Err(Fault::Damaged("it is another program's database".into()));
    }
    // Indexes too: a damaged one would be found by a commit, in the middle of the work.
    let verdict: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(Fault::Damaged(verdict));
    }
    Ok(())
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", "ON")?;
    connection.pragma_update(None, "trusted_schema", "OFF")?;
    connection.pragma_update(None, "journal_size_limit", WAL_SIZE_LIMIT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(())
}

/// What SQLite keeps beside a file, and the file itself. It comes last, so that a renaming that is cut short is done again at the
/// next start.
const SUFFIXES: [&str; 4] = ["-wal", "-shm", "-journal", ""];

/// Renames the file and what SQLite keeps beside it to `<name>.damaged-<n>` with the next free number, so that SQLite's own tools
/// can still open them together. Removes the oldest such files, so that three remain.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let mut earlier = damaged(path)?;
    earlier.sort_unstable();
    let next = earlier.last().map_or(1, |last| last + 1);
    let surplus = (earlier.len() + 1).saturating_sub(SET_ASIDE);
    for number in earlier.drain(..surplus) {
        remove(&damaged_name(path, number))?;
    }
    let target = damaged_name(path, next);
    for suffix in SUFFIXES {
        match fs::rename(with_suffix(path, suffix), with_suffix(&target, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    sync_folder(path)?;
    Ok(target)
}

fn damaged_name(path: &Path, number: u32) -> PathBuf {
    with_suffix(path, &format!(".damaged-{number}"))
}

/// The numbers of the journals that were renamed aside; any part of one counts.
pub(super) fn damaged(path: &Path) -> io::Result<Vec<u32>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!("{name}.damaged-");
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder_of(path))? {
        let name = entry?.file_name();
        let number = name.to_string_lossy();
        let number = number.strip_prefix(&prefix).map(|rest| {
            let digits = rest.find('-').unwrap_or(rest.len());
            rest[..digits].parse::<u32>()
        });
        numbers.extend(number.and_then(Result::ok));
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

fn remove(damaged: &Path) -> io::Result<()> {
    for suffix in SUFFIXES {
        let file = with_suffix(damaged, suffix);
        let removed = match fs::symlink_metadata(&file) {
            Ok(found) if found.is_dir() => fs::remove_dir_all(&file),
            Ok(_) => fs::remove_file(&file),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// The folder that a file lies in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

/// Puts the path in front of the error's text: SQLite's own text does not tell which file it is about.
fn at(path: &Path, error: JournalError) -> JournalError {
    match error {
        JournalError::Broken(text) => JournalError::Broken(format!("{}: {text}", path.display())),
        JournalError::Damaged(text) => JournalError::Damaged(format!("{}: {text}", path.display())),
        JournalError::Full(text) => JournalError::Full(format!("{}: {text}", path.display())),
        newer @ JournalError::Newer { .. } => newer,
    }
}

fn unusable(what: &str, error: &io::Error) -> JournalError {
    let text = format!("it cannot be {what}: {error}");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => JournalError::Full(text),
        _ => JournalError::Broken(format!(
            "{text}; its folder must exist and this user must be able to write to it"
        )),
    }
}
