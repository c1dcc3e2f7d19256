//! The lock on a worker's id on an engine: two workers of one id would take each other's containers for their own, even with
//! different state folders. The two meet only where they look in the same place: all of root's workers do, all workers of one
//! user as a rule, and workers of two users only where both fall back to `/run/lock`.

use std::{
    env,
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{Lock, holder, lock, lock_file, sign};
use crate::{domain::id::WorkerId, exit::Exit};

/// Root's place: no other user can make or hold files in it.
const OF_ROOT: &str = "/run/worker-node";
/// The place that every user can write.
const OF_ALL: &str = "/run/lock";
/// How many files in a row may be unlinked between opening and locking them, as each holder does at its end; then the place fails.
const TRIES: usize = 100;

/// Why this worker may not use this engine.
#[derive(Debug, Error)]
pub enum EngineLockError {
    /// Another process runs under the same id on the same engine.
    #[error(
        "another worker named {worker} uses this engine{holder}; stop that one, or give this one another --id"
    )]
    InUse {
        /// The id.
        worker: WorkerId,
        /// ` (process 123)`, or nothing where the lock file does not tell.
        holder: String,
    },
    /// No lock could be made in any of the places.
    #[error(
        "no lock can be made for this worker: {file}: {source}; make that folder writable for this user, or set RUNTIME_DIRECTORY to one that is"
    )]
    NoPlace {
        /// The lock file in the last place tried.
        file: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
}

impl EngineLockError {
    /// The exit code of a process that ends with this error.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::InUse { .. } => Exit::TryLater,
            Self::NoPlace { .. } => Exit::Permission,
        }
    }
}

/// Keeps a second worker of the same id off the engine until this value is dropped, which also removes the file.
#[derive(Debug)]
pub struct EngineLock {
    path: PathBuf,
    _lock: File,
}

impl EngineLock {
    /// Takes the lock in the first place where a file can be made: for root `/run/worker-node`; else `RUNTIME_DIRECTORY`,
    /// `XDG_RUNTIME_DIR`, `/run/lock`, and at last the state folder, where no other worker would look.
    ///
    /// # Errors
    /// Another worker holds it, or no place takes a file.
    pub fn take(
        engine_id: &str,
        worker: &WorkerId,
        state_folder: &Path,
    ) -> Result<Self, EngineLockError> {
        Self::take_in(&places(state_folder), engine_id, worker)
    }

    pub(super) fn take_in(
        places: &[PathBuf],
        engine_id: &str,
        worker: &WorkerId,
    ) -> Result<Self, EngineLockError> {
        // The engine's id may be any text, so a digest of it goes into the file's name.
        let digest = Sha256::digest(engine_id);
        let engine: String = digest
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let name = format!("worker-node-{worker}-{engine}.lock");
        let mut last = (PathBuf::from(&name), io::ErrorKind::NotFound.into());
        for place in places {
            let path = place.join(&name);
            match take_at(&path) {
                Ok((file, Lock::Taken)) => return Ok(Self { path, _lock: file }),
                Ok((mut file, Lock::HeldByAnother)) => {
                    return Err(EngineLockError::InUse {
                        worker: worker.clone(),
                        holder: holder(&mut file),
                    });
                }
                Err(error) => last = (path, error),
            }
        }
        let (file, source) = last;
        Err(EngineLockError::NoPlace { file, source })
    }
}

impl Drop for EngineLock {
    fn drop(&mut self) {
        // In a sticky folder a file that another user made cannot be removed. It stays, unlocked, and harms nobody.
        let _ = fs::remove_file(&self.path);
    }
}

fn places(state_folder: &Path) -> Vec<PathBuf> {
    if rustix::process::geteuid().is_root() && make_private(Path::new(OF_ROOT)).is_ok() {
        return vec![PathBuf::from(OF_ROOT)];
    }
    let named = |name| env::var_os(name).map(PathBuf::from);
    // Where the unit has several runtime folders, systemd separates them by colons; the first one is used.
    let runtime = env::var("RUNTIME_DIRECTORY").ok();
    let runtime = runtime.and_then(|folders| folders.split(':').next().map(PathBuf::from));
    [
        runtime,
        named("XDG_RUNTIME_DIR"),
        Some(PathBuf::from(OF_ALL)),
        Some(state_folder.to_owned()),
    ]
    .into_iter()
    .flatten()
    .filter(|place| place.is_absolute())
    .collect()
}

