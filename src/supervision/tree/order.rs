//! Starting in order, stopping in reverse: one child at a time, the next when the last one is up or down.
//!
//! `advance` is called after every change and does what the states allow; it remembers nothing itself.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Ending, Tree};
use crate::{
    domain::restart::{ChildKind, Strategy},
    supervision::{
        child::{Life, Next, State},
        event::{Edge, LifecycleEvent},
        exit::Exit,
        handle::{Ended, StopReport},
        incarnation::{ChildKey, Incarnation},
        ping::{Ping, Signal},
        slot::Successor,
        timers::Due,
    },
};

impl Tree {
    /// Starts and stops what is next in order.
    pub(super) fn advance(&mut self) {
        if self.ending.is_some() && self.children.dynamic_count() > 0 {
            return;
        }
        self.stop_next();
        if self.ending.is_some() {
            return self.finish();
        }
        self.start_next();
        let settled = |state: &State| matches!(state, State::Running(_) | State::Down { .. });
        if self.children.statics().all(|child| settled(&child.state)) {
            self.progress
                .ready
                .send_if_modified(|ready| !std::mem::replace(ready, true));
        }
    }

    /// Asks the last of the leaving static children to stop, unless one is at it.
    fn stop_next(&mut self) {
        let stopping = |state: &State| matches!(state, State::Stopping { .. });
        if self.children.statics().any(|child| stopping(&child.state)) {
            return;
        }
        let next = self
            .children
            .statics()
            .rev()
            .find_map(|child| match child.state {
                State::Leaving(_, next) => Some((child.key, next)),
                _ => None,
            });
        if let Some((key, next)) = next {
            self.ask_to_stop(key, next);
        }
    }

    /// Starts pending static children: those that wait for nobody, and the first of those in order when all before it are up.
    fn start_next(&mut self) {
        let held = |state: &State| {
            matches!(
                state,
                State::Backoff { .. } | State::Leaving(..) | State::Stopping { .. }
            )
        };
        // A group starts when the last of it is down and the backoff is over.
        let grouped = self.options.strategy != Strategy::OneForOne;
        let mut blocked = grouped && self.children.statics().any(|child| held(&child.state));
        for key in self.children.order().to_vec() {
            let Some(child) = self.children.get(key) else {
                continue;
            };
            match child.state {
                State::Running(_) | State::Down { .. } => {}
                State::Pending { ordered } if !(ordered && blocked) => {
                    self.start(key);
                    blocked = true;
                }
                _ => blocked = true,
            }
        }
    }

    /// Sends a new incarnation of a child to its place.
    pub(super) fn start(&mut self, key: ChildKey) {
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        child.generation += 1;
        let generation = child.generation;
        let incarnation = Incarnation::new(Arc::clone(&child.name), key, generation);
        let now = Instant::now();
        let is_static = child.kind == ChildKind::Static;
        child.state = State::Starting(Life {
            incarnation: Arc::clone(&incarnation),
            since: now,
            up_since: None,
            pinged: is_static.then_some(now),
        });
        let event = LifecycleEvent::new(Edge::Starting, &child.name, generation);
        match self.places.settle(child.placement, child.place.take()) {
            Ok(site) => {
                child.place = Some(site.id);
                child
                    .launch
                    .launch(&site, incarnation, self.signals.clone());
                if is_static {
                    child.launch.ping(Ping::new(key, generation, &self.signals));
                }
            }
            Err(error) => {
                let exit = Exit::Failed(format!("no thread to run on: {error}"));
                let exited = Signal::Exited {
                    key,
                    generation,
                    exit,
                };
                // To ourselves; the receiver lives as long as this actor.
                let _ = self.signals.send(exited);
            }
        }
        self.emit(&event);
    }

    /// `started` of a dynamic child ran. A static one counts as up when it answers its first ping.
    pub(super) fn started(&mut self, key: ChildKey, generation: u64) {
        let Some(child) = self.children.get(key) else {
            return;
        };
        if child.generation == generation && child.kind == ChildKind::Dynamic {
            self.up(key);
        }
    }

    pub(super) fn answered(&mut self, key: ChildKey, generation: u64) {
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        if child.generation != generation {
            return;
        }
        if let Some(life) = child.pinged_life() {
            life.pinged = None;
        }
        self.up(key);
    }

