//! What the registry knows of one active task, and the news that change it.

use tokio::time::Instant;

use crate::{
    actors::task::TaskActor,
    domain::{
        id::{PayloadDigest, TaskId},
        record::{Phase, TaskRecord},
        spec::{Offer, Wants},
    },
    ports::master::RunningTask,
    supervision::Slot,
};

/// News of a task, for the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskNews {
    /// It stands somewhere else, in a word for people.
    Moved(TaskId, &'static str),
    /// Its outputs are on their way.
    Uploading(TaskId),
    /// The master has its result.
    Delivered(TaskId),
    /// Nothing of it is left to do.
    Done(TaskId),
    /// Its actor failed too often: why.
    GaveUp(TaskId, String),
    /// A cancel of it is durable, and the registry could not be asked to carry it out.
    CancelKept(TaskId),
    /// The registry could not be asked, or its answer was lost: the offer was refused, whatever became of it.
    OfferLost(TaskId),
}

/// Whether an entry is a task yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its acceptance is being made durable.
    Accepting,
    /// It is.
    Active,
}

/// One active task.
pub(super) struct Entry {
    pub(super) task: TaskId,
    pub(super) digest: PayloadDigest,
    pub(super) wants: Wants,
    pub(super) standing: Standing,
    /// Where it stands, for people.
    pub(super) word: &'static str,
    /// A cancel was asked for.
    pub(super) cancelled: bool,
    /// Its outcome can no longer change: its result may have left.
    pub(super) sealed: bool,
    /// When its offer was last acknowledged. A task from before this process: now, which delays its report by one settle time.
    pub(super) acknowledged: Instant,
    /// Its actor.
    pub(super) slot: Option<Slot<TaskActor>>,
    /// It is in the journal, and waits for its offer to be repeated before it is started.
    pub(super) unrepeated: Option<Box<TaskRecord>>,
    /// Actors of it that failed too often.
    pub(super) actors_lost: u32,
}

impl Entry {
    pub(super) fn of_offer(offer: &Offer) -> Self {
        Self {
            task: offer.spec.id.clone(),
            digest: offer.digest,
            wants: offer.spec.wants,
            standing: Standing::Accepting,
            word: "accepted",
            cancelled: false,
            sealed: false,
            acknowledged: Instant::now(),
            slot: None,
            unrepeated: None,
            actors_lost: 0,
        }
    }

    pub(super) fn of_record(record: &TaskRecord) -> Self {
        Self {
            task: record.spec.id.clone(),
            digest: record.digest,
            wants: record.spec.wants,
            standing: Standing::Active,
            word: word(record.phase),
            cancelled: record.cancel_requested,
            sealed: record.phase >= Phase::Sealed,
            acknowledged: Instant::now(),
            slot: None,
            unrepeated: None,
            actors_lost: 0,
        }
    }

    pub(super) fn as_running(&self) -> RunningTask {
        RunningTask {
            task: self.task.clone(),
            cpu: self.wants.cpu,
            memory: self.wants.memory,
            gpu: self.wants.gpu,
            status: self.word,
        }
    }
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Accepted => "accepted",
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Ended | Phase::Sealed => "reporting",
        Phase::Delivered | Phase::Done => "cleaning",
    }
}
