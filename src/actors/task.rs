//! One container's life, from accepted to cleaned up. A thin shell: `domain::task` decides, this performs and brings the
//! results back as events. An incarnation begins from what is durable and what the engine says, so it can end anywhere.

mod again;
mod container;
mod ending;
mod exit;
mod full_log;
mod image;
mod usage;

pub(crate) use self::full_log::next_lines;
pub use self::usage::UsageBoard;

use self::{again::Trouble, exit::Looked};

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle,
    WrapFuture,
};
use log::debug;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore, mpsc::UnboundedSender, watch};

use super::{
    engine_watch::EngineView, images::ImagesActor, journal::Records, log_router::LogRouterActor,
    outbox::OutboxActor, registry::TaskNews,
};
use crate::{
    domain::{
        id::{ResultId, TaskId, WorkerId},
        image_rules::ImageRules,
        patience::Patience,
        profile::{Given, Profiles},
        record::{Change, Phase, TaskRecord},
        spec::{MachineTotals, TaskSpec},
        task::{Effect, Event, Found, Stage, State, StopReason},
        task_settings::Terms,
        text::escape,
    },
    failpoint,
    ports::{
        clock::Clock,
        engine::{ContainerEngine, Image},
        journal::Known,
        outputs::OutputStore,
        spool::Spool,
    },
    supervision::{self, Slot},
    telemetry::operator,
};

/// How much of an image's name is told where it is not valid, in bytes.
const SHOWN: usize = 256;

/// Whom every task works with.
pub struct TaskEnv {
    /// Who we are.
    pub worker: WorkerId,
    /// Runs containers.
    pub engine: Arc<dyn ContainerEngine>,
    /// Whether it is there.
    pub view: Arc<EngineView>,
    /// What it cannot know of.
    pub lost_with_engine: LostWithEngine,
    /// Where outputs lie.
    pub outputs: Arc<dyn OutputStore>,
    /// What is durable.
    pub records: Records,
    /// Pulls.
    pub images: Slot<ImagesActor>,
    /// Logs.
    pub logs: Slot<LogRouterActor>,
    /// Deliveries.
    pub outbox: Slot<OutboxActor>,
    /// News for the registry.
    pub news: UnboundedSender<TaskNews>,
    /// Creates and starts at once: more only queue in the engine.
    pub starts: Arc<Semaphore>,
    /// What the machine has.
    pub totals: MachineTotals,
    /// Which images may run.
    pub images_allowed: watch::Receiver<ImageRules>,
    /// What the operator has tasks get: those whose containers are made from now on.
    pub profiles: watch::Receiver<Profiles>,
    /// How tasks are run.
    pub rules: TaskRules,
    /// Where it is told what containers use.
    pub usage: Arc<UsageBoard>,
    /// For records.
    pub clock: Arc<dyn Clock>,
    /// Counts the times that the journal was lost under us: damaged, set aside, and begun anew.
    pub journal_lost: watch::Receiver<u64>,
}

/// Whether the task with this result had begun on an engine that was given up for the one that is used now.
pub type LostWithEngine = Arc<dyn Fn(&ResultId) -> bool + Send + Sync>;

/// How tasks are run.
#[derive(Debug, Clone, Copy)]
pub struct TaskRules {
    /// From TERM to KILL.
    pub stop_grace: Duration,
    /// Limits are set on containers, not only reserved.
    pub enforce_limits: bool,
    /// With what passes: the engine's failures, and a lack of room.
    pub patience: Patience,
}

/// Whether there can be anything of the task already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// It has just been accepted.
    Fresh,
    /// It is from before.
    Again,
}

/// The task shall end, for that reason. Idempotent.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct StopTask(pub StopReason);

/// What the master is told is fixed: the container is not needed any more. Idempotent.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ResultSealed;

/// The master has the result. Idempotent.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ResultDelivered;

/// See the module.
pub struct TaskActor {
    env: Arc<TaskEnv>,
    record: TaskRecord,
    beginning: Beginning,
    state: Option<State>,
    /// Events that came before the state was known.
    early: Vec<Event>,
    spool: Option<Arc<dyn Spool>>,
    image: Option<Image>,
    /// What can be taken back: a pull, or the wait for a turn to create.
    waiting: Option<SpawnHandle>,
    permit: Option<OwnedSemaphorePermit>,
    /// What the step under way has met so far.
    trouble: Option<Trouble>,
    /// How long its container may run and how it ends, as it was when that was made.
    terms: Terms,
    /// When its container was started, where an incarnation before has started it.
    started_at: Option<SystemTime>,
    /// Set once the container is removed: whoever wants it removed waits for the one removal.
    removed: Arc<OnceCell<()>>,
}

