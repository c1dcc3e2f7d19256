//! Unpacking what an engine that is not on this machine sends of a container's `/output`.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
};

use rustix::{
    fd::OwnedFd,
    fs::{Mode, mkdirat},
    io::Errno,
};
use tar::{Archive, Entry, EntryType};

use super::{Quotas, beneath, names, skipped::Skipped};
use crate::domain::text;

/// How much is copied at once. Blocks of zeros of this size become holes: the engine sends sparse files in full.
const BLOCK: usize = 64 * 1024;

/// Unpacks a stream into a folder and says what was left out.
pub(super) fn unpack(
    folder: &OwnedFd,
    tar: &mut dyn Read,
    quotas: &Quotas,
) -> io::Result<Vec<String>> {
    let mut unpacking = Unpacking {
        folder,
        quotas,
        entries: quotas.files,
        bytes: quotas.bytes,
        skipped: Skipped::default(),
    };
    for entry in Archive::new(tar).entries()? {
        unpacking.take(&mut entry?)?;
    }
    Ok(unpacking.skipped.into_sentences())
}

/// What is left of the quotas while a stream is unpacked.
struct Unpacking<'a> {
    folder: &'a OwnedFd,
    quotas: &'a Quotas,
    entries: usize,
    bytes: u64,
    skipped: Skipped,
}

impl Unpacking<'_> {
    fn take(&mut self, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
        let path = entry.path_bytes().into_owned();
        // The engine sends the folder itself as `output/`, and all else below that.
        let Some((_, path)) = split_first(&path) else {
            return Ok(());
        };
        let shown = text::repair_utf8(path);
        let Ok((folders, name)) = names::split(path) else {
            self.skipped.add(&shown, "has no clean path");
            return Ok(());
        };
        if let Err(why) = self.admit(entry.header().entry_type(), entry.size(), folders.len()) {
            self.skipped.add(&shown, &why);
            return Ok(());
        }
        // From one open folder to the next, never by a whole path: a link on the way would lead out.
        let mut parent = self.folder.try_clone()?;
        for folder in folders {
            parent = enter(&parent, folder)?;
        }
        if entry.header().entry_type() == EntryType::Link {
            let first = entry.link_name_bytes().unwrap_or_default().into_owned();
            if !self.link(&first, &parent, name)? {
                self.skipped
                    .add(&shown, "is a second name of a file that is not here");
            }
            return Ok(());
        }
        if entry.header().entry_type() == EntryType::Directory {
            enter(&parent, name)?;
            return Ok(());
        }
        let size = entry.size();
        copy(entry, beneath::create_file(&parent, name)?, size)
    }

    /// Gives a file that was unpacked before, and no other, its second name. False where the first name is not there.
    fn link(&self, first: &[u8], parent: &OwnedFd, name: &[u8]) -> io::Result<bool> {
        let Some((folders, first)) =
            split_first(first).and_then(|(_, path)| names::split(path).ok())
        else {
            return Ok(false);
        };
        let mut from = self.folder.try_clone()?;
        for folder in folders {
            match beneath::open_folder(&from, folder) {
                Ok(folder) => from = folder,
                Err(_) => return Ok(false),
            }
        }
        beneath::link_file(&from, first, parent, name)
    }

    /// Takes an entry's share of the quotas, or says why it cannot be had.
    fn admit(&mut self, kind: EntryType, size: u64, depth: usize) -> Result<(), String> {
        let other = |what: &str| Err(what.to_owned());
        let size = match kind {
            // A second name takes no bytes of its own.
            EntryType::Directory | EntryType::Link => 0,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => size,
            EntryType::Symlink => return other("is a symbolic link"),
            EntryType::Fifo => return other("is a FIFO"),
            EntryType::Char | EntryType::Block => return other("is a device"),
            _ => return other("is of no known kind"),
        };
        let Quotas {
            depth: deepest,
            files,
            bytes,
            ..
        } = self.quotas;
        if depth >= *deepest {
            return Err(format!("lies too deep: {deepest} folders are gone into"));
        }
        if self.entries == 0 {
            return Err(format!(
                "is over the limit of {files} files (--output-files)"
            ));
        }
        if size > self.bytes {
            return Err(format!(
                "has {size} bytes: all files may have {bytes} together (--output-bytes)"
            ));
        }
        self.entries -= 1;
        self.bytes -= size;
        Ok(())
    }
}

/// The first part of a path and the rest; `None` where nothing follows.
fn split_first(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let path = path.strip_prefix(b"./").unwrap_or(path);
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let slash = path.iter().position(|byte| *byte == b'/')?;
    Some((&path[..slash], &path[slash + 1..]))
}

fn enter(parent: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
    match mkdirat(parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => beneath::open_folder(parent, name),
        Err(error) => Err(error.into()),
    }
}

fn copy(from: &mut impl Read, mut to: File, size: u64) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    let mut left = size;
    while left > 0 {
        let wanted = usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK));
        // A stream that ends too early is damaged, and must not pass for a shorter file.
        from.read_exact(&mut block[..wanted])?;
        if block[..wanted].iter().all(|byte| *byte == 0) {
            to.seek(SeekFrom::Current(
                i64::try_from(wanted).map_err(io::Error::other)?,
            ))?;
        } else {
            to.write_all(&block[..wanted])?;
        }
        left -= wanted as u64;
    }
    to.set_len(size)
}
