//! The middle of a task: its container is created, started, watched and stopped. What the engine's answers leave unknown is
//! looked up again, never guessed.

use std::{sync::Arc, time::Duration};

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use log::{debug, warn};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep},
};

use super::{
    TaskActor, TaskEnv,
    again::{Retry, Step},
    exit::{Watched, exit_of},
    image::note,
    usage::with_usage,
};
use crate::{
    actors::{
        engine_watch::ride_out,
        log_router::{ReadContainer, ReadFrom},
    },
    domain::{
        id::ContainerId,
        profile::Given,
        record::{Change, Phase, TaskRecord},
        task::{Event, State},
        task_settings::Terms,
    },
    failpoint,
    ports::{
        engine::{
            ContainerPlan, ContainerState, EngineError, Force, Image, Proof, Signal, container_name,
        },
        spool::Spool,
    },
    supervision::{AskError, threads::blocking},
};

/// Between two tries, and between two looks.
const RETRY: Duration = Duration::from_millis(500);

/// A start whose reply was not seen may still take place this long after the engine answers again.
const LATE_START: Duration = Duration::from_secs(10);

/// Between two KILLs, where the grace period is shorter: an engine that is slow to kill is not helped by a storm of them.
const KILL_AGAIN: Duration = Duration::from_secs(1);

/// How long attaching may take.
const ATTACH: Duration = Duration::from_secs(30);

/// A task that ends within this was never recorded as running: 'starting' says enough.
const RECORD_RUNNING: Duration = Duration::from_millis(500);

/// What came of a create.
pub(super) enum Creation {
    /// It exists and was never started by us.
    Created(ContainerId),
    /// It cannot be had: the engine's words.
    Failed(String),
    /// Not now: why.
    Passing(String),
    /// Its image was removed meanwhile.
    ImageGone(String),
}

impl TaskActor {
    /// Waits for a turn, then records `Starting` and creates, both at once.
    pub(super) fn create(&mut self, ctx: &mut Context<Self>) {
        let starts = Arc::clone(&self.env.starts);
        let turn = async move { starts.acquire_owned().await.ok() };
        let handle = ctx.spawn(turn.into_actor(self).map(|permit, actor, ctx| {
            failpoint!("task.create");
            actor.waiting = None;
            actor.create_now(permit, ctx);
        }));
        self.waiting = Some(handle);
    }

    fn create_now(&mut self, permit: Option<OwnedSemaphorePermit>, ctx: &mut Context<Self>) {
        self.permit = permit;
        let Some(image) = self.image.clone() else {
            self.advance(Event::CreateFailed("its image was forgotten".into()), ctx);
            return;
        };
        self.record.container_name = container_name(
            self.env.worker.as_str(),
            self.id().as_str(),
            self.record.attempt,
        );
        self.record.phase = self.record.phase.max(Phase::Starting);
        self.record.image = Some(image.told());
        let (env, record) = (Arc::clone(&self.env), self.record.clone());
        let given = env.given(&record.spec);
        self.terms = given.settings.terms();
        let work = async move {
            let starting = Change::Starting {
                task: record.spec.id.clone(),
                attempt: record.attempt,
                container_name: record.container_name.clone(),
                image: image.told(),
            };
            let (recorded, created) = tokio::join!(
                env.records.keep_of(&record, starting),
                env.create_container(&record, image, given)
            );
            failpoint!("task.created");
            if let Err(refused) = recorded {
                warn!(task:% = record.spec.id, refused:%; "the journal has gone past the start of a task");
            }
            match created {
                Creation::Created(container) => Step::Over(Event::Created(container)),
                Creation::Failed(why) => Step::Over(Event::CreateFailed(why)),
                Creation::ImageGone(why) => Step::ImageGone(why),
                Creation::Passing(why) => Step::Passing(why),
            }
        };
        let retry = Retry {
            step: Self::create,
            failed: Event::CreateFailed,
        };
        self.run_step(work, retry, ctx);
    }

    /// As `run`, for a step that is tried again where what it meets passes. The turn is given back unless a start follows.
    fn run_step(
        &mut self,
        work: impl Future<Output = Step> + 'static,
        retry: Retry,
        ctx: &mut Context<Self>,
    ) {
        ctx.spawn(work.into_actor(self).map(|step, actor, ctx| {
            failpoint!("task.run_step", step);
            let permit = actor.permit.take();
            let waits = !matches!(step, Step::Over(_));
            actor.go_on(step, retry, ctx);
            if !waits && matches!(actor.state, Some(State::Starting { .. })) {
                actor.permit = actor.permit.take().or(permit);
            }
        }));
    }