impl TaskActor {
    /// A task as the journal knew it when its first incarnation was made; later ones read it again.
    #[must_use]
    pub fn new(record: TaskRecord, beginning: Beginning, env: Arc<TaskEnv>) -> Self {
        Self {
            env,
            record,
            beginning,
            state: None,
            early: Vec::new(),
            spool: None,
            image: None,
            waiting: None,
            permit: None,
            trouble: None,
            terms: Terms::default(),
            started_at: None,
            removed: Arc::default(),
        }
    }

    fn id(&self) -> &TaskId {
        &self.record.spec.id
    }

    /// Takes an event to the machine and performs what it asks for.
    fn advance(&mut self, event: Event, ctx: &mut Context<Self>) {
        let Some(state) = self.state.take() else {
            self.early.push(event);
            return;
        };
        let before = state.stage();
        let (state, effects) = state.on(event);
        self.enter(state, effects, Some(before), ctx);
    }

    fn enter(
        &mut self,
        state: State,
        effects: Vec<Effect>,
        before: Option<Stage>,
        ctx: &mut Context<Self>,
    ) {
        if before != Some(state.stage()) {
            self.tell(TaskNews::Moved(self.id().clone(), state.stage()));
            match (&state, before) {
                // Nothing was here before: it is from before this process, or this actor.
                (State::Running { container, .. }, None) => {
                    operator::task_adopted(self.id(), container);
                }
                _ => self.say(&state),
            }
        }
        self.state = Some(state);
        for effect in effects {
            self.perform(effect, ctx);
        }
    }

    fn say(&self, state: &State) {
        match state {
            State::Accepted => {}
            State::Pulling => operator::task_starting(self.id(), self.record.attempt),
            State::Creating { .. } => operator::task_creating(self.id()),
            State::Starting { container, .. } => {
                operator::task_container_starting(self.id(), container)
            }
            State::Running { .. } => operator::task_running(self.id()),
            State::Stopping { .. }
            | State::Collecting { .. }
            | State::Recording { .. }
            | State::Delivering { .. }
            | State::Cleaning
            | State::Done => {
                debug!(task:% = self.id(), state = state.stage().word(); "the task moved on")
            }
        }
    }

    fn perform(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::Pull => self.pull(ctx),
            Effect::AbortPull => self.take_back(ctx),
            Effect::Create => self.create(ctx),
            Effect::Start(container) => self.start(container, ctx),
            Effect::ProveStart(container) => self.prove_start(container, ctx),
            Effect::CreateAnew(container) => self.create_anew(container, ctx),
            Effect::Watch(container) => self.watch(container, ctx),
            Effect::Terminate(container) => self.terminate(container, ctx),
            Effect::Kill(container) => self.kill(container, ctx),
            Effect::Collect(container) => self.collect(container, ctx),
            Effect::Record(ending) => self.record_end(*ending, ctx),
            Effect::Deliver => self.deliver(ctx),
            Effect::Remove(container) => self.remove_beside(container, ctx),
            Effect::Clean(container) => self.clean(container, ctx),
            Effect::Finish => self.finish(ctx),
        }
    }

    /// Runs work on the context; its result comes back as an event. It dies with the actor.
    fn run(
        &self,
        work: impl Future<Output = Event> + 'static,
        ctx: &mut Context<Self>,
    ) -> SpawnHandle {
        ctx.spawn(work.into_actor(self).map(|event, actor, ctx| {
            failpoint!("task.step", event);
            actor.advance(event, ctx)
        }))
    }

    fn is_asked_to_stop(&self) -> bool {
        self.state.as_ref().is_some_and(State::is_asked_to_stop)
    }

    fn take_back(&mut self, ctx: &mut Context<Self>) {
        if let Some(waiting) = self.waiting.take() {
            ctx.cancel_future(waiting);
        }
    }

    fn finish(&mut self, ctx: &mut Context<Self>) {
        failpoint!("task.finish");
        self.tell(TaskNews::Done(self.id().clone()));
        ctx.stop();
    }

    /// Tells the registry, unless another incarnation has taken over: then that one tells.
    fn tell(&self, news: TaskNews) {
        if supervision::is_current() {
            let _ = self.env.news.send(news);
        }
    }

    /// Looks at what there is of the task, then begins.
    fn begin(&mut self, ctx: &mut Context<Self>) {
        let later = supervision::current().is_some_and(|child| child.generation > 1);
        let fresh = self.beginning == Beginning::Fresh && !later;
        let (env, task) = (Arc::clone(&self.env), self.id().clone());
        let record = self.record.clone();
        let look = async move {
            failpoint!("task.look");
            if fresh {
                return (env.spool_of(&record).await, record, Looked::default());
            }
            let record = match env.records.find_in_the_end(&task).await {
                Some(Known::Record(record)) => *record,
                Some(Known::Retired(_) | Known::Unreadable) | None => record,
            };
            let looked = env.look_at(&record).await;
            (env.spool_of(&record).await, record, looked)
        };
        ctx.spawn(
            look.into_actor(self)
                .map(|(spool, record, looked), actor, ctx| {
                    failpoint!("task.begin");
                    actor.spool = spool;
                    actor.record = record;
                    actor.terms = looked.terms;
                    actor.started_at = looked.started_at;
                    actor.resume(looked.found.unwrap_or(Found::Nothing), ctx);
                }),
        );
    }

    fn resume(&mut self, found: Found, ctx: &mut Context<Self>) {
        let untouched = self.record.phase == Phase::Accepted && found == Found::Nothing;
        if untouched
            && !self.record.cancel_requested
            && let Some(why) = self.env.impossible(&self.record.spec)
        {
            self.state = Some(State::Accepted);
            self.advance(Event::FoundImpossible(why), ctx);
        } else {
            let (state, effects) = State::resume(&self.record, found);
            self.enter(state, effects, None, ctx);
        }
        for event in std::mem::take(&mut self.early) {
            self.advance(event, ctx);
        }
    }

    /// A journal that was lost under us is told of the task anew, each time: it is accepted, so it is to be durable. What has
    /// ended is the outbox's to tell.
    fn tell_anew(&self, ctx: &mut Context<Self>) {
        let mut lost = self.env.journal_lost.clone();
        lost.mark_unchanged();
        let wait = async move { lost.changed().await.is_ok() };
        ctx.spawn(wait.into_actor(self).map(|is_lost, actor, ctx| {
            failpoint!("task.tell_anew");
            if !is_lost {
                return;
            }
            actor.tell_anew(ctx);
            if actor.record.phase < Phase::Ended {
                let (records, record) = (actor.env.records.clone(), actor.record.clone());
                let keep = async move {
                    // Refused: somebody else was quicker.
                    let _ = records.keep(vec![Change::Accept(Box::new(record))]).await;
                };
                ctx.spawn(keep.into_actor(actor));
            }
        }));
    }
}

