//! The first step of a task, its image; and small asks of other actors that later steps need.

use std::{sync::Arc, time::Duration};

use actix::Context;
use tokio::{
    sync::broadcast::error::RecvError,
    time::{Instant, sleep},
};

use super::{TaskActor, TaskEnv};
use crate::{
    actors::{
        images::{GetImage, PullResult, PullTicket},
        log_router::OpenSpool,
    },
    domain::{id::TaskId, task::Event},
    failpoint,
    ports::spool::Spool,
    supervision::AskError,
};

/// How long another actor may take to answer before it is asked again.
const ASK: Duration = Duration::from_secs(10);

/// Between two asks of an actor that is being restarted.
const RETRY: Duration = Duration::from_millis(200);

impl TaskActor {
    pub(super) fn pull(&mut self, ctx: &mut Context<Self>) {
        let (env, spool) = (Arc::clone(&self.env), self.spool.clone());
        let (name, user) = (
            self.record.spec.image.clone(),
            self.record.spec.user_id.clone(),
        );
        let work = async move {
            failpoint!("task.pull");
            env.get_image(&name, user, spool).await
        };
        let handle = actix::AsyncContext::spawn(
            ctx,
            actix::ActorFutureExt::map(
                actix::WrapFuture::into_actor(work, self),
                |result: PullResult, actor, ctx| {
                    failpoint!("task.pulled");
                    actor.waiting = None;
                    let event = match result {
                        Ok(image) => {
                            actor.image = Some(image);
                            Event::ImageReady
                        }
                        Err(why) => Event::PullFailed(why),
                    };
                    actor.advance(event, ctx);
                },
            ),
        );
        self.waiting = Some(handle);
    }
}

impl TaskEnv {
    async fn get_image(
        &self,
        name: &str,
        user: String,
        spool: Option<Arc<dyn Spool>>,
    ) -> PullResult {
        let image = self.engine.parse_image(name)?;
        let wanted = GetImage { image, user };
        let ticket = loop {
            match self
                .images
                .ask_idempotent(wanted.clone(), Instant::now() + ASK)
                .await
            {
                Ok(ticket) => break ticket,
                Err(AskError::Poisoned) => {
                    return Err("internal error: pulls failed twice over its image".into());
                }
                Err(AskError::Unavailable | AskError::Deadline) => sleep(RETRY).await,
            }
        };
        wait_for_pull(ticket, spool).await
    }

    /// Opens the task's spool, and tries as long as the log router is away; `None` if the log router dies twice of the ask.
    pub(super) async fn open_spool(&self, task: &TaskId) -> Option<Arc<dyn Spool>> {
        let mut said = false;
        loop {
            match self
                .logs
                .ask_idempotent(OpenSpool(task.clone()), Instant::now() + ASK)
                .await
            {
                Ok(Ok(spool)) => return Some(spool),
                Err(AskError::Poisoned) => {
                    log::error!(task:%; "the task's log cannot be opened; it runs without");
                    return None;
                }
                Ok(Err(error)) if !std::mem::replace(&mut said, true) => {
                    log::error!(task:%, error; "the task's log cannot be opened; it waits");
                }
                Ok(Err(_)) | Err(_) => {}
            }
            sleep(RETRY).await;
        }
    }
}

/// Drives the pull, and copies its progress into the task's log.
async fn wait_for_pull(ticket: PullTicket, spool: Option<Arc<dyn Spool>>) -> PullResult {
    let PullTicket {
        image,
        mut progress,
    } = ticket;
    tokio::pin!(image);
    loop {
        tokio::select! {
            biased;
            line = progress.recv() => match line {
                Ok(line) => note(spool.as_deref(), line).await,
                // On a slow disk the log misses some progress, which does not matter.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return image.await,
            },
            result = &mut image => {
                while let Ok(line) = progress.try_recv() {
                    note(spool.as_deref(), line).await;
                }
                return result;
            }
        }
    }
}

pub(super) async fn note(spool: Option<&dyn Spool>, line: String) {
    if let Some(spool) = spool
        && let Err(error) = spool.note(line).await
    {
        log::debug!(error:%; "a line of the worker's own is not in the log");
    }
}
