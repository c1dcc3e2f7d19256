//! What lies in a state folder, as an operator is shown it: gathered without changing anything, whether a worker runs or not.

use std::{path::PathBuf, time::SystemTime};

use crate::domain::{
    id::TaskId,
    record::{Phase, Snapshot, TaskRecord, Tombstone},
};

/// Everything in the folder.
#[derive(Debug, Clone, PartialEq)]
pub struct StateFacts {
    /// The folder's path.
    pub folder: PathBuf,
    /// The rights on it.
    pub access: AccessFacts,
    /// The worker that it belongs to, where that is written down.
    pub owner: Option<OwnerFacts>,
    /// Whether a worker holds it.
    pub lock: LockFacts,
    /// The journal.
    pub journal: JournalFacts,
    /// Damaged journals that were set aside.
    pub set_aside: Vec<String>,
    /// The logs, by file name.
    pub logs: Vec<LogFacts>,
    /// The history of the actors.
    pub history: HistoryFacts,
}

/// Who may enter the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessFacts {
    /// The number of the user who owns it.
    pub user: u32,
    /// Its mode, without the kind of file.
    pub mode: u32,
}

/// The worker that a state folder belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerFacts {
    /// The worker's id.
    pub worker: String,
    /// The engine that has its containers, once one was met.
    pub engine: Option<String>,
}

impl StateFacts {
    /// Whether nothing tells that a worker ever ran on the folder.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.journal == JournalFacts::Missing
            && self.owner.is_none()
            && self.lock == LockFacts::Free
            && self.set_aside.is_empty()
            && self.logs.is_empty()
            && self.history == HistoryFacts::default()
    }
}

/// Which tasks are asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All tasks that are not done.
    Unfinished,
    /// The tasks that are not done, and those that are done and still kept.
    All,
    /// One task, also one whose retention is over.
    One(TaskId),
}

/// What the journal knows of one task.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskStory {
    /// The task is not retired.
    Kept {
        /// The task's record.
        record: Box<TaskRecord>,
        /// When the task came to each phase, in their order; one that it leapt over, or came to before times were kept, is left
        /// out.
        times: Vec<(Phase, SystemTime)>,
    },
    /// The task's retention is over.
    Retired {
        /// The tombstone that is left of it.
        stone: Tombstone,
        /// When it was retired.
        at: SystemTime,
    },
    /// The task's row in the journal cannot be understood.
    Unreadable(LostRow),
}

/// Whether a worker holds the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockFacts {
    /// No worker runs on it.
    Free,
    /// A worker runs on it; its process, where that is written down.
    Held(Option<u32>),
}

/// The journal.
#[derive(Debug, Clone, PartialEq)]
pub enum JournalFacts {
    /// There is no journal.
    Missing,
    /// The journal is whole, but perhaps for rows of finished tasks.
    Sound {
        /// The format that it has.
        format: i64,
        /// The format that this program writes.
        known: i64,
        /// All that can be read of it.
        content: Box<Snapshot>,
        /// The rows that cannot be read.
        lost: Vec<LostRow>,
        /// Bytes of its file and its write-ahead log.
        bytes: u64,
        /// Whether users other than its owner can read it.
        is_open_to_others: bool,
    },
    /// A newer program wrote it.
    Newer {
        /// The format that it has.
        found: i64,
        /// The newest format that this program knows.
        known: i64,
    },
    /// The journal is not whole; says why.
    Damaged(String),
    /// The journal could not be looked at; says why.
    Unreadable(String),
}

/// A row of the journal that cannot be understood. A start goes on without one of a finished task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRow {
    /// The task's id, as far as it can be read.
    pub task: String,
    /// Why it cannot be understood.
    pub why: String,
}

/// One log file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFacts {
    /// Its name in the folder of logs.
    pub file: String,
    /// The task's id; `None` where the file's beginning is damaged.
    pub task: Option<TaskId>,
    /// Bytes on disk.
    pub bytes: u64,
    /// How many whole records it has.
    pub records: u64,
    /// Records whose content is not what was written, and places where there is none.
    pub damaged: u64,
    /// Whether the log was ended: nothing will be added.
    pub is_ended: bool,
    /// Bytes behind its last whole record.
    pub torn: u64,
}

/// The history of the actors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HistoryFacts {
    /// How many events it has.
    pub events: usize,
    /// Lines that are no events: torn by a crash, or damaged.
    pub unreadable: usize,
}
