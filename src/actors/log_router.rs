//! Logs of tasks: owns the spools and the readers that fill them, and hands out cursors. Bytes never go through the mailbox: a
//! reader is a task of its own that moves them from the engine into the spool. It lives beside this actor, so that a restart of
//! the actor does not touch a stream.

mod counting;
mod elsewhere;
mod from_file;
mod had;
mod intake;
mod markers;
mod pace;
mod reader;
#[cfg(test)]
mod stored;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix::{Actor, ActorFutureExt, Context, Handler, Message, ResponseActFuture, WrapFuture};
use log::warn;
use tokio::sync::Semaphore;

use self::from_file::Ended;
use self::reader::{Begun, Progress, Reader, Work};
pub use self::{intake::Intake, reader::ReadEnd};
use super::engine_watch::EngineView;
use crate::{
    domain::id::{ContainerId, TaskId},
    failpoint,
    ports::{
        clock::Clock,
        engine::{ContainerEngine, EngineError},
        spool::{LogCursor, LogRange, Spool, SpoolStore},
        worker::LogsError,
    },
    supervision::threads::blocking,
};

/// A reader that ended this long ago without being asked for its result is removed: its task never ran.
const STALE: Duration = Duration::from_secs(600);

/// Opens a task's spool for writing. Idempotent.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Arc<dyn Spool>, String>")]
pub struct OpenSpool(pub TaskId);

/// Opens a cursor over a part of a task's log.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Box<dyn LogCursor>, LogsError>")]
pub struct OpenLog(pub TaskId, pub LogRange);

/// Reads a container's output into the task's spool from now on, until the container has ended. Idempotent: a reader that is at
/// work goes on.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), EngineError>")]
pub struct ReadContainer {
    /// The task of the log.
    pub task: TaskId,
    /// The container to read.
    pub container: ContainerId,
    /// Whether the container may have written something already.
    pub from: ReadFrom,
}

/// Where the reading of a container begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// The container is started after this is answered, so an attached stream has every byte.
    BeforeStart,
    /// The container may have run already: the engine's own log says what it has written.
    Later,
}

/// The container has ended: waits for the last bytes, then removes the reader. If there was none, reads the engine's own log
/// first.
#[derive(Debug, Clone, Message)]
#[rtype(result = "ReadEnd")]
pub struct FinishReading {
    /// The task of the log.
    pub task: TaskId,
    /// The container, if it still exists.
    pub container: Option<ContainerId>,
}

/// Most readers at the same time that read the engine's record through its API: each takes memory and the engine's time.
const TURNS: usize = 4;

/// The readers, kept beside the actor.
#[derive(Debug)]
pub struct Readers {
    at_work: Mutex<HashMap<TaskId, Reader>>,
    turns: Arc<Semaphore>,
    intake: Intake,
}

impl Default for Readers {
    fn default() -> Self {
        Self {
            at_work: Mutex::default(),
            turns: Arc::new(Semaphore::new(TURNS)),
            intake: Intake::default(),
        }
    }
}

impl Readers {
    /// No readers yet; those to come take containers' streams through `intake`.
    #[must_use]
    pub fn through(intake: Intake) -> Self {
        Self {
            intake,
            ..Self::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Reader>> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_reading(&self, task: &TaskId, container: &ContainerId) -> bool {
        let readers = self.lock();
        readers
            .get(task)
            .is_some_and(|reader| reader.reads(container))
    }
}

/// The actor in front of spools and readers. See the module.
pub struct LogRouterActor {
    spools: Arc<dyn SpoolStore>,
    engine: Arc<dyn ContainerEngine>,
    view: Arc<EngineView>,
    readers: Arc<Readers>,
    clock: Arc<dyn Clock>,
}

impl LogRouterActor {
    /// A router with logs in `spools`; `view` tells whether `engine` is there.
    #[must_use]
    pub fn new(
        spools: Arc<dyn SpoolStore>,
        engine: Arc<dyn ContainerEngine>,
        view: Arc<EngineView>,
        readers: Arc<Readers>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            spools,
            engine,
            view,
            readers,
            clock,
        }
    }
}

impl Actor for LogRouterActor {
    type Context = Context<Self>;
}

crate::answers_pings!(LogRouterActor);

impl Handler<OpenSpool> for LogRouterActor {
    type Result = ResponseActFuture<Self, Result<Arc<dyn Spool>, String>>;

    fn handle(&mut self, OpenSpool(task): OpenSpool, _: &mut Self::Context) -> Self::Result {
        failpoint!("log_router.OpenSpool", task);
        Box::pin(open(Arc::clone(&self.spools), task).into_actor(self))
    }
}

impl Handler<OpenLog> for LogRouterActor {
    type Result = ResponseActFuture<Self, Result<Box<dyn LogCursor>, LogsError>>;

