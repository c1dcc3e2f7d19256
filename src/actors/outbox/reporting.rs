//! One report, sent until the master has taken it: what to do about each way in which that can fail.

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

/// What to do after a report that the master did not take.
#[derive(Debug, PartialEq)]
enum Next {
    /// Send it again after the backoff: nothing has left, or the connection was lost.
    Soon,
    /// Send it again, once, after a long wait: the master may have taken it.
    AfterDoubt,
    /// The master refuses it; its words.
    Refused(String),
}

/// Most bytes of a log in a report that is kept for its next try; a longer report is composed anew. As many results as there may
/// be tasks can wait for a master for hours, and each may carry `REPORT_LOG_LIMIT`.
const KEPT: usize = 16 * 1024;

/// Delivers the report of one task.
pub(super) struct Reporter<'a, F> {
    with: &'a Correspondents,
    gates: &'a Gates,
    task: &'a TaskId,
    compose: F,
    /// How the task ended, for the line in the worker's log; `None` if that was logged before.
    end: Option<End<'a>>,
}

impl<'a, F: AsyncFn() -> Report> Reporter<'a, F> {
    /// A reporter that has the report composed by `compose`, possibly before every try.
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

    /// Also logs the line about the task's end, after the first try.
    pub(super) fn telling(mut self, end: End<'a>) -> Self {
        self.end = Some(end);
        self
    }

    /// Sends the report until the master has taken one that left no earlier than `not_before`; returns when that one left. A
    /// parked report is tried again now and then, for as long as this process and its record live.
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
            // After the first try: the task's end is logged now, whether the master has it or not.
            if let (Some(end), 0) = (self.end, tries) {
                operator::task_over(self.task, end, Reported::NotYet);
            }
            match next {
                Next::Soon => {
                    let delay = patience.backoff.delay(tries, fastrand::f64());
                    // Reading a long log for a master that is known to be away would only strain the disk.
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

    /// Sends the report once. Leaves it in `kept` for the next try, if it is small enough.
    async fn report_once(
        &self,
        kept: &mut Option<Report>,
        not_before: Option<Instant>,
    ) -> Result<Instant, Next> {
        failpoint!("outbox.report");
        // Taken before the report is composed, since this bounds how many are in memory.
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

    /// Parks the report, and waits for the next try. It is logged once, however often it is parked.
    async fn park(&self, reason: &str, parked: &mut Outage) {
        failpoint!("outbox.park");
        // Subscribe before it is seen to be parked: an operator who sees that may ask for a retry at once.
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
