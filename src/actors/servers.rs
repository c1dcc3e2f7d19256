//! The listener of the master's calls, as a child: what serves comes from outside, this keeps it alive and stops it in order.

use std::{io, sync::Arc};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, WrapFuture};
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{failpoint, supervision};

/// Serves until the token is cancelled; ends its streams first.
pub type Serve = Arc<dyn Fn(CancellationToken) -> BoxFuture<'static, io::Result<()>> + Send + Sync>;

/// See the module.
pub struct ServersActor {
    serve: Serve,
    stop: CancellationToken,
}

impl ServersActor {
    /// Serves by `serve`, anew in every incarnation, until `stop` or the actor's own end.
    #[must_use]
    pub fn new(serve: Serve, stop: &CancellationToken) -> Self {
        Self {
            serve,
            stop: stop.child_token(),
        }
    }
}

/// Ends what was spawned when the actor ends, however it ends.
struct Running {
    stop: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

impl Drop for Running {
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
        let mut running = Running {
            stop: self.stop.clone(),
            task: tokio::spawn((self.serve)(self.stop.clone())),
        };
        let served = async move {
            failpoint!("servers.serve");
            // Moved in whole: when this actor ends early, dropping it stops what runs.
            let served = (&mut running.task).await;
            drop(running);
            served
        };
        ctx.spawn(served.into_actor(self).map(|served, actor, ctx| {
            failpoint!("servers.served");
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
}

crate::answers_pings!(ServersActor);
