//! What a store of the worker's holds on the disk, whosever it is: for the bound on the state folder, and for what nobody knows
//! any more.

use std::{collections::HashSet, io};

use crate::domain::id::TaskId;

/// A store with something for each task. Calls may block: use a blocking thread.
pub trait Holdings: Send + Sync {
    /// Bytes on disk of all of it.
    fn total_bytes(&self) -> u64;

    /// The names of what belongs to none of these tasks, and is not in use.
    ///
    /// # Errors
    /// The disk's.
    fn strangers(&self, known: &HashSet<TaskId>) -> io::Result<Vec<String>>;

    /// Removes one of those. A missing one is fine.
    ///
    /// # Errors
    /// The disk's.
    fn remove_stranger(&self, name: &str) -> io::Result<()>;
}