    pub(super) fn start(&mut self, container: ContainerId, ctx: &mut Context<Self>) {
        self.record.container = Some(container.clone());
        let (env, record) = (Arc::clone(&self.env), self.record.clone());
        let work = async move {
            failpoint!("task.start");
            env.start_container(&record, &container).await
        };
        let retry = Retry {
            step: Self::start_again,
            failed: Event::StartFailed,
        };
        self.run_step(work, retry, ctx);
    }

    /// The engine says that it was never started: then another start is safe.
    fn start_again(&mut self, ctx: &mut Context<Self>) {
        if let Some(container) = self.record.container.clone() {
            self.start(container, ctx);
        }
    }

    pub(super) fn prove_start(&mut self, container: ContainerId, ctx: &mut Context<Self>) {
        self.record.container = Some(container.clone());
        let env = Arc::clone(&self.env);
        let work = async move {
            failpoint!("task.prove_start");
            Step::Over(env.prove_start(&container).await)
        };
        let retry = Retry {
            step: Self::start_again,
            failed: Event::StartFailed,
        };
        self.run_step(work, retry, ctx);
    }

    /// The container was never started and nobody can be sure that it never will be: it is removed, and the next attempt has
    /// another name.
    pub(super) fn create_anew(&mut self, container: ContainerId, ctx: &mut Context<Self>) {
        self.record.attempt += 1;
        let env = Arc::clone(&self.env);
        let remove = async move { env.remove(&container, Force::No).await };
        ctx.spawn(remove.into_actor(self).map(|(), actor, ctx| {
            failpoint!("task.create_anew");
            actor.pull(ctx)
        }));
    }

    /// Reads its output (unless somebody does), and waits for its end.
    pub(super) fn watch(&mut self, container: ContainerId, ctx: &mut Context<Self>) {
        self.record.container = Some(container.clone());
        self.permit = None;
        self.record_running(container.clone(), ctx);
        self.watch_usage(container.clone(), ctx);
        self.time_out(ctx);
        let (env, record, spool) = (
            Arc::clone(&self.env),
            self.record.clone(),
            self.spool.clone(),
        );
        let read = {
            let (env, container) = (Arc::clone(&env), container.clone());
            async move {
                failpoint!("task.read_on");
                env.read_on(&record, &container, spool.as_deref()).await
            }
        };
        ctx.spawn(read.into_actor(self));
        let task = self.id().clone();
        let wait = async move {
            failpoint!("task.wait");
            let event = env.wait_for_end(&container).await;
            failpoint!("task.exited");
            with_usage(event, &env.usage, &task)
        };
        self.run(wait, ctx);
    }

    /// Ends it when its time is over. By the engine's clock where an incarnation before has started it: one that runs ahead of ours
    /// gives it longer.
    fn time_out(&self, ctx: &mut Context<Self>) {
        failpoint!("task.time_out");
        let Some(timeout) = self.terms.timeout else {
            return;
        };
        let now = self.env.clock.now();
        let ran = self.started_at.and_then(|at| now.duration_since(at).ok());
        let left = timeout.saturating_sub(ran.unwrap_or_default());
        ctx.run_later(left, |actor, ctx| actor.advance(Event::TimeElapsed, ctx));
    }

    fn stop_grace(&self) -> Duration {
        let grace = self.terms.stop_grace;
        grace.unwrap_or(self.env.rules.stop_grace)
    }

    fn record_running(&self, container: ContainerId, ctx: &mut Context<Self>) {
        let (records, record) = (self.env.records.clone(), self.record.clone());
        let running = Change::Running {
            task: self.id().clone(),
            container,
        };
        let keep = async move {
            sleep(RECORD_RUNNING).await;
            failpoint!("task.record_running");
            // Refused: it has ended meanwhile.
            let _ = records.keep_of(&record, running).await;
        };
        ctx.spawn(keep.into_actor(self));
    }

    /// TERM now, KILL when the grace period is over.
    pub(super) fn terminate(&mut self, container: ContainerId, ctx: &mut Context<Self>) {
        self.signal(container, Signal::Term, ctx);
        ctx.run_later(self.stop_grace(), |actor, ctx| {
            failpoint!("task.grace_elapsed");
            actor.advance(Event::GraceElapsed, ctx)
        });
    }

    /// KILL, and again until it is seen to have ended.
    pub(super) fn kill(&mut self, container: ContainerId, ctx: &mut Context<Self>) {
        failpoint!("task.kill");
        self.signal(container, Signal::Kill, ctx);
        ctx.run_later(self.stop_grace().max(KILL_AGAIN), |actor, ctx| {
            failpoint!("task.grace_elapsed_again");
            actor.advance(Event::GraceElapsed, ctx)
        });
    }