    fn handle(&mut self, OpenLog(task, range): OpenLog, _: &mut Self::Context) -> Self::Result {
        failpoint!("log_router.OpenLog", task);
        let spools = Arc::clone(&self.spools);
        let found = blocking(move || spools.find(&task));
        Box::pin(async move { cursor(found.await, range) }.into_actor(self))
    }
}

fn cursor(
    found: Result<std::io::Result<Option<Arc<dyn Spool>>>, tokio::task::JoinError>,
    range: LogRange,
) -> Result<Box<dyn LogCursor>, LogsError> {
    match found {
        Ok(Ok(Some(spool))) => Ok(spool.cursor_from(range)),
        Ok(Ok(None)) => Err(LogsError::UnknownTask),
        Ok(Err(error)) => {
            warn!(error:%; "a log cannot be opened");
            Err(LogsError::Unavailable)
        }
        Err(_) => Err(LogsError::Unavailable),
    }
}

impl Handler<ReadContainer> for LogRouterActor {
    type Result = ResponseActFuture<Self, Result<(), EngineError>>;

    fn handle(&mut self, wanted: ReadContainer, _: &mut Self::Context) -> Self::Result {
        failpoint!("log_router.ReadContainer", wanted.task);
        if self.readers.is_reading(&wanted.task, &wanted.container) {
            return Box::pin(async { Ok(()) }.into_actor(self));
        }
        let work = self.work(wanted.task, wanted.container);
        let open = async move {
            let work = work.await?;
            let begun = match wanted.from {
                ReadFrom::BeforeStart => Some(Begun::open(&work).await?),
                ReadFrom::Later => None,
            };
            Ok((work, begun))
        };
        Box::pin(open.into_actor(self).map(|opened, actor, _| {
            let (work, begun) = opened?;
            failpoint!("log_router.attached", work.task);
            // Another ask for the same container may have been first: its reader stays.
            if !actor.readers.is_reading(&work.task, &work.container) {
                actor.keep(work.task.clone(), Reader::start(work, begun));
            }
            Ok(())
        }))
    }
}

impl LogRouterActor {
    fn work(
        &self,
        task: TaskId,
        container: ContainerId,
    ) -> impl Future<Output = Result<Work, EngineError>> + 'static {
        let (engine, view) = (Arc::clone(&self.engine), Arc::clone(&self.view));
        let clock = Arc::clone(&self.clock);
        let turns = Arc::clone(&self.readers.turns);
        let intake = self.readers.intake.clone();
        let spool = open(Arc::clone(&self.spools), task.clone());
        async move {
            Ok(Work {
                engine,
                view,
                clock,
                task,
                container,
                spool: spool.await.map_err(EngineError::Failed)?,
                turns,
                intake,
                give_up: Arc::default(),
                progress: Progress::default(),
                ended: Ended::default(),
            })
        }
    }

    fn keep(&self, task: TaskId, reader: Reader) {
        let mut readers = self.readers.lock();
        readers.retain(|_, reader| !reader.is_stale(STALE));
        readers.insert(task, reader);
    }
}

impl Handler<FinishReading> for LogRouterActor {
    type Result = ResponseActFuture<Self, ReadEnd>;

    fn handle(
        &mut self,
        FinishReading { task, container }: FinishReading,
        _: &mut Self::Context,
    ) -> Self::Result {
        failpoint!("log_router.FinishReading", task);
        let is_read = self.readers.lock().contains_key(&task);
        let missed = container
            .filter(|_| !is_read)
            .map(|container| self.work(task.clone(), container));
        let opened = async move {
            match missed {
                Some(work) => work.await.map(Some),
                None => Ok(None),
            }
        };
        Box::pin(opened.into_actor(self).then(move |opened, actor, _| {
            match opened {
                Ok(Some(work)) => actor.keep(task.clone(), Reader::start(work, None)),
                Ok(None) => {}
                Err(error) => warn!(task:%, error:%; "a log cannot be opened to be completed"),
            }
            actor.finish(task)
        }))
    }
}

impl LogRouterActor {
    fn finish(&self, task: TaskId) -> ResponseActFuture<Self, ReadEnd> {
        let end = self.readers.lock().get(&task).map(Reader::finish);
        let finish = async move {
            match end {
                Some(end) => end.await,
                None => ReadEnd::NoReader,
            }
        };
        Box::pin(finish.into_actor(self).map(move |how, actor, _| {
            failpoint!("log_router.finished", task);
            actor.readers.lock().remove(&task);
            how
        }))
    }
}

async fn open(spools: Arc<dyn SpoolStore>, task: TaskId) -> Result<Arc<dyn Spool>, String> {
    let opened = blocking(move || spools.open(&task)).await;
    match opened {
        Ok(Ok(spool)) => Ok(spool),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
