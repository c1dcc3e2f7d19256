//! Verdicts where the journal has another one already, with the real journal.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use async_trait::async_trait;

use super::*;
use crate::{
    actors::{
        journal::{JournalActor, Records, WritersTurn},
        outbox::correspondence,
    },
    domain::{
        id::{ContainerName, PayloadDigest, ResultId, TaskId},
        outcome::{Failure, StatusWord},
        record::{Ending, Outputs, TaskRecord},
        spec::{TaskSpec, Wants},
    },
    journal::SqliteJournal,
    ports::{
        clock::SystemClock,
        journal::JournalStore,
        master::{
            Beat, Master, MasterAddress, MasterError, Registration, Report, Upload, Uploaded,
        },
    },
    supervision::{
        ChildSpec, StartError, SupervisorActor, SupervisorHandle, SupervisorOptions, slot,
    },
};

/// A master that is never called: the tests look at what it would be told.
struct Nobody;

#[async_trait]
impl Master for Nobody {
    async fn register(&self, _: &MasterAddress, _: Registration) -> Result<(), MasterError> {
        unreachable!("nobody registers")
    }

    async fn heartbeat(&self, _: &MasterAddress, _: Beat) -> Result<(), MasterError> {
        unreachable!("nobody beats")
    }

    async fn upload(&self, _: &MasterAddress, _: Upload) -> Result<Uploaded, MasterError> {
        unreachable!("there is nothing to upload")
    }

    async fn report(&self, _: &MasterAddress, _: Report) -> Result<(), MasterError> {
        unreachable!("nothing is reported")
    }
}

/// A supervised journal, in a folder of its own.
struct Kept {
    records: Records,
    supervisor: SupervisorHandle,
    _folder: tempfile::TempDir,
}

impl Kept {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.db");
        let (journal, seat) = slot::<JournalActor>("journal");
        let turn = WritersTurn::default();
        let spec = ChildSpec::new(seat, move |_| {
            let path = path.clone();
            let open = Arc::new(move || {
                let opened = SqliteJournal::open(&path, Arc::new(SystemClock))?;
                Ok(Box::new(opened.journal) as Box<dyn JournalStore>)
            });
            JournalActor::new(open, Arc::clone(&turn)).map_err(StartError::new)
        });
        Self {
            records: Records(journal),
            supervisor: SupervisorActor::builder(SupervisorOptions::default())
                .child(spec)
                .start(),
            _folder: folder,
        }
    }

    /// A delivery that begins with this record, whatever the journal has.
    fn delivery(&self, record: TaskRecord) -> Delivery {
        let with = correspondence::with(Arc::new(Nobody), self.records.clone());
        Delivery::new(with, Arc::new(correspondence::gates()), record)
    }

    async fn stop(self) {
        self.supervisor.stop(Instant::now() + ASK).await;
    }
}

fn task() -> TaskId {
    TaskId::new("t-1").unwrap()
}

/// A task that ended well, with as few details as possible.
fn ended() -> TaskRecord {
    let spec = TaskSpec {
        id: task(),
        image: "busybox".into(),
        command: "true".into(),
        wants: Wants::default(),
        user_id: String::new(),
        task_name: String::new(),
        task_type: String::new(),
        sla_multiplier: 1.0,
        submitted_at: 0,
        asked: None,
    };
    let accepted = TaskRecord::accepted(
        spec,
        PayloadDigest([7; 32]),
        ResultId("r-1".into()),
        ContainerName("wn-t-1".into()),
        UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    );
    TaskRecord {
        ending: Some(Ending {
            outcome: Outcome::Succeeded,
            exit: None,
            outputs: Outputs::default(),
            notes: Vec::new(),
        }),
        ..accepted
    }
}

fn failed() -> Verdict {
    Verdict {
        outcome: Outcome::Failed(Failure::Internal("as the journal has it".into())),
        trailer: "[worker-node] as the journal has it".into(),
    }
}

#[actix::test]
async fn where_the_journal_has_a_verdict_that_one_is_told() {
    let kept = Kept::start();
    let record = ended();
    let first = vec![
        Change::Accept(Box::new(record.clone())),
        Change::Sealed {
            task: task(),
            verdict: failed(),
        },
    ];
    kept.records.keep(first).await.unwrap();

    // Its record is older than the verdict in the journal, and would tell of a success.
    let mut delivery = kept.delivery(record);
    assert_eq!(delivery.verdict(false).outcome, Outcome::Succeeded);
    delivery.fix(false).await;

    let told = delivery.compose().await;
    assert_eq!(told.status, StatusWord::Failed);
    assert!(told.logs.ends_with(&failed().trailer), "{}", told.logs);
    kept.stop().await;
}

#[actix::test]
async fn where_the_task_is_retired_the_verdict_of_its_tombstone_is_told() {
    let kept = Kept::start();
    let record = ended();
    let all = vec![
        Change::Accept(Box::new(record.clone())),
        Change::Sealed {
            task: task(),
            verdict: failed(),
        },
        Change::Delivered(task()),
        Change::Done {
            task: task(),
            at: UNIX_EPOCH,
        },
        Change::Retire(task()),
    ];
    kept.records.keep(all).await.unwrap();

    let mut delivery = kept.delivery(record);
    delivery.fix(false).await;

    assert_eq!(delivery.sealed(), failed());
    kept.stop().await;
}

#[actix::test]
async fn a_cancel_that_is_durable_before_the_verdict_is_told_and_one_that_comes_later_is_not() {
    for (cancel_first, status) in [(true, StatusWord::Cancelled), (false, StatusWord::Success)] {
        let kept = Kept::start();
        let record = ended();
        let accept = Change::Accept(Box::new(record.clone()));
        let cancel = vec![Change::CancelRequested(task())];
        kept.records.keep(vec![accept]).await.unwrap();
        let mut delivery = kept.delivery(record);

        // In both cases the registry knew of no cancel.
        if cancel_first {
            kept.records.keep(cancel).await.unwrap();
            delivery.fix(false).await;
        } else {
            delivery.fix(false).await;
            assert_eq!(kept.records.keep(cancel).await, Err(Refused::Past));
        }

        assert_eq!(delivery.compose().await.status, status);
        kept.stop().await;
    }
}
