//! The fake master: its books about its tasks, what it takes from the worker, and the calls that it makes. Like the real one it
//! offers a task every 5 s until it is told that the task was taken, and then writes 'running' over whatever status the task has.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::timeout;

use super::{
    scene::Order,
    world::{Due, Shared, State, pass},
};
use crate::{
    domain::{
        id::{ResultId, TaskId},
        record::Phase,
    },
    handle::WorkerHandle,
    journal::model::Model,
    ports::{
        master::Beat,
        worker::{AssignAnswer, CancelAnswer, Worker},
    },
    supervision::threads::one,
};

/// Between two offers of a task, and between two cancels.
const AGAIN: Duration = Duration::from_secs(5);

/// How long the master waits for an answer to an offer.
const OFFER: Duration = Duration::from_secs(10);

/// When the master writes 'running' after an acknowledgement, in milliseconds: measured at 2 ms at most, and the worker allows
/// for 250.
const WRITES: std::ops::Range<u64> = 0..200;

/// How long an answer is on its way, in milliseconds.
const WAY: std::ops::Range<u64> = 1..20;

/// The worker must answer an offer within the first time, and a cancel within the second.
const ASSIGN_WITHIN: Duration = Duration::from_millis(1_100);
const CANCEL_WITHIN: Duration = Duration::from_millis(3_200);

/// The fake master.
pub(super) struct Cluster {
    pub(super) rows: BTreeMap<TaskId, Row>,
    /// Whether master and worker cannot reach each other.
    pub(super) is_parted: bool,
    /// Whether the master knows the worker.
    pub(super) is_registered: bool,
    /// The last heartbeat that arrived.
    pub(super) beat: Option<Beat>,
    /// When the last heartbeat was sent, or the worker started.
    pub(super) last_sign: Duration,
}

/// A task in the master's books.
pub(super) struct Row {
    pub(super) order: Order,
    next_offer: Option<Duration>,
    next_cancel: Option<Duration>,
    /// Offers that are still to come although the task was taken.
    repeats: Vec<Duration>,
    /// Calls for this task that are under way.
    calls: u32,
    /// Whether the master was told that the task was taken.
    pub(super) taken: bool,
    pub(super) cancel: Cancel,
    /// When the worker first accepted the cancel.
    pub(super) cancelled: Option<Duration>,
    /// Whether the cancel was carried out while the disk took no commits: then it may be forgotten.
    pub(super) is_forgettable: bool,
    /// The copies of the task's result that the master took.
    pub(super) copies: Vec<Copied>,
    /// The task's status in the master's books.
    pub(super) status: &'static str,
    /// How often the master asked for the result again: so many more copies are allowed.
    wanted_again: usize,
    pub(super) refusals: u32,
    pub(super) uploads: Vec<Vec<String>>,
}

/// How far the master's cancel of a task has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cancel {
    /// The master has not asked for it.
    No,
    /// The master has asked, and the worker may have heard it.
    Asked,
    /// The worker has accepted it durably.
    Accepted,
    /// The worker has accepted it, though the disk may not have taken it.
    Weakly,
    /// The worker does not know the task.
    NotFound,
    /// The task was over, with this status.
    Already(&'static str),
}

/// A copy of a result that the master took.
#[derive(Debug, Clone)]
pub(super) struct Copied {
    pub(super) result: ResultId,
    pub(super) status: &'static str,
    pub(super) logs: String,
    pub(super) files: Vec<String>,
    /// Whether the worker knows, durably, that this copy was taken.
    pub(super) is_known: bool,
}

/// A call that the master makes.
enum Call {
    Offer(Box<Order>),
    Cancel(TaskId),
}

impl Cluster {
    pub(super) fn new(orders: Vec<Order>) -> Self {
        let rows = orders.into_iter().map(|order| {
            let row = Row {
                next_offer: Some(order.offered),
                next_cancel: order.cancelled,
                repeats: order.repeats.clone(),
                calls: 0,
                taken: false,
                cancel: Cancel::No,
                cancelled: None,
                is_forgettable: false,
                copies: Vec::new(),
                status: "queued",
                wanted_again: 0,
                refusals: order.refusals,
                uploads: Vec::new(),
                order,
            };
            (row.order.offer.spec.id.clone(), row)
        });
        Self {
            rows: rows.collect(),
            is_parted: false,
            is_registered: false,
            beat: None,
            last_sign: Duration::ZERO,
        }
    }

    pub(super) fn row(&mut self, task: &TaskId) -> &mut Row {
        self.rows.get_mut(task).expect("a task of this scene")
    }

