//! Tasks in the record: offers, the master's own late writes, cancels.

use std::time::Duration;

use tokio::time::Instant;

use super::{CallAnswer, CancelCall, Offer, Record, ReportCopy, TaskRecord};
use crate::dev_master::judge::Rule;
use crate::proto::Task;

/// How much before the ack of a cancel a report may come that left after it, on another connection.
const REORDERING: Duration = Duration::from_millis(100);

impl Record {
    pub(in crate::dev_master) fn submitted(&mut self, task: Task) {
        let record = TaskRecord {
            task: task.clone(),
            status: "pending".to_owned(),
            offers: Vec::new(),
            asked: Vec::new(),
            accepted_at: None,
            written_at: None,
            cancelled_at: None,
            cancels: Vec::new(),
            reports: Vec::new(),
            uploads: Vec::new(),
            log_words: Vec::new(),
            arriving: Vec::new(),
        };
        self.tasks.entry(task.task_id).or_insert(record);
    }

    /// Enters a task that another master, or this one before a restart, gave to a worker.
    pub(in crate::dev_master) fn inherited(&mut self, task: Task, worker: &str) {
        let (id, at) = (task.task_id.clone(), Instant::now());
        self.submitted(task);
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        task.task.target_worker_id = worker.to_owned();
        task.status = "running".to_owned();
        task.accepted_at = Some(at);
        task.written_at = Some(at);
    }

    /// Notes that an offer is sent at this moment.
    pub(in crate::dev_master) fn asked(&mut self, id: &str, at: Instant) {
        if let Some(task) = self.tasks.get_mut(id) {
            task.asked.push(at);
        }
    }

    pub(in crate::dev_master) fn offered(&mut self, id: &str, offer: Offer, within: Duration) {
        match &offer.answer {
            CallAnswer::Error(status) if !self.marked_since(offer.at) => {
                self.violate(
                    Rule::OfferError,
                    format!(
                        "{id}: AssignTask ended as {:?} {:?}",
                        status.code(),
                        status.message()
                    ),
                );
            }
            CallAnswer::Ack(_) if offer.took > within => {
                self.violate(
                    Rule::SlowOffer,
                    format!("{id}: AssignTask took {:.2} s", offer.took.as_secs_f64()),
                );
            }
            CallAnswer::Ack(_) | CallAnswer::Error(_) | CallAnswer::Unreachable(_) => {}
        }
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        match &offer.answer {
            CallAnswer::Ack(ack) if ack.success => {
                task.accepted_at.get_or_insert(offer.at + offer.took);
            }
            CallAnswer::Ack(_) => {}
            CallAnswer::Error(_) | CallAnswer::Unreachable(_) => task.status = "failed".to_owned(),
        }
        task.offers.push(offer);
    }

    /// Does the master's own writes after an ack: allocation, `running`, assignment row.
    pub(in crate::dev_master) fn written(&mut self, id: &str) {
        let Some(task) = self.tasks.get_mut(id) else {
            return;
        };
        if task.written_at.is_some() {
            return;
        }
        task.written_at = Some(Instant::now());
        if task.cancelled_at.is_none() {
            task.status = "running".to_owned();
        }
        // A report that waits for the global lock is written after this, and stands.
        if !task.reports.is_empty() {
            self.violate(
                Rule::ReportBeforeSettle,
                format!("{id}: the report came before the ack was written, and is lost"),
            );
        }
    }

    pub(in crate::dev_master) fn cancel_sent(&mut self, id: &str) {
        if let Some(task) = self.tasks.get_mut(id) {
            task.status = "cancelled".to_owned();
            task.cancelled_at.get_or_insert_with(Instant::now);
        }
    }

    pub(in crate::dev_master) fn cancel_answered(
        &mut self,
        id: &str,
        call: CancelCall,
        within: Duration,
    ) {
        self.judge_cancel_answer(id, &call, within);
        if let Some(finding) = self.judge_cancel_order(id, &call) {
            self.violate(finding.0, finding.1);
        }
        if let Some(task) = self.tasks.get_mut(id) {
            task.cancels.push(call);
        }
    }

    fn judge_cancel_answer(&mut self, id: &str, call: &CancelCall, within: Duration) {
        let sentence = match &call.answer {
            CallAnswer::Ack(_) if call.took > within => {
                format!("{id}: CancelTask took {:.2} s", call.took.as_secs_f64())
            }
            CallAnswer::Error(status) if !self.marked_since(call.at) => {
                let (code, text) = (status.code(), status.message());
                format!("{id}: CancelTask ended as {code:?} {text:?}")
            }
            CallAnswer::Ack(_) | CallAnswer::Error(_) | CallAnswer::Unreachable(_) => return,
        };
        self.violate(Rule::CancelAnswer, sentence);
    }

    /// Judges an acknowledged cancel: success=true says that no result was sent yet.
    fn judge_cancel_order(&self, id: &str, call: &CancelCall) -> Option<(Rule, String)> {
        let task = self.tasks.get(id).filter(|_| call.answer.is_success())?;
        let acked_at = call.at + call.took;
        let overtook = |at: &Instant| *at > call.at && *at + REORDERING < acked_at;
        if task.arriving.iter().any(overtook) {
            let sentence = format!("{id}: its report came before its cancel was answered");
            return Some((Rule::CallBeforeCancelAck, sentence));
        }
        let delivered =
            |copy: &ReportCopy| copy.answered && copy.at < call.at && copy.status != "cancelled";
        let sentence = format!("{id}: a cancel was accepted after the result was delivered");
        let too_late = task.reports.iter().any(delivered);
        too_late.then_some((Rule::CancelIgnored, sentence))
    }

    /// The worker that has taken the task, else the one it was meant for, else the first there is.
    pub(in crate::dev_master) fn worker_of(&self, id: &str) -> Option<String> {
        let task = self.tasks.get(id)?;
        let named = Some(&task.task.target_worker_id).filter(|name| !name.is_empty());
        let accepted = |offer: &&Offer| offer.answer.is_success();
        let taken = task.offers.iter().find(accepted).map(|offer| &offer.worker);
        let first = || self.workers.keys().next();
        taken.or(named).or_else(first).cloned()
    }

    fn marked_since(&self, at: Instant) -> bool {
        self.marks.iter().any(|mark| mark.at >= at)
    }
}