    fn signal(&self, container: ContainerId, signal: Signal, ctx: &mut Context<Self>) {
        debug!(task:% = self.id(), container:%, signal:?; "a signal is sent to the container");
        let env = Arc::clone(&self.env);
        let send = async move {
            failpoint!("task.signal");
            env.signal(&container, signal).await;
            failpoint!("task.signalled");
        };
        ctx.spawn(send.into_actor(self));
    }
}

impl TaskEnv {
    /// Creates under the fixed name. Idempotent: one that is there already with the same digest and attempt is the one.
    async fn create_container(&self, record: &TaskRecord, image: Image, given: Given) -> Creation {
        let terms = given.settings.terms();
        let plan = match self.plan(record, image).await {
            Ok(plan) => ContainerPlan { given, ..plan },
            Err(error) => {
                let why = format!("its output folder could not be made: {error}");
                return if is_out_of_room(&error) {
                    Creation::Passing(why)
                } else {
                    Creation::Failed(why)
                };
            }
        };
        loop {
            let error = match self.engine.create(&plan).await {
                Ok(container) => return Creation::Created(container),
                Err(error) => error,
            };
            match error {
                EngineError::Conflict(_) | EngineError::Away(_) | EngineError::Deadline(_) => {
                    if let Some(creation) = self.settle_name(record, terms, &error).await {
                        return creation;
                    }
                }
                EngineError::Failed(why) => return Creation::Passing(why),
                // Of a create, that can be nothing but the image.
                EngineError::NotFound(why) => return Creation::ImageGone(why),
                EngineError::Unauthorized(_) | EngineError::Invalid(_) => {
                    return Creation::Failed(error.to_string());
                }
            }
        }
    }

    async fn plan(&self, record: &TaskRecord, image: Image) -> std::io::Result<ContainerPlan> {
        let fitness = self.view.fitness().await;
        let (outputs, task) = (Arc::clone(&self.outputs), record.spec.id.clone());
        let folder = blocking(move || outputs.prepare(&task)).await??;
        Ok(ContainerPlan {
            name: record.container_name.clone(),
            worker: self.worker.clone(),
            spec: record.spec.clone(),
            digest: record.digest,
            attempt: record.attempt,
            created: record.accepted_at,
            image,
            given: Given::default(),
            output_folder: fitness.binds_outputs.then_some(folder),
            enforce_limits: self.rules.enforce_limits,
            init: fitness.has_init,
            local_log: fitness.reads_log_files,
        })
    }

    /// Who has the name? `None`: it is free now, create again.
    async fn settle_name(
        &self,
        record: &TaskRecord,
        terms: Terms,
        error: &EngineError,
    ) -> Option<Creation> {
        if !matches!(error, EngineError::Conflict(_)) {
            ride_out(&self.view, error).await;
        }
        let facts = self.inspect(&record.container_name.0).await?;
        let Some(ours) = facts
            .ours
            .as_ref()
            .filter(|ours| self.is_ours(Some(ours), record) && ours.proof >= Proof::Age)
        else {
            return Some(Creation::Failed(format!(
                "a container that is not ours has the name {}; remove or rename it",
                record.container_name
            )));
        };
        let same = ours.attempt == record.attempt && ours.digest == record.digest.to_string();
        // Made before the profiles were changed, it is made anew.
        if same && facts.terms == terms && facts.state == ContainerState::Created {
            return Some(Creation::Created(facts.id));
        }
        warn!(task:% = record.spec.id, container:% = facts.id; "a leftover container of ours has the task's name; it is removed");
        self.remove(&facts.id, Force::Yes).await;
        None
    }

    /// Attaches, then starts: no byte is missed.
    async fn start_container(&self, record: &TaskRecord, container: &ContainerId) -> Step {
        let read = self.read(record, container, ReadFrom::BeforeStart);
        if let Err(error) = read.await {
            debug!(task:% = record.spec.id, error:%; "could not attach before the start");
            let why = format!("its output could not be attached to: {error}");
            return Step::Over(Event::StartFailed(why));
        }
        failpoint!("task.attached");
        let Err(error) = self.engine.start(container).await else {
            failpoint!("task.container_started");
            return Step::Over(Event::Started);
        };
        match error {
            EngineError::Away(_) | EngineError::Deadline(_) => {
                Step::Over(self.prove_start(container).await)
            }
            EngineError::NotFound(_)
            | EngineError::Conflict(_)
            | EngineError::Unauthorized(_)
            | EngineError::Invalid(_)
            | EngineError::Failed(_) => self.after_failed_start(container, &error).await,
        }
    }

