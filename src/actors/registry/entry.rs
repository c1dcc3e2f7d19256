//! What the registry knows of one active task, and the news that change it.

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
    /// It has come to another stage.
    Moved(TaskId, Stage),
    /// Its outputs are on their way.
    Uploading(TaskId),
    /// What the master is told of it is fixed.
    Sealed(TaskId),
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
    amounts: Amounts,
    pub(super) standing: Standing,
    stage: Stage,
    /// It can never begin here, and has failed for that: it waits for the master alone.
    pub(super) is_impossible: bool,
    /// A cancel was asked for.
    pub(super) cancelled: bool,
    /// Who asked for it, where that was done at this worker.
    pub(super) cancelled_by: Option<String>,
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
    /// Repeats of its offer that came while it was being accepted: dropped, they go on.
    repeats: Vec<oneshot::Sender<()>>,
}

impl Entry {
    /// Of a record that is being made durable.
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

    /// Its acceptance is durable.
    pub(super) fn settle(&mut self) {
        self.standing = Standing::Active;
        self.acknowledged = Instant::now();
        self.repeats.clear();
    }

    /// Resolves when it is known whether it is accepted; at once where it is.
    pub(super) fn when_settled(&mut self) -> impl Future<Output = ()> + use<> {
        let (repeat, settled) = oneshot::channel();
        if self.standing == Standing::Accepting {
            self.repeats.push(repeat);
        }
        settled.map(drop)
    }

    /// Whether that is news. A task may begin anew, but never comes back from its end: what a successor of its actor says is
    /// older than that.
    pub(super) fn move_to(&mut self, stage: Stage) -> bool {
        let is_news = stage > self.stage || (stage < self.stage && self.stage < Stage::Collecting);
        if is_news {
            self.stage = stage;
        }
        is_news
    }

    /// Nothing in the journal says yet that the answer to its offer was handed over: later phases say as much.
    pub(super) fn wants_answer_recorded(&self) -> bool {
        self.stage < Stage::Starting || (self.is_impossible && self.stage < Stage::Sealed)
    }

    /// What it holds of the machine, and of the bounds on tasks and results.
    pub(super) fn holding(&self) -> Holding {
        if self.is_impossible {
            Holding::Impossible
        } else if self.stage >= Stage::Sealed {
            Holding::Result
        } else if self.stage >= Stage::Collecting && self.actors_lost == 0 {
            let storage = self.amounts.storage;
            Holding::Place { storage }
        } else {
            // The container of one whose actor was lost may still run.
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
