//! One task's life, from accepted to cleaned up. A thin shell: `domain::task` decides; this performs the effects, and brings
//! their results back as events. An incarnation begins from what the journal and the engine know, so it can end anywhere.

mod again;
mod container;
mod ending;
mod exit;
mod full_log;
mod image;
mod storage;
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
        policy::Policy,
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

/// Most bytes of an invalid image name that are told.
const SHOWN: usize = 256;

/// What all tasks work with.
pub struct TaskEnv {
    /// This worker's id.
    pub worker: WorkerId,
    /// The engine that runs the containers.
    pub engine: Arc<dyn ContainerEngine>,
    /// The board about the engine.
    pub view: Arc<EngineView>,
    /// Tells which results' tasks were left on an engine that was given up, which the present one cannot know.
    pub lost_with_engine: LostWithEngine,
    /// The output folders.
    pub outputs: Arc<dyn OutputStore>,
    /// The journal.
    pub records: Records,
    /// Finds and pulls images.
    pub images: Slot<ImagesActor>,
    /// Opens logs, and reads containers into them.
    pub logs: Slot<LogRouterActor>,
    /// Delivers results.
    pub outbox: Slot<OutboxActor>,
    /// Leads to the registry.
    pub news: UnboundedSender<TaskNews>,
    /// Bounds how many containers are created and started at once: more would only queue in the engine.
    pub starts: Arc<Semaphore>,
    /// What tasks can be given.
    pub totals: MachineTotals,
    /// Which images may run.
    pub images_allowed: watch::Receiver<ImageRules>,
    /// What the operator's profiles give to tasks whose containers are created from now on.
    pub profiles: watch::Receiver<Profiles>,
    /// What the operator lets them ask for: likewise.
    pub policy: watch::Receiver<Policy>,
    /// How tasks are run.
    pub rules: TaskRules,
    /// The board about what containers use.
    pub usage: Arc<UsageBoard>,
    /// Dates records.
    pub clock: Arc<dyn Clock>,
    /// Counts how often the journal was lost while in use, and begun anew.
    pub journal_lost: watch::Receiver<u64>,
}

/// Whether the task with this result had begun on an engine that was given up for the present one.
pub type LostWithEngine = Arc<dyn Fn(&ResultId) -> bool + Send + Sync>;

/// The rules for running tasks.
#[derive(Debug, Clone, Copy)]
pub struct TaskRules {
    /// Time from SIGTERM to SIGKILL.
    pub stop_grace: Duration,
    /// Whether containers get limits.
    pub enforce_limits: bool,
    /// Bytes free on a disk below which new tasks are refused: what a task writes is measured more often as the disk comes near it.
    pub disk_low: u64,
    /// How long to try again where the engine fails or the machine lacks room, and how often.
    pub patience: Patience,
}

/// Whether the engine may have something of the task already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// The task has just been accepted.
    Fresh,
    /// The task is from before this actor.
    Again,
}

/// Ends the task for this reason. Idempotent.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct StopTask(pub StopReason);

/// The task's verdict is durable, so the container is not needed any more. Idempotent.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ResultSealed;

/// The master has the result. Idempotent.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct ResultDelivered;

/// The actor of one task. See the module.
pub struct TaskActor {
    env: Arc<TaskEnv>,
    record: TaskRecord,
    beginning: Beginning,
    state: Option<State>,
    /// Events that came before the state was known.
    early: Vec<Event>,
    spool: Option<Arc<dyn Spool>>,
    image: Option<Image>,
    /// A step that can be taken back: a pull, or the wait for a turn to create or to try again.
    waiting: Option<SpawnHandle>,
    permit: Option<OwnedSemaphorePermit>,
    /// The passing trouble that the present step has met so far.
    trouble: Option<Trouble>,
    /// How long its container may run and how it is stopped, by the settings when it was created.
    terms: Terms,
    /// When its container was started, if an earlier incarnation did that.
    started_at: Option<SystemTime>,
    /// Set once the container is removed, so that it is removed once, and all who want that wait for it.
    removed: Arc<OnceCell<()>>,
}

impl TaskActor {
    /// A task as the journal knew it when its first incarnation was made; later incarnations read its record again.
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

    /// Gives an event to the state machine, and performs its effects.
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
                // The first state of this incarnation is 'running': the container was started before this process or this actor.
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

    /// Runs work on the context; its result comes back as an event. The work dies with the actor.
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

    /// Tells the registry, unless this incarnation was replaced: then its successor does.
    fn tell(&self, news: TaskNews) {
        if supervision::is_current() {
            let _ = self.env.news.send(news);
        }
    }

    /// Looks at what the journal and the engine have of the task, then begins.
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

    /// Each time the journal is lost while in use, writes the task's record anew: the task was accepted, so it must be durable.
    /// Records of ended tasks are written by the outbox.
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
                    // Refused: another writer was quicker.
                    let _ = records.keep(vec![Change::Accept(Box::new(record))]).await;
                };
                ctx.spawn(keep.into_actor(actor));
            }
        }));
    }
}

impl TaskEnv {
    /// Why the task can never run here; `None` if it can.
    #[must_use]
    pub fn impossible(&self, spec: &TaskSpec) -> Option<String> {
        let impossible = spec.check(&self.totals).err();
        let impossible = impossible.map(|why| why.to_string());
        impossible
            .or_else(|| self.image_refusal(&spec.image))
            .or_else(|| self.asks_too_much(spec))
    }

    fn image_refusal(&self, image: &str) -> Option<String> {
        match self.engine.parse_image(image) {
            Ok(image) => self.images_allowed.borrow().refusal(&image.0),
            Err(reason) => {
                let name = escape(image, SHOWN);
                Some(format!("the image name \"{name}\" is not valid: {reason}"))
            }
        }
    }

    /// Why it may not have what it asks for, if so.
    fn asks_too_much(&self, spec: &TaskSpec) -> Option<String> {
        let asked = spec.asked.as_deref()?;
        self.policy.borrow().refusal(asked)
    }

    /// What this task gets, or why it may not have what it asks for any more.
    fn given(&self, spec: &TaskSpec) -> Result<Given, String> {
        if let Some(why) = self.asks_too_much(spec) {
            return Err(why);
        }
        // A task with an invalid image name never gets a container.
        let image = self.engine.parse_image(&spec.image);
        let image = image.map_or(String::new(), |image| image.0);
        let binds = self.policy.borrow().binds();
        Ok(self.profiles.borrow().given(&image, spec, binds))
    }

    /// The task's log, to be held by this actor. A task that has ended writes no more lines, and the outbox opens its log to end
    /// it.
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
            StopReason::OverStorage(over) => Event::OverStorage(over),
            StopReason::WorkerStopped => Event::WorkerStopped,
        };
        self.advance(event, ctx);
        // A task that waits for its turn, or for trouble to pass, ends at once.
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
        // The outbox has the log open, if it still needs it.
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
