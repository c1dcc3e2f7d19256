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
    /// A reader beside it: what is committed when a question is asked is in the answer.
    ///
    /// # Errors
    /// The store cannot be read.
    fn reader(&self) -> Result<Box<dyn JournalReader>, JournalError>;

    /// What is known of one task.
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

    /// To be called now and then; cheap. Sees whether the store is still where it was, and keeps space back for a full disk if
    /// none is held and the disk has plenty.
    ///
    /// # Errors
    /// `Damaged`: it was removed or replaced.
    fn tend(&mut self) -> Result<(), JournalError>;
}

/// Answers questions about all tasks at once, on a thread of its own, while the writer goes on.
pub trait JournalReader: Send {
    /// Every task that is not done, oldest first; early cancels, redeliveries, settings. No tombstones.
    ///
    /// # Errors
    /// The store cannot be read.
    fn unfinished(&mut self) -> Result<Snapshot, JournalError>;

    /// What there is of everything, by ids and times alone.
    ///
    /// # Errors
    /// The store cannot be read.
    fn household(&mut self) -> Result<Household, JournalError>;
}

/// What is in the journal, for whoever keeps house.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Household {
    /// Tasks that are done, and when: the oldest first.
    pub finished: Vec<(TaskId, SystemTime)>,
    /// All others.
    pub unfinished: HashSet<TaskId>,
    /// The containers of those, as far as they have one.
    pub containers: HashSet<ContainerId>,
    /// Of those, results that are put aside, and since when: the oldest first.
    pub parked: Vec<(TaskId, SystemTime)>,
    /// Images that this worker has pulled.
    pub images: Vec<Pulled>,
    /// Which image each task wants that is not done, in its own words, and which one it has.
    pub images_wanted: Vec<(String, Option<String>)>,
}

/// What the journal knows of a task.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    /// It is not retired.
    Record(Box<TaskRecord>),
    /// Its retention is over.
    Retired(Tombstone),
    /// That it was finished, and no more: its row is damaged, and costs that task alone.
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
    /// The store takes nothing of that size, from nobody.
    #[error("it is too big for the journal")]
    TooBig,
    /// Retire: what the master is told is not even fixed, and a tombstone would have nothing to tell a late repeat.
    #[error("the task has not come to that step yet")]
    Early,
}

/// The store does not do its work.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JournalError {
    /// No space left.
    #[error("the disk is full: {0}")]
    Full(String),
    /// What is in the file is no whole journal: opening it anew sets it aside.
    #[error("the journal is damaged: {0}")]
    Damaged(String),
    /// Anything else of the disk or the database.
    #[error("the journal cannot be used: {0}")]
    Broken(String),
    /// It was written by a newer version of this program.
    #[error("the journal has format {found}, this program knows {known}; use a newer worker-node")]
    Newer {
        /// In the file.
        found: i64,
        /// Ours.
        known: i64,
    },
}