    /// A worker starts: calls that were under way are lost, and made again.
    pub(super) fn worker_is_born(&mut self, now: Duration) {
        self.last_sign = now;
        for row in self.rows.values_mut().filter(|row| row.calls > 0) {
            row.calls = 0;
            row.offer_again(now);
            if row.cancel == Cancel::Asked {
                row.next_cancel = Some(now + AGAIN);
            }
        }
    }

    /// The worker has died: it no longer knows of copies whose delivery was not durable.
    pub(super) fn worker_died(&mut self, journal: &Model) {
        for (task, row) in &mut self.rows {
            let mut tasks = journal.0.tasks.iter();
            let record = tasks.find(|record| record.spec.id == *task);
            let is_told = record.is_none_or(|record| record.phase >= Phase::Delivered);
            let is_wanted = journal.0.redeliveries.contains(task);
            if let Some(copy) = row.copies.last_mut()
                && (!is_told || is_wanted)
            {
                copy.is_known = false;
            }
        }
    }

    pub(super) fn wants_again(&mut self, task: &TaskId) {
        self.row(task).wanted_again += 1;
    }

    pub(super) fn writes_running(&mut self, task: &TaskId) {
        let row = self.row(task);
        if row.cancel == Cancel::No {
            row.status = "running";
        }
    }

    /// Whether the master has no call left to make.
    pub(super) fn is_content(&self) -> bool {
        self.rows.values().all(|row| {
            let waits = row.next_offer.is_some() || row.next_cancel.is_some();
            !waits && row.calls == 0 && row.repeats.is_empty()
        })
    }

    /// The next call that is due, or else when one will be.
    fn next(&mut self, now: Duration) -> Result<Call, Option<Duration>> {
        let mut next = None;
        for (task, row) in &mut self.rows {
            if row.next_cancel.is_some_and(|at| at <= now) {
                row.next_cancel = None;
                row.calls += 1;
                if row.cancel == Cancel::No {
                    row.cancel = Cancel::Asked;
                }
                return Ok(Call::Cancel(task.clone()));
            }
            if row.calls == 0 && row.next_offer.is_some_and(|at| at <= now) {
                row.next_offer = None;
                row.calls += 1;
                return Ok(Call::Offer(Box::new(row.order.clone())));
            }
            let due = [row.next_cancel, row.next_offer.filter(|_| row.calls == 0)];
            next = due.into_iter().flatten().chain(next).min();
        }
        Err(next)
    }
}

impl Row {
    /// Plans the next offer: every 5 s until the task is taken, then at the scene's repeats; none once the task is to be
    /// cancelled.
    fn offer_again(&mut self, now: Duration) {
        self.next_offer = match (self.cancel, self.taken) {
            (Cancel::No, false) => Some(now + AGAIN),
            (Cancel::No, true) => self.repeats.pop().map(|at| at.max(now)),
            _ => {
                self.repeats.clear();
                None
            }
        };
    }

    /// Copies beyond those that were asked for again or whose delivery was in doubt.
    pub(super) fn copies_too_many(&self) -> usize {
        let doubts = self.copies.iter().filter(|copy| !copy.is_known).count();
        let allowed = 1 + doubts + self.wanted_again;
        self.copies.len().saturating_sub(allowed)
    }

    /// Whether the task's output files came, unless its result says that the upload failed.
    pub(super) fn has_its_files(&self) -> bool {
        let Some(copy) = self.copies.last() else {
            return true;
        };
        let came = self.uploads.contains(&copy.files);
        copy.files.is_empty() || came || copy.logs.contains("the upload of the output files failed")
    }
}

/// Makes the master's calls, as long as the worker lives.
pub(super) async fn call_the_worker(world: Shared, worker: WorkerHandle) {
    let mut changes = world.changes();
    loop {
        changes.borrow_and_update();
        let next = {
            let mut state = world.lock();
            let now = state.now();
            let next = state.cluster.next(now);
            next.map_err(|at| at.map_or(Duration::MAX, |at| at - now))
        };
        match next {
            Ok(Call::Offer(order)) => {
                one::begin(offer(world.clone(), worker.clone(), *order));
            }
            Ok(Call::Cancel(task)) => {
                one::begin(cancel(world.clone(), worker.clone(), task));
            }
            Err(wait) => drop(timeout(wait, changes.changed()).await),
        }
    }
}

