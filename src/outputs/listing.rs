//! The walk through a task's folder: depth first, with one open folder per level, so that neither the depth of the tree nor
//! the number of its files can exhaust anything. No file is set-user-id or set-group-id after it.

use std::{
    collections::{BinaryHeap, HashSet},
    io,
};

use rustix::{
    fd::{BorrowedFd, OwnedFd},
    fs::{Dir, FileType, Mode, RawMode, fchmod, fstat},
};

use super::{PATH_LIMIT, Quotas, beneath, names, skipped::Skipped};
use crate::domain::record::{OutputFile, Outputs};

/// How many entries are looked at for each file that may be taken: what is over the quota is counted, but not for ever.
const LOOKS_PER_FILE: usize = 100;

/// Lists the regular files in a folder and below it, within the quotas, in the order of their paths.
pub(super) fn list(folder: OwnedFd, quotas: &Quotas) -> io::Result<Outputs> {
    let device = fstat(&folder)?.st_dev;
    let mut walk = Walk {
        quotas,
        device,
        found: BinaryHeap::new(),
        names: 0,
        over_files: 0,
        over_names: 0,
        skipped: Skipped::default(),
    };
    walk.through(Level {
        entries: Dir::new(folder)?,
        path: String::new(),
        source: Vec::new(),
    })?;
    Ok(walk.finish())
}

/// A folder that is being read.
struct Level {
    entries: Dir,
    /// Its repaired path with a slash behind it; empty for the task's folder.
    path: String,
    /// Its path with a slash behind it, byte for byte as the container named it.
    source: Vec<u8>,
}

impl Level {
    fn next_name(&mut self) -> Option<io::Result<Vec<u8>>> {
        loop {
            let entry = match self.entries.read()? {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error.into())),
            };
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                return Some(Ok(name.to_vec()));
            }
        }
    }
}

/// A file to be taken, ordered by path, so that of too many the last can be dropped.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    path: String,
    source: Vec<u8>,
    size: u64,
}

impl Found {
    /// Bytes that the file's path takes in the journal, which escapes control characters and writes out the bytes of a name that is
    /// no text.
    fn stored(&self) -> usize {
        let controls = self.path.chars().filter(|c| c.is_control()).count();
        let source = match self.source == self.path.as_bytes() {
            true => 0,
            false => 2 * self.source.len(),
        };
        self.path.len() + 5 * controls + source
    }
}

struct Walk<'a> {
    quotas: &'a Quotas,
    device: u64,
    found: BinaryHeap<Found>,
    /// Bytes that the paths of `found` take in the journal.
    names: usize,
    /// How many files were left out for their number.
    over_files: u64,
    /// How many files were left out for the length of all names.
    over_names: u64,
    skipped: Skipped,
}

