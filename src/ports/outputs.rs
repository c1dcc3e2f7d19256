//! The folders in which tasks leave their output files.

use std::{
    io::{self, Read, Write},
    path::PathBuf,
};

use crate::domain::{
    id::TaskId,
    record::{OutputFile, Outputs},
};

/// Makes, lists, reads and removes output folders. Every call may block: use a blocking thread.
/// Nothing outside a task's own folder is ever read or removed, whatever lies in it.
pub trait OutputStore: Send + Sync {
    /// Makes the task's empty folder (mode 1777, so that any user of a container can write), or finds it there.
    ///
    /// # Errors
    /// It cannot be made.
    fn prepare(&self, task: &TaskId) -> io::Result<PathBuf>;

    /// Whether the task has a folder.
    ///
    /// # Errors
    /// The folder cannot be looked for.
    fn is_there(&self, task: &TaskId) -> io::Result<bool>;

    /// Lists the regular files, sorted by path; what is left out (links, devices, over the quotas) is told in `skipped`.
    /// A missing folder is an empty one.
    ///
    /// # Errors
    /// The folder itself cannot be read.
    fn list(&self, task: &TaskId) -> io::Result<Outputs>;

    /// Opens one listed file, refusing anything that is not a regular file below the folder any more.
    ///
    /// # Errors
    /// It is gone, or something else took its place.
    fn open(&self, task: &TaskId, file: &OutputFile) -> io::Result<Box<dyn Read + Send>>;

    /// Unpacks a tar stream as the engine's archive call sends it (first component `output/` stripped) into the task's
    /// folder, made if it is missing: regular files and folders only, nothing outside the folder. Says what was left out and
    /// why, as `skipped` does: it will not be there to be listed. The same stream again gives the same files.
    ///
    /// # Errors
    /// The stream is damaged or the disk is full.
    fn unpack(&self, task: &TaskId, tar: &mut dyn Read) -> io::Result<Vec<String>>;

    /// Makes a file of the worker's own, for writing, at the top of the task's folder, made if it is missing. A regular file
    /// of that name is replaced, anything else refused.
    ///
    /// # Errors
    /// An error of the disk, or the name is taken by something that is no file.
    fn add(&self, task: &TaskId, name: &str) -> io::Result<Box<dyn Write + Send>>;

    /// Removes the task's folder with all in it. A missing one is fine.
    ///
    /// # Errors
    /// Something could not be removed.
    fn remove(&self, task: &TaskId) -> io::Result<()>;
}
