//! Removing a folder with all in it, however deep and whatever it is: a folder that is not empty is moved up beside its
//! parent and dealt with there, so that two open folders are enough for any tree. Links are removed, not followed.

use std::io;

use rustix::{
    fd::{AsRawFd, OwnedFd},
    fs::{AtFlags, Dir, Mode, RenameFlags, chmod, renameat_with, unlinkat},
    io::Errno,
};

use super::beneath;

/// How many passes a folder may take to become empty; after them somebody still writes to it, and its removal fails.
const PASSES: u32 = 100;

/// Removes `name` in `root`; fine if it is not there.
pub(super) fn remove(root: &OwnedFd, name: &[u8]) -> io::Result<()> {
    if gone(root, name)? {
        return Ok(());
    }
    let top = readable(root, name)?;
    let mut removal = Removal {
        top: &top,
        moved: 0,
        dissolved: 0,
    };
    for _ in 0..PASSES {
        removal.pass()?;
        if gone(root, name)? {
            return Ok(());
        }
    }
    Err(still_written_to())
}

struct Removal<'a> {
    top: &'a OwnedFd,
    /// The number of the last folder that was moved up.
    moved: u64,
    /// The number of the last moved folder that was removed.
    dissolved: u64,
}

impl Removal<'_> {
    /// Removes what the top folder holds, and what is moved up meanwhile.
    fn pass(&mut self) -> io::Result<()> {
        for name in entries(self.top)? {
            self.dissolve(&name?)?;
            while self.dissolved < self.moved {
                self.dissolved += 1;
                self.dissolve(moved_name(self.dissolved).as_bytes())?;
            }
        }
        Ok(())
    }

    /// Removes what is in the top folder; from a folder that is not empty, the folders in it are moved up first.
    fn dissolve(&mut self, name: &[u8]) -> io::Result<()> {
        if gone(self.top, name)? {
            return Ok(());
        }
        let folder = readable(self.top, name)?;
        for _ in 0..PASSES {
            for child in entries(&folder)? {
                let child = child?;
                if !gone(&folder, &child)? {
                    self.move_up(&folder, &child)?;
                }
            }
            if gone(self.top, name)? {
                return Ok(());
            }
        }
        Err(still_written_to())
    }

    fn move_up(&mut self, folder: &OwnedFd, child: &[u8]) -> io::Result<()> {
        let mut is_allowed = false;
        loop {
            self.moved += 1;
            let free = moved_name(self.moved);
            let flags = RenameFlags::NOREPLACE;
            match renameat_with(folder, child, self.top, free, flags) {
                Err(Errno::EXIST) => {}
                // Only a user who may write to a folder can move it.
                Err(Errno::ACCESS) if !is_allowed => {
                    is_allowed = true;
                    allow(&beneath::hold_folder(folder, child)?)?;
                }
                moved => return Ok(moved?),
            }
        }
    }
}

fn moved_name(number: u64) -> String {
    format!(".removed-{number}")
}

/// Removes a name unless it is a folder that is not empty; returns whether it is gone. A name that is not there any more is.
fn gone(folder: &OwnedFd, name: &[u8]) -> io::Result<bool> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    match unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Opens a folder; one of ours whose mode forbids that gets another mode first.
fn readable(parent: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
    match beneath::open_folder(parent, name) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            allow(&beneath::hold_folder(parent, name)?)?;
            beneath::open_folder(parent, name)
        }
        opened => opened,
    }
}

/// Lets ourselves into a folder of ours. By the handle, not by name: somebody may put a link there meanwhile.
fn allow(held: &OwnedFd) -> io::Result<()> {
    let held = format!("/proc/self/fd/{}", held.as_raw_fd());
    Ok(chmod(held, Mode::RWXU)?)
}

fn entries(folder: &OwnedFd) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>> + use<>> {
    let names = Dir::read_from(folder)?.map(|entry| {
        let entry = entry?;
        Ok(entry.file_name().to_bytes().to_vec())
    });
    Ok(names.filter(|name| !matches!(name.as_deref(), Ok(b"." | b".."))))
}

fn still_written_to() -> io::Error {
    io::Error::other("it does not become empty: somebody still writes to it")
}
