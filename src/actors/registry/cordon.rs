//! Takes the worker out of service and back by an operator's order (a cordon): durable before it is acknowledged, and kept by each
//! next process until it is lifted. Offers are refused for now; running tasks go on, or are stopped when the order's time is over.

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
    /// The order; it replaces an earlier one.
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
            // The order in force is read from the journal together with the tasks; a later read would undo this one.
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
    /// Keeps to the order that the journal has, at the registry's start.
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

    /// Stops every active task for this reason; tasks that wait for a repeated offer are started first, so that they can end.
    pub(super) fn stop_all(&mut self, reason: StopReason, ctx: &mut Context<Self>) {
        let tasks: Vec<_> = self.tasks.keys().cloned().collect();
        for task in tasks {
            self.launch_unrepeated(&task, ctx);
            self.stop(&task, reason, ctx);
        }
    }
}
