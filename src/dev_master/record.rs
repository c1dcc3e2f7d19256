//! Everything that the master has seen and written: its 'database', as plain data. Changed only under the ledger's lock; each
//! method is one thing that happened (`workers`, `tasks`, `results`). Rules that can be judged at once are judged in these methods.

mod results;
mod tasks;
mod workers;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use tokio::time::Instant;

use super::fault::Method;
use super::judge::{Rule, Violation};
use super::upload::Upload;
use crate::proto::{Heartbeat, ResourceUsage, Task, TaskAck, WorkerInfo};

/// A worker as the master knows it.
#[derive(Clone, Debug, Default)]
pub struct WorkerRecord {
    /// Whether its heartbeats are taken.
    pub registered: bool,
    /// Every RegisterWorker that was accepted.
    pub registrations: Vec<Registration>,
    /// The latest heartbeats.
    pub heartbeats: VecDeque<Beat>,
    /// How many heartbeats came, those that met a fault included.
    pub beat_count: usize,
    /// The last sign of life that the next heartbeat is measured against; `None` excuses the next gap.
    last_sign: Option<Instant>,
}

/// One accepted RegisterWorker.
#[derive(Clone, Debug)]
pub struct Registration {
    /// When it came.
    pub at: Instant,
    /// What the worker said.
    pub info: WorkerInfo,
}

/// One accepted heartbeat.
#[derive(Clone, Debug)]
pub struct Beat {
    /// When it came.
    pub at: Instant,
    /// What it said.
    pub heartbeat: Heartbeat,
}

/// A task as the master knows it.
#[derive(Clone, Debug)]
pub struct TaskRecord {
    /// The task as submitted.
    pub task: Task,
    /// The word in the master's database.
    pub status: String,
    /// Every AssignTask that has ended, oldest first.
    pub offers: Vec<Offer>,
    /// When each AssignTask was sent, those included whose answer nobody waited for.
    pub asked: Vec<Instant>,
    /// When an offer was first answered with success=true.
    pub accepted_at: Option<Instant>,
    /// When the master first wrote `running`.
    pub written_at: Option<Instant>,
    /// When the first CancelTask was sent.
    pub cancelled_at: Option<Instant>,
    /// Every answer to CancelTask, oldest first.
    pub cancels: Vec<CancelCall>,
    /// Every accepted copy of a report, oldest first.
    pub reports: Vec<ReportCopy>,
    /// Every upload, oldest first.
    pub uploads: Vec<Upload>,
    /// The status words that final log chunks carried.
    pub log_words: Vec<String>,
    /// Reports that have come in and are not written yet.
    arriving: Vec<Instant>,
}

/// One AssignTask.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The worker that it was sent to.
    pub worker: String,
    /// When it was sent.
    pub at: Instant,
    /// Time from then to the answer.
    pub took: Duration,
    /// The answer.
    pub answer: CallAnswer,
}

/// One CancelTask.
#[derive(Clone, Debug)]
pub struct CancelCall {
    /// When it was sent.
    pub at: Instant,
    /// Time from then to the answer.
    pub took: Duration,
    /// The answer.
    pub answer: CallAnswer,
}

/// How a call to a worker ended.
#[derive(Clone, Debug)]
pub enum CallAnswer {
    /// gRPC OK.
    Ack(TaskAck),
    /// A gRPC error or the deadline.
    Error(tonic::Status),
    /// The connection was never made.
    Unreachable(String),
}

impl CallAnswer {
    /// Whether it is gRPC OK with success=true.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Ack(ack) if ack.success)
    }

    /// The message of a gRPC OK with success=false.
    pub fn refusal(&self) -> Option<&str> {
        match self {
            Self::Ack(ack) if !ack.success => Some(&ack.message),
            Self::Ack(_) | Self::Error(_) | Self::Unreachable(_) => None,
        }
    }
}

/// One copy of a report that the master has taken.
#[derive(Clone, Debug)]
pub struct ReportCopy {
    /// The number of the call, for the judge.
    pub(super) call: u64,
    /// When it came.
    pub at: Instant,
    /// The worker's id, as sent.
    pub worker_id: String,
    /// The result's id, as sent; the same on every copy of one result.
    pub result_id: String,
    /// The status, as sent.
    pub status: String,
    /// The status that the master wrote.
    pub stored: String,
    /// The logs, as sent.
    pub logs: String,
    /// The paths of the output files, as sent.
    pub output_files: Vec<String>,
    /// What the task used, as sent.
    pub usage: Option<ResourceUsage>,
    /// Whether the answer was handed to the connection.
    pub answered: bool,
}

