//! The folder that holds everything which outlives the process, and the locks that keep it, and the name of this worker, for one
//! process alone. Locks are the kernel's (`flock`): they end with the process, however it ends, and no file is ever stale.
//! The folder is its worker's alone: what does not look so is mended or refused at every start, and whose it is stands in it.
//! What lies in the folder belongs to those who are given its path.

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

/// Why the state folder is not ours to use.
#[derive(Debug, Error)]
pub enum StateDirError {
    /// Another process holds it.
    #[error(
        "the state folder {folder} is in use by another worker{holder}; stop that one, or give this one its own --state-dir"
    )]
    InUse {
        /// Which.
        folder: PathBuf,
        /// ` (process 123)`, where it can be told.
        holder: String,
    },
    /// The operating system does not allow it.
    #[error(
        "the state folder {folder} cannot be written: {source}; run as its owner, or give another --state-dir"
    )]
    Denied {
        /// Which.
        folder: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// It cannot be a folder: something else is there.
    #[error("the state folder {folder} cannot be a folder: {source}; give another --state-dir")]
    NoFolder {
        /// Which.
        folder: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// It, or something in it, belongs to another user.
    #[error(
        "{path} belongs to user {owner}, and this worker runs as user {us}; run it as its owner, or give it away with chown -R {us} {path}, or give another --state-dir"
    )]
    Foreign {
        /// What does.
        path: PathBuf,
        /// To whom.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// Others may put another folder in its place.
    #[error(
        "the state folder {folder} can be exchanged by any user: {parent} may be written by all; chmod o-w {parent}, or give another --state-dir"
    )]
    Exposed {
        /// Which.
        folder: PathBuf,
        /// The folder on the way to it that is too open.
        parent: PathBuf,
    },
    /// Something in it leads elsewhere.
    #[error(
        "{path} is a link, and nothing in a state folder may be one; put what it leads to in its place, or give another --state-dir"
    )]
    Link {
        /// What is.
        path: PathBuf,
    },
    /// Its disk has no room, or no place for one more file.
    #[error("the state folder {folder} cannot be used: {why}; {MAKE_ROOM}")]
    Full {
        /// Which.
        folder: PathBuf,
        /// What is missing.
        why: String,
    },
    /// The disk's.
    #[error("the state folder {folder} cannot be used: {source}")]
    Disk {
        /// Which.
        folder: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

impl StateDirError {
    /// How the process ends with it.
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
            // Where there is no such folder and none can be made either: below /proc, say.
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

/// What to do about a full disk.
pub const MAKE_ROOM: &str = "remove files from that disk (`df` and `df -i` show what it has left), or give another --state-dir";

/// What a new state folder takes on the disk at least: journal, locks and sockets. One that is in use has its journal's reserve.
const NEW_KIB: u64 = 1_024;
const NEW_FILES: u64 = 32;

/// The state folder, ours for as long as this lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes the folder where it is missing, sees to it that it is ours alone (mode 0700), and takes its lock.
    ///
    /// # Errors
    /// It is in use, forbidden, no folder, somebody else's, or something in it leads elsewhere.
    pub fn open(folder: &Path) -> Result<Self, StateDirError> {
        let error = |source: io::Error| StateDirError::new(folder, source);
        make_folder(folder).map_err(error)?;
        let path = fs::canonicalize(folder).map_err(error)?;
        // A lock file from better times can be open to us where the folder is not any more.
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
            // On a full disk. The lock is taken all the same; only nobody reads who has it.
            log::warn!(error:%; "the lock of the state folder does not say which process holds it");
        }
        Ok(Self { path, _lock: file })
    }

    /// Where it is: absolute, without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A folder within it, made where it is missing; its mode is 0700 then, whatever it was.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf, StateDirError> {
        let folder = self.path.join(name);
        match make_folder(&folder).and_then(|()| ownership::make_private(&folder)) {
            Ok(()) => Ok(folder),
            Err(source) => Err(StateDirError::new(&folder, source)),
        }
    }
}

/// Whether a worker has a state folder, and which process it is if that is written down. Nothing is made or changed; the lock is
/// tried for, and given back at once.
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
        // One that is gone by now takes nothing.
        if let Ok(found) = fs::symlink_metadata(entry?.path())
            && found.is_file()
        {
            bytes += found.blocks() * 512;
        }
    }
    Ok(bytes)
}

/// Follows no link, and waits for no pipe.
fn lock_file() -> OpenOptions {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .custom_flags(flags.bits().cast_signed());
    options
}

/// Without it a new folder would be left half made, in words that name one of its files.
fn has_room(folder: &Path) -> Result<(), StateDirError> {
    let disk = rustix::fs::statvfs(folder);
    let disk = disk.map_err(|errno| StateDirError::new(folder, errno.into()))?;
    // Some file systems have no bound on files, and tell none.
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

/// Whether we have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lock {
    Taken,
    HeldByAnother,
}

/// Somebody who only looks (`held_by`) has the lock for no longer than that takes.
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

/// How long a look at the lock may take, and how many may come together.
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

/// What the holder wrote into its lock file.
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
