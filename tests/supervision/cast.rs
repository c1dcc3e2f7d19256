//! The actors of the supervision tests and the stage they play on: one subject that can be told to fail in any place, and a script that
//! counts what its factory, hooks and destructor did.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, Running,
    WrapFuture,
};
use tokio::{sync::mpsc, time::Instant};
use worker_node::{
    answers_pings,
    supervision::{
        self, ChildSpec, ChildState, ChildView, Edge, LifecycleEvent, PingOptions, Placement, Slot,
        StartError, SupervisorActor, SupervisorBuilder, SupervisorHandle, SupervisorOptions, slot,
    },
};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    Panic,
    Stop,
    Hang,
    Error,
}

/// Where it goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Spot {
    Factory,
    Started,
    Handler,
    Spawned,
    Stopping,
}

/// What all incarnations of one subject share with the test.
#[derive(Default)]
pub(crate) struct Script {
    /// Faults that the next incarnations find in the factory, `started`, a spawned future or `stopping`, one each.
    pub(crate) planned: Mutex<Vec<(Fault, Spot)>>,
    /// Calls of the factory.
    pub(crate) made: AtomicU64,
    /// Actors that came out of the factory.
    pub(crate) born: AtomicU64,
    /// Runs of the destructor.
    pub(crate) dropped: AtomicU64,
    /// Notes in the order in which they were handled, with the generation that did.
    pub(crate) handled: Mutex<Vec<(u64, u32)>>,
}

impl Script {
    pub(crate) fn plan(&self, times: usize, fault: Fault, spot: Spot) {
        self.planned
            .lock()
            .expect("nobody panics with it")
            .extend(std::iter::repeat_n((fault, spot), times));
    }

    fn take(&self, spots: &[Spot]) -> Option<(Fault, Spot)> {
        let mut planned = self.planned.lock().expect("nobody panics with it");
        let at = planned.iter().position(|(_, spot)| spots.contains(spot))?;
        Some(planned.remove(at))
    }

    pub(crate) fn made(&self) -> u64 {
        self.made.load(Ordering::SeqCst)
    }

    pub(crate) fn born(&self) -> u64 {
        self.born.load(Ordering::SeqCst)
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::SeqCst)
    }

    pub(crate) fn handled(&self) -> Vec<(u64, u32)> {
        self.handled.lock().expect("nobody panics with it").clone()
    }
}

/// The actor under test.
pub(crate) struct Subject {
    script: Arc<Script>,
    generation: u64,
}

answers_pings!(Subject);

impl Subject {
    fn make(script: &Arc<Script>, ctx: &mut Context<Self>) -> Result<Self, StartError> {
        script.made.fetch_add(1, Ordering::SeqCst);
        let planned = script.take(&[Spot::Factory]);
        match planned {
            Some((Fault::Panic, _)) => panic!("planned in Factory"),
            Some((Fault::Error, _)) => return Err(StartError::new("planned in Factory")),
            Some((Fault::Stop | Fault::Hang, _)) | None => {}
        }
        let mut subject = Self {
            script: Arc::clone(script),
            generation: supervision::current().expect("supervised").generation,
        };
        if let Some((fault, spot)) = planned {
            subject.suffer(fault, spot, ctx);
        }
        script.born.fetch_add(1, Ordering::SeqCst);
        Ok(subject)
    }

    fn suffer(&mut self, fault: Fault, spot: Spot, ctx: &mut Context<Self>) {
        match fault {
            Fault::Panic => panic!("planned in {spot:?}"),
            Fault::Stop => ctx.stop(),
            Fault::Error => supervision::fail(ctx, format!("planned in {spot:?}")),
            // The gate never opens: nothing goes through the mailbox any more.
            Fault::Hang => ctx.wait(std::future::pending().into_actor(self)),
        }
    }
}

