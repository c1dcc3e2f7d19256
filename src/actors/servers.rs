//! A server as a child: the listener of the master's calls, the operator's socket or the HTTP door. The serving itself is a
//! function given by `app`; this actor runs it anew in each incarnation, and stops it in order: calls in flight are answered
//! first.

use std::{io, sync::Arc};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Running, WrapFuture};
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{failpoint, supervision};

/// Serves until the token is cancelled; ends its streams first.
pub type Serve = Arc<dyn Fn(CancellationToken) -> BoxFuture<'static, io::Result<()>> + Send + Sync>;

/// The actor that keeps a server alive. See the module.
pub struct ServersActor {
    serve: Serve,
    stop: CancellationToken,
    phase: Phase,
}

/// How far the serving is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// The actor was asked to stop, and ends when the serving has ended.
    Draining,
    /// The serving has ended.
    Served,
}

impl ServersActor {
    /// Serves by `serve`, anew in every incarnation, until `stop` is cancelled or the actor is stopped.
    #[must_use]
    pub fn new(serve: Serve, stop: &CancellationToken) -> Self {
        Self {
            serve,
            stop: stop.child_token(),
            phase: Phase::Serving,
        }
    }
}

/// Stops the serving when it is dropped, however the actor ends.
struct Served {
    stop: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
        self.task.abort();
    }
}

impl Actor for ServersActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        failpoint!("servers.started");
        // On the shared runtime, not on this arbiter: calls must not wait for each other.
        let mut running = Served {
            stop: self.stop.clone(),
            task: tokio::spawn((self.serve)(self.stop.clone())),
        };
        let served = async move {
            failpoint!("servers.serve");
            // Moved in as a whole: if this actor ends early, dropping the future stops the serving.
            let served = (&mut running.task).await;
            drop(running);
            served
        };
        ctx.spawn(served.into_actor(self).map(|served, actor, ctx| {
            failpoint!("servers.served");
            let was = std::mem::replace(&mut actor.phase, Phase::Served);
            if was == Phase::Draining {
                return ctx.stop();
            }
            // The worker is stopping: the supervisor will stop this child in its turn.
            if actor.stop.is_cancelled() {
                return;
            }
            let why = match served {
                Ok(Ok(())) => "the listener ended".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            supervision::fail(ctx, why);
        }));
    }

    /// Ends the streams, and lets calls in flight be answered. How long that may take is bounded by the server, and by the
    /// child's shutdown time.
    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        if self.phase == Phase::Served {
            return Running::Stop;
        }
        self.phase = Phase::Draining;
        self.stop.cancel();
        Running::Continue
    }
}

crate::answers_pings!(ServersActor);
