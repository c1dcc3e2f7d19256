//! The end of the whole tree: dynamic children together, then the static ones in reverse order, all before a deadline, then the report.

use std::sync::Arc;

use tokio::time::Instant;

use super::Tree;
use crate::{
    domain::restart::ChildKind,
    supervision::{
        child::{Child, Next, State},
        handle::{Ended, StopReport},
        incarnation::ChildKey,
        timers::Due,
    },
};

/// The report of an end under way.
pub(super) struct Ending {
    why: Ended,
    since: Instant,
    stopped: Vec<Arc<str>>,
    killed: Vec<Arc<str>>,
    dynamic_stopped: usize,
}

impl Ending {
    fn begin(why: Ended) -> Self {
        Self {
            why,
            since: Instant::now(),
            stopped: Vec::new(),
            killed: Vec::new(),
            dynamic_stopped: 0,
        }
    }

    /// Counts a child that is down for good.
    pub(super) fn count(&mut self, child: &Child) {
        match child.kind {
            ChildKind::Static if child.generation > 0 => self.stopped.push(Arc::clone(&child.name)),
            // It was never started.
            ChildKind::Static => {}
            ChildKind::Dynamic => self.dynamic_stopped += 1,
        }
    }

    /// Counts a child that did not stop in time.
    pub(super) fn count_killed(&mut self, child: &Child) {
        self.killed.push(Arc::clone(&child.name));
    }
}

impl Tree {
    /// Begins the end of the whole tree: dynamic children at once, then the static ones in reverse order.
    pub(in crate::supervision) fn stop_all(&mut self, why: Ended, deadline: Option<Instant>) {
        if let Some(deadline) = deadline {
            self.timers.add(deadline, Due::StopAll);
        }
        if self.ending.is_none() {
            self.ending = Some(Ending::begin(why));
            let all: Vec<ChildKey> = self.children.iter().map(|child| child.key).collect();
            for key in all {
                self.dismiss(key);
            }
        }
        self.advance();
    }

    /// Brings one child down as its part in the end of the tree.
    fn dismiss(&mut self, key: ChildKey) {
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        match (&child.state, child.kind) {
            (State::Starting(_) | State::Running(_), ChildKind::Static) => child.leave(Next::Rest),
            (State::Down { .. }, _) => {}
            (_, ChildKind::Static | ChildKind::Dynamic) => self.send_off(key, Next::Rest),
        }
    }

    /// The deadline of the whole end has passed: children that are not down are abandoned.
    pub(super) fn cut_short(&mut self) {
        let left = |child: &&Child| !child.state.is_down();
        let keys: Vec<ChildKey> = self
            .children
            .iter()
            .filter(left)
            .map(|child| child.key)
            .collect();
        for key in keys {
            self.give_up_waiting(key, "everything had to be down by now".to_owned());
        }
        self.advance();
    }

    /// Once the last child is down, publishes the report, which ends the supervisor.
    pub(super) fn finish(&mut self) {
        if self.is_over() || !self.children.statics().all(|child| child.state.is_down()) {
            return;
        }
        let Some(ending) = self.ending.as_mut() else {
            return;
        };
        self.places.close();
        ending.killed.sort_unstable();
        let report = StopReport {
            ended: ending.why.clone(),
            stopped: std::mem::take(&mut ending.stopped),
            killed: std::mem::take(&mut ending.killed),
            dynamic_stopped: ending.dynamic_stopped,
            took: ending.since.elapsed(),
        };
        self.progress.report.send_replace(Some(report));
    }
}
