//! [`SupervisorActor`]: the actix shell around the tree. It belongs on the system's arbiter, does no I/O and never waits.
//!
//! Commands come through its mailbox, exits and answers to pings through an unbounded channel of its own, and time through one
//! timer, armed for the earliest deadline. The tree does the rest.

use std::sync::Arc;

use actix::{
    Actor, ActorContext, AsyncContext, Context, Handler, MessageResult, SpawnHandle, StreamHandler,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::{
    event::LifecycleEvent,
    handle::{Ended, ListChildren, RestartChild, StartChild, StopAll, StopChild, SupervisorHandle},
    options::SupervisorOptions,
    ping::Signal,
    spec::ChildSpec,
    threads,
    tree::{Events, Progress, Tree},
};

/// The supervisor's actor. Made by [`SupervisorActor::builder`], reached by a [`SupervisorHandle`].
pub struct SupervisorActor {
    tree: Tree,
    /// Taken when the actor starts.
    signals: Option<mpsc::UnboundedReceiver<Signal>>,
    armed: Option<(Instant, SpawnHandle)>,
}

impl SupervisorActor {
    /// Declares a supervisor.
    #[must_use]
    pub fn builder(options: SupervisorOptions) -> SupervisorBuilder {
        SupervisorBuilder {
            options,
            specs: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Called after every change of the tree: arms the timer for the earliest deadline, and stops this actor once the tree has
    /// ended.
    fn rearm(&mut self, ctx: &mut Context<Self>) {
        if self.tree.is_over() {
            return ctx.stop();
        }
        let next = self.tree.timers.next();
        if self.armed.map(|(at, _)| at) == next {
            return;
        }
        if let Some((_, handle)) = self.armed.take() {
            ctx.cancel_future(handle);
        }
        self.armed = next.map(|at| {
            let delay = at.saturating_duration_since(Instant::now());
            (at, ctx.run_later(delay, Self::time_passed))
        });
    }

    fn time_passed(&mut self, ctx: &mut Context<Self>) {
        self.armed = None;
        self.tree.due(Instant::now());
        self.rearm(ctx);
    }
}

impl Actor for SupervisorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(signals) = self.signals.take() {
            ctx.add_stream(UnboundedReceiverStream::new(signals));
        }
        self.tree.begin();
        self.rearm(ctx);
    }
}

impl StreamHandler<Signal> for SupervisorActor {
    fn handle(&mut self, signal: Signal, ctx: &mut Self::Context) {
        self.tree.signal(signal);
        self.rearm(ctx);
    }
}

impl Handler<StartChild> for SupervisorActor {
    type Result = MessageResult<StartChild>;

    fn handle(&mut self, StartChild(spec): StartChild, ctx: &mut Self::Context) -> Self::Result {
        let started = self.tree.start_child(spec);
        self.rearm(ctx);
        MessageResult(started)
    }
}

impl Handler<StopChild> for SupervisorActor {
    type Result = MessageResult<StopChild>;

    fn handle(&mut self, StopChild(name): StopChild, ctx: &mut Self::Context) -> Self::Result {
        let stopping = self.tree.stop_child(&name);
        self.rearm(ctx);
        MessageResult(stopping)
    }
}

impl Handler<RestartChild> for SupervisorActor {
    type Result = MessageResult<RestartChild>;

    fn handle(
        &mut self,
        RestartChild(name): RestartChild,
        ctx: &mut Self::Context,
    ) -> Self::Result {
        let restarting = self.tree.restart_child(&name);
        self.rearm(ctx);
        MessageResult(restarting)
    }
}

impl Handler<StopAll> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, StopAll(deadline): StopAll, ctx: &mut Self::Context) {
        self.tree.stop_all(Ended::Stopped, Some(deadline));
        self.rearm(ctx);
    }
}

impl Handler<ListChildren> for SupervisorActor {
    type Result = MessageResult<ListChildren>;

    fn handle(&mut self, _: ListChildren, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.tree.views())
    }
}

/// Collects what a supervisor needs. Nothing runs before [`start`](Self::start).
pub struct SupervisorBuilder {
    options: SupervisorOptions,
    specs: Vec<ChildSpec>,
    events: Vec<Events>,
}

impl SupervisorBuilder {
    /// Adds a static child; the order of the calls is the order of the starts.
    #[must_use]
    pub fn child(mut self, spec: ChildSpec) -> Self {
        self.specs.push(spec);
        self
    }

    /// Adds a listener for lifecycle events. It runs on the supervisor's arbiter, so it must not block.
    #[must_use]
    pub fn events(mut self, listener: Arc<dyn Fn(&LifecycleEvent) + Send + Sync>) -> Self {
        self.events.push(listener);
        self
    }

    /// Starts the supervisor on this arbiter, which should be the system's; its static children follow in order.
    ///
    /// # Panics
    /// When no actix system runs on this thread, or two static children have one name.
    #[must_use]
    pub fn start(self) -> SupervisorHandle {
        let (sender, signals) = mpsc::unbounded_channel();
        let (ready_sender, ready) = watch::channel(false);
        let (report_sender, report) = watch::channel(None);
        let progress = Progress {
            ready: ready_sender,
            report: report_sender,
        };
        let tree = Tree::new(self.options, self.specs, self.events, (sender, progress));
        let supervisor = SupervisorActor {
            tree,
            signals: Some(signals),
            armed: None,
        };
        let context = Context::new();
        let address = context.address();
        threads::here(context.into_future(supervisor));
        SupervisorHandle {
            address,
            ready,
            report,
        }
    }
}
