//! One report, until the master has taken it: what to do about each way in which that can fail.

use std::sync::Arc;

use log::{info, warn};
use tokio::time::{Instant, sleep, timeout};

use super::{Correspondents, Gates};
use crate::{
    domain::{id::TaskId, record::Change},
    failpoint,
    ports::master::{MasterError, Report},
    telemetry::operator,
};

/// What to do after a report that was not accepted.
enum Next {
    /// Again after the backoff: nothing has left, or the connection was lost.
    Soon,
    /// Again, once, after the long wait: it may have been accepted.
    AfterDoubt,
    /// The master says no.
    Refused,
}

/// Delivers reports.
pub(super) struct Reporter<'a> {
    with: &'a Correspondents,
    gates: &'a Gates,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(with: &'a Correspondents, gates: &'a Gates) -> Self {
        Self { with, gates }
    }

    /// Until the master has it, by a report that left no earlier than `not_before`; when the report that it took left. Parked reports are tried again now and then, for as long
    /// as this process and their record live.
    pub(super) async fn deliver(&self, report: &Report, not_before: Option<Instant>) -> Instant {
        let patience = &self.with.patience;
        let (mut tries, mut refusals, mut doubts) = (0, 0, 0);
        loop {
            let next = match self.report_once(report, not_before).await {
                Ok(left) => return left,
                Err(next) => next,
            };
            match next {
                Next::Soon => sleep(patience.backoff.delay(tries, fastrand::f64())).await,
                Next::AfterDoubt if doubts == 0 => {
                    doubts += 1;
                    sleep(patience.doubt).await;
                }
                Next::AfterDoubt => {
                    let reason = "in doubt: the master did not answer in time";
                    self.park(&report.task, reason).await
                }
                Next::Refused if refusals < patience.refusals => {
                    sleep(patience.backoff.delay(refusals, fastrand::f64())).await;
                    refusals += 1;
                }
                Next::Refused => self.park(&report.task, "refused by the master").await,
            }
            tries += 1;
        }
    }

    async fn report_once(
        &self,
        report: &Report,
        not_before: Option<Instant>,
    ) -> Result<Instant, Next> {
        failpoint!("outbox.report");
        let Ok(_place) = self.gates.reports.acquire().await else {
            return Err(Next::Soon);
        };
        let (master, address) = (
            Arc::clone(&self.with.master),
            self.with.master_view.address(),
        );
        let copy = report.clone();
        let call = async move { master.report(&address, copy).await };
        let sent = self
            .with
            .receipts
            .send(&report.task, not_before, call)
            .await;
        let Err(error) = sent.answer else {
            operator::task_reported(&report.task);
            return Ok(sent.left);
        };
        let in_doubt = matches!(error, MasterError::Lost(_) | MasterError::Deadline(_));
        warn!(task:% = report.task, result_id = report.result_id.0, in_doubt, error:%; "a result was not taken");
        if !matches!(error, MasterError::Unreachable(_)) {
            self.keep(Change::ReportFailed(report.task.clone())).await;
        }
        Err(match error {
            MasterError::Unreachable(_) | MasterError::Lost(_) => Next::Soon,
            MasterError::Deadline(_) => Next::AfterDoubt,
            MasterError::Refused(_)
            | MasterError::NotRegistered(_)
            | MasterError::Unacceptable(_)
            | MasterError::Source(_) => Next::Refused,
        })
    }

    async fn park(&self, task: &TaskId, reason: &str) {
        failpoint!("outbox.park");
        // Before it can be seen to be parked: who sees that may ask for a retry at once.
        let mut retried = self.gates.retry_parked.subscribe();
        self.keep(Change::Parked {
            task: task.clone(),
            reason: Some(reason.into()),
        })
        .await;
        operator::task_parked(task, reason);
        let _ = timeout(self.with.patience.parked, retried.changed()).await;
    }

    async fn keep(&self, change: Change) {
        if let Err(refused) = self.with.records.keep(vec![change]).await {
            info!(refused:%; "the journal has gone past that step");
        }
    }
}
