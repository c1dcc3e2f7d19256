//! What lies in a state folder, as an operator is shown it: gathered without changing anything, whether a worker runs or not.

use std::{path::PathBuf, time::SystemTime};

use crate::domain::{
    id::TaskId,
    record::{Phase, Snapshot, TaskRecord, Tombstone},
};

/// Everything in the folder.
#[derive(Debug, Clone, PartialEq)]
pub struct StateFacts {
    /// Which.
    pub folder: PathBuf,
    /// Who may enter it.
    pub access: AccessFacts,
    /// Whose it is, where that is written down.
    pub owner: Option<OwnerFacts>,
    /// Whether a worker has it.
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
    /// The number of the user whose it is.
    pub user: u32,
    /// Its mode, without the kind of file.
    pub mode: u32,
}

/// Whose the folder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerFacts {
    /// The worker's id.
    pub worker: String,
    /// The engine that has its containers, once one was met.
    pub engine: Option<String>,
}

impl StateFacts {
    /// Nothing tells that a worker ever ran on it.
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
    /// Those that are not done.
    Unfinished,
    /// Those, and the ones that are done and still kept.
    All,
    /// One, also one whose retention is over.
    One(TaskId),
}

/// What the journal knows of one task.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskStory {
    /// It is kept.
    Kept {
        /// As it stands.
        record: Box<TaskRecord>,
        /// When it came to each phase, in their order; one that it leapt over, or came to before times were kept, is left out.
        times: Vec<(Phase, SystemTime)>,
    },
    /// Its retention is over.
    Retired {
        /// What is left of it.
        stone: Tombstone,
        /// When it was retired.
        at: SystemTime,
    },
    /// Its row cannot be understood.
    Unreadable(LostRow),
}

/// Whether a worker has the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockFacts {
    /// No worker runs on it.
    Free,
    /// One does; its process, where that is written down.
    Held(Option<u32>),
}

/// The journal.
#[derive(Debug, Clone, PartialEq)]
pub enum JournalFacts {
    /// There is none.
    Missing,
    /// It is whole.
    Sound {
        /// The format that it has.
        format: i64,
        /// The format that this program writes.
        known: i64,
        /// What is in it.
        content: Box<Snapshot>,
        /// What is in it too, and cannot be read.
        lost: Vec<LostRow>,
        /// Bytes of its file and its write-ahead log.
        bytes: u64,
        /// Users other than its owner can read it.
        is_open_to_others: bool,
    },
    /// A newer program wrote it.
    Newer {
        /// Its format.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// It is not whole: why.
    Damaged(String),
    /// It could not be looked at: why.
    Unreadable(String),
}

/// A row that nobody can understand. A start goes on without one of a finished task.
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
    /// Whose; `None` where its beginning is damaged.
    pub task: Option<TaskId>,
    /// On disk.
    pub bytes: u64,
    /// Whole records.
    pub records: u64,
    /// Records whose content is not what was written, and places where there is none.
    pub damaged: u64,
    /// It was ended: nothing will be added.
    pub is_ended: bool,
    /// Bytes behind its last whole record.
    pub torn: u64,
}

/// The history of the actors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HistoryFacts {
    /// Events.
    pub events: usize,
    /// Lines that are none: torn by a crash, or damaged.
    pub unreadable: usize,
}
