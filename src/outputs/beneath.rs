//! The only way from an open folder to something in it: by one name, following no link, staying on the file system.

use std::{fs::File, io};

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{
        AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, linkat, openat2, statat,
        unlinkat,
    },
    io::Errno,
};

/// Opens a folder for reading and for going on from it.
pub(super) fn open_folder(parent: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    open(parent, name, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// Opens a folder that may not be read, as a handle to change its mode by.
pub(super) fn hold_folder(parent: impl AsFd, name: &[u8]) -> io::Result<OwnedFd> {
    open(parent, name, OFlags::PATH | OFlags::DIRECTORY)
}

/// Opens a regular file for reading. Anything else is refused, and does not hold us up: a FIFO's writer may never come.
pub(super) fn open_file(parent: impl AsFd, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    regular(open(parent, name, flags)?)
}

/// Makes a regular file for writing, or empties the one that is there.
pub(super) fn create_file(parent: impl AsFd, name: &[u8]) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NONBLOCK;
    regular(open(parent, name, flags)?)
}

/// Gives a regular file a second name, in place of a regular file that has it. False where the first is no regular file.
pub(super) fn link_file(
    from: impl AsFd,
    first: &[u8],
    to: impl AsFd,
    second: &[u8],
) -> io::Result<bool> {
    let is_file = |folder: &dyn AsFd, name| {
        look(folder.as_fd(), name)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    };
    if !is_file(&from, first) {
        return Ok(false);
    }
    match linkat(&from, first, &to, second, AtFlags::empty()) {
        Err(Errno::EXIST) if is_file(&to, second) => {
            let (one, other) = (look(&from, first)?, look(&to, second)?);
            if (one.st_dev, one.st_ino) != (other.st_dev, other.st_ino) {
                unlinkat(&to, second, AtFlags::empty())?;
                linkat(&from, first, &to, second, AtFlags::empty())?;
            }
        }
        linked => linked?,
    }
    Ok(true)
}

/// What the system tells of a name; of a link, about itself.
pub(super) fn look(parent: impl AsFd, name: &[u8]) -> io::Result<Stat> {
    Ok(statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?)
}

fn open(parent: impl AsFd, name: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let stay = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = if flags.contains(OFlags::CREATE) {
        Mode::RUSR | Mode::WUSR
    } else {
        Mode::empty()
    };
    openat2(parent, name, flags, mode, stay).map_err(|error| match error {
        Errno::NOSYS => io::Error::new(
            io::ErrorKind::Unsupported,
            "this kernel has no openat2; outputs can be read safely from Linux 5.6 on",
        ),
        Errno::LOOP => io::Error::new(io::ErrorKind::InvalidInput, "it is a link"),
        other => other.into(),
    })
}

fn regular(opened: OwnedFd) -> io::Result<File> {
    let stat = fstat(&opened)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
        Ok(opened.into())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no regular file",
        ))
    }
}
