//! Adds up the files in a folder in which a stranger's program may be at work: each step goes from an open folder to a name in it,
//! follows no link and leaves no file system. Files count by their blocks on the disk, each once however many names it has. The
//! walk ends as soon as it has found more than the task's allowance.
//!
//! A walk is done in pieces, each on a thread of its own, at most two at once, and at a pace, so that a tree of a million files
//! takes neither a whole core nor the turn of another task's walk.

use std::{ffi::CStr, io, path::Path, thread, time::Duration};

use rustix::{
    fd::{BorrowedFd, OwnedFd},
    fs::{
        AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, fstatvfs, openat,
        openat2, statat,
    },
    io::Errno,
};
use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, sleep_until},
};

use crate::domain::storage::{Allowance, Counted};

/// How many pieces of walks are worked on at once in the whole process.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

/// The names that are looked at in one piece. A walk has one piece in each `PIECE_TIME`: at most 100,000 names a second.
const PIECE: u64 = 10_000;
const PIECE_TIME: Duration = Duration::from_millis(100);

/// The deepest that a walk goes, in folders, as it keeps each folder on its way open; a deeper tree counts as tangled.
const DEPTH: usize = 256;

/// The most names that are looked at for each inode that a task may have; a tree with more counts as tangled.
const NAMES: u64 = 4;

/// The files that were found so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sum {
    /// Their blocks on the disk, in bytes.
    pub(super) bytes: u64,
    /// The files; one with n names counts as an nth at each of its names.
    inodes: f64,
    names: u64,
    /// How completely they were counted.
    pub(super) counted: Counted,
    /// Free bytes of the fuller one of the disks that they lie on.
    pub(super) free: Option<u64>,
}

impl Sum {
    pub(super) fn inodes(&self) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count: positive, and far below the integer's limit"
        )]
        let inodes = self.inodes.round() as u64;
        inodes
    }

    pub(super) fn add(&mut self, stat: &Stat) {
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let names = match is_folder {
            true => 1,
            false => u32::try_from(stat.st_nlink).unwrap_or(u32::MAX).max(1),
        };
        // `st_blocks` is in units of 512 bytes on every file system, and leaves holes out.
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        self.bytes += blocks * 512 / u64::from(names);
        self.inodes += 1.0 / f64::from(names);
        self.names += 1;
    }

    /// Whether the count can end: it is over the allowance already, or was given up.
    fn is_enough(&self, most: &Allowance) -> bool {
        self.counted != Counted::Whole || self.bytes > most.bytes || self.inodes() > most.inodes
    }
}

/// A walk through a folder that can be done in pieces.
pub(super) struct Walk {
    levels: Vec<Dir>,
    top: Option<(Stat, u64)>,
}

impl Walk {
    /// A walk that begins in this folder, which must not be a link.
    pub(super) fn into(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(CWD, folder, flags, Mode::empty())?;
        let disk = fstatvfs(&folder)?;
        let top = (fstat(&folder)?, disk.f_bavail.saturating_mul(disk.f_frsize));
        Ok(Self {
            levels: vec![Dir::new(folder)?],
            top: Some(top),
        })
    }

    /// Looks at so many more names; true when the walk has come to its end.
    fn go_on(&mut self, names: u64, sum: &mut Sum, most: &Allowance) -> io::Result<bool> {
        if let Some((stat, free)) = self.top.take() {
            if !sum.is_enough(most) {
                sum.add(&stat);
            }
            sum.free = Some(sum.free.map_or(free, |other| other.min(free)));
        }
        let until = sum.names.saturating_add(names);
        while let Some(level) = self.levels.last_mut() {
            if sum.is_enough(most) {
                break;
            }
            if sum.names >= until {
                return Ok(false);
            }
            // A folder that cannot be read on was removed meanwhile, and is left.
            let Some(Ok(entry)) = level.read() else {
                self.levels.pop();
                continue;
            };
            let name = entry.file_name();
            if !matches!(name.to_bytes(), b"." | b"..") {
                let folder = look(level.fd()?, name, sum)?;
                self.enter(folder, sum, most)?;
            }
        }
        if sum.counted == Counted::Whole && sum.is_enough(most) {
            sum.counted = Counted::UntilOver;
        }
        Ok(true)
    }

    fn enter(
        &mut self,
        folder: Option<OwnedFd>,
        sum: &mut Sum,
        most: &Allowance,
    ) -> io::Result<()> {
        let is_tangled = sum.names > most.inodes.saturating_mul(NAMES)
            || (folder.is_some() && self.levels.len() >= DEPTH);
        if is_tangled {
            sum.counted = Counted::Tangled;
        } else if let Some(folder) = folder {
            self.levels.push(Dir::new(folder)?);
        }
        Ok(())
    }
}

/// Counts the file of this name; if it is a folder that can be entered, returns it open.
fn look(parent: BorrowedFd<'_>, name: &CStr, sum: &mut Sum) -> io::Result<Option<OwnedFd>> {
    let Ok(stat) = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else {
        return Ok(None);
    };
    sum.add(&stat);
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(None);
    }
    let stay = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat2(parent, name, flags, Mode::empty(), stay) {
        Ok(folder) => Ok(Some(folder)),
        // By now the name is no folder or gone, or the folder is another file system's or cannot be read: it is not entered.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::ACCESS) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Goes on with a walk, piece by piece, until it is at its end.
pub(super) async fn to_its_end(walk: Walk, sum: Sum, most: Allowance) -> io::Result<Sum> {
    let mut at = (walk, sum);
    loop {
        let begun = Instant::now();
        let (walk, sum, is_done) = piece(at, most).await?;
        if is_done {
            return Ok(sum);
        }
        at = (walk, sum);
        sleep_until(begun + PIECE_TIME).await;
    }
}

async fn piece((mut walk, mut sum): (Walk, Sum), most: Allowance) -> io::Result<(Walk, Sum, bool)> {
    in_turn(move || {
        let is_done = walk.go_on(PIECE, &mut sum, &most)?;
        Ok((walk, sum, is_done))
    })
    .await?
}

/// Does a piece of work on a thread of its own, once fewer than two others are at work.
pub(super) async fn in_turn<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let turn = AT_ONCE.acquire().await.map_err(io::Error::other)?;
    let (tell, told) = oneshot::channel();
    thread::Builder::new()
        .name("storage".into())
        .spawn(move || {
            let done = work();
            drop(turn);
            // The caller may have been dropped meanwhile; then nobody needs the result.
            let _ = tell.send(done);
        })?;
    told.await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
