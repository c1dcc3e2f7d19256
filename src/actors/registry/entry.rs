//! The registry's entry for one active task, and the news that change it.

use futures_util::FutureExt;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    actors::task::TaskActor,
    domain::{
        admission::{Amounts, Holding},
        id::{PayloadDigest, TaskId},
        record::{Ending, Phase, TaskRecord},
        task::Stage,
    },
    ports::master::RunningTask,
    supervision::Slot,
};

/// News of a task, for the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskNews {
    /// The task has come to another stage.
    Moved(TaskId, Stage),
    /// The task's outputs are uploaded.
    Uploading(TaskId),
    /// The task's verdict is durable.
    Sealed(TaskId),
    /// The master has the task's result.
    Delivered(TaskId),
    /// Nothing is left to do for the task.
    Done(TaskId),
    /// The task's actor failed too often: the reason.
    GaveUp(TaskId, String),
    /// A cancel of the task was made durable while the registry could not be asked to carry it out.
    CancelKept(TaskId),
    /// The master was told that the offer is refused, since the registry could not be asked or its answer was lost: it may have
    /// been accepted all the same.
    OfferLost(TaskId),
}

/// Whether an entry is a task yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Its acceptance is being made durable.
    Accepting,
    /// Its acceptance is durable: it is a task.
    Active,
}

/// One active task.
pub(super) struct Entry {
    pub(super) task: TaskId,
    pub(super) digest: PayloadDigest,
    amounts: Amounts,
    pub(super) standing: Standing,
    stage: Stage,
    /// Whether the task can never begin here, and has failed for that: then it only waits for the master.
    pub(super) is_impossible: bool,
    /// Whether a cancel was asked for.
    pub(super) cancelled: bool,
    /// The operator who asked for the cancel at this worker; `None`: nobody, or a master.
    pub(super) cancelled_by: Option<String>,
    /// Whether its outcome can no longer change, since its result may have left.
    pub(super) sealed: bool,
    /// When its offer was last acknowledged. For a task of an earlier process the time when it was read, which delays its report by
    /// one settle time.
    pub(super) acknowledged: Instant,
    /// The slot of its actor; `None`: it has none.
    pub(super) slot: Option<Slot<TaskActor>>,
    /// Its record, if it waits for its offer to be repeated before it is started; see `await_repeat`.
    pub(super) unrepeated: Option<Box<TaskRecord>>,
    /// How many of its actors failed too often.
    pub(super) actors_lost: u32,
    /// Repeats of its offer that came while it was being accepted; each waits until its sender here is dropped.
    repeats: Vec<oneshot::Sender<()>>,
}

impl Entry {
    /// The entry of a record that is being made durable.
    pub(super) fn of_offer(record: &TaskRecord) -> Self {
        Self {
            standing: Standing::Accepting,
            ..Self::of_record(record)
        }
    }

    pub(super) fn of_record(record: &TaskRecord) -> Self {
        Self {
            task: record.spec.id.clone(),
            digest: record.digest,
            amounts: Amounts::of(&record.spec.wants),
            standing: Standing::Active,
            stage: stage(record.phase),
            is_impossible: record.ending.as_ref().is_some_and(Ending::is_impossible),
            cancelled: record.cancel_requested,
            cancelled_by: None,
            sealed: record.phase >= Phase::Sealed,
            acknowledged: Instant::now(),
            slot: None,
            unrepeated: None,
            actors_lost: 0,
            repeats: Vec::new(),
        }
    }

    /// Marks the acceptance as durable, and lets the waiting repeats go on.
    pub(super) fn settle(&mut self) {
        self.standing = Standing::Active;
        self.acknowledged = Instant::now();
        self.repeats.clear();
    }

    /// Resolves when it is known whether the task is accepted; at once if it is.
    pub(super) fn when_settled(&mut self) -> impl Future<Output = ()> + use<> {
        let (repeat, settled) = oneshot::channel();
        if self.standing == Standing::Accepting {
            self.repeats.push(repeat);
        }
        settled.map(drop)
    }

    /// Takes a stage, and tells whether it is news. A task may begin anew, but never goes back once it has ended: then an earlier
    /// stage is only what a new incarnation of its actor begins with.
    pub(super) fn move_to(&mut self, stage: Stage) -> bool {
        let is_news = stage > self.stage || (stage < self.stage && self.stage < Stage::Collecting);
        if is_news {
            self.stage = stage;
        }
        is_news
    }

    /// Whether the journal must still note that the answer to its offer was handed over. A later phase says that by itself.
    pub(super) fn wants_answer_recorded(&self) -> bool {
        self.stage < Stage::Starting || (self.is_impossible && self.stage < Stage::Sealed)
    }