/// A moment that puts deliveries in doubt and excuses a gap between heartbeats.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) at: Instant,
    pub(super) why: String,
}

/// The whole record of a master.
#[derive(Debug)]
pub struct Record {
    pub(super) started: Instant,
    pub(super) workers: BTreeMap<String, WorkerRecord>,
    pub(super) tasks: BTreeMap<String, TaskRecord>,
    pub(super) violations: Vec<Violation>,
    pub(super) marks: Vec<Mark>,
    pub(super) longest_gap: Duration,
    calls: BTreeMap<Method, usize>,
    /// The task of each report whose answer has not left, by the number of the call.
    unanswered: HashMap<u64, String>,
    next_call: u64,
}

impl Record {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            workers: BTreeMap::new(),
            tasks: BTreeMap::new(),
            violations: Vec::new(),
            marks: Vec::new(),
            longest_gap: Duration::ZERO,
            calls: BTreeMap::new(),
            unanswered: HashMap::new(),
            next_call: 0,
        }
    }

    /// How many calls of a method have come in, whatever became of them.
    pub fn calls(&self, method: Method) -> usize {
        self.calls.get(&method).copied().unwrap_or(0)
    }

    /// The worker, if it has ever registered.
    pub fn worker(&self, worker: &str) -> Option<&WorkerRecord> {
        self.workers.get(worker)
    }

    /// The task, if it was submitted here.
    pub fn task(&self, task: &str) -> Option<&TaskRecord> {
        self.tasks.get(task)
    }

    pub(super) fn violate(&mut self, rule: Rule, sentence: impl Into<String>) {
        self.violations.push(Violation {
            rule,
            at: self.started.elapsed(),
            sentence: sentence.into(),
        });
    }

    /// Puts deliveries in doubt from now on, and excuses the next gap between heartbeats.
    pub(super) fn mark(&mut self, why: &str) {
        self.marks.push(Mark {
            at: Instant::now(),
            why: why.to_owned(),
        });
        for worker in self.workers.values_mut() {
            worker.last_sign = None;
        }
    }

    /// Counts a call that has come in; returns its number.
    pub(super) fn arrived(&mut self, method: Method) -> u64 {
        *self.calls.entry(method).or_default() += 1;
        self.next_call += 1;
        self.next_call
    }

    /// Notes that the answer of a call was handed to its connection.
    pub(super) fn answered(&mut self, call: u64) {
        let Some(task) = self
            .unanswered
            .remove(&call)
            .and_then(|id| self.tasks.get_mut(&id))
        else {
            return;
        };
        for copy in task.reports.iter_mut().filter(|copy| copy.call == call) {
            copy.answered = true;
        }
    }

    /// Tasks that were accepted and have no report yet.
    #[must_use]
    pub fn unreported(&self) -> Vec<String> {
        let is_open = |task: &TaskRecord| task.accepted_at.is_some() && task.reports.is_empty();
        let open = self.tasks.iter().filter(|(_, task)| is_open(task));
        open.map(|(id, _)| id.clone()).collect()
    }

    /// The record in a few lines, for a test that waited in vain.
    pub(super) fn story(&self) -> String {
        let mut text = String::new();
        for (id, worker) in &self.workers {
            let (times, beats) = (worker.registrations.len(), worker.beat_count);
            let _infallible = writeln!(
                text,
                "  worker {id}: registered {times} times, {beats} heartbeats"
            );
        }
        for (id, task) in &self.tasks {
            let offer = task.offers.last().map(|offer| &offer.answer);
            let reports: Vec<_> = task
                .reports
                .iter()
                .map(|copy| (&copy.status, &copy.result_id))
                .collect();
            let (offers, uploads) = (task.offers.len(), task.uploads.len());
            let _infallible = writeln!(
                text,
                "  task {id}: {}; {offers} offers, last {offer:?}; {uploads} uploads; reports {reports:?}",
                task.status
            );
        }
        let _infallible = writeln!(text, "  calls: {:?}", self.calls);
        for violation in &self.violations {
            let _infallible = writeln!(text, "  broken: {violation}");
        }
        text
    }
}
