//! The worker's promises, held against what happened.

use std::time::Duration;

use super::{
    cluster::{Cancel, Row},
    docker::End,
    scene::{ABSENT, FLAKY, HEALED, Order, is_greedy},
    world::State,
};
use crate::{
    domain::id::TaskId,
    ports::master::Beat,
    supervision::{Edge, LifecycleEvent},
};

/// The text for a container that ended about when its engine did: it may have ended by itself a moment before.
const STOPPED: &str = "stopped with the engine";

/// How long a container may run on after its cancel or the last trouble: the grace, and the time to start again.
const ENDED_WITHIN: Duration = Duration::from_secs(60);

/// The text for a container that was ended by none of the known causes.
const FROM_OUTSIDE: &str = "stopped from outside";

/// The text for an offer that one actor panicked over twice.
const POISON: &str = "the worker failed twice over its offer";

/// Images whose pull may fail.
const MAY_FAIL: [&str; 2] = [ABSENT, FLAKY];

impl State {
    /// What is still to be done or to be removed; `None` when the run is over.
    pub(super) fn is_left(&self) -> Option<&'static str> {
        let is_told = |beat: &Beat| beat.running.is_empty();
        let left = [
            (!self.is_played(), "something is still to happen"),
            (!self.cluster.is_content(), "the master still has wishes"),
            (
                self.disk.unfinished().next().is_some(),
                "a task is not done",
            ),
            (
                !self.disk.journal.0.redeliveries.is_empty(),
                "a result is owed once more",
            ),
            (!self.docker.containers.is_empty(), "a container is there"),
            (!self.disk.folders().is_empty(), "an output folder is there"),
            (
                !self.cluster.beat.as_ref().is_some_and(is_told),
                "the heartbeats tell of tasks",
            ),
        ];
        left.into_iter()
            .find_map(|(is_left, what)| is_left.then_some(what))
    }

    /// Actors may panic only as planned, and must never hang or be given up.
    pub(super) fn judge_event(&mut self, event: &LifecycleEvent) {
        let fell = event.edge == Edge::Panicked || event.edge == Edge::Stopped && event.failure;
        let is_planned = fell && self.falls.planned > 0;
        if is_planned {
            self.falls.planned -= 1;
        }
        if fell && !is_planned || matches!(event.edge, Edge::Hung | Edge::GaveUp) {
            let (actor, edge, cause) = (&event.actor, event.edge.as_str(), &event.cause);
            self.breaks(format!("{actor} {edge}: {cause:?}"));
        }
    }

    /// A container that is to be ended ends within the grace, once nothing is in the way.
    pub(super) fn judge_own_end(&mut self, task: &TaskId, (since, at): (Duration, Duration)) {
        if self.is_greedy(task) && at > since.max(HEALED) + ENDED_WITHIN {
            self.breaks(format!(
                "{task} goes on to its own end, and has written too much"
            ));
        }
        let cancelled = self.cluster.rows.get(task).and_then(|row| row.cancelled);
        if let Some(cancelled) = cancelled
            && at > cancelled.max(HEALED) + ENDED_WITHIN
        {
            self.breaks(format!(
                "{task} goes on to its own end, though it was cancelled at {cancelled:?}"
            ));
        }
    }

    fn is_greedy(&self, task: &TaskId) -> bool {
        let row = self.cluster.rows.get(task);
        row.is_some_and(|row| is_greedy(&row.order.offer.spec))
    }

    /// Of a task that is not greedy, the worker ends the container only for a cancel, which is durable before, if the disk takes
    /// commits.
    pub(super) fn judge_kill(&mut self, task: &TaskId) {
        if self.is_greedy(task) {
            return;
        }
        let record = self.disk.record(task);
        if record.is_some_and(|record| record.cancel_requested) {
            return;
        }
        if self.disk.takes_commits(self.now()) {
            self.breaks(format!("{task} is ended, and its cancel is not durable"));
        }
        self.cluster.row(task).is_forgettable = true;
    }

    /// Collects the promises that were broken, at the end of a run.
    pub(super) fn judge(&mut self) {
        let mut broken = Vec::new();
        for (task, row) in &self.cluster.rows {
            let mut breaks = |what: String| broken.push(format!("{task} {what}"));
            for what in self.judge_row(task, row) {
                breaks(what);
            }
        }
        for folder in self.disk.folders() {
            broken.push(format!("the output folder {folder} is left"));
        }
        for what in broken {
            self.breaks(what);
        }
    }

    fn judge_row(&self, task: &TaskId, row: &Row) -> Vec<String> {
        let mut broken = Vec::new();
        let was_taken = row.taken || self.disk.knows(task);
        let Some(copy) = row.copies.last() else {
            if was_taken {
                broken.push("has no result".into());
            }
            return broken;
        };
        let status = copy.status;
        if row.status != status {
            broken.push(format!("is {status}, and stands as {}", row.status));
        }
        if row.copies_too_many() > 0 {
            broken.push(format!("came {} times", row.copies.len()));
        }
        if !row.has_its_files() {
            broken.push("lacks its files".into());
        }
        let executions = self.docker.executions.get(task);
        let executed = executions.and_then(|all| all.last()).copied();
        let is_poison = executed.is_none()
            && self.falls.panics >= 2
            && status == "failed"
            && copy.logs.contains(POISON);
        if !is_poison {
            broken.extend(is_untrue(row, (status, &copy.logs), executed));
        }
        if executed.is_some() {
            broken.extend(is_incomplete(task, &copy.logs, executed));
        }
        broken
    }
}