impl Actor for Subject {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        match self.script.take(&[Spot::Started, Spot::Spawned]) {
            Some((fault, Spot::Started)) => self.suffer(fault, Spot::Started, ctx),
            Some((fault, spot)) => {
                let yielded = tokio::task::yield_now().into_actor(self);
                ctx.spawn(yielded.map(move |(), this, ctx| this.suffer(fault, spot, ctx)));
            }
            None => {}
        }
    }

    fn stopping(&mut self, ctx: &mut Self::Context) -> Running {
        match self.script.take(&[Spot::Stopping]) {
            Some((Fault::Panic, _)) => panic!("planned in Stopping"),
            Some((Fault::Error, _)) => {
                supervision::fail(ctx, "planned in Stopping");
                Running::Stop
            }
            // It says 'continue' and never comes to an end.
            Some((Fault::Hang, _)) => {
                ctx.wait(std::future::pending().into_actor(self));
                Running::Continue
            }
            Some((Fault::Stop, _)) | None => Running::Stop,
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.script.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// Suffer this fault in the handler.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub(crate) struct Suffer(pub(crate) Fault);

impl Handler<Suffer> for Subject {
    type Result = ();

    fn handle(&mut self, Suffer(fault): Suffer, ctx: &mut Self::Context) {
        self.suffer(fault, Spot::Handler, ctx);
    }
}

/// Write this down; answers with the generation.
#[derive(Debug, Clone, Message)]
#[rtype(result = "u64")]
pub(crate) struct Note(pub(crate) u32);

impl Handler<Note> for Subject {
    type Result = u64;

    fn handle(&mut self, Note(note): Note, _: &mut Self::Context) -> u64 {
        let mut handled = self.script.handled.lock().expect("nobody panics with it");
        handled.push((self.generation, note));
        self.generation
    }
}

/// A subject as the test holds it.
pub(crate) struct Role {
    pub(crate) slot: Slot<Subject>,
    pub(crate) script: Arc<Script>,
}

/// A child spec for a subject beside the supervisor, and what the test holds of it.
pub(crate) fn subject(name: &str) -> (Role, ChildSpec) {
    let (slot, seat) = slot::<Subject>(name);
    let script = Arc::new(Script::default());
    let role = Role {
        slot,
        script: Arc::clone(&script),
    };
    let spec = ChildSpec::new(seat, move |ctx| Subject::make(&script, ctx))
        .placement(Placement::SupervisorsArbiter);
    (role, spec)
}

/// A supervisor under way and the events that it emits.
pub(crate) struct Stage {
    pub(crate) supervisor: SupervisorHandle,
    events: mpsc::UnboundedReceiver<LifecycleEvent>,
    /// All events so far.
    pub(crate) seen: Vec<LifecycleEvent>,
}

/// A time far beyond anything that a test waits for.
pub(crate) fn far() -> Instant {
    Instant::now() + Duration::from_secs(600)
}

impl Stage {
    pub(crate) fn open(options: SupervisorOptions, specs: Vec<ChildSpec>) -> Self {
        let builder = SupervisorActor::builder(options);
        Self::start(specs.into_iter().fold(builder, SupervisorBuilder::child))
    }

    fn start(builder: SupervisorBuilder) -> Self {
        supervision::install_panic_hook();
        let (tell, events) = mpsc::unbounded_channel();
        let tell = Arc::new(move |event: &LifecycleEvent| drop(tell.send(event.clone())));
        Self {
            supervisor: builder.events(tell).start(),
            events,
            seen: Vec::new(),
        }
    }

    /// Waits for the next event of this kind of this actor.
    #[track_caller]
    pub(crate) fn event(
        &mut self,
        edge: Edge,
        actor: &str,
    ) -> impl Future<Output = LifecycleEvent> + use<'_> {
        let place = std::panic::Location::caller();
        let actor = actor.to_owned();
        async move {
            let deadline = far();
            loop {
                let event = tokio::time::timeout_at(deadline, self.events.recv()).await;
                let Ok(Some(event)) = event else {
                    panic!("no {edge:?} of {actor} at {place}; seen: {:#?}", self.seen);
                };
                self.seen.push(event.clone());
                if event.edge == edge && *event.actor == *actor {
                    return event;
                }
            }
        }
    }

    /// All events so far, in order, as `actor edge`.
    pub(crate) fn story(&mut self) -> Vec<String> {
        while let Ok(event) = self.events.try_recv() {
            self.seen.push(event);
        }
        let line = |event: &LifecycleEvent| format!("{} {}", event.actor, event.edge.as_str());
        self.seen.iter().map(line).collect()
    }

    pub(crate) async fn view(&self, name: &str) -> Option<ChildView> {
        let views = self.supervisor.children().await;
        views.into_iter().find(|view| *view.name == *name)
    }

    pub(crate) async fn state(&self, name: &str) -> Option<ChildState> {
        self.view(name).await.map(|view| view.state)
    }
}

/// Options with times that suit a paused clock.
pub(crate) fn options() -> SupervisorOptions {
    SupervisorOptions {
        ping: PingOptions {
            interval: Duration::from_millis(500),
            deadline: Duration::from_secs(1),
            start_deadline: Duration::from_secs(2),
        },
        ..SupervisorOptions::default()
    }
}
