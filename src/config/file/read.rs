//! Reads the text of a configuration file. It waits for no pipe and reads no device, and as root it takes no file that others can
//! write, since whoever writes the file decides what root does.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::OFlags;

/// The largest configuration file that is taken, in bytes: no list of images comes near it.
const LIMIT: u64 = 1 << 20;

/// Whether there is such a file. True also where that cannot be told: then the attempt to read it says why.
pub(super) fn is_there(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(_) => true,
        Err(error) => !matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        ),
    }
}

/// The whole text of a file. The error is the end of a sentence that begins with the file's path.
pub(super) fn bounded(path: &Path, is_root: bool) -> Result<String, String> {
    let unread = |error: io::Error| format!("cannot be read: {error}");
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path);
    let file = opened.map_err(unread)?;
    allowed(&file, is_root)?;
    let mut bytes = Vec::new();
    file.take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(unread)?;
    if bytes.len() as u64 > LIMIT {
        return Err(format!(
            "is larger than {} KiB; no configuration is",
            LIMIT >> 10
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = line_of(&error.as_bytes()[..valid]);
        format!("is no UTF-8 text (line {line})")
    })
}

fn allowed(file: &File, is_root: bool) -> Result<(), String> {
    let found = file
        .metadata()
        .map_err(|error| format!("cannot be looked at: {error}"))?;
    if !found.is_file() {
        return Err("is no file; give the configuration's".into());
    }
    if !is_root {
        return Ok(());
    }
    if found.uid() != 0 {
        return Err(format!(
            "belongs to user {}, who would decide what root does; chown root it",
            found.uid()
        ));
    }
    match found.mode() & 0o022 {
        0 => Ok(()),
        _ => Err(format!(
            "may be written by others (mode {:04o}), who would decide what root does; chmod go-w it",
            found.mode() & 0o7777
        )),
    }
}

/// The line at the end of these bytes, counted from 1.
pub(super) fn line_of(before: &[u8]) -> usize {
    1 + memchr::memchr_iter(b'\n', before).count()
}
