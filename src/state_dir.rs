//! The state folder, which holds everything that outlives the process, and two locks: one keeps the folder for one process, the
//! other the worker's id on an engine. The locks are the kernel's (`flock`): they end with the process, however it ends, so no
//! lock is ever stale. Every start checks that the folder is its user's alone, and mends or refuses what is not. What lies in the
//! folder is the business of those who are given its path.

mod engine_lock;
mod identity;
mod ownership;

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{Access, FlockOperation, OFlags};
use thiserror::Error;

pub use self::{
    engine_lock::{EngineLock, EngineLockError},
    identity::{Identity, Secret},
};
use crate::exit::Exit;

/// Why the state folder cannot be used.
#[derive(Debug, Error)]
pub enum StateDirError {
    /// Another process holds the folder's lock.
    #[error(
        "the state folder {folder} is in use by another worker{holder}; stop that one, or give this one its own --state-dir"
    )]
    InUse {
        /// The state folder.
        folder: PathBuf,
        /// ` (process 123)`, or nothing where the lock file does not tell.
        holder: String,
    },
    /// The operating system denies access, or the disk is read-only.
    #[error(
        "the state folder {folder} cannot be written: {source}; run as its owner, or give another --state-dir"
    )]
    Denied {
        /// The state folder.
        folder: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// No folder can be made at the path: a file is in the way, or the path leads to nothing.
    #[error("the state folder {folder} cannot be a folder: {source}; give another --state-dir")]
    NoFolder {
        /// The path that was given.
        folder: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The folder, or something in it, belongs to another user.
    #[error(
        "{path} belongs to user {owner}, and this worker runs as user {us}; run it as its owner, or give it away with chown -R {us} {path}, or give another --state-dir"
    )]
    Foreign {
        /// The folder or file that does.
        path: PathBuf,
        /// The id of the user that owns it.
        owner: u32,
        /// The id of the user that this process runs as.
        us: u32,
    },
    /// Other users can put another folder in its place.
    #[error(
        "the state folder {folder} can be exchanged by any user: {parent} may be written by all; chmod o-w {parent}, or give another --state-dir"
    )]
    Exposed {
        /// The state folder.
        folder: PathBuf,
        /// A folder above it that every user may write, without the sticky bit.
        parent: PathBuf,
    },
    /// Something in the folder is a symbolic link.
    #[error(
        "{path} is a link, and nothing in a state folder may be one; put what it leads to in its place, or give another --state-dir"
    )]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// The folder's disk has no room, or no inodes.
    #[error("the state folder {folder} cannot be used: {why}; {MAKE_ROOM}")]
    Full {
        /// The state folder.
        folder: PathBuf,
        /// What is missing, in words.
        why: String,
    },
    /// Any other error of the disk.
    #[error("the state folder {folder} cannot be used: {source}")]
    Disk {
        /// The state folder.
        folder: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

impl StateDirError {
    /// The exit code of a process that ends with this error.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::InUse { .. } | Self::Full { .. } => Exit::TryLater,
            Self::Denied { .. } => Exit::Permission,
            Self::NoFolder { .. }
            | Self::Foreign { .. }
            | Self::Exposed { .. }
            | Self::Link { .. } => Exit::Configuration,
            Self::Disk { .. } => Exit::Unexpected,
        }
    }

    fn new(folder: &Path, source: io::Error) -> Self {
        let folder = folder.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::Denied { folder, source }
            }
            // The folder is missing and cannot be made either: below /proc, say.
            io::ErrorKind::NotADirectory
            | io::ErrorKind::AlreadyExists
            | io::ErrorKind::NotFound
            | io::ErrorKind::InvalidInput
            | io::ErrorKind::InvalidFilename => Self::NoFolder { folder, source },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full {
                folder,
                why: source.to_string(),
            },
            _ => Self::Disk { folder, source },
        }
    }
}

/// What an operator can do about a full disk: the end of an error's text.
pub const MAKE_ROOM: &str = "remove files from that disk (`df` and `df -i` show what it has left), or give another --state-dir";

/// What the disk must have free for a new state folder: KiB and inodes, for journal, locks and sockets. A folder that has a
/// journal needs neither: that journal has its reserve.
const NEW_KIB: u64 = 1_024;
const NEW_FILES: u64 = 32;

