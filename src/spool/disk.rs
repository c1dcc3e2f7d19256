//! What a spool asks of the file system beyond reading: writing, free space, and holes.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt, path::Path};

use rustix::{
    fs::{FallocateFlags, fallocate, statvfs},
    io::retry_on_intr,
};

/// A file system. A trait because no test can fill a disk, or choose one that cannot punch holes.
pub(super) trait Disk: Send + Sync {
    /// Writes all the bytes at the offset `at`; after an error some of them may be in the file.
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()>;

    /// Bytes that this user can still write to the folder's disk.
    fn free(&self, folder: &Path) -> io::Result<u64>;

    /// Gives the disk space of a part of a file back; the part reads as zeros then. The file's length stays.
    fn punch(&self, file: &File, range: Range<u64>) -> io::Result<()>;
}

/// The machine's own file systems.
pub(super) struct LinuxDisk;

impl Disk for LinuxDisk {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_all_at(bytes, at)
    }

    fn free(&self, folder: &Path) -> io::Result<u64> {
        let disk = statvfs(folder)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn punch(&self, file: &File, range: Range<u64>) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let length = range.end - range.start;
        Ok(retry_on_intr(|| {
            fallocate(file, flags, range.start, length)
        })?)
    }
}
