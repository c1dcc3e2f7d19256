//! Opening the file: permissions, the check for damage, and setting a damaged file aside, so that no start of the worker
//! can fail for ever on its own state.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{failure, rows, schema};
use crate::ports::journal::JournalError;

/// How long a statement waits for an operator's tool that reads the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// More than the kinds of statements there are: each is prepared once.
const STATEMENTS: usize = 64;
/// What SQLite cuts its write-ahead log back to after it had to grow, in bytes.
const WAL_SIZE_LIMIT: i64 = 16 * 1024 * 1024;

/// Why a file could not be opened.
enum Fault {
    /// It is no journal, or not a whole one: to be set aside.
    Damaged(String),
    /// Anything else: the file stays where it is.
    Other(JournalError),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        use ErrorCode::{
            ConstraintViolation, DatabaseCorrupt, NotADatabase, TypeMismatch, Unknown,
        };
        match error.sqlite_error_code() {
            // Unknown is SQLite's general error: a table or column that is not there, say.
            Some(DatabaseCorrupt | NotADatabase | TypeMismatch | ConstraintViolation | Unknown)
            // No code of SQLite: a row that it gave out well could not be understood.
            | None => Self::Damaged(error.to_string()),
            Some(_) => Self::Other(failure(&error)),
        }
    }
}

/// Opens the journal; the second value is where a damaged one was put.
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
    make_private(path).map_err(|error| Fault::Other(unusable("opened", &error)))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Before anything else touches the file: a newer one stays exactly as it is.
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = schema::KNOWN;
    if found > known {
        return Err(Fault::Other(JournalError::Newer { found, known }));
    }
    check(&connection, found)?;
    configure(&connection)?;
    schema::migrate(&mut connection, found)?;
    // What cannot be read now could not be read later: better to know before anything is built on it.
    rows::snapshot(&connection)?;
    Ok(connection)
}

/// Makes the file where there is none, and keeps everybody else out of it. SQLite gives its own files the same mode.
fn make_private(path: &Path) -> io::Result<()> {
    let is_new = !path.try_exists()?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    if is_new {
        sync_folder(path)?;
    }
    Ok(())
}

fn check(connection: &Connection, found: i64) -> Result<(), Fault> {
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
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
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

/// Renames the file and what SQLite keeps beside it to the first free `<name>.damaged-<n>`, so that SQLite's own tools can
/// still open the three together. The main file goes last: cut short, this is done again at the next start.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let mut free = (1_u32..).map(|n| with_suffix(path, &format!(".damaged-{n}")));
    let target = free
        .find(|target| !target.exists())
        .ok_or_else(|| io::Error::other("no free name"))?;
    for suffix in ["-wal", "-shm", ""] {
        match fs::rename(with_suffix(path, suffix), with_suffix(&target, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    sync_folder(path)?;
    Ok(target)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// SQLite's own words do not tell which file they are about.
fn at(path: &Path, error: JournalError) -> JournalError {
    match error {
        JournalError::Broken(text) => JournalError::Broken(format!("{}: {text}", path.display())),
        JournalError::Full(text) => JournalError::Full(format!("{}: {text}", path.display())),
        newer @ JournalError::Newer { .. } => newer,
    }
}

fn unusable(what: &str, error: &io::Error) -> JournalError {
    let text = format!(
        "it cannot be {what}: {error}; its folder must exist and this user must be able to write to it"
    );
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => JournalError::Full(text),
        _ => JournalError::Broken(text),
    }
}
