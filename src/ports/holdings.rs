//! What a store of the worker has on the disk: its size, for the bound on the state folder, and what belongs to no task any more,
//! for the janitor to remove.

use std::{collections::HashSet, io};

use crate::domain::id::TaskId;

/// The tasks that the worker knows.
#[derive(Debug, Default)]
pub struct Known {
    /// Tasks under way, and tasks that have a container: all that is theirs is kept.
    pub unfinished: HashSet<TaskId>,
    /// Tasks that are done: their logs are kept, and nothing else.
    pub finished: HashSet<TaskId>,
}

/// A store with something for each task. Calls may block: use a blocking thread.
pub trait Holdings: Send + Sync {
    /// Bytes on disk of the whole store.
    fn total_bytes(&self) -> u64;

    /// The names of entries that none of these tasks is to have, and that are not in use.
    ///
    /// # Errors
    /// An error of the disk.
    fn strangers(&self, known: &Known) -> io::Result<Vec<String>>;

    /// Removes such an entry. A missing one is fine.
    ///
    /// # Errors
    /// An error of the disk.
    fn remove_stranger(&self, name: &str) -> io::Result<()>;
}
