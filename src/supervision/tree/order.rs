//! Starting in order, stopping in reverse: one child at a time, the next when the last one is up or down.
//!
//! `advance` is called after every change, and does what the states of the children allow; it remembers nothing itself. The order
//! is that of the static children; dynamic ones only use the steps.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::Tree;
use crate::{
    domain::restart::{ChildKind, Strategy},
    supervision::{
        child::{Child, Life, Next, State},
        event::{Edge, LifecycleEvent},
        exit::Exit,
        incarnation::{ChildKey, Incarnation},
        ping::{Ping, Signal},
        slot::Successor,
        timers::Due,
    },
};

impl Tree {
    /// Stops and starts the children whose turn it is.
    pub(super) fn advance(&mut self) {
        if self.ending.is_some() && self.children.dynamic_count() > 0 {
            return;
        }
        self.stop_next();
        if self.ending.is_some() {
            return self.finish();
        }
        self.start_next();
        if self
            .children
            .statics()
            .all(|child| child.state.is_settled())
        {
            self.progress
                .ready
                .send_if_modified(|ready| !std::mem::replace(ready, true));
        }
    }

    /// Asks the last of the leaving static children to stop, unless one of them is stopping already.
    fn stop_next(&mut self) {
        let is_stopping = |state: &State| matches!(state, State::Stopping { .. });
        if self
            .children
            .statics()
            .any(|child| is_stopping(&child.state))
        {
            return;
        }
        let leaves = |child: &Child| Some((child.key, child.state.leaves_for()?));
        let next = self.children.statics().rev().find_map(leaves);
        if let Some((key, next)) = next {
            self.ask_to_stop(key, next);
        }
    }

    /// Starts pending static children: each that need not wait, and the first of the ordered ones once all before it are up.
    fn start_next(&mut self) {
        // A group starts when its last child is down and the backoff is over.
        let grouped = self.options.strategy != Strategy::OneForOne;
        let mut blocked = grouped
            && self
                .children
                .statics()
                .any(|child| child.state.holds_its_group());
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
                State::Pending { .. }
                | State::Starting(_)
                | State::Backoff { .. }
                | State::Leaving(..)
                | State::Stopping { .. } => blocked = true,
            }
        }
    }

    /// Begins a new incarnation of a child.
    pub(super) fn start(&mut self, key: ChildKey) {
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        child.generation += 1;
        let incarnation = Incarnation::new(Arc::clone(&child.name), key, child.generation);
        let now = Instant::now();
        child.state = State::Starting(Life {
            incarnation: Arc::clone(&incarnation),
            since: now,
            up_since: None,
            pinged: (child.kind == ChildKind::Static).then_some(now),
            waited: Duration::ZERO,
        });
        let event = LifecycleEvent::new(Edge::Starting, &child.name, child.generation);
        self.emit(&event);
        self.send_to_place(key, incarnation);
    }

    fn send_to_place(&mut self, key: ChildKey, incarnation: Arc<Incarnation>) {
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        let generation = child.generation;
        match self.places.settle(child.placement, child.place.take()) {
            Ok(site) => {
                child.place = Some(site.id);
                if let Some(life) = child.pinged_life() {
                    life.waited = self.places.waited(site.id);
                }
                let signals = self.signals.clone();
                child.launch.launch(&site, incarnation, signals);
                if child.kind == ChildKind::Static {
                    child.launch.ping(Ping::new(key, generation, &self.signals));
                }
            }
            Err(error) => {
                let exited = Signal::Exited {
                    key,
                    generation,
                    exit: Exit::Failed(format!("no thread to run on: {error}")),
                };
                // To this supervisor itself, so the receiver exists.
                let _ = self.signals.send(exited);
            }
        }
    }

    /// A dynamic child is up once `started` has run. A static one is up when it answers its first ping.
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
        let now = Instant::now();
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        let Some(started) = child.come_up(now) else {
            return;
        };
        let outage = child.outage_since.take();
        self.emit(&started);
        if let Some(since) = outage {
            self.emit(&LifecycleEvent {
                edge: Edge::Recovered,
                duration: Some(now.duration_since(since)),
                restarts: self.restarts_used(key),
                ..started
            });
        }
        self.advance();
    }

    /// Asks an incarnation to stop, past its mailbox, and arms the timer of its shutdown timeout.
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

    /// A child is down, or was not up: performs what is to follow.
    pub(super) fn down(&mut self, key: ChildKey, next: Next) {
        let grouped = self.options.strategy != Strategy::OneForOne;
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        if let State::Backoff { timer } = child.state {
            self.timers.cancel(timer);
        }
        child.tell_waiting();
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

    /// Keeps a child down. A dynamic one is forgotten.
    pub(super) fn lay_to_rest(&mut self, key: ChildKey, fatal: bool) {
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        child.tell_waiting();
        if matches!(child.state, State::Down { .. }) {
            return;
        }
        child.state = State::Down { fatal };
        child.launch.vacate(Successor::None);
        if let Some(place) = child.place.take() {
            self.places.leave(child.placement, place);
        }
        if let Some(ending) = self.ending.as_mut() {
            ending.count(child);
        }
        if child.kind == ChildKind::Dynamic {
            self.children.remove(key);
        }
    }
}
