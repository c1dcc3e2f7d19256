//! Space kept back for the journal: on a full disk, the outcomes of running tasks must still become durable. The journal gives
//! the reserve up when a commit fails as `Full`, and fills it again when there is room. The reserve is a file in the journal's
//! folder, so that it is space of the same disk.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FallocateFlags, OFlags, fallocate, statvfs},
    io::{Errno, retry_on_intr},
};

use super::opening::folder_of;

/// Bytes of the reserve: room for some thousands of endings.
const RESERVE: u64 = 16 << 20;

/// On a small disk the reserve is at most this part of it: one sixteenth.
const PART: u64 = 16;

/// The reserve is filled only when this many times its size are free: space that was freed is for others first.
const PLENTY: u64 = 4;

/// The file that holds the space.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
}

impl Reserve {
    /// A reserve beside the journal at `journal`, in bytes as many as its disk allows; nothing is made yet.
    ///
    /// # Errors
    /// The disk does not tell its size.
    pub(super) fn beside(journal: &Path) -> io::Result<Self> {
        let path = journal.with_extension("reserve");
        let disk = statvfs(folder_of(&path))?;
        let total = disk.f_blocks.saturating_mul(disk.f_frsize);
        Ok(Self::new(path, RESERVE.min(total / PART)))
    }

    fn new(path: PathBuf, bytes: u64) -> Self {
        Self { path, bytes }
    }

    /// As [`fill`](Self::fill), but does nothing where less than [`PLENTY`] is free.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn fill_of_plenty(&self) -> io::Result<()> {
        if self.is_held() {
            return Ok(());
        }
        let disk = statvfs(folder_of(&self.path))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < PLENTY * self.bytes {
            return Ok(());
        }
        self.fill()
    }

    /// Makes sure that the space is held. Cheap where it is held already.
    ///
    /// # Errors
    /// There is no room for it, or the disk's own; no part of it is kept then.
    fn fill(&self) -> io::Result<()> {
        if self.is_held() {
            return Ok(());
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            // Never follow a link: truncating would empty the file that it leads to.
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .mode(0o600)
            .open(&self.path)?;
        allocate(&file, self.bytes).inspect_err(|_| {
            // A part of the reserve would help nobody, and the error to be told is that of the allocation.
            let _ = fs::remove_file(&self.path);
        })
    }

    /// Removes the file, so that the space is free for the next write; whether there was a file.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn give_up(&self) -> io::Result<bool> {
        match fs::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the file really takes up the space: a file may be long without having blocks (of 512 bytes each).
    fn is_held(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|file| file.blocks() * 512 >= self.bytes)
    }
}

fn allocate(mut file: &File, bytes: u64) -> io::Result<()> {
    match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, bytes)) {
        // The file system has no `fallocate`: write the bytes instead.
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
    fn a_small_disk_is_not_eaten_by_it_and_a_full_one_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");

        let usual = Reserve::beside(&path).unwrap();
        assert!(usual.bytes <= RESERVE);
        assert_eq!(usual.path, folder.path().join("journal.reserve"));

        // Plenty of this is nowhere.
        let large = Reserve::new(usual.path.clone(), 1 << 60);
        large.fill_of_plenty().unwrap();
        assert!(!large.path.exists());
        let small = Reserve::new(usual.path, 4_096);
        small.fill_of_plenty().unwrap();
        assert!(small.path.exists());
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
