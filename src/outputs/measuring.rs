//! How much the output folders take on the disk. What cannot be looked at does not count; no link is followed, and no more than
//! a bounded part of a hostile tree is walked.

use rustix::{
    fd::OwnedFd,
    fs::{Dir, FileType},
};

use super::beneath;

/// How many levels are walked: as many as files are taken from.
const DEPTH: usize = 64;

/// Bytes on disk of all that lies below a folder.
pub(super) fn bytes_in(folder: &OwnedFd) -> u64 {
    bytes_down_to(folder, DEPTH)
}

fn bytes_down_to(folder: &OwnedFd, depth: usize) -> u64 {
    let Ok(entries) = Dir::read_from(folder) else {
        return 0;
    };
    let mut bytes = 0;
    for entry in entries.flatten() {
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        let Ok(stat) = beneath::look(folder, name) else {
            continue;
        };
        // Units of 512 bytes, whatever the file system's own block is; holes do not count.
        bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            && depth > 0
            && let Ok(inner) = beneath::open_folder(folder, name)
        {
            bytes += bytes_down_to(&inner, depth - 1);
        }
    }
    bytes
}
