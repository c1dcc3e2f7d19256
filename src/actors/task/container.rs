//! The middle of a task: its container is created, started, watched and stopped. Where the engine's answer leaves the outcome
//! open, the container is looked up again, and nothing is guessed.

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
        storage::Allowance,
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
    supervision::{AskError, halt_if_replaced, threads::blocking},
};

/// Between two tries or looks.
const RETRY: Duration = Duration::from_millis(500);

/// How long after the engine answers again a start may still take place whose reply was lost.
const LATE_START: Duration = Duration::from_secs(10);

/// The least time between two SIGKILLs, for grace periods that are shorter: repeating them faster does not help an engine that is
/// slow to kill.
const KILL_AGAIN: Duration = Duration::from_secs(1);

/// How long attaching to the container's output may take; then it is tried again.
const ATTACH: Duration = Duration::from_secs(30);

/// How long a container must run before that is recorded: for shorter tasks the record 'starting' is enough, which saves a
/// commit.
const RECORD_RUNNING: Duration = Duration::from_millis(500);

/// The result of creating a container.
pub(super) enum Creation {
    /// The container exists and was never started by this worker.
    Created(ContainerId),
    /// It cannot be created; the engine's words.
    Failed(String),
    /// It cannot be created now; why.
    Passing(String),
    /// Its image was removed after it had been found; the engine's words.
    ImageGone(String),
}

impl TaskActor {
    /// Waits for a turn, then records `Starting` and creates the container at the same time.
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
        let given = match self.env.given(&self.record.spec) {
            Ok(given) => given,
            Err(why) => {
                self.permit = None;
                return self.advance(Event::CreateFailed(why), ctx);
            }
        };
        self.terms = given.settings.terms();
        self.record.container_name = container_name(
            self.env.worker.as_str(),
            self.id().as_str(),
            self.record.attempt,
        );
        self.record.phase = self.record.phase.max(Phase::Starting);
        self.record.image = Some(image.told());
        let (env, record) = (Arc::clone(&self.env), self.record.clone());
        let work = async move {
            let starting = Change::Starting {
                task: record.spec.id.clone(),
                attempt: record.attempt,
                container_name: record.container_name.clone(),
                image: image.told(),
            };
            // At the same time, to save the wait for the disk.
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

    /// As `run`, for a step that is tried again where its trouble may pass. The turn is given back unless a start follows.
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

    /// Starts the container again. Only for one that the engine is known never to have started.
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

    /// Removes a container that was never started, but whose start may still be on its way, and begins the next attempt, which
    /// has another name.
    pub(super) fn create_anew(&mut self, container: ContainerId, ctx: &mut Context<Self>) {
        self.record.attempt += 1;
        let env = Arc::clone(&self.env);
        let remove = async move { env.remove(&container, Force::No).await };
        ctx.spawn(remove.into_actor(self).map(|(), actor, ctx| {
            failpoint!("task.create_anew");
            actor.pull(ctx)
        }));
    }

    /// Reads the container's output (unless that is done already), and waits for its end.
    pub(super) fn watch(&mut self, container: ContainerId, ctx: &mut Context<Self>) {
        self.record.container = Some(container.clone());
        self.permit = None;
        self.record_running(container.clone(), ctx);
        self.watch_usage(container.clone(), ctx);
        self.watch_storage(container.clone(), ctx);
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

    /// Ends the task when its timeout is over. If an earlier incarnation started the container, its age is by the engine's clock:
    /// an engine whose clock is ahead gives it longer.
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
            // Refused: the task has ended meanwhile.
            let _ = records.keep_of(&record, running).await;
        };
        ctx.spawn(keep.into_actor(self));
    }

    /// Sends SIGTERM now, and arms the timer for SIGKILL.
    pub(super) fn terminate(&mut self, container: ContainerId, ctx: &mut Context<Self>) {
        self.signal(container, Signal::Term, ctx);
        ctx.run_later(self.stop_grace(), |actor, ctx| {
            failpoint!("task.grace_elapsed");
            actor.advance(Event::GraceElapsed, ctx)
        });
    }

    /// Sends SIGKILL, and again after each grace period until the container is seen to have ended.
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
    /// Creates the container under its fixed name. Idempotent: an existing one with the same digest and attempt is taken.
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
            halt_if_replaced().await;
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
                // Creating needs nothing but the image to be there.
                EngineError::NotFound(why) => return Creation::ImageGone(why),
                EngineError::Unauthorized(_) | EngineError::Invalid(_) => {
                    return Creation::Failed(error.to_string());
                }
            }
        }
    }

    async fn plan(&self, record: &TaskRecord, image: Image) -> std::io::Result<ContainerPlan> {
        let fitness = self.view.fitness().await;
        let allowance = Allowance::of(&record.spec.wants);
        let is_held = self.rules.enforce_limits && fitness.sizes_layers;
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
            layer_size: allowance
                .filter(|_| is_held)
                .map(|allowance| allowance.bytes),
        })
    }

    /// Finds out which container has the name; `None`: the name is free now, create again.
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
        // A container that was made before the profiles changed is made anew.
        if same && facts.terms == terms && facts.state == ContainerState::Created {
            return Some(Creation::Created(facts.id));
        }
        warn!(task:% = record.spec.id, container:% = facts.id; "a leftover container of ours has the task's name; it is removed");
        self.remove(&facts.id, Force::Yes).await;
        None
    }

    /// Attaches to the container's output, then starts it, so that no byte is missed.
    async fn start_container(&self, record: &TaskRecord, container: &ContainerId) -> Step {
        let read = self.read(record, container, ReadFrom::BeforeStart);
        if let Err(error) = read.await {
            debug!(task:% = record.spec.id, error:%; "could not attach before the start");
            let why = format!("its output could not be attached to: {error}");
            return Step::Over(Event::StartFailed(why));
        }
        failpoint!("task.attached");
        halt_if_replaced().await;
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

    /// After an answer that the start failed, the container's state tells what happened.
    async fn after_failed_start(&self, container: &ContainerId, error: &EngineError) -> Step {
        Step::Over(
            match self.inspect(&container.0).await.map(|facts| facts.state) {
                Some(ContainerState::Running) => Event::Started,
                Some(ContainerState::Exited(facts)) if facts.started_at.is_some() => {
                    let exit = exit_of(&facts);
                    self.ended(container, exit, Watched::No).await
                }
                // The engine has answered, so no start is on its way, and the container never ran.
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

    /// Has the container's output read, unless that is done already.
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

    /// Decides a start whose reply was lost by inspecting the container, and by the engine's memory of a start; never by a second
    /// start.
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
            halt_if_replaced().await;
            match self.engine.kill(container, signal).await {
                // The container has ended or is gone, as wanted.
                Ok(()) | Err(EngineError::Conflict(_) | EngineError::NotFound(_)) => return,
                Err(error) => ride_out(&self.view, &error).await,
            }
        }
    }

    /// Removes the container; tries until the engine has done it. Without force, one that runs is left.
    pub(super) async fn remove(&self, container: &ContainerId, force: Force) {
        loop {
            halt_if_replaced().await;
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

/// Whether the error is a lack on this machine that may pass soon: of space, open files or memory.
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
