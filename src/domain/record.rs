//! What is durable about a task, and the changes that make it so: the journal's words. A record is everything that a new
//! incarnation of the task (after a panic, an upgrade, a power cut) needs to go on from what is true.

use std::time::SystemTime;

use super::{
    id::{Attempt, ContainerId, ContainerName, PayloadDigest, ResultId, TaskId},
    limits,
    outcome::{Exit, Failure, Outcome},
    shelf::Brought,
    spec::TaskSpec,
    text::truncate,
};

/// Where a task stands, as far as it is durable. Phases only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// In the journal; nothing was done for it yet.
    Accepted,
    /// Its container may be created, and may be started by the engine at any moment from here on.
    Starting,
    /// The engine said that its container runs.
    Running,
    /// How it ended is known, and its outputs are listed.
    Ended,
    /// What the master is told can no longer change: the report may have left.
    Sealed,
    /// The master has the result, or it was given up for good.
    Delivered,
    /// Nothing of it is left but its log and this record.
    Done,
}

/// One output file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputFile {
    /// Relative to the output folder, clean: no empty, `.` or `..` parts, valid UTF-8, `/` between parts.
    pub path: String,
    /// Where it lies below the output folder, byte for byte as the container named it (may differ from `path`, which is
    /// repaired UTF-8).
    pub source: Vec<u8>,
    /// Bytes, when it was listed.
    pub size: u64,
}

/// What a task left behind in `/output`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outputs {
    /// Regular files in the order in which they are sent.
    pub files: Vec<OutputFile>,
    /// What was left out and why, one sentence each, at most a few; told in the trailer.
    pub skipped: Vec<String>,
}

impl Outputs {
    /// Of the files, in their order.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.files.iter().map(|file| file.path.clone()).collect()
    }
}

/// How a task ended, before it is sealed: a cancel can still change the outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// What the end means if nothing else happens.
    pub outcome: Outcome,
    /// What the container said, if one ran.
    pub exit: Option<Exit>,
    /// What it left to be uploaded.
    pub outputs: Outputs,
    /// Remarks for the trailer.
    pub notes: Vec<String>,
}

impl Ending {
    /// With its words within their limits: they may be an engine's, a registry's or a task's.
    #[must_use]
    pub fn within_limits(mut self) -> Self {
        if let Outcome::Failed(failure) = &mut self.outcome {
            failure.cut(limits::REASON);
        }
        let more = self.notes.len().saturating_sub(limits::NOTES);
        self.notes.truncate(limits::NOTES);
        for note in &mut self.notes {
            note.truncate(truncate(note, limits::NOTE).len());
        }
        if more > 0 {
            self.notes.push(format!("{more} more remarks are left out"));
        }
        self
    }

    /// What is left of it where even the journal does not take it: the task has failed for that alone.
    #[must_use]
    pub fn too_big(&self) -> Self {
        let why = "what it left behind is too big for the worker's journal";
        Self {
            outcome: Outcome::Failed(Failure::Internal(why.into())),
            exit: self.exit,
            outputs: Outputs::default(),
            notes: Vec::new(),
        }
    }

    /// It failed without ever beginning, for what it asks.
    #[must_use]
    pub fn is_impossible(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(Failure::Impossible(_)))
    }
}

/// What is told to the master and to viewers of the log, fixed for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How the task ended.
    pub outcome: Outcome,
    /// The last line of its log.
    pub trailer: String,
}

/// A task as the journal knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRecord {
    /// What the master asked for.
    pub spec: TaskSpec,
    /// Of the offer.
    pub digest: PayloadDigest,
    /// Of its container.
    pub attempt: Attempt,
    /// Of its result.
    pub result_id: ResultId,
    /// Where it stands.
    pub phase: Phase,
    /// The answer to its offer was handed over.
    pub answered: bool,
    /// The master asked for its end.
    pub cancel_requested: bool,
    /// Fixed before create.
    pub container_name: ContainerName,
    /// Which image that is made of: the registry's digest, or the engine's id of one that has none. Known from `Starting` on.
    pub image: Option<String>,
    /// Known once it was created.
    pub container: Option<ContainerId>,
    /// Known from `Ended` on.
    pub ending: Option<Ending>,
    /// Known from `Sealed` on.
    pub verdict: Option<Verdict>,
    /// Its outputs need no further upload: sent, none there, or given up.
    pub uploaded: bool,
    /// Contacts with the master over its upload that failed.
    pub upload_attempts: u32,
    /// Reports that were refused or in doubt.
    pub report_attempts: u32,
    /// Why its delivery is parked: visible to operators, tried again now and then.
    pub parked: Option<String>,
    /// When it was accepted.
    pub accepted_at: SystemTime,
    /// When it was done, for its retention.
    pub done_at: Option<SystemTime>,
}

