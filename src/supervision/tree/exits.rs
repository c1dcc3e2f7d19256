//! What follows the end of an incarnation: the domain decides, this performs.

use std::time::Duration;

use tokio::time::Instant;

use super::Tree;
use crate::{
    domain::restart::{self, RestartType, Standing, Verdict},
    supervision::{
        child::{Child, Next, State},
        event::{Edge, LifecycleEvent, RestartsUsed},
        exit::Exit,
        handle::Ended,
        incarnation::ChildKey,
        panics,
        slot::Successor,
        spec::GaveUp,
        timers::Due,
    },
};

impl Tree {
    /// An incarnation reported its end. The report of one that was replaced meanwhile is ignored.
    pub(super) fn exited(&mut self, key: ChildKey, generation: u64, exit: Exit) {
        let current = self.children.get(key).and_then(Child::life);
        if current.is_some_and(|life| life.incarnation.generation == generation) {
            self.ended(key, exit, None);
            self.advance();
        }
    }

    /// Records the end of the present incarnation and performs what follows. `note` is the cause where the exit does not tell it.
    pub(super) fn ended(&mut self, key: ChildKey, exit: Exit, note: Option<String>) {
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        let Some(ended) = child.take_life() else {
            return;
        };
        if let Some(timer) = ended.timer {
            self.timers.cancel(timer);
        }
        let now = Instant::now();
        let cause = note.unwrap_or_else(|| exit.to_string()).replace('\n', " ");
        let mut event = LifecycleEvent::new(Edge::of(&exit), &child.name, child.generation);
        event.failure = exit != Exit::Stopped;
        event.cause = Some(cause.clone());
        event.duration = ended.stopping_since.map(|since| now.duration_since(since));
        event.uptime = ended.life.up_since.map(|since| now.duration_since(since));
        child.last_reason = Some(cause);
        child.launch.vacate(Successor::Coming);
        self.emit(&event);
        match ended.errand {
            Some(next) => self.down(key, next),
            None => self.judge(key, &exit),
        }
    }

    /// Decides about a child that ended without being asked to.
    fn judge(&mut self, key: ChildKey, exit: &Exit) {
        let moment = (self.elapsed(), fastrand::f64());
        let Some(child) = self.children.get(key) else {
            return;
        };
        let grouped = self.in_group(child);
        let standing = Standing {
            kind: child.kind,
            restart: child.restart,
            restarts: self.options.restarts,
        };
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        let (history, policy) = match grouped {
            true => (&mut self.group, &self.options.policy),
            false => (&mut child.history, &child.policy),
        };
        match restart::verdict(standing, exit.ending(), history, policy, moment) {
            Verdict::Ended => self.lay_to_rest(key, false),
            Verdict::Restart { after, .. } => self.restart(key, after),
            Verdict::GiveUp { .. } => self.give_up(key, exit),
            Verdict::Escalate { .. } => self.escalate(key, exit),
        }
    }

    /// Starts a failed child again, after the backoff, and with it the siblings that the strategy names.
    fn restart(&mut self, key: ChildKey, after: Duration) {
        let restarts = self.restarts_used(key);
        let Some(child) = self.children.get(key) else {
            return;
        };
        let grouped = self.in_group(child);
        let now = Instant::now();
        let mut event = LifecycleEvent::new(Edge::Restarting, &child.name, child.generation);
        event.cause.clone_from(&child.last_reason);
        event.restarts = restarts;
        event.backoff = Some(after);
        self.emit(&event);
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        child.restarts += 1;
        child.last_restart = Some(now);
        child.outage_since.get_or_insert(now);
        child.state = State::Backoff {
            timer: self.timers.add(now + after, Due::Restart(key)),
        };
        if grouped {
            self.take_along(key);
        }
        if after.is_zero() {
            self.resume(key);
        }
    }

    /// Makes the siblings that restart with `failed` stop in their turn, and start again in theirs.
    fn take_along(&mut self, failed: ChildKey) {
        let order = self.children.order();
        let Some(index) = order.iter().position(|key| *key == failed) else {
            return;
        };
        let concerned = restart::concerned(self.options.strategy, index, order.len());
        let siblings = order[concerned].to_vec();
        for key in siblings.into_iter().filter(|key| *key != failed) {
            let Some(child) = self.children.get_mut(key) else {
                continue;
            };
            let next = match child.restart {
                RestartType::Temporary => Next::Rest,
                RestartType::Permanent | RestartType::Transient => Next::Start,
            };
            match child.state {
                State::Starting(_) | State::Running(_) => child.leave(next),
                State::Backoff { .. } | State::Pending { .. } => self.down(key, next),
                State::Leaving(..) | State::Stopping { .. } | State::Down { .. } => {}
            }
        }
    }

    /// Starts a child whose backoff is over, or which has none.
    pub(super) fn resume(&mut self, key: ChildKey) {
        let waits = |child: &&Child| matches!(child.state, State::Backoff { .. });
        if self.children.get(key).filter(waits).is_some() {
            self.down(key, Next::Start);
            self.advance();
        }
    }

    /// A child failed and stays down, while its supervisor goes on.
    fn give_up(&mut self, key: ChildKey, exit: &Exit) {
        let restarts = self.restarts_used(key);
        self.emit_gave_up(key, restarts);
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        if let (Some(callback), Some(restarts)) = (child.on_gave_up.take(), restarts) {
            let news = GaveUp {
                name: child.name.clone(),
                exit: exit.clone(),
                used: restarts.used,
                window: restarts.window,
            };
            // The callback is other code: a panic in it must not take the supervisor along. The panic hook has logged it.
            let _ = panics::catch(|| callback(news));
        }
        self.lay_to_rest(key, true);
    }

    /// A static child failed for good: everything stops, and the supervisor ends.
    fn escalate(&mut self, key: ChildKey, exit: &Exit) {
        let restarts = self.restarts_used(key);
        self.emit_gave_up(key, restarts);
        self.lay_to_rest(key, true);
        let Some(child) = self.children.get(key) else {
            return;
        };
        let why = Ended::Escalated {
            child: child.name.clone(),
            reason: exit.to_string(),
        };
        self.stop_all(why, None);
    }

    fn emit_gave_up(&self, key: ChildKey, restarts: Option<RestartsUsed>) {
        if let Some(child) = self.children.get(key) {
            let mut event = LifecycleEvent::new(Edge::GaveUp, &child.name, child.generation);
            event.cause.clone_from(&child.last_reason);
            event.failure = true;
            event.restarts = restarts;
            self.emit(&event);
        }
    }

    /// The present state of the budget that counts for a child.
    pub(super) fn restarts_used(&self, key: ChildKey) -> Option<RestartsUsed> {
        self.children.get(key).map(|child| self.budget(child))
    }
}
