//! The end of a task: its log is drained, its outputs are listed, its end is recorded, its result is handed to the outbox, and
//! its traces are removed.

use std::{io, sync::Arc, time::Duration};

use actix::{Context, WrapFuture};
use futures_util::StreamExt;
use log::{error, warn};
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep},
};
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::{TaskActor, TaskEnv};
use crate::{
    actors::{
        engine_watch::ride_out,
        log_router::{FinishReading, ReadEnd},
        outbox::hand_over,
    },
    domain::{
        id::{ContainerId, TaskId},
        record::{Change, Ending, Outputs, Phase},
        task::Event,
    },
    failpoint,
    ports::{
        engine::{EngineError, Force},
        journal::Refused,
    },
    supervision::{AskError, threads::blocking},
    telemetry::operator,
};

/// How long the log router may take to answer. It waits for the log's last bytes itself, so this is for the router's own
/// failures.
const ASK: Duration = Duration::from_secs(30);

/// An archive that brings no bytes for this long is given up, since it holds a thread.
const ARCHIVE_SILENCE: Duration = Duration::from_secs(120);

/// Between two asks of an actor that is being restarted.
const RETRY: Duration = Duration::from_millis(200);

impl TaskActor {
    pub(super) fn collect(&mut self, container: Option<ContainerId>, ctx: &mut Context<Self>) {
        let (env, task) = (Arc::clone(&self.env), self.id().clone());
        let spool = self.spool.clone();
        let work = async move {
            failpoint!("task.collect");
            let ran = container.is_some();
            let mut notes: Vec<String> = env
                .drain_log(&task, container.clone())
                .await
                .into_iter()
                .collect();
            let archived = env.to_fetch_from(container).await;
            if archived.is_none() {
                notes.extend(env.lost_outputs(&task, ran).await);
            }
            if let Err(error) = env.keep_full_log(&task, spool).await {
                let note = format!("the full log could not be added to the output files: {error}");
                notes.push(note);
            }
            let outputs = env.list_outputs(&task, archived).await;
            let outputs = outputs.unwrap_or_else(|error| {
                notes.push(format!("the output files could not be read: {error}"));
                Outputs::default()
            });
            failpoint!("task.collected");
            Event::Collected(outputs, notes)
        };
        self.run(work, ctx);
    }

    pub(super) fn record_end(&mut self, ending: Ending, ctx: &mut Context<Self>) {
        let ending = ending.within_limits();
        operator::task_ended(self.id(), &ending.outcome);
        let (records, task) = (self.env.records.clone(), self.id().clone());
        self.record.ending = Some(ending.clone());
        self.record.phase = Phase::Ended;
        let record = self.record.clone();
        let work = async move {
            failpoint!("task.record_end");
            let ended = |ending| Change::Ended {
                task: task.clone(),
                ending: Box::new(ending),
            };
            let small = ending.too_big();
            let mut kept = records.keep_of(&record, ended(ending)).await;
            if kept == Err(Refused::TooBig) {
                error!(task:%; "what a task left behind is too big for the journal; it has failed");
                kept = records.keep(vec![ended(small)]).await;
            }
            if let Err(refused) = kept {
                warn!(task:%, refused:%; "the end of a task was recorded before; that one stands");
            }
            failpoint!("task.recorded");
            Event::Recorded
        };
        self.run(work, ctx);
    }

    /// Hands the result to the outbox, and tries until it has taken it. The master's answer arrives as `ResultDelivered`.
    pub(super) fn deliver(&mut self, ctx: &mut Context<Self>) {
        let (outbox, record) = (self.env.outbox.clone(), self.record.clone());
        let work = async move {
            failpoint!("task.deliver");
            hand_over(&outbox, record).await;
            failpoint!("task.handed_over");
        };
        actix::AsyncContext::spawn(ctx, work.into_actor(self));
        // The task may wait for the master for days: free what is no longer needed.
        self.record.ending = None;
        self.record.spec.command = String::new();
    }

    /// Removes the container beside the delivery, since an engine may be unable to for hours.
    pub(super) fn remove_beside(&mut self, container: ContainerId, ctx: &mut Context<Self>) {
        let (env, removed) = (Arc::clone(&self.env), Arc::clone(&self.removed));
        let work = async move {
            failpoint!("task.remove");
            env.remove_once(&removed, &container).await;
        };
        actix::AsyncContext::spawn(ctx, work.into_actor(self));
    }

