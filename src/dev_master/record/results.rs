//! Results in the record: reports, uploads and the ends of log streams.

use tokio::time::Instant;

use super::{Mark, Record, ReportCopy, TaskRecord};
use crate::dev_master::judge::{Rule, log_word, repeats};
use crate::dev_master::upload::Upload;
use crate::proto::{Task, TaskResult};

/// Bytes of logs that a report may carry at most.
const LARGEST_LOGS: usize = 3_670_016;
/// The beginning of the last line of every report's logs.
const TRAILER: &str = "[worker-node] ";

impl Record {
    /// Notes a report that has come in, whatever becomes of it.
    pub(in crate::dev_master) fn report_arrived(&mut self, result: &TaskResult) {
        if let Some(task) = self.tasks.get_mut(&result.task_id) {
            task.arriving.push(Instant::now());
        }
        let id = &result.task_id;
        if result.logs.len() > LARGEST_LOGS {
            self.violate(
                Rule::MessageSize,
                format!("{id}: {} bytes of logs", result.logs.len()),
            );
        }
        if result.result_id.is_empty() {
            self.violate(
                Rule::NoResultId,
                format!("{id}: a report without result_id"),
            );
        }
        if !matches!(result.status.as_str(), "success" | "failed" | "cancelled") {
            self.violate(
                Rule::StatusWord,
                format!("{id}: reported as {:?}", result.status),
            );
        }
        let last_line = result.logs.trim_end_matches('\n').lines().next_back();
        if !last_line.is_some_and(|line| line.starts_with(TRAILER)) {
            self.violate(
                Rule::NoTrailer,
                format!("{id}: the logs end with {last_line:?}"),
            );
        }
    }

    /// Writes a report down; false where the task is unknown.
    pub(in crate::dev_master) fn report_taken(&mut self, call: u64, result: TaskResult) -> bool {
        let id = result.task_id.clone();
        let Some(task) = self.tasks.get_mut(&id) else {
            self.violate(
                Rule::UnknownTask,
                format!("{id}: a report for a task that nobody submitted"),
            );
            return false;
        };
        let stored = match result.status.as_str() {
            // As the real master has it: a cancel that it has written down stands against the first report, whatever that says.
            _ if task.reports.is_empty() && task.cancelled_at.is_some() => "cancelled",
            "success" => "completed",
            "cancelled" => "cancelled",
            _ => "failed",
        };
        task.status = stored.to_owned();
        let copy = ReportCopy {
            call,
            at: Instant::now(),
            worker_id: result.worker_id,
            result_id: result.result_id,
            status: result.status,
            stored: stored.to_owned(),
            logs: result.logs,
            output_files: result.output_files,
            usage: result.usage,
            answered: false,
        };
        task.reports.push(copy);
        self.unanswered.insert(call, id.clone());
        let findings = judge_report(&id, task, &self.marks);
        for (rule, sentence) in findings {
            self.violate(rule, sentence);
        }
        true
    }

    /// Notes an upload that has ended.
    pub(in crate::dev_master) fn uploaded(&mut self, upload: Upload) {
        let id = upload.task_id.clone();
        let Some(task) = self.tasks.get_mut(&id) else {
            return self.violate(
                Rule::UnknownTask,
                format!("{id}: an upload for a task that nobody submitted"),
            );
        };
        let late = !task.reports.is_empty() && task.reports.iter().all(|copy| copy.answered);
        let Task {
            user_id,
            task_name,
            submitted_at,
            ..
        } = &task.task;
        let sent = (&upload.user_id, &upload.task_name, upload.timestamp);
        let wrong =
            upload.chunks > 0 && sent != (user_id, &task_name.replace('/', "_"), *submitted_at);
        let named = format!("{id}: the upload names {sent:?}");
        task.uploads.push(upload);
        if late {
            self.violate(
                Rule::UploadAfterReport,
                format!("{id}: an upload after the report"),
            );
        }
        if wrong {
            self.violate(Rule::UploadNames, named);
        }
    }

    /// Notes that a log stream has ended with this status word.
    pub(in crate::dev_master) fn log_ended(&mut self, id: &str, word: &str) {
        if !matches!(word, "completed" | "failed" | "cancelled") {
            self.violate(
                Rule::LogStatusWord,
                format!("{id}: the log ended as {word:?}"),
            );
        }
        if let Some(task) = self.tasks.get_mut(id) {
            // The real master writes the word as it is; whichever of report and log comes last stays.
            if task.cancelled_at.is_none() {
                task.status = word.to_owned();
            }
            task.log_words.push(word.to_owned());
        }
    }
}

/// The rules that the newest copy of a task's reports breaks.
fn judge_report(id: &str, task: &TaskRecord, marks: &[Mark]) -> Vec<(Rule, String)> {
    let mut findings = Vec::new();
    let [.., copy] = task.reports.as_slice() else {
        return findings;
    };
    let first = &task.reports[0];
    let cancel_acked = task.cancels.iter().any(|cancel| cancel.answer.is_success());
    if cancel_acked && first.status != "cancelled" && task.reports.len() == 1 {
        findings.push((
            Rule::CancelIgnored,
            format!(
                "{id}: its cancel was accepted, and it was reported as {:?}",
                copy.status
            ),
        ));
    }
    if copy.result_id != first.result_id || log_word(&copy.status) != log_word(&first.status) {
        let (was, is) = (
            (&first.result_id, &first.status),
            (&copy.result_id, &copy.status),
        );
        findings.push((
            Rule::SecondOutcome,
            format!("{id}: the result was {was:?} and is now {is:?}"),
        ));
    } else if task.reports.len() > 1 {
        let newest = repeats(id, task, marks).wrong.pop();
        findings.extend(newest.map(|sentence| (Rule::SecondReport, sentence)));
    }
    findings
}
