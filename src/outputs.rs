//! The folders on this machine in which tasks leave their output files. The task actors have them made, listed, unpacked and
//! removed on blocking threads; the upload reads the files.
//!
//! What lies in such a folder was put there by a stranger's program, which may still be at it. So nothing is ever reached by
//! a path as a whole: each step goes from an open folder to a name in it, by `openat2`, which follows no link and leaves
//! neither the folder nor its file system. Only regular files are read.

mod beneath;
mod listing;
mod measuring;
mod names;
mod removing;
mod skipped;
#[cfg(test)]
mod tests;
mod unpacking;

use std::{
    collections::HashSet,
    fs::{self, DirBuilder, File, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::{
    fd::OwnedFd,
    fs::{Mode, OFlags, fchmod, mkdirat},
    io::Errno,
};
use sha2::{Digest, Sha256};

use crate::{
    domain::{
        id::TaskId,
        record::{OutputFile, Outputs},
    },
    ports::{
        holdings::{Holdings, Known},
        outputs::OutputStore,
    },
};

/// How much of a task's output is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quotas {
    /// Number of files.
    pub files: usize,
    /// Bytes of all files together.
    pub bytes: u64,
    /// Folders within folders, the task's own counted.
    pub depth: usize,
    /// Bytes of all paths together, as they are stored: a control character counts for six.
    pub names: usize,
}

/// The longest path that is taken, in bytes: the kernel's own limit for one.
const PATH_LIMIT: usize = 4_096;

impl Default for Quotas {
    /// 10,000 files, 10 GiB, 64 levels, 1 MiB of names.
    fn default() -> Self {
        Self {
            files: 10_000,
            bytes: 10 << 30,
            depth: 64,
            names: 1 << 20,
        }
    }
}

/// All output folders of a worker, below one root.
#[derive(Debug)]
pub struct OutputFolders {
    root: PathBuf,
    quotas: Quotas,
}

impl OutputFolders {
    /// Opens the root, made where there is none. Its mode is 0700: a task's folder below it is open to all, and what a task
    /// leaves there may be set-user-id while it runs. The engine binds a folder into its container, and nobody walks through the root to it.
    ///
    /// # Errors
    /// An error of the disk; or a link in the root's place, which is not followed.
    pub fn open(root: &Path, quotas: Quotas) -> io::Result<Self> {
        let root = std::path::absolute(root)?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&root)?;
        open_root(&root)?.set_permissions(Permissions::from_mode(0o700))?;
        Ok(Self { root, quotas })
    }

    fn root(&self) -> io::Result<OwnedFd> {
        Ok(open_root(&self.root)?.into())
    }

    /// Opens the task's folder, made with a mode if it is missing.
    fn make(&self, task: &TaskId, mode: Mode) -> io::Result<OwnedFd> {
        let root = self.root()?;
        let name = name_of(task);
        match mkdirat(&root, &name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let folder = beneath::open_folder(&root, name.as_bytes())?;
        // The mode is set here and not by `mkdirat`, where the process's mask would take bits away.
        fchmod(&folder, mode)?;
        Ok(folder)
    }

    /// Opens the task's folder, if there is one.
    fn find(&self, task: &TaskId) -> io::Result<Option<OwnedFd>> {
        match beneath::open_folder(&self.root()?, name_of(task).as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }
}

impl OutputStore for OutputFolders {
    fn prepare(&self, task: &TaskId) -> io::Result<PathBuf> {
        let everybody = Mode::SVTX | Mode::RWXU | Mode::RWXG | Mode::RWXO;
        self.make(task, everybody)?;
        Ok(self.root.join(name_of(task)))
    }

    fn is_there(&self, task: &TaskId) -> io::Result<bool> {
        Ok(self.find(task)?.is_some())
    }

    fn list(&self, task: &TaskId) -> io::Result<Outputs> {
        match self.find(task)? {
            Some(folder) => listing::list(folder, &self.quotas),
            None => Ok(Outputs::default()),
        }
    }

    fn open(&self, task: &TaskId, file: &OutputFile) -> io::Result<Box<dyn Read + Send>> {
        let folder = self.find(task)?.ok_or(io::ErrorKind::NotFound)?;
        let (folders, name) = names::split(&file.source)?;
        let mut parent = folder;
        for folder in folders {
            parent = beneath::open_folder(&parent, folder)?;
        }
        Ok(Box::new(beneath::open_file(&parent, name)?))
    }

    fn unpack(&self, task: &TaskId, tar: &mut dyn Read) -> io::Result<Vec<String>> {
        // For us alone: no container sees this folder, since its `/output` was inside the container.
        let folder = self.make(task, Mode::RWXU)?;
        unpacking::unpack(&folder, tar, &self.quotas)
    }

    fn add(&self, task: &TaskId, name: &str) -> io::Result<Box<dyn Write + Send>> {
        let folder = match self.find(task)? {
            Some(folder) => folder,
            None => self.make(task, Mode::RWXU)?,
        };
        Ok(Box::new(beneath::create_file(&folder, name.as_bytes())?))
    }

    fn remove(&self, task: &TaskId) -> io::Result<()> {
        removing::remove(&self.root()?, name_of(task).as_bytes())
    }
}

impl Holdings for OutputFolders {
    fn total_bytes(&self) -> u64 {
        self.root().map_or(0, |root| measuring::bytes_in(&root))
    }

    fn strangers(&self, known: &Known) -> io::Result<Vec<String>> {
        // A folder of a finished task is a stranger too: it could not be removed at the task's end.
        let theirs: HashSet<String> = known.unfinished.iter().map(name_of).collect();
        let is_stranger = |name: &String| {
            let is_ours = name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_ours && !theirs.contains(name)
        };
        let names = fs::read_dir(&self.root)?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        let names = names.into_iter().filter_map(|name| name.into_string().ok());
        Ok(names.filter(is_stranger).collect())
    }

    fn remove_stranger(&self, name: &str) -> io::Result<()> {
        removing::remove(&self.root()?, name.as_bytes())
    }
}

fn open_root(root: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let mut options = File::options();
    options.read(true).custom_flags(flags.bits().cast_signed());
    options.open(root)
}

/// The name of a task's folder: a digest of the id, so that it holds nothing that the id holds.
fn name_of(task: &TaskId) -> String {
    let digest = Sha256::digest(task.as_str());
    digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
