//! Reports to masters that are away for hours, in virtual time.

use std::{
    future::pending,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use tokio::time::{Duration, timeout_at};

use super::*;
use crate::{
    actors::{journal::Records, outbox::correspondence},
    domain::{id::ResultId, outcome::StatusWord},
    ports::master::{Beat, Master, MasterAddress, Registration, Upload, Uploaded},
    supervision::slot,
};

const HOUR: Duration = Duration::from_secs(3_600);

/// A master that cannot be reached before that time.
struct Away {
    until: Instant,
    calls: AtomicUsize,
    taken: Mutex<Vec<String>>,
}

#[async_trait]
impl Master for Away {
    async fn register(&self, _: &MasterAddress, _: Registration) -> Result<(), MasterError> {
        unreachable!("the outbox does not register")
    }

    async fn heartbeat(&self, _: &MasterAddress, _: Beat) -> Result<(), MasterError> {
        unreachable!("the outbox does not beat")
    }

    async fn upload(&self, _: &MasterAddress, _: Upload) -> Result<Uploaded, MasterError> {
        unreachable!("a reporter does not upload")
    }

    async fn report(&self, _: &MasterAddress, report: Report) -> Result<(), MasterError> {
        self.calls.fetch_add(1, Relaxed);
        if Instant::now() < self.until {
            return Err(MasterError::Unreachable("no route".into()));
        }
        self.taken.lock().unwrap().push(report.logs);
        Ok(())
    }
}

/// One report to a master that is away for some time.
struct Partition {
    master: Arc<Away>,
    with: Correspondents,
    gates: Gates,
    composed: AtomicUsize,
    log: String,
    begun: Instant,
}

impl Partition {
    fn of(time: Duration, log_bytes: usize) -> Self {
        let begun = Instant::now();
        let master = Arc::new(Away {
            until: begun + time,
            calls: AtomicUsize::new(0),
            taken: Mutex::default(),
        });
        let records = Records(slot("journal").0);
        let with = correspondence::with(Arc::<Away>::clone(&master), records);
        Self {
            master,
            with,
            gates: correspondence::gates(),
            composed: AtomicUsize::new(0),
            log: "x".repeat(log_bytes),
            begun,
        }
    }

    /// How long it takes until the master has the report.
    async fn delivered(&self) -> Duration {
        let task = TaskId::new("t-1").unwrap();
        let compose = async || {
            self.composed.fetch_add(1, Relaxed);
            Report {
                task: task.clone(),
                worker: self.with.worker.clone(),
                result_id: ResultId("r-1".into()),
                status: StatusWord::Success,
                logs: self.log.clone(),
                output_files: Vec::new(),
                usage: None,
                image: None,
                timeout: self.with.patience.report,
            }
        };
        let reporter = Reporter::new(&self.with, &self.gates, &task, compose);
        let left = reporter.deliver(None).await;
        assert_eq!(*self.master.taken.lock().unwrap(), [self.log.as_str()]);
        left - self.begun
    }

    /// As `delivered`, where the session registers with the master when it is back.
    async fn register_at(&self, time: Duration) -> Duration {
        let _passed = timeout_at(self.begun + time, pending::<()>()).await;
        self.with.master_view.note(true);
        pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_of_a_day_is_harmless() {
    let partition = Partition::of(24 * HOUR, 100);

    let after = partition.delivered().await;

    let cap = partition.with.patience.backoff.cap;
    assert!((24 * HOUR..24 * HOUR + cap).contains(&after), "{after:?}");
    let calls = partition.master.calls.load(Relaxed);
    let (least, most) = (24 * 120, 24 * 150 + 10);
    assert!(
        (least..most).contains(&calls),
        "once in 24 to 30 s: {calls}"
    );
    assert_eq!(partition.composed.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_master_that_is_back_gets_what_waits_at_once() {
    for log_bytes in [100, 2 * KEPT] {
        let partition = Partition::of(HOUR, log_bytes);
        let back = HOUR + Duration::from_secs(1);

        let after = tokio::select! {
            after = partition.delivered() => after,
            never = partition.register_at(back) => never,
        };

        assert!(after <= back, "{log_bytes}: {after:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_log_is_neither_kept_nor_read_for_a_master_that_is_known_to_be_away() {
    let partition = Partition::of(24 * HOUR, 2 * KEPT);

    let after = partition.delivered().await;

    let parked = partition.with.patience.parked;
    assert!(after <= 24 * HOUR + parked, "{after:?}");
    let calls = partition.master.calls.load(Relaxed);
    assert!(calls <= 24 * 6 + 2, "once in ten minutes: {calls}");
    assert_eq!(partition.composed.load(Relaxed), calls, "for each try");
}
