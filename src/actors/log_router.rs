//! Logs: owns the spools and the readers that fill them, hands out cursors. Bytes never go through the mailbox: a reader is
//! a task of its own that moves them from the engine into the spool, and lives beside this actor, so that a restart of the
//! mailbox side does not touch a stream.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix::{Actor, ActorFutureExt, Context, Handler, Message, ResponseActFuture, WrapFuture};
use futures_util::StreamExt;
use log::warn;
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use crate::{
    domain::{
        id::{ContainerId, TaskId},
        log_line::Source,
    },
    ports::{
        engine::{ContainerEngine, EngineError, Frames},
        spool::{LogCursor, Spool, SpoolStore},
        worker::LogsError,
    },
};

/// Frames taken into one append at most.
const BATCH: usize = 64;

/// After the container's end its stream ends by itself; this long is waited for the last bytes.
const DRAIN: Duration = Duration::from_secs(10);

/// Opens a task's spool for writing. Idempotent.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Arc<dyn Spool>, String>")]
pub struct OpenSpool(pub TaskId);

/// Opens a task's log for reading.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Box<dyn LogCursor>, LogsError>")]
pub struct OpenLog(pub TaskId);

/// Attaches to a container and reads its output into the task's spool, from here on until the stream ends. Idempotent: a
/// reader that is at it goes on.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), EngineError>")]
pub struct ReadContainer {
    /// Whose.
    pub task: TaskId,
    /// Which.
    pub container: ContainerId,
}

/// The container has ended: waits for the last bytes, then lets go of the reader.
#[derive(Debug, Clone, Message)]
#[rtype(result = "ReadEnd")]
pub struct FinishReading(pub TaskId);

/// How a container's stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadEnd {
    /// To its end: every byte is in the spool.
    Whole,
    /// It broke off, or its end did not come: bytes may be missing.
    Broken,
    /// Nobody has read it in this process.
    NoReader,
}

/// Readers at work, beside the actor.
#[derive(Debug, Default)]
pub struct Readers(Mutex<HashMap<TaskId, Reader>>);

#[derive(Debug)]
struct Reader {
    container: ContainerId,
    end: watch::Receiver<Option<ReadEnd>>,
    pump: JoinHandle<()>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

impl Readers {
    fn lock(&self) -> MutexGuard<'_, HashMap<TaskId, Reader>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_reading(&self, task: &TaskId, container: &ContainerId) -> bool {
        self.lock()
            .get(task)
            .is_some_and(|reader| reader.container == *container && reader.end.borrow().is_none())
    }

    fn end_of(&self, task: &TaskId) -> Option<watch::Receiver<Option<ReadEnd>>> {
        self.lock().get(task).map(|reader| reader.end.clone())
    }
}

/// See the module.
pub struct LogRouterActor {
    spools: Arc<dyn SpoolStore>,
    engine: Arc<dyn ContainerEngine>,
    readers: Arc<Readers>,
}

impl LogRouterActor {
    /// Keeps logs in `spools`.
    #[must_use]
    pub fn new(
        spools: Arc<dyn SpoolStore>,
        engine: Arc<dyn ContainerEngine>,
        readers: Arc<Readers>,
    ) -> Self {
        Self {
            spools,
            engine,
            readers,
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
        Box::pin(open(Arc::clone(&self.spools), task).into_actor(self))
    }
}

impl Handler<OpenLog> for LogRouterActor {
    type Result = ResponseActFuture<Self, Result<Box<dyn LogCursor>, LogsError>>;

    fn handle(&mut self, OpenLog(task): OpenLog, _: &mut Self::Context) -> Self::Result {
        let spools = Arc::clone(&self.spools);
        let found = tokio::task::spawn_blocking(move || spools.find(&task));
        Box::pin(async move { cursor(found.await) }.into_actor(self))
    }
}

fn cursor(
    found: Result<std::io::Result<Option<Arc<dyn Spool>>>, tokio::task::JoinError>,
) -> Result<Box<dyn LogCursor>, LogsError> {
    match found {
        Ok(Ok(Some(spool))) => Ok(spool.cursor()),
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

    fn handle(
        &mut self,
        ReadContainer { task, container }: ReadContainer,
        _: &mut Self::Context,
    ) -> Self::Result {
        if self.readers.is_reading(&task, &container) {
            return Box::pin(async { Ok(()) }.into_actor(self));
        }
        let (engine, spools) = (Arc::clone(&self.engine), Arc::clone(&self.spools));
        let attach = {
            let (task, container) = (task.clone(), container.clone());
            async move {
                let spool = open(spools, task).await.map_err(EngineError::Failed)?;
                Ok::<_, EngineError>((engine.attach(&container).await?, spool))
            }
        };
        Box::pin(attach.into_actor(self).map(move |attached, actor, _| {
            let (frames, spool) = attached?;
            actor.read(task, container, frames, spool);
            Ok(())
        }))
    }
}

impl LogRouterActor {
    fn read(&self, task: TaskId, container: ContainerId, frames: Frames, spool: Arc<dyn Spool>) {
        let mut readers = self.readers.lock();
        if readers
            .get(&task)
            .is_some_and(|reader| reader.container == container && reader.end.borrow().is_none())
        {
            // Two asks met; the first one reads.
            return;
        }
        let (ended, end) = watch::channel(None);
        let pump = tokio::spawn(async move {
            let how = pump(frames, spool).await;
            ended.send_replace(Some(how));
        });
        readers.insert(
            task,
            Reader {
                container,
                end,
                pump,
            },
        );
    }
}

/// Moves a container's output into its spool. It reads on whatever happens to the spool: a container whose output is not
/// read stands still after about 2 MB.
async fn pump(frames: Frames, spool: Arc<dyn Spool>) -> ReadEnd {
    let mut batches = frames.ready_chunks(BATCH);
    let mut said = false;
    while let Some(batch) = batches.next().await {
        let mut bytes: Vec<(Source, _)> = Vec::with_capacity(batch.len());
        let mut broken = None;
        for frame in batch {
            match frame {
                Ok(frame) => bytes.push((frame.source, frame.bytes)),
                Err(error) => broken = Some(error),
            }
        }
        if let Err(error) = spool.append(bytes).await
            && !std::mem::replace(&mut said, true)
        {
            warn!(error:%; "a log cannot be written; its container goes on");
        }
        if let Some(error) = broken {
            warn!(error:%; "a container's output broke off");
            return ReadEnd::Broken;
        }
    }
    ReadEnd::Whole
}

impl Handler<FinishReading> for LogRouterActor {
    type Result = ResponseActFuture<Self, ReadEnd>;

    fn handle(
        &mut self,
        FinishReading(task): FinishReading,
        _: &mut Self::Context,
    ) -> Self::Result {
        let end = self.readers.end_of(&task);
        let finish = async move {
            let Some(mut end) = end else {
                return ReadEnd::NoReader;
            };
            match timeout(DRAIN, end.wait_for(Option::is_some)).await {
                Ok(Ok(how)) => how.unwrap_or(ReadEnd::Broken),
                Ok(Err(_)) | Err(_) => ReadEnd::Broken,
            }
        };
        Box::pin(finish.into_actor(self).map(move |how, actor, _| {
            actor.readers.lock().remove(&task);
            how
        }))
    }
}

async fn open(spools: Arc<dyn SpoolStore>, task: TaskId) -> Result<Arc<dyn Spool>, String> {
    let opened = tokio::task::spawn_blocking(move || spools.open(&task)).await;
    match opened {
        Ok(Ok(spool)) => Ok(spool),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