/// The state folder, locked for this process until this value is dropped.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes the folder where it is missing, sees to it that it is ours alone (mode 0700), and takes its lock.
    ///
    /// # Errors
    /// The folder is in use, forbidden, no folder, another user's or exchangeable by others, its disk is full, or it holds a
    /// link.
    pub fn open(folder: &Path) -> Result<Self, StateDirError> {
        let error = |source: io::Error| StateDirError::new(folder, source);
        make_folder(folder).map_err(error)?;
        let path = fs::canonicalize(folder).map_err(error)?;
        // Files may be open to this user although the folder is not, such as a lock file that was made before its mode changed.
        let access = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        rustix::fs::access(&path, access).map_err(|errno| error(errno.into()))?;
        ownership::claim(&path)?;
        if !path.join("journal.db").exists() {
            has_room(&path)?;
        }
        let mut file = lock_file()
            .create(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(error)?;
        match lock_patiently(&file).map_err(error)? {
            Lock::Taken => {}
            Lock::HeldByAnother => {
                return Err(StateDirError::InUse {
                    folder: path,
                    holder: holder(&mut file),
                });
            }
        }
        if let Err(error) = sign(&mut file) {
            // The disk is full. The lock is taken all the same; only its file does not say by whom.
            log::warn!(error:%; "the lock of the state folder does not say which process holds it");
        }
        Ok(Self { path, _lock: file })
    }

    /// The folder's path: absolute, without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder within it, made where it is missing. Its mode is set to 0700.
    ///
    /// # Errors
    /// The folder cannot be made or made private.
    pub fn folder(&self, name: &str) -> Result<PathBuf, StateDirError> {
        let folder = self.path.join(name);
        match make_folder(&folder).and_then(|()| ownership::make_private(&folder)) {
            Ok(()) => Ok(folder),
            Err(source) => Err(StateDirError::new(&folder, source)),
        }
    }
}

/// Whether a process holds a state folder's lock: `None` if not, `Some(None)` where the holder has not written down its id. Makes
/// and changes nothing; the lock is tried for a moment in shared mode.
///
/// # Errors
/// The lock file is there and cannot be read.
pub fn held_by(folder: &Path) -> io::Result<Option<Option<u32>>> {
    let mut file = match lock_file().write(false).open(folder.join("lock")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(None),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(Some(written_holder(&mut file))),
        Err(errno) => Err(errno.into()),
    }
}

/// Bytes on disk of the files that lie in a state folder itself, those in its folders not counted.
///
/// # Errors
/// The folder cannot be read.
pub fn bytes_of_files(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        // A file that was removed meanwhile takes no space.
        if let Ok(found) = fs::symlink_metadata(entry?.path())
            && found.is_file()
        {
            bytes += found.blocks() * 512;
        }
    }
    Ok(bytes)
}

/// Options that follow no link and do not block on a named pipe.
fn lock_file() -> OpenOptions {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .custom_flags(flags.bits().cast_signed());
    options
}

/// Checked before anything is made: otherwise the folder would stay half made, and the error would name some file in it.
fn has_room(folder: &Path) -> Result<(), StateDirError> {
    let disk = rustix::fs::statvfs(folder);
    let disk = disk.map_err(|errno| StateDirError::new(folder, errno.into()))?;
    // Some file systems have no bound on inodes, and report 0 of 0.
    let files = (disk.f_files > 0).then_some(disk.f_favail);
    let kib = disk.f_bavail.saturating_mul(disk.f_frsize) / 1_024;
    if kib >= NEW_KIB && files.is_none_or(|files| files >= NEW_FILES) {
        return Ok(());
    }
    let files = files.map_or_else(String::new, |files| format!(" and {files} inodes"));
    Err(StateDirError::Full {
        folder: folder.to_owned(),
        why: format!(
            "its disk has {kib} KiB{files} left, and a new one needs {NEW_KIB} KiB and {NEW_FILES} inodes"
        ),
    })
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Whether this process got the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lock {
    Taken,
    HeldByAnother,
}

/// Takes the lock, trying again for 50 ms: another process that only looks ([`held_by`]) holds it for a moment.
fn lock_patiently(file: &File) -> io::Result<Lock> {
    for _ in 0..LOOKS {
        if lock(file)? == Lock::Taken {
            return Ok(Lock::Taken);
        }
        #[expect(clippy::disallowed_methods, reason = "nothing runs yet")]
        std::thread::sleep(LOOK);
    }
    lock(file)
}

/// The pause between two tries, longer than a look takes; and the number of tries.
const LOOK: Duration = Duration::from_millis(10);
const LOOKS: usize = 5;

fn lock(file: &File) -> io::Result<Lock> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock::Taken),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(Lock::HeldByAnother),
        Err(errno) => Err(errno.into()),
    }
}

/// Writes our process id into a lock file, for those who find it locked.
fn sign(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// The holder's process id as part of a sentence; empty where the file does not tell.
fn holder(file: &mut File) -> String {
    written_holder(file).map_or_else(String::new, |process| format!(" (process {process})"))
}

fn written_holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests;