impl Walk<'_> {
    fn through(&mut self, top: Level) -> io::Result<()> {
        let mut levels = vec![top];
        let mut looks = self.quotas.files.saturating_mul(LOOKS_PER_FILE);
        while let Some(mut level) = levels.pop() {
            let name = match level.next_name() {
                None => continue,
                Some(Ok(name)) => name,
                Some(Err(error)) if levels.is_empty() => return Err(error),
                Some(Err(error)) => {
                    let why = format!("could not be read to its end: {error}");
                    self.skipped.add(&level.path, &why);
                    continue;
                }
            };
            if looks == 0 {
                let path = format!("{}{}", level.path, names::repaired(&name));
                self.skipped
                    .add(&path, "and what follows was not looked at");
                return Ok(());
            }
            looks -= 1;
            let below = self.visit(&level, &name);
            levels.push(level);
            match below {
                Some(below) if levels.len() >= self.quotas.depth => {
                    let why = format!("lies too deep: {} folders are gone into", self.quotas.depth);
                    self.skipped.add(&below.path, &why);
                }
                below => levels.extend(below),
            }
        }
        Ok(())
    }

    /// Takes a file down, or says why not; returns a folder to go into.
    fn visit(&mut self, level: &Level, name: &[u8]) -> Option<Level> {
        let path = format!("{}{}", level.path, names::repaired(name));
        let source = [&level.source, name].concat();
        if path.len().max(source.len()) > PATH_LIMIT {
            let why = format!("has a path of more than {PATH_LIMIT} bytes");
            self.skipped.add(&path, &why);
            return None;
        }
        match self.examine(level, name) {
            Ok(Entry::File(size)) => {
                self.keep(Found { path, source, size });
                None
            }
            Ok(Entry::Folder(entries)) => Some(Level {
                entries,
                path: path + "/",
                source: [&source, b"/".as_slice()].concat(),
            }),
            Ok(Entry::Other(what)) => {
                self.skipped.add(&path, what);
                None
            }
            Err(error) => {
                let why = format!("could not be looked at: {error}");
                self.skipped.add(&path, &why);
                None
            }
        }
    }

    fn examine(&self, level: &Level, name: &[u8]) -> io::Result<Entry> {
        let folder = level.entries.fd()?;
        let stat = beneath::look(folder, name)?;
        if stat.st_dev != self.device {
            return Ok(Entry::Other("is on another file system"));
        }
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                clear_set_id(folder, name, stat.st_mode)?;
                Entry::File(stat.st_size.cast_unsigned())
            }
            FileType::Directory => Entry::Folder(Dir::new(beneath::open_folder(folder, name)?)?),
            FileType::Symlink => Entry::Other("is a symbolic link"),
            FileType::Fifo => Entry::Other("is a FIFO"),
            FileType::Socket => Entry::Other("is a socket"),
            FileType::CharacterDevice | FileType::BlockDevice => Entry::Other("is a device"),
            FileType::Unknown => Entry::Other("is of no known kind"),
        })
    }

    fn keep(&mut self, found: Found) {
        self.names += found.stored();
        self.found.push(found);
        while self.found.len() > self.quotas.files || self.names > self.quotas.names {
            let over = match self.found.len() > self.quotas.files {
                true => &mut self.over_files,
                false => &mut self.over_names,
            };
            *over += 1;
            let Some(last) = self.found.pop() else { break };
            self.names -= last.stored();
        }
    }

    fn finish(mut self) -> Outputs {
        let mut files = Vec::with_capacity(self.found.len());
        let mut taken = HashSet::new();
        let mut room = self.quotas.bytes;
        for found in self.found.into_sorted_vec() {
            if found.size > room {
                let (size, limit) = (found.size, self.quotas.bytes);
                let why = format!(
                    "has {size} bytes: all files may have {limit} together (--output-bytes)"
                );
                self.skipped.add(&found.path, &why);
                // A smaller file behind it may still fit.
                continue;
            }
            room -= found.size;
            files.push(OutputFile {
                path: unique(found.path, &mut taken),
                source: found.source,
                size: found.size,
            });
        }
        let mut skipped = self.skipped.into_sentences();
        if self.over_files > 0 {
            let (over, limit) = (self.over_files, self.quotas.files);
            skipped.push(format!(
                "{over} files over the limit of {limit} (--output-files) were left out"
            ));
        }
        if self.over_names > 0 {
            let (over, limit) = (self.over_names, self.quotas.names);
            skipped.push(format!(
                "{over} files were left out, since the names of all may have {limit} bytes together"
            ));
        }
        Outputs { files, skipped }
    }
}

/// Clears the set-user-id and set-group-id bits, by which whoever runs a file gets the rights of its owner: root, for most tasks.
/// Output files may wait for their master for days.
fn clear_set_id(folder: BorrowedFd<'_>, name: &[u8], mode: RawMode) -> io::Result<()> {
    let mode = Mode::from_raw_mode(mode);
    if mode.intersects(Mode::SUID | Mode::SGID) {
        let file = beneath::open_file(folder, name)?;
        fchmod(file, mode - Mode::SUID - Mode::SGID)?;
    }
    Ok(())
}

enum Entry {
    File(u64),
    Folder(Dir),
    Other(&'static str),
}

/// A path that no file before has: a repaired name can still be another file's own.
fn unique(path: String, taken: &mut HashSet<String>) -> String {
    let numbered = (2_u32..).map(|n| format!("{path}~{n}"));
    let mut free = std::iter::once(path.clone()).chain(numbered);
    let path = free.find(|path| !taken.contains(path)).unwrap_or_default();
    taken.insert(path.clone());
    path
}