impl TaskEnv {
    /// Why a task can never run here, if so.
    #[must_use]
    pub fn impossible(&self, spec: &TaskSpec) -> Option<String> {
        let impossible = spec.check(&self.totals).err();
        impossible.map(|why| why.to_string()).or_else(|| {
            match self.engine.parse_image(&spec.image) {
                Ok(image) => self.images_allowed.borrow().refusal(&image.0),
                Err(reason) => {
                    let name = escape(&spec.image, SHOWN);
                    Some(format!("the image name \"{name}\" is not valid: {reason}"))
                }
            }
        })
    }

    /// What the operator has this task get.
    fn given(&self, spec: &TaskSpec) -> Given {
        // One whose image has no name comes to no container.
        let image = self.engine.parse_image(&spec.image);
        let image = image.map_or(String::new(), |image| image.0);
        self.profiles.borrow().given(&image, spec)
    }

    /// A task that has ended writes no more lines: its log is opened by whoever ends it, and not held.
    async fn spool_of(&self, record: &TaskRecord) -> Option<Arc<dyn Spool>> {
        if record.phase >= Phase::Ended {
            return None;
        }
        self.open_spool(&record.spec.id).await
    }
}

impl Actor for TaskActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        failpoint!("task.started");
        self.tell_anew(ctx);
        self.begin(ctx);
    }
}

crate::answers_pings!(TaskActor);

impl Handler<StopTask> for TaskActor {
    type Result = ();

    fn handle(&mut self, StopTask(reason): StopTask, ctx: &mut Self::Context) {
        failpoint!("task.StopTask");
        let event = match reason {
            StopReason::Cancelled => {
                self.record.cancel_requested = true;
                Event::CancelRequested
            }
            StopReason::TimedOut => Event::TimeElapsed,
            StopReason::WorkerStopped => Event::WorkerStopped,
        };
        self.advance(event, ctx);
        // One that waits for its turn, or for trouble to pass, need not wait any more.
        if self.is_asked_to_stop() && self.waiting.is_some() {
            let nothing = match &self.state {
                Some(State::Creating { .. }) => Event::CreateFailed,
                Some(State::Starting { .. }) => Event::StartFailed,
                Some(_) | None => return,
            };
            self.take_back(ctx);
            self.advance(nothing("cancelled".into()), ctx);
        }
    }
}

impl Handler<ResultSealed> for TaskActor {
    type Result = ();

    fn handle(&mut self, _: ResultSealed, ctx: &mut Self::Context) {
        failpoint!("task.ResultSealed");
        // The outbox has it open, if it still needs it.
        self.spool = None;
        self.advance(Event::Sealed, ctx);
    }
}

impl Handler<ResultDelivered> for TaskActor {
    type Result = ();

    fn handle(&mut self, _: ResultDelivered, ctx: &mut Self::Context) {
        failpoint!("task.ResultDelivered");
        self.advance(Event::Delivered, ctx);
    }
}
