//! Out of service and back, by an operator's order: durable before it is acknowledged, and kept by each next process until it
//! is lifted. Offers are refused for now; what runs goes on, or until the order's time is over.

use actix::{
    ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, WrapFuture,
};
use tokio::time::Instant;

use super::RegistryActor;
use crate::{
    actors::journal::CommitError,
    domain::{
        cordon::{self, Cordon},
        record::Change,
        task::StopReason,
    },
    failpoint,
    telemetry::operator,
};

/// Takes the worker out of service, or (`None`) back into it. Idempotent.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), CommitError>")]
pub struct SetCordon {
    /// The order; another one takes the place of the one before.
    pub cordon: Option<Cordon>,
    /// When the answer must be there.
    pub deadline: Instant,
}

impl Handler<SetCordon> for RegistryActor {
    type Result = ResponseActFuture<Self, Result<(), CommitError>>;

    fn handle(&mut self, set: SetCordon, _: &mut Self::Context) -> Self::Result {
        failpoint!("registry.SetCordon");
        let SetCordon { cordon, deadline } = set;
        let change = Change::Set {
            key: cordon::SETTING.to_owned(),
            value: cordon.as_ref().map_or_else(String::new, Cordon::to_setting),
        };
        let records = self.peers.records.clone();
        let loaded = self.loaded();
        let commit = async move {
            // What is in force was read with the tasks; read later, it would undo this.
            loaded.await;
            records.commit(vec![change], deadline).await
        };
        Box::pin(commit.into_actor(self).map(|committed, actor, ctx| {
            failpoint!("registry.cordoned");
            if committed.is_ok() {
                actor.keep_to(cordon, ctx);
            }
            committed
        }))
    }
}

impl RegistryActor {
    /// What the journal says of it, at the start.
    pub(super) fn take_in_cordon(
        &mut self,
        settings: &[(String, String)],
        ctx: &mut Context<Self>,
    ) {
        let mut settings = settings.iter();
        let setting = settings.find(|(key, _)| key == cordon::SETTING);
        self.keep_to(
            setting.and_then(|(_, value)| Cordon::from_setting(value)),
            ctx,
        );
    }

    fn keep_to(&mut self, cordon: Option<Cordon>, ctx: &mut Context<Self>) {
        let before = self.peers.cordon.send_replace(cordon.clone());
        if before != cordon {
            operator::cordoned(cordon.as_ref());
        }
        let Some(cordon) = cordon else { return };
        if let Some(left) = cordon.stops_after(self.peers.clock.now()) {
            ctx.run_later(left, move |actor, ctx| {
                failpoint!("registry.stop_at");
                if actor.peers.cordon.borrow().as_ref() == Some(&cordon) {
                    actor.stop_all(StopReason::WorkerStopped, ctx);
                }
            });
        }
    }

    /// Every task that is here shall end.
    pub(super) fn stop_all(&mut self, reason: StopReason, ctx: &mut Context<Self>) {
        let tasks: Vec<_> = self.tasks.keys().cloned().collect();
        for task in tasks {
            self.launch_unrepeated(&task, ctx);
            self.stop(&task, reason, ctx);
        }
    }
}