/// One durable step. Each carries the task it is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A task is in. Refused when the id is there already.
    Accept(Box<TaskRecord>),
    /// An accepted task whose answer came too late: forget it.
    Withdraw(TaskId),
    /// The answer to its offer was handed over.
    Answered(TaskId),
    /// The master wants its end. Kept for an unknown id too, and applied if the task turns up.
    CancelRequested(TaskId),
    /// Its container is about to be created and started.
    Starting {
        /// Whose.
        task: TaskId,
        /// Which try.
        attempt: Attempt,
        /// The name that the container will have.
        container_name: ContainerName,
        /// Which image it is made of.
        image: String,
    },
    /// The engine said that it runs.
    Running {
        /// Whose.
        task: TaskId,
        /// Which container.
        container: ContainerId,
    },
    /// How it ended.
    Ended {
        /// Whose.
        task: TaskId,
        /// How.
        ending: Box<Ending>,
    },
    /// An upload failed in contact with the master.
    UploadFailed(TaskId),
    /// Its outputs need no further upload; a sentence for the trailer where they were not all sent.
    Uploaded {
        /// Whose.
        task: TaskId,
        /// What the trailer says about it.
        note: Option<String>,
    },
    /// What the master is told, from now on unchangeable.
    Sealed {
        /// Whose.
        task: TaskId,
        /// What.
        verdict: Verdict,
    },
    /// A report was refused, or is in doubt.
    ReportFailed(TaskId),
    /// Its delivery is parked, and why; `None` takes it out again.
    Parked {
        /// Whose.
        task: TaskId,
        /// Why.
        reason: Option<String>,
    },
    /// The master has the result.
    Delivered(TaskId),
    /// The master offered the task again when its result may have left: it is to be sent once more.
    Redeliver(TaskId),
    /// It was.
    Redelivered(TaskId),
    /// Container, networks and output folder are gone.
    Done {
        /// Whose.
        task: TaskId,
        /// When.
        at: SystemTime,
    },
    /// Retention is over: forget all but a tombstone (id, digest, outcome).
    Retire(TaskId),
    /// A pull was over. An image that came by it is this worker's, and so is one more name for one that is.
    ImagePulled {
        /// The engine's id of it.
        id: String,
        /// What is told of tasks that run it.
        told: String,
        /// Under which name.
        reference: String,
        /// Whether it was there before.
        brought: Brought,
    },
    /// An image of that id is not there any more.
    ImageRemoved(String),
    /// A setting: the master's address and such.
    Set {
        /// Its name.
        key: String,
        /// Its value.
        value: String,
    },
}

/// What is left of a task after its retention: enough to know a late repeat of its offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// Whose.
    pub task: TaskId,
    /// Of its offer.
    pub digest: PayloadDigest,
    /// Of its result.
    pub result_id: ResultId,
    /// How it ended.
    pub verdict: Verdict,
}

/// Everything in the journal, as read at the start of whoever rebuilds from it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// Every task that is not retired, oldest first.
    pub tasks: Vec<TaskRecord>,
    /// What is left of retired ones, oldest first.
    pub tombstones: Vec<Tombstone>,
    /// Cancels for ids that were not known when they came.
    pub early_cancels: Vec<TaskId>,
    /// Tasks, retired ones among them, whose results are to be sent once more.
    pub redeliveries: Vec<TaskId>,
    /// By name.
    pub settings: Vec<(String, String)>,
}

impl TaskRecord {
    /// A task that has just been offered and taken.
    #[must_use]
    pub fn accepted(
        spec: TaskSpec,
        digest: PayloadDigest,
        result_id: ResultId,
        container_name: ContainerName,
        accepted_at: SystemTime,
    ) -> Self {
        Self {
            spec,
            digest,
            attempt: 1,
            result_id,
            phase: Phase::Accepted,
            answered: false,
            cancel_requested: false,
            container_name,
            image: None,
            container: None,
            ending: None,
            verdict: None,
            uploaded: false,
            upload_attempts: 0,
            report_attempts: 0,
            parked: None,
            accepted_at,
            done_at: None,
        }
    }
}