    pub(super) fn clean(&mut self, container: Option<ContainerId>, ctx: &mut Context<Self>) {
        let (env, task) = (Arc::clone(&self.env), self.id().clone());
        let container = container.or_else(|| self.record.container.clone());
        let removed = Arc::clone(&self.removed);
        let work = async move {
            failpoint!("task.clean");
            if let Some(container) = container {
                env.remove_once(&removed, &container).await;
            }
            env.remove_outputs(&task).await;
            let done = Change::Done {
                task: task.clone(),
                at: env.clock.now(),
            };
            if let Err(refused) = env.records.keep(vec![done]).await {
                warn!(task:%, refused:%; "a task was done before");
            }
            failpoint!("task.cleaned");
            Event::Cleaned
        };
        self.run(work, ctx);
    }
}

impl TaskEnv {
    /// Waits for the last bytes of the log; a remark if some may be missing.
    async fn drain_log(&self, task: &TaskId, container: Option<ContainerId>) -> Option<String> {
        let finish = FinishReading {
            task: task.clone(),
            container,
        };
        loop {
            match self
                .logs
                .ask_idempotent(finish.clone(), Instant::now() + ASK)
                .await
            {
                Ok(ReadEnd::Whole | ReadEnd::NoReader) => return None,
                Ok(ReadEnd::Broken) | Err(AskError::Poisoned) => {
                    return Some("the log may lack an unknown number of bytes at its end".into());
                }
                Err(AskError::Unavailable | AskError::Deadline) => sleep(RETRY).await,
            }
        }
    }

    /// The container, if its outputs lie inside of it; `None` if it was given an output folder. The container itself tells: the
    /// worker may have had another engine, or other rights, when it was created.
    async fn to_fetch_from(&self, container: Option<ContainerId>) -> Option<ContainerId> {
        let container = container?;
        let found = self.inspect(&container.0).await;
        found.filter(|found| !found.output_is_bound)?;
        Some(container)
    }

    /// A remark if the output folder that a container was given is gone, and its files with it.
    async fn lost_outputs(&self, task: &TaskId, ran: bool) -> Option<String> {
        if !ran {
            return None;
        }
        let (outputs, task) = (Arc::clone(&self.outputs), task.clone());
        let is_there = blocking(move || outputs.is_there(&task)).await;
        matches!(is_there, Ok(Ok(false))).then(|| {
            "the output files are lost: their folder was removed while the task ran".into()
        })
    }

    async fn list_outputs(
        &self,
        task: &TaskId,
        archived: Option<ContainerId>,
    ) -> io::Result<Outputs> {
        let mut left_out = Vec::new();
        if let Some(container) = archived {
            left_out = self.download(task, &container).await?;
        }
        let (outputs, task) = (Arc::clone(&self.outputs), task.clone());
        let mut listed = blocking(move || outputs.list(&task)).await??;
        listed.skipped.splice(..0, left_out);
        Ok(listed)
    }

    /// Copies `/output` out of the container by the engine's archive call.
    async fn download(&self, task: &TaskId, container: &ContainerId) -> io::Result<Vec<String>> {
        let archive = loop {
            match self.engine.download_output(container).await {
                Ok(archive) => break archive,
                Err(EngineError::NotFound(_)) => return Ok(Vec::new()),
                Err(error @ (EngineError::Away(_) | EngineError::Deadline(_))) => {
                    ride_out(&self.view, &error).await
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        };
        let (outputs, task) = (Arc::clone(&self.outputs), task.clone());
        let alive = tokio_stream::StreamExt::timeout(archive, ARCHIVE_SILENCE);
        let bytes = StreamReader::new(alive.map(|chunk| match chunk {
            Ok(chunk) => chunk.map_err(io::Error::other),
            Err(silent) => Err(io::Error::new(io::ErrorKind::TimedOut, silent)),
        }));
        let mut tar = SyncIoBridge::new(Box::pin(bytes));
        blocking(move || outputs.unpack(&task, &mut tar)).await?
    }

    /// Removes the container once: a second caller waits for the first one's removal.
    async fn remove_once(&self, removed: &OnceCell<()>, container: &ContainerId) {
        let remove = || self.remove(container, Force::Yes);
        removed.get_or_init(remove).await;
    }

    /// Removes the output folder. If that fails it is logged, and left for the janitor.
    async fn remove_outputs(&self, task: &TaskId) {
        let (outputs, name) = (Arc::clone(&self.outputs), task.clone());
        let removed = blocking(move || outputs.remove(&name)).await;
        if let Ok(Err(error)) = removed {
            warn!(task:%, error:%; "the output folder could not be removed");
        }
    }
}
