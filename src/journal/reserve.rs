//! Space kept back for the journal: on a full disk, the outcomes of the tasks that run must still become durable. Whoever
//! owns the journal gives the reserve up when a commit is told `Full`, and fills it again when there is room. It lies in the
//! journal's folder, so that it is space of the same disk.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::PathBuf,
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::{Errno, retry_on_intr},
};

/// 16 MiB: some thousands of endings.
pub const RESERVE: u64 = 16 << 20;

/// The file that holds the space.
#[derive(Debug)]
pub struct Reserve {
    path: PathBuf,
    bytes: u64,
}

impl Reserve {
    /// A reserve of so many bytes at a path; nothing is touched yet.
    #[must_use]
    pub fn new(path: PathBuf, bytes: u64) -> Self {
        Self { path, bytes }
    }

    /// Makes sure that the space is held. Cheap where it is held already.
    ///
    /// # Errors
    /// There is no room for it, or the disk's own; nothing is held then.
    pub fn fill(&self) -> io::Result<()> {
        if self.is_held() {
            return Ok(());
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.path)?;
        allocate(&file, self.bytes).inspect_err(|_| {
            // A part of it would help nobody; the error that is told is the one that counts.
            let _ = fs::remove_file(&self.path);
        })
    }

    /// Gives the space to whoever writes next. Says whether there was any.
    ///
    /// # Errors
    /// The disk's.
    pub fn give_up(&self) -> io::Result<bool> {
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A file may be long and hold nothing: what counts is its blocks, of 512 bytes each.
    fn is_held(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|file| file.blocks() * 512 >= self.bytes)
    }
}

fn allocate(mut file: &File, bytes: u64) -> io::Result<()> {
    match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, bytes)) {
        // Where the file system does not know how, the long way.
        Err(Errno::OPNOTSUPP) => {
            io::copy(&mut io::Read::take(io::repeat(1), bytes), &mut file)?;
            file.flush()
        }
        allocated => Ok(allocated?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_held_until_it_is_given_up_and_can_be_held_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reserve");
        let reserve = Reserve::new(path.clone(), 1 << 20);
        let held = || fs::metadata(&path).map_or(0, |file| file.blocks() * 512);

        // What an interrupted start left: length without space.
        File::create(&path).unwrap().set_len(1 << 20).unwrap();
        for _ in 0..2 {
            reserve.fill().unwrap();
            reserve.fill().unwrap();
            assert!(held() >= 1 << 20);
            assert!(reserve.give_up().unwrap());
            assert_eq!(held(), 0);
        }
        assert!(!reserve.give_up().unwrap());
    }

    #[test]
    fn what_cannot_be_held_whole_is_not_held_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reserve");

        // More than any disk has.
        let refused = Reserve::new(path.clone(), 1 << 62).fill();

        assert!(refused.is_err());
        assert!(!path.exists());
    }
}