    /// The share of the machine, of the places and of the results' turns that the task holds.
    pub(super) fn holding(&self) -> Holding {
        if self.is_impossible {
            Holding::Impossible
        } else if self.stage >= Stage::Sealed {
            Holding::Result
        } else if self.stage >= Stage::Collecting && self.actors_lost == 0 {
            let storage = self.amounts.storage;
            Holding::Place { storage }
        } else {
            // If its actor was lost, its container may still run.
            Holding::Task(self.amounts)
        }
    }

    pub(super) fn as_running(&self) -> RunningTask {
        let holds = self.holding().amounts().in_contract_units();
        RunningTask {
            task: self.task.clone(),
            cpu: holds.cpu,
            memory: holds.memory,
            gpu: holds.gpu,
            status: self.stage.word(),
        }
    }
}

fn stage(phase: Phase) -> Stage {
    match phase {
        Phase::Accepted => Stage::Accepted,
        Phase::Starting => Stage::Starting,
        Phase::Running => Stage::Running,
        Phase::Ended => Stage::Reporting,
        Phase::Sealed => Stage::Sealed,
        Phase::Delivered => Stage::Cleaning,
        Phase::Done => Stage::Done,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::domain::{
        id::{ContainerName, ResultId},
        outcome::{Failure, Outcome},
        spec::{TaskSpec, Wants},
    };

    fn record(phase: Phase, outcome: Option<Outcome>) -> TaskRecord {
        let spec = TaskSpec {
            id: TaskId::new("t").unwrap(),
            image: String::new(),
            command: String::new(),
            wants: Wants {
                cpu: 2.0,
                memory: 1.0,
                ..Wants::default()
            },
            user_id: String::new(),
            task_name: String::new(),
            task_type: String::new(),
            sla_multiplier: 1.0,
            submitted_at: 0,
            asked: None,
        };
        let (result, name) = (ResultId("r".into()), ContainerName("c".into()));
        let ending = outcome.map(|outcome| Ending {
            outcome,
            exit: None,
            outputs: crate::domain::record::Outputs::default(),
            notes: Vec::new(),
        });
        TaskRecord {
            phase,
            ending,
            ..TaskRecord::accepted(
                spec,
                PayloadDigest([0; 32]),
                result,
                name,
                SystemTime::UNIX_EPOCH,
            )
        }
    }

    #[test]
    fn what_is_over_or_cannot_begin_holds_nothing_of_the_machine() {
        let impossible = Outcome::Failed(Failure::Impossible("99 cores".into()));
        let mut never = Entry::of_record(&record(Phase::Ended, Some(impossible)));
        assert_eq!(never.holding(), Holding::Impossible);
        assert_eq!(never.as_running().cpu, 0.0);
        never.move_to(Stage::Sealed);
        assert_eq!(never.holding(), Holding::Impossible, "among its like");

        let mut task = Entry::of_record(&record(Phase::Running, None));
        assert_eq!(task.as_running().cpu, 2.0);
        task.move_to(Stage::Collecting);
        assert_eq!(task.holding(), Holding::Place { storage: 0 });
        assert_eq!(task.as_running().memory, 0.0);
        task.move_to(Stage::Sealed);
        assert_eq!(task.holding(), Holding::Result);
    }

    #[test]
    fn repeats_of_an_offer_wait_until_it_is_accepted_or_given_up() {
        let mut entry = Entry::of_offer(&record(Phase::Accepted, None));
        let mut repeats = [entry.when_settled(), entry.when_settled()].map(Box::pin);
        for repeat in &mut repeats {
            assert!(repeat.now_or_never().is_none(), "it is not durable yet");
        }

        entry.settle();
        for repeat in repeats {
            assert!(repeat.now_or_never().is_some());
        }
        assert!(entry.when_settled().now_or_never().is_some());

        let mut refused = Entry::of_offer(&record(Phase::Accepted, None));
        let repeat = refused.when_settled();
        drop(refused);
        assert!(repeat.now_or_never().is_some(), "the id is free again");
    }

    #[test]
    fn a_task_comes_back_to_its_image_but_never_from_its_end() {
        let mut task = Entry::of_record(&record(Phase::Starting, None));
        task.move_to(Stage::Pulling);
        assert!(matches!(task.holding(), Holding::Task(_)));
        assert!(task.wants_answer_recorded());

        task.move_to(Stage::Sealed);
        task.move_to(Stage::Reporting);
        assert_eq!(task.holding(), Holding::Result);
    }
}
