//! What a store of the worker's holds on the disk, whosever it is: for the bound on the state folder, and for what nobody knows
//! any more.

use std::{collections::HashSet, io};

use crate::domain::id::TaskId;

/// The tasks that there are.
#[derive(Debug, Default)]
pub struct Known {
    /// Those under way, and those that have a container: all that is theirs is kept.
    pub unfinished: HashSet<TaskId>,
    /// Those that are done: their logs are kept, and nothing else.
    pub finished: HashSet<TaskId>,
}

/// A store with something for each task. Calls may block: use a blocking thread.
pub trait Holdings: Send + Sync {
    /// Bytes on disk of all of it.
    fn total_bytes(&self) -> u64;

    /// The names of what none of these tasks is to have, and is not in use.
    ///
    /// # Errors
    /// The disk's.
    fn strangers(&self, known: &Known) -> io::Result<Vec<String>>;

    /// Removes one of those. A missing one is fine.
    ///
    /// # Errors
    /// The disk's.
    fn remove_stranger(&self, name: &str) -> io::Result<()>;
}
