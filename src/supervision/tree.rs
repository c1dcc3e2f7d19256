//! The supervisor's books, and the commands on them. No actix here: the actor feeds in commands, signals and the time, and gets
//! launched children, armed timers and events.
//!
//! Every child is a small state machine of its own (`child.rs`). `order.rs` moves the children in start order and in reverse,
//! `exits.rs` decides what follows an end, `hangs.rs` finds the children that do not answer, `ending.rs` takes everything down.

mod ending;
mod exits;
mod hangs;
mod order;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc::UnboundedSender, oneshot, watch},
    time::Instant,
};

use self::ending::Ending;
use super::{
    child::{Child, Next, State},
    children::Children,
    event::{LifecycleEvent, RestartsUsed},
    handle::{ChildError, StartChildError, StopReport},
    incarnation::ChildKey,
    options::SupervisorOptions,
    panics,
    ping::Signal,
    places::Places,
    spec::ChildSpec,
    timers::{Due, Timers},
    view::ChildView,
};
use crate::domain::restart::{ChildKind, RestartHistory, Strategy};

/// A listener for all lifecycle events, called on the supervisor's arbiter.
pub(super) type Events = Arc<dyn Fn(&LifecycleEvent) + Send + Sync>;

/// The supervisor's progress as its [`SupervisorHandle`](super::SupervisorHandle)s watch it.
pub(super) struct Progress {
    /// True once all static children have been up.
    pub(super) ready: watch::Sender<bool>,
    /// Set when everything is down.
    pub(super) report: watch::Sender<Option<StopReport>>,
}

/// The children of one supervisor. See the module.
pub(super) struct Tree {
    options: SupervisorOptions,
    events: Vec<Events>,
    children: Children,
    places: Places,
    pub(super) timers: Timers,
    signals: UnboundedSender<Signal>,
    /// Restarts of all static children together, for strategies that restart groups.
    group: RestartHistory,
    epoch: Instant,
    last_look: Instant,
    ending: Option<Ending>,
    progress: Progress,
}

impl Tree {
    /// # Panics
    /// When two static children have one name.
    pub(super) fn new(
        options: SupervisorOptions,
        specs: Vec<ChildSpec>,
        events: Vec<Events>,
        (signals, progress): (UnboundedSender<Signal>, Progress),
    ) -> Self {
        let now = Instant::now();
        let mut children = Children::default();
        for spec in specs {
            let added = children.add(ChildKind::Static, spec, &options);
            assert!(
                added.is_ok(),
                "two static children have one name: {added:?}"
            );
        }
        let places = Places::new(
            Arc::clone(&options.arbiters),
            options.pool_arbiters,
            signals.clone(),
        );
        Self {
            options,
            events,
            children,
            places,
            timers: Timers::default(),
            signals,
            group: RestartHistory::default(),
            epoch: now,
            last_look: now,
            ending: None,
            progress,
        }
    }

    /// Starts the first static child and the looks at pings.
    pub(super) fn begin(&mut self) {
        self.last_look = Instant::now();
        self.arm_look();
        self.advance();
    }

    /// Adds a dynamic child and sends it to its arbiter.
    pub(super) fn start_child(&mut self, spec: ChildSpec) -> Result<(), StartChildError> {
        if self.ending.is_some() {
            return Err(StartChildError::ShuttingDown);
        }
        let added = self.children.add(ChildKind::Dynamic, spec, &self.options);
        let key = added.map_err(StartChildError::DuplicateName)?;
        self.start(key);
        Ok(())
    }

    /// Asks a child to stop and to stay down; the receiver is told when it is down.
    pub(super) fn stop_child(&mut self, name: &str) -> Result<oneshot::Receiver<()>, ChildError> {
        let key = self.children.named(name).ok_or(ChildError::Unknown)?;
        let (tell, told) = oneshot::channel();
        if let Some(child) = self.children.get_mut(key) {
            child.waiting.push(tell);
        }
        self.send_off(key, Next::Rest);
        self.advance();
        Ok(told)
    }

    /// Asks a child to stop and to start again, at once and without charge to its budget; one that is down is started.
    pub(super) fn restart_child(&mut self, name: &str) -> Result<(), ChildError> {
        if self.ending.is_some() {
            return Err(ChildError::ShuttingDown);
        }
        let key = self.children.named(name).ok_or(ChildError::Unknown)?;
        self.send_off(key, Next::Start);
        self.advance();
        Ok(())
    }

    /// Makes `next` follow whatever the child does now, as soon as it can.
    fn send_off(&mut self, key: ChildKey, next: Next) {
        let Some(child) = self.children.get_mut(key) else {
            return;
        };
        match &mut child.state {
            State::Starting(_) | State::Running(_) => self.ask_to_stop(key, next),
            State::Leaving(_, errand) | State::Stopping { next: errand, .. } => *errand = next,
            State::Pending { .. } | State::Backoff { .. } | State::Down { .. } => {
                self.down(key, next);
            }
        }
    }

    pub(super) fn signal(&mut self, signal: Signal) {
        match signal {
            Signal::Started { key, generation } => self.started(key, generation),
            Signal::Answered { key, generation } => self.answered(key, generation),
            Signal::Exited {
                key,
                generation,
                exit,
            } => self.exited(key, generation, exit),
            Signal::PlaceAnswered(place) => self.places.answered(place),
            Signal::PlaceEnded(place) => self.places.ended(place),
            Signal::Look => self.look(),
        }
    }

    /// Performs all timers that are due at `now`.
    pub(super) fn due(&mut self, now: Instant) {
        while let Some(due) = self.timers.pop(now) {
            match due {
                // Through the channel, so that all answers in it are taken in before any child is judged.
                Due::Look => drop(self.signals.send(Signal::Look)),
                Due::Restart(key) => self.resume(key),
                Due::Stop(key) => self.overstayed(key),
                Due::StopAll => self.cut_short(),
            }
        }
    }

    pub(super) fn views(&self) -> Vec<ChildView> {
        let now = Instant::now();
        let view = |child: &Child| child.view(now, self.budget(child));
        let dynamic = self
            .children
            .iter()
            .filter(|child| child.kind == ChildKind::Dynamic);
        let mut views: Vec<_> = self.children.statics().chain(dynamic).map(view).collect();
        let statics = self.children.order().len();
        views[statics..].sort_unstable_by(|a, b| a.name.cmp(&b.name));
        views
    }

    pub(super) fn is_over(&self) -> bool {
        self.progress.report.borrow().is_some()
    }

    fn in_group(&self, child: &Child) -> bool {
        child.kind == ChildKind::Static && self.options.strategy != Strategy::OneForOne
    }

    /// The state of the budget that counts for a child: its own, or its group's.
    fn budget(&self, child: &Child) -> RestartsUsed {
        let (history, policy) = match self.in_group(child) {
            true => (&self.group, &self.options.policy),
            false => (&child.history, &child.policy),
        };
        RestartsUsed {
            used: history.used(self.elapsed(), policy.budget.window),
            of: policy.budget.intensity,
            window: policy.budget.window,
        }
    }

    fn elapsed(&self) -> Duration {
        self.epoch.elapsed()
    }

    fn emit(&self, event: &LifecycleEvent) {
        event.log();
        for listener in &self.events {
            // A panic of a listener must not take the supervisor along.
            let _ = panics::catch(|| listener(event));
        }
    }
}