/// Whether the outcome told to the master differs from what happened; then how.
fn is_untrue(row: &Row, (status, logs): (&str, &str), executed: Option<End>) -> Option<String> {
    let order = &row.order;
    let expected = match (row.cancel, executed) {
        (Cancel::Accepted, _) => "cancelled",
        (Cancel::Already(told), _) => told,
        // The cancel may have come in time, or not.
        (Cancel::Asked | Cancel::Weakly, _) if status == "cancelled" => return None,
        // Design, 2.1: where the disk did not take the cancel, it was carried out all the same; who ended the container is
        // forgotten with the worker.
        (Cancel::Asked | Cancel::Weakly, Some(End::ByWorker))
            if row.is_forgettable && logs.contains(FROM_OUTSIDE) =>
        {
            "failed"
        }
        (_, Some(End::Itself(_) | End::ByWorker)) if is_told_too_large(order, status, logs) => {
            return None;
        }
        (_, Some(End::Itself(0))) if status == "failed" && logs.contains(STOPPED) => return None,
        (_, Some(End::Itself(0))) => "success",
        (_, Some(End::Itself(_) | End::ByEngine)) => "failed",
        (_, Some(End::ByWorker | End::NotYet)) => "cancelled",
        (_, None) if order.is_impossible || MAY_FAIL.contains(&order.offer.spec.image.as_str()) => {
            "failed"
        }
        (_, None) => "started",
    };
    (status != expected).then(|| format!("is {status}, and should be {expected}: {executed:?}"))
}

/// Whether a greedy task's result is one that its kill explains. Where worker or engine died between the kill and the record of the
/// end, the result tells only how the container ended.
fn is_told_too_large(order: &Order, status: &str, logs: &str) -> bool {
    let words = ["over its storage", "from outside", STOPPED];
    let is_told = words.iter().any(|words| logs.contains(words));
    is_greedy(&order.offer.spec) && status == "failed" && is_told
}

/// Parts of the lines that say that output may be missing or there twice.
const MARKERS: [&str; 4] = ["not provable", "left out", "may be missing", "may lack"];

/// The complaint if the log in a result lacks output of the task, or has it twice, without a line that says so.
fn is_incomplete(task: &TaskId, logs: &str, executed: Option<End>) -> Option<String> {
    let count = |what: &str| logs.lines().filter(|line| *line == what).count();
    let (begins, ends) = (
        count(&format!("{task} begins")),
        count(&format!("{task} ends")),
    );
    let expected = usize::from(matches!(executed, Some(End::Itself(_))));
    let has_marker = MARKERS.iter().any(|marker| logs.contains(marker));
    let is_whole = (begins, ends) == (1, expected);
    (!is_whole && !has_marker).then(|| format!("has this log: {logs:?}"))
}