    /// An answer that a start failed is told from what the container says.
    async fn after_failed_start(&self, container: &ContainerId, error: &EngineError) -> Step {
        Step::Over(
            match self.inspect(&container.0).await.map(|facts| facts.state) {
                Some(ContainerState::Running) => Event::Started,
                Some(ContainerState::Exited(facts)) if facts.started_at.is_some() => {
                    let exit = exit_of(&facts);
                    self.ended(container, exit, Watched::No).await
                }
                // The engine has answered, so no start is under way, and there never was one.
                Some(ContainerState::Created) if matches!(error, EngineError::Failed(_)) => {
                    return Step::Passing(format!("the container could not be started: {error}"));
                }
                Some(ContainerState::Created | ContainerState::Exited(_)) => {
                    Event::StartFailed(error.to_string())
                }
                None => Event::Lost("it was removed before it could be started".into()),
            },
        )
    }

    /// Has its output read, unless somebody does.
    async fn read(
        &self,
        record: &TaskRecord,
        container: &ContainerId,
        from: ReadFrom,
    ) -> Result<(), EngineError> {
        let read = ReadContainer {
            task: record.spec.id.clone(),
            container: container.clone(),
            from,
        };
        loop {
            match self
                .logs
                .ask_idempotent(read.clone(), Instant::now() + ATTACH)
                .await
            {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error @ (EngineError::Away(_) | EngineError::Deadline(_)))) => {
                    ride_out(&self.view, &error).await
                }
                Ok(Err(error)) => return Err(error),
                Err(AskError::Poisoned) => {
                    let why = "internal error: the log's readers failed twice over it";
                    return Err(EngineError::Failed(why.into()));
                }
                Err(AskError::Unavailable | AskError::Deadline) => sleep(RETRY).await,
            }
        }
    }

    /// A start whose reply nobody saw is decided by inspection alone, and by the engine's memory of a start: never by a
    /// second start.
    async fn prove_start(&self, container: &ContainerId) -> Event {
        let mut waited = false;
        loop {
            let Some(facts) = self.inspect(&container.0).await else {
                return Event::Lost("its container is gone".into());
            };
            match facts.state {
                ContainerState::Running => return Event::Started,
                ContainerState::Exited(facts) => {
                    let exit = exit_of(&facts);
                    return self.ended(container, exit, Watched::No).await;
                }
                ContainerState::Created if waited => match self.engine.was_started(container).await
                {
                    Ok(false) => return Event::NeverStarted,
                    Ok(true) => sleep(RETRY).await,
                    Err(error) => ride_out(&self.view, &error).await,
                },
                ContainerState::Created => {
                    self.view.here().await;
                    sleep(LATE_START).await;
                    waited = true;
                }
            }
        }
    }

    async fn read_on(
        &self,
        record: &TaskRecord,
        container: &ContainerId,
        spool: Option<&dyn Spool>,
    ) {
        if let Err(error) = self.read(record, container, ReadFrom::Later).await {
            note(
                spool,
                format!("[worker-node] the output cannot be read: {error}"),
            )
            .await;
        }
    }

    async fn signal(&self, container: &ContainerId, signal: Signal) {
        loop {
            match self.engine.kill(container, signal).await {
                // It has ended, or is gone: what was wanted.
                Ok(()) | Err(EngineError::Conflict(_) | EngineError::NotFound(_)) => return,
                Err(error) => ride_out(&self.view, &error).await,
            }
        }
    }

    /// Removes it, however long that takes.
    pub(super) async fn remove(&self, container: &ContainerId, force: Force) {
        loop {
            match self.engine.remove(container, force).await {
                Ok(()) | Err(EngineError::NotFound(_)) => return,
                Err(EngineError::Conflict(why)) if force == Force::No => {
                    warn!(container:%, why; "a container is not in a state to be removed");
                    return;
                }
                Err(error) => ride_out(&self.view, &error).await,
            }
        }
    }
}

/// A lack on this machine that may be over soon: of space, of files that may be open, of memory.
fn is_out_of_room(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let room = [
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOMEM,
    ];
    Errno::from_io_error(error).is_some_and(|errno| room.contains(&errno))
}

#[cfg(test)]
mod tests {
    use std::io::Error;

    use super::*;

    #[test]
    fn a_lack_of_room_passes_and_a_lack_of_rights_does_not() {
        for errno in [28, 122, 24, 23, 12] {
            assert!(is_out_of_room(&Error::from_raw_os_error(errno)), "{errno}");
        }
        for errno in [13, 1, 20, 30] {
            assert!(!is_out_of_room(&Error::from_raw_os_error(errno)), "{errno}");
        }
    }
}