/// One call to the worker; `None` where the answer is lost.
async fn ask<T>(world: &Shared, deadline: Duration, answer: impl Future<Output = T>) -> Option<T> {
    let trouble = |state: &mut State| {
        let is_lost = state.cluster.is_parted || state.meets_trouble();
        (is_lost, Duration::from_millis(state.random.u64(WAY)))
    };
    let (is_lost, way) = trouble(&mut world.lock());
    pass(way).await;
    if is_lost {
        return None;
    }
    let answer = timeout(deadline, answer).await.ok();
    let answer = world.alive(answer).await?;
    let (is_lost, way) = trouble(&mut world.lock());
    pass(way).await;
    world.alive(()).await;
    (!is_lost).then_some(answer)
}

async fn offer(world: Shared, worker: WorkerHandle, order: Order) {
    let task = order.offer.spec.id.clone();
    let answer = async {
        let asked = world.lock().now();
        let answer = world.alive(worker.assign(order.offer).await).await;
        world.change(|state| state.judge_offer(&task, asked, &answer));
        answer
    };
    let answer = ask(&world, OFFER, answer).await;
    world.change(|state| {
        let now = state.now();
        let is_taken = matches!(
            answer,
            Some(AssignAnswer::Accepted | AssignAnswer::AlreadyAccepted)
        );
        if is_taken {
            state.within(WRITES, Due::WritesRunning(task.clone()));
        }
        let row = state.cluster.row(&task);
        row.calls -= 1;
        row.taken |= is_taken;
        row.offer_again(now);
        state.touch();
    });
}

async fn cancel(world: Shared, worker: WorkerHandle, task: TaskId) {
    let answer = async {
        let asked = world.lock().now();
        let answer = world.alive(worker.cancel(task.clone()).await).await;
        world.change(|state| state.judge_cancel(&task, asked, answer));
        answer
    };
    let answer = ask(&world, OFFER, answer).await;
    world.change(|state| {
        let now = state.now();
        let row = state.cluster.row(&task);
        row.calls -= 1;
        row.next_offer = None;
        row.repeats.clear();
        row.next_cancel = answer.is_none().then_some(now + AGAIN);
        state.touch();
    });
}

impl State {
    /// Judges an answer to an offer: an acknowledgement is a promise, whether the master hears it or not.
    fn judge_offer(&mut self, task: &TaskId, asked: Duration, answer: &AssignAnswer) {
        self.note(format!(
            "the worker answers to the offer of {task}: {answer:?}"
        ));
        let took = self.now() - asked;
        if took > ASSIGN_WITHIN {
            self.breaks(format!("an answer to the offer of {task} took {took:?}"));
        }
        let is_taken = !matches!(answer, AssignAnswer::Refused(_));
        if is_taken && !self.disk.knows(task) {
            self.breaks(format!("{task} is acknowledged, and not durable"));
        }
    }

    fn judge_cancel(&mut self, task: &TaskId, asked: Duration, answer: CancelAnswer) {
        self.note(format!(
            "the worker answers to the cancel of {task}: {answer:?}"
        ));
        let now = self.now();
        if now - asked > CANCEL_WITHIN {
            self.breaks(format!(
                "an answer to the cancel of {task} took {:?}",
                now - asked
            ));
        }
        let could_write = self.disk.takes_commits(asked);
        let record = self.disk.record(task);
        let verdict = record.and_then(|record| record.verdict.as_ref());
        let verdict = verdict.map(|verdict| verdict.outcome.word().in_report());
        let is_kept = record.map_or_else(
            || self.disk.journal.0.early_cancels.contains(task),
            |record| record.cancel_requested || verdict == Some("cancelled"),
        );
        let is_here = record.is_some();
        let before = self.cluster.row(task).cancel;
        self.cluster.row(task).cancel = match answer {
            CancelAnswer::Accepted if could_write => Cancel::Accepted,
            // The first answer counts.
            _ if before != Cancel::Asked => before,
            CancelAnswer::Accepted => Cancel::Weakly,
            CancelAnswer::NotFound => Cancel::NotFound,
            CancelAnswer::AlreadyFinished(status) => Cancel::Already(status.in_report()),
        };
        if answer == CancelAnswer::Accepted {
            self.cluster.row(task).cancelled.get_or_insert(now);
        }
        match answer {
            CancelAnswer::Accepted if could_write && !is_kept => {
                self.breaks(format!(
                    "the cancel of {task} is acknowledged, and not durable"
                ));
            }
            // A journal that does not answer cannot tell whether a task is over.
            CancelAnswer::NotFound if could_write && is_here => {
                self.breaks(format!("{task} is here, and not found"));
            }
            CancelAnswer::AlreadyFinished(status)
                if verdict.is_some_and(|told| told != status.in_report()) =>
            {
                self.breaks(format!(
                    "{task} is over as {verdict:?}, and told to be {status:?}"
                ));
            }
            _ => {}
        }
    }
}
