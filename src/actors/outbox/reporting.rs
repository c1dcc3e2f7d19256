//! One report, until the master has taken it: what to do about each way in which that can fail.

use std::sync::Arc;

use log::{Level, debug, info};
use tokio::time::{Instant, sleep, timeout};

use super::{Correspondents, Gates};
use crate::{
    domain::{id::TaskId, record::Change},
    failpoint,
    ports::master::{MasterError, Report},
    telemetry::{
        operator::{self, End, Reported},
        voice::Outage,
    },
};

/// What to do after a report that was not accepted.
#[derive(Debug, PartialEq)]
enum Next {
    /// Again after the backoff: nothing has left, or the connection was lost.
    Soon,
    /// Again, once, after the long wait: it may have been accepted.
    AfterDoubt,
    /// The master says no; its words.
    Refused(String),
}

/// A report that waits for its next try is kept where its log is no longer than this, in bytes; else it is composed anew: as many
/// results as there may be tasks can wait for a master, for hours, and each may carry `REPORT_LOG_LIMIT`.
const KEPT: usize = 16 * 1024;

/// Delivers the report of one task.
pub(super) struct Reporter<'a, F> {
    with: &'a Correspondents,
    gates: &'a Gates,
    task: &'a TaskId,
    compose: F,
    /// How it ended, where nobody was told.
    end: Option<End<'a>>,
}

impl<'a, F: AsyncFn() -> Report> Reporter<'a, F> {
    /// What `compose` makes may be asked for before every try.
    pub(super) fn new(
        with: &'a Correspondents,
        gates: &'a Gates,
        task: &'a TaskId,
        compose: F,
    ) -> Self {
        Self {
            with,
            gates,
            task,
            compose,
            end: None,
        }
    }

    /// With the line about the task's end, once it was tried.
    pub(super) fn telling(mut self, end: End<'a>) -> Self {
        self.end = Some(end);
        self
    }

    /// Until the master has it, by a report that left no earlier than `not_before`; when the report that it took left. Parked
    /// reports are tried again now and then, for as long as this process and their record live.
    pub(super) async fn deliver(&self, not_before: Option<Instant>) -> Instant {
        let patience = &self.with.patience;
        let (mut tries, mut refusals, mut doubts) = (0, 0, 0);
        let mut parked = Outage::default();
        let mut kept = None;
        loop {
            let next = match self.report_once(&mut kept, not_before).await {
                Ok(left) => {
                    self.tell_taken(tries);
                    return left;
                }
                Err(next) => next,
            };
            if let (Some(end), 0) = (self.end, tries) {
                operator::task_over(self.task, end, Reported::NotYet);
            }
            match next {
                Next::Soon => {
                    let delay = patience.backoff.delay(tries, fastrand::f64());
                    // To read a long log for a master that is known to be away would only tire the disk.
                    let is_worth_it = kept.is_some() || self.with.is_registered();
                    self.with
                        .wait_for_master(if is_worth_it { delay } else { patience.parked })
                        .await;
                }
                Next::AfterDoubt if doubts == 0 => {
                    doubts += 1;
                    sleep(patience.doubt).await;
                }
                Next::AfterDoubt => {
                    let reason = "in doubt: the master did not answer in time";
                    self.park(reason, &mut parked).await
                }
                Next::Refused(words) => {
                    refusals += 1;
                    if refusals < patience.refusals {
                        sleep(patience.backoff.delay(refusals - 1, fastrand::f64())).await;
                    } else {
                        let reason = format!("refused by the master: {words}");
                        self.park(&reason, &mut parked).await;
                    }
                }
            }
            tries += 1;
        }
    }

    fn tell_taken(&self, tries: u32) {
        if let (Some(end), 0) = (self.end, tries) {
            operator::task_over(self.task, end, Reported::Yes);
        }
        let was_late = self.end.is_some() && tries > 0;
        let level = if was_late { Level::Info } else { Level::Debug };
        operator::task_reported(level, self.task);
    }

    /// Leaves in `kept` what the next try can send again.
    async fn report_once(
        &self,
        kept: &mut Option<Report>,
        not_before: Option<Instant>,
    ) -> Result<Instant, Next> {
        failpoint!("outbox.report");
        // Before it is composed: so many are in memory at once, and no more.
        let Ok(_place) = self.gates.reports.acquire().await else {
            return Err(Next::Soon);
        };
        let report = match kept.take() {
            Some(report) => report,
            None => (self.compose)().await,
        };
        let result_id = report.result_id.clone();
        *kept = (report.logs.len() <= KEPT).then(|| report.clone());
        let (master, address) = (
            Arc::clone(&self.with.master),
            self.with.master_view.address(),
        );
        let call = async move { master.report(&address, report).await };
        let sent = self.with.receipts.send(self.task, not_before, call).await;
        let Err(error) = sent.answer else {
            self.gates.silence.over(self.task);
            return Ok(sent.left);
        };
        let in_doubt = matches!(error, MasterError::Lost(_) | MasterError::Deadline(_));
        debug!(task:% = self.task, result_id = result_id.0, in_doubt, error:%; "a result was not taken");
        self.gates.silence.not_taken(self.task, &error);
        if !matches!(error, MasterError::Unreachable(_)) {
            self.keep(Change::ReportFailed(self.task.clone())).await;
        }
        Err(match error {
            MasterError::Unreachable(_) | MasterError::Lost(_) => Next::Soon,
            MasterError::Deadline(_) => Next::AfterDoubt,
            MasterError::Refused(words)
            | MasterError::NotRegistered(words)
            | MasterError::Unacceptable(words)
            | MasterError::Source(words) => Next::Refused(words),
        })
    }

    /// Said once, however often it is tried and parked again.
    async fn park(&self, reason: &str, parked: &mut Outage) {
        failpoint!("outbox.park");
        // Before it can be seen to be parked: who sees that may ask for a retry at once.
        let mut retried = self.gates.retry_parked.subscribe();
        self.keep(Change::Parked {
            task: self.task.clone(),
            reason: Some(reason.into()),
        })
        .await;
        if parked.again() == Level::Warn {
            operator::task_parked(self.task, reason);
        }
        let _ = timeout(self.with.patience.parked, retried.changed()).await;
    }

    async fn keep(&self, change: Change) {
        if let Err(refused) = self.with.records.keep(vec![change]).await {
            info!(refused:%; "the journal has gone past that step");
        }
    }
}

#[cfg(test)]
mod tests;