/// Makes a folder that only root may enter; an existing one must be root's.
fn make_private(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let found = fs::symlink_metadata(folder)?;
    if !found.is_dir() || found.uid() != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

/// Locks the file at `path`. The former holder may unlink the file between our opening and locking it: then the next try opens a
/// new one.
fn take_at(path: &Path) -> io::Result<(File, Lock)> {
    for _ in 0..TRIES {
        let mut file = open_shared(path)?;
        let lock = lock(&file)?;
        if lock == Lock::HeldByAnother {
            return Ok((file, lock));
        }
        if !bears(path, &file)? {
            continue;
        }
        // Another user's file can be locked but not written: then it does not say which process holds it.
        let _ = sign(&mut file);
        return Ok((file, lock));
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

fn bears(path: &Path, file: &File) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Opens a lock file in a folder where every user may make files. In a sticky folder the kernel refuses to open another user's
/// file with O_CREAT, so the file is opened first, and made only where it is missing.
fn open_shared(path: &Path) -> io::Result<File> {
    match lock_file().open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // Read access is enough for a lock.
            lock_file().write(false).open(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path),
        opened => opened,
    }
}

fn make(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    // In `/run/lock` other users' workers must be able to open the file to see that it is locked.
    let mode = if path.starts_with(OF_ALL) {
        0o644
    } else {
        0o600
    };
    match lock_file().create_new(true).mode(mode).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => lock_file().open(path),
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(id: &str) -> WorkerId {
        WorkerId::new(id).unwrap()
    }

    #[test]
    fn one_engine_has_one_worker_of_a_name() {
        let place = tempfile::tempdir().unwrap();
        let places = [place.path().to_owned()];
        let first = EngineLock::take_in(&places, "ABCD:EF/../x", &worker("w")).unwrap();

        let second = EngineLock::take_in(&places, "ABCD:EF/../x", &worker("w")).unwrap_err();

        assert_eq!(second.exit(), Exit::TryLater);
        assert!(
            second.to_string().contains("another worker named w"),
            "{second}"
        );
        EngineLock::take_in(&places, "another engine", &worker("w")).unwrap();
        EngineLock::take_in(&places, "ABCD:EF/../x", &worker("v")).unwrap();
        drop(first);
        EngineLock::take_in(&places, "ABCD:EF/../x", &worker("w")).unwrap();
    }

    #[test]
    fn the_next_place_serves_where_the_first_does_not() {
        let place = tempfile::tempdir().unwrap();
        let places = [PathBuf::from("/no/such/place"), place.path().to_owned()];

        let _lock = EngineLock::take_in(&places, "e", &worker("w")).unwrap();

        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
        let error = EngineLock::take_in(&places[..1], "e", &worker("w")).unwrap_err();
        assert_eq!(error.exit(), Exit::Permission);
        assert!(error.to_string().contains("RUNTIME_DIRECTORY"), "{error}");
    }

    #[test]
    fn the_state_folder_is_the_last_place() {
        let state = Path::new("/state");

        let places = places(state);

        if places != [PathBuf::from(OF_ROOT)] {
            assert_eq!(places.last(), Some(&state.to_owned()));
        }
    }

    #[test]
    fn a_lock_leaves_no_file_and_one_that_was_unlinked_is_not_taken() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("lock");
        let left = || fs::read_dir(place.path()).unwrap().count();
        let lock = EngineLock::take_in(&[place.path().to_owned()], "e", &worker("w")).unwrap();
        assert_eq!(left(), 1);
        drop(lock);
        assert_eq!(left(), 0);

        let unlinked = make(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!bears(&path, &unlinked).unwrap());
        let next = make(&path).unwrap();
        assert!(bears(&path, &next).unwrap() && !bears(&path, &unlinked).unwrap());
    }

    #[test]
    fn a_new_lock_is_its_owners_alone() {
        let place = tempfile::tempdir().unwrap();
        let file = make(&place.path().join("lock")).unwrap();

        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
