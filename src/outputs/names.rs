//! Names as a container gave them, and as the master can take them: clean, relative, UTF-8.

use std::io;

use sha2::{Digest, Sha256};

use crate::domain::text;

/// The longest name of a file on the usual file systems, in bytes: the master must be able to store it.
const NAME_LIMIT: usize = 255;
/// What marks a repaired name: `~` and this many characters of its digest.
const MARK: usize = 8;

/// A name as UTF-8. One that is not is repaired and marked by its digest, so that two that look the same stay apart.
pub(super) fn repaired(name: &[u8]) -> String {
    if let Ok(name) = std::str::from_utf8(name) {
        return name.to_owned();
    }
    let digest = Sha256::digest(name);
    let mark = digest[..MARK / 2].iter().map(|byte| format!("{byte:02x}"));
    let readable = text::repair_utf8(name);
    let readable = text::truncate(&readable, NAME_LIMIT - MARK - 1);
    format!("{readable}~{}", mark.collect::<String>())
}

/// Splits a relative path into the folders on the way and the name at its end.
pub(super) fn split(path: &[u8]) -> io::Result<(Vec<&[u8]>, &[u8])> {
    let mut parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let last = parts.pop().unwrap_or_default();
    let unclean = |part: &&[u8]| matches!(*part, b"" | b"." | b"..");
    if parts.iter().chain([&last]).any(unclean) {
        let text = "the path is not clean and relative";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok((parts, last))
}
