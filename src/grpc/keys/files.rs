//! Reads a file that an operator named, as far as that is safe: no FIFO that never ends, nothing huge, no secret that others
//! can read.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
};

use rustix::fs::OFlags;

use super::{KeyError, NamedFile};

/// Bytes of the largest file that is read: a bundle of all authorities of the world has a quarter of it.
const FILE_LIMIT: u64 = 1024 * 1024;

/// Which users of this machine may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Secrecy {
    /// Anybody.
    Public,
    /// Its owner, and its group, which may not write it.
    Secret,
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

/// The state that a file is in; `None`: it is not there, or not for us.
pub(super) fn stamp(file: &NamedFile) -> Option<Stamp> {
    let data = std::fs::metadata(&file.path).ok()?;
    Some(Stamp {
        device: data.dev(),
        inode: data.ino(),
        length: data.len(),
        written: (data.mtime(), data.mtime_nsec()),
        changed: (data.ctime(), data.ctime_nsec()),
    })
}

/// Reads the whole file.
pub(super) fn read(file: &NamedFile, secrecy: Secrecy) -> Result<Vec<u8>, KeyError> {
    let opened = open(file).map_err(|source| unreadable(file, source))?;
    let data = opened
        .metadata()
        .map_err(|source| unreadable(file, source))?;
    check(file, &data, secrecy)?;
    let mut bytes = Vec::new();
    opened
        .take(FILE_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| unreadable(file, source))?;
    match bytes.len() as u64 > FILE_LIMIT {
        true => Err(unusable(file, "is larger than 1 MiB")),
        false => Ok(bytes),
    }
}

pub(super) fn unusable(file: &NamedFile, complaint: impl Into<String>) -> KeyError {
    KeyError::Unusable {
        file: file.clone(),
        complaint: complaint.into(),
    }
}

fn unreadable(file: &NamedFile, source: io::Error) -> KeyError {
    KeyError::Unreadable {
        file: file.clone(),
        source,
    }
}

fn open(file: &NamedFile) -> io::Result<File> {
    // A FIFO that nobody writes to would hold the opener for ever.
    OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(&file.path)
}

fn check(file: &NamedFile, data: &Metadata, secrecy: Secrecy) -> Result<(), KeyError> {
    if !data.is_file() {
        return Err(unusable(file, "is no regular file"));
    }
    let mode = data.mode() & 0o7777;
    // Nothing for others, and no writing for the group: 0600, 0400 and 0640 are fine.
    if secrecy == Secrecy::Secret && mode & 0o027 != 0 {
        let path = file.path.display();
        let complaint = format!(
            "is open to others on this machine (mode {mode:04o}), so it is no secret; type: chmod 600 {path}"
        );
        return Err(unusable(file, complaint));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use super::*;

    fn named(path: &Path) -> NamedFile {
        NamedFile {
            flag: "--tls-key",
            path: path.to_owned(),
        }
    }

    #[test]
    fn a_secret_that_others_can_read_or_change_is_refused_with_what_to_type() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "text").unwrap();
        for (mode, is_secret) in [
            (0o600, true),
            (0o400, true),
            (0o640, true),
            (0o644, false),
            (0o660, false),
            (0o604, false),
            (0o666, false),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let read = read(&named(&path), Secrecy::Secret);
            match read {
                Ok(bytes) => assert!(is_secret && bytes == b"text", "{mode:o}"),
                Err(error) => {
                    let told = error.to_string();
                    assert!(!is_secret, "{mode:o}: {told}");
                    assert!(
                        told.contains("chmod 600 ") && !told.contains("text"),
                        "{told}"
                    );
                }
            }
        }
        assert!(read(&named(&path), Secrecy::Public).is_ok());
    }

    #[test]
    fn what_is_no_file_or_too_large_is_refused_and_waited_for_by_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let (fifo, large) = (folder.path().join("fifo"), folder.path().join("large"));
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        fs::write(&large, vec![b'x'; 1024 * 1024 + 1]).unwrap();

        let told = |path: &Path| {
            let error = read(&named(path), Secrecy::Public).unwrap_err();
            (error.to_string(), error.is_denied())
        };

        for path in [&fifo, folder.path()] {
            assert!(told(path).0.contains("is no regular file"));
        }
        assert!(told(&large).0.contains("larger than 1 MiB"));
        let (missing, is_denied) = told(&folder.path().join("none"));
        assert!(missing.contains("--tls-key") && !is_denied, "{missing}");
    }
}
