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

/// How far a task has come, as far as it is durable. Phases only grow.
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
    /// Its verdict can no longer change: the report may have left.
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
    /// Sentences on what was left out and why, a few at most; told in the trailer.
    pub skipped: Vec<String>,
}

impl Outputs {
    /// The paths of the files, in their order.
    #[must_use]
    pub fn paths(&self) -> Vec<String> {
        self.files.iter().map(|file| file.path.clone()).collect()
    }
}

/// How a task ended, before it is sealed: a cancel can still change the outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The outcome, if no cancel comes before the seal.
    pub outcome: Outcome,
    /// How the container ended, if one ran.
    pub exit: Option<Exit>,
    /// The files that it left to be uploaded.
    pub outputs: Outputs,
    /// Remarks for the trailer.
    pub notes: Vec<String>,
}

impl Ending {
    /// The ending with its words within their limits: they may be an engine's, a registry's or a task's.
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

    /// The ending to record in place of one that is too big for the journal: the task has failed for that alone.
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

    /// Whether the task failed without ever beginning, for what it asks.
    #[must_use]
    pub fn is_impossible(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(Failure::Impossible(_)))
    }
}

/// What the master and viewers of the log are told, fixed for ever.
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
    /// The digest of its offer.
    pub digest: PayloadDigest,
    /// The number of its container.
    pub attempt: Attempt,
    /// The id of its result.
    pub result_id: ResultId,
    /// How far it has come.
    pub phase: Phase,
    /// Whether the answer to its offer was handed over.
    pub answered: bool,
    /// Whether its end was asked for.
    pub cancel_requested: bool,
    /// The name of its container, fixed before create.
    pub container_name: ContainerName,
    /// Which image its container is made of: the registry's digest, or the engine's id of one that has none. Known from `Starting`
    /// on.
    pub image: Option<String>,
    /// The engine's id of its container, known once that was created.
    pub container: Option<ContainerId>,
    /// How it ended, known from `Ended` on.
    pub ending: Option<Ending>,
    /// What the master is told, known from `Sealed` on.
    pub verdict: Option<Verdict>,
    /// Whether its outputs need no further upload: sent, none there, or given up.
    pub uploaded: bool,
    /// How many contacts with the master over its upload failed.
    pub upload_attempts: u32,
    /// How many reports were refused or in doubt.
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
    /// A task is accepted. Refused when its id is there already.
    Accept(Box<TaskRecord>),
    /// An accepted task whose answer came too late: forget it.
    Withdraw(TaskId),
    /// The answer to the task's offer was handed over.
    Answered(TaskId),
    /// The task's end is asked for. Kept for an unknown id too, and applied if the task turns up.
    CancelRequested(TaskId),
    /// The task's container is about to be created and started.
    Starting {
        /// The task.
        task: TaskId,
        /// The number of its container.
        attempt: Attempt,
        /// The name that the container will have.
        container_name: ContainerName,
        /// The image that it is made of.
        image: String,
    },
    /// The engine said that the task's container runs.
    Running {
        /// The task.
        task: TaskId,
        /// Its container.
        container: ContainerId,
    },
    /// The task has ended.
    Ended {
        /// The task.
        task: TaskId,
        /// How it ended.
        ending: Box<Ending>,
    },
    /// An upload of the task failed in contact with the master.
    UploadFailed(TaskId),
    /// The task's outputs need no further upload.
    Uploaded {
        /// The task.
        task: TaskId,
        /// A sentence for the trailer, where they were not all sent.
        note: Option<String>,
    },
    /// The task's verdict is fixed.
    Sealed {
        /// The task.
        task: TaskId,
        /// What the master is told.
        verdict: Verdict,
    },
    /// A report of the task was refused, or is in doubt.
    ReportFailed(TaskId),
    /// The task's delivery is parked, or no longer.
    Parked {
        /// The task.
        task: TaskId,
        /// Why it is parked; `None`: it no longer is.
        reason: Option<String>,
    },
    /// The master has the task's result.
    Delivered(TaskId),
    /// The master offered the task again when its result may have left: it is to be sent once more.
    Redeliver(TaskId),
    /// That result was sent once more.
    Redelivered(TaskId),
    /// The task's container and output folder are gone.
    Done {
        /// The task.
        task: TaskId,
        /// When.
        at: SystemTime,
    },
    /// The task's retention is over: forget all but a tombstone (id, digest, outcome).
    Retire(TaskId),
    /// A pull is over. An image that it brought is this worker's, and so is one more name for such an image.
    ImagePulled {
        /// The engine's id of the image.
        id: String,
        /// The image as results of tasks name it: the registry's digest, else the id.
        told: String,
        /// The name that was pulled.
        reference: String,
        /// Whether the image was there before.
        brought: Brought,
    },
    /// An image of that id is not there any more.
    ImageRemoved(String),
    /// A setting: the master's address and such.
    Set {
        /// The setting's name.
        key: String,
        /// The setting's value.
        value: String,
    },
}

/// What is left of a task after its retention: enough to know a late repeat of its offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// The task.
    pub task: TaskId,
    /// The digest of its offer.
    pub digest: PayloadDigest,
    /// The id of its result.
    pub result_id: ResultId,
    /// How it ended.
    pub verdict: Verdict,
}

/// Everything in the journal, as an actor that rebuilds from it reads it at its start.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// Every task that is not retired, oldest first.
    pub tasks: Vec<TaskRecord>,
    /// The tombstones of retired tasks, oldest first.
    pub tombstones: Vec<Tombstone>,
    /// Cancels for ids that were not known when they came.
    pub early_cancels: Vec<TaskId>,
    /// Tasks, retired ones among them, whose results are to be sent once more.
    pub redeliveries: Vec<TaskId>,
    /// Settings, by name.
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
