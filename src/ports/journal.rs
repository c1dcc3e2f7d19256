//! The durable record of tasks, deliveries and settings.

use std::{collections::HashSet, time::SystemTime};

use thiserror::Error;

use crate::domain::{
    id::{ContainerId, TaskId},
    record::{Change, Snapshot, TaskRecord, Tombstone},
    shelf::Pulled,
};

/// Opens and owns the store. One writer at a time; called on a thread that may block.
pub trait JournalStore: Send {
    /// A reader beside the writer: its answers have all that is committed when the question is asked.
    ///
    /// # Errors
    /// The store cannot be read.
    fn reader(&self) -> Result<Box<dyn JournalReader>, JournalError>;

    /// What the journal knows of one task.
    ///
    /// # Errors
    /// The store cannot be read.
    fn find(&mut self, task: &TaskId) -> Result<Option<Known>, JournalError>;

    /// Makes several requests durable in one commit. The inner results answer each request by itself: a refused one changes
    /// nothing and leaves the others alone.
    ///
    /// # Errors
    /// Nothing of the whole batch is durable.
    fn commit(
        &mut self,
        requests: &[Vec<Change>],
    ) -> Result<Vec<Result<(), Refused>>, JournalError>;

    /// The disk is full: gives the store what space it has kept back for this moment. Trying a commit again is worth while.
    fn make_room(&mut self);

    /// Looks after the store; to be called now and then, and cheap. Sees whether the store is still where it was, and keeps space
    /// back for a full disk if none is held and the disk has plenty.
    ///
    /// # Errors
    /// `Damaged`: the store was removed or replaced.
    fn tend(&mut self) -> Result<(), JournalError>;
}

/// Answers questions about all tasks at once, on a thread of its own, while the writer goes on.
pub trait JournalReader: Send {
    /// Every task that is not done, oldest first; early cancels, redeliveries, settings. No tombstones.
    ///
    /// # Errors
    /// The store cannot be read.
    fn unfinished(&mut self) -> Result<Snapshot, JournalError>;

    /// What there is of everything, by ids and times alone, for the janitor.
    ///
    /// # Errors
    /// The store cannot be read.
    fn household(&mut self) -> Result<Household, JournalError>;
}

/// An overview of the journal, for the janitor.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Household {
    /// Tasks that are done, and when: the oldest first.
    pub finished: Vec<(TaskId, SystemTime)>,
    /// All tasks that are not done.
    pub unfinished: HashSet<TaskId>,
    /// The containers of the unfinished tasks, as far as they have one.
    pub containers: HashSet<ContainerId>,
    /// The unfinished tasks whose results are parked, and since when: the oldest first.
    pub parked: Vec<(TaskId, SystemTime)>,
    /// Images that this worker has pulled.
    pub images: Vec<Pulled>,
    /// For each task that is not done, the image that it wants, in its own words, and the one that its container has.
    pub images_wanted: Vec<(String, Option<String>)>,
}

/// What the journal knows of a task.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    /// It is not retired.
    Record(Box<TaskRecord>),
    /// Its retention is over.
    Retired(Tombstone),
    /// The task was finished, and no more is known: its row is damaged, and costs that task alone.
    Unreadable,
}

/// Why one request was not written, although the store works.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// Accept: the id is there already.
    #[error("the task is there already")]
    Duplicate,
    /// The task is not there.
    #[error("no such task")]
    UnknownTask,
    /// The record has gone past that step; a late writer tried to take it back.
    #[error("the task has gone past that step")]
    Past,
    /// Sealed: a cancel is durable, and the verdict does not say so.
    #[error("the task is cancelled")]
    CancelPending,
    /// The store takes no request of that size, from nobody.
    #[error("it is too big for the journal")]
    TooBig,
    /// Retire: the task is not even sealed, and a tombstone would have nothing to tell a late repeat.
    #[error("the task has not come to that step yet")]
    Early,
}

/// The store does not do its work.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JournalError {
    /// No space left.
    #[error("the disk is full: {0}")]
    Full(String),
    /// The file is no whole journal: opening it anew sets it aside.
    #[error("the journal is damaged: {0}")]
    Damaged(String),
    /// Anything else of the disk or the database.
    #[error("the journal cannot be used: {0}")]
    Broken(String),
    /// The journal was written by a newer version of this program.
    #[error("the journal has format {found}, this program knows {known}; use a newer worker-node")]
    Newer {
        /// The format of the file.
        found: i64,
        /// The format that this program writes.
        known: i64,
    },
}