    fn up(&mut self, key: ChildKey) {
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        let State::Starting(_) = child.state else {
            return;
        };
        let Some(ended) = child.take_life() else {
            return;
        };
        let now = Instant::now();
        let mut life = ended.life;
        life.up_since = Some(now);
        let mut started = LifecycleEvent::new(Edge::Started, &child.name, child.generation);
        started.duration = Some(now.duration_since(life.since));
        child.state = State::Running(life);
        let outage = child.outage_since.take();
        let recovered = outage.map(|since| LifecycleEvent {
            edge: Edge::Recovered,
            duration: Some(now.duration_since(since)),
            ..started.clone()
        });
        self.emit(&started);
        if let Some(mut recovered) = recovered {
            recovered.restarts = self.restarts_used(key);
            self.emit(&recovered);
        }
        self.advance();
    }

    /// Asks an incarnation to stop, past its mailbox, and arms its deadline.
    pub(super) fn ask_to_stop(&mut self, key: ChildKey, next: Next) {
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        let Some(ended) = child.take_life() else {
            return;
        };
        let now = Instant::now();
        ended.life.incarnation.request_stop();
        let mut event = LifecycleEvent::new(Edge::Stopping, &child.name, child.generation);
        event.uptime = ended.life.up_since.map(|since| now.duration_since(since));
        child.state = State::Stopping {
            life: ended.life,
            since: now,
            timer: self.timers.add(now + child.shutdown, Due::Stop(key)),
            next,
        };
        self.emit(&event);
    }

    /// A child is down, or was not up: what was asked for follows.
    pub(super) fn down(&mut self, key: ChildKey, next: Next) {
        let grouped = self.options.strategy != Strategy::OneForOne;
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        if let State::Backoff { timer } = child.state {
            self.timers.cancel(timer);
        }
        match next {
            Next::Rest => self.lay_to_rest(key, false),
            Next::Start => {
                child.state = State::Pending { ordered: grouped };
                if child.kind == ChildKind::Dynamic {
                    self.start(key);
                }
            }
        }
    }

    /// A child stays down: a dynamic one is forgotten.
    pub(super) fn lay_to_rest(&mut self, key: ChildKey, fatal: bool) {
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        for told in child.waiting.drain(..) {
            // Whoever asked may have lost interest.
            let _ = told.send(());
        }
        if matches!(child.state, State::Down { .. }) {
            return;
        }
        child.state = State::Down { fatal };
        child.launch.vacate(Successor::None);
        if let Some(place) = child.place.take() {
            self.places.leave(child.placement, place);
        }
        if let Some(ending) = self.ending.as_mut() {
            match child.kind {
                ChildKind::Static if child.generation > 0 => {
                    ending.stopped.push(Arc::clone(&child.name))
                }
                ChildKind::Static => {}
                ChildKind::Dynamic => ending.dynamic_stopped += 1,
            }
        }
        if child.kind == ChildKind::Dynamic {
            self.children.remove(key);
        }
    }

    /// Begins the end of the whole tree: dynamic children at once, then the static ones in reverse order.
    pub(in crate::supervision) fn stop_all(&mut self, why: Ended, deadline: Option<Instant>) {
        if let Some(deadline) = deadline {
            self.timers.add(deadline, Due::StopAll);
        }
        if self.ending.is_none() {
            self.ending = Some(Ending {
                why,
                since: Instant::now(),
                stopped: Vec::new(),
                killed: Vec::new(),
                dynamic_stopped: 0,
            });
            let all: Vec<ChildKey> = self.children.iter().map(|child| child.key).collect();
            for key in all {
                self.dismiss(key);
            }
        }
        self.advance();
    }

    /// One child's part in the end of the tree.
    fn dismiss(&mut self, key: ChildKey) {
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        match (&mut child.state, child.kind) {
            (State::Starting(_) | State::Running(_), ChildKind::Static) => {
                if let Some(ended) = child.take_life() {
                    child.state = State::Leaving(ended.life, Next::Rest);
                }
            }
            (State::Down { .. }, _) => {}
            _ => self.send_off(key, Next::Rest),
        }
    }

    /// The deadline for everything has passed: whatever is left is abandoned.
    pub(super) fn cut_short(&mut self) {
        let left = |state: &State| !matches!(state, State::Down { .. });
        let children = self.children.iter();
        let keys: Vec<ChildKey> = children
            .filter(|child| left(&child.state))
            .map(|child| child.key)
            .collect();
        for key in keys {
            self.give_up_waiting(key, "everything had to be down by now".to_owned());
        }
        self.advance();
    }

    /// Says that the tree has ended once the last child is down.
    fn finish(&mut self) {
        let down = |state: &State| matches!(state, State::Down { .. });
        if self.is_over() || !self.children.statics().all(|child| down(&child.state)) {
            return;
        }
        let Some(ending) = self.ending.as_mut() else {
            return;
        };
        self.places.close();
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
