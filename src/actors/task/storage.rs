//! Holds what a task writes to its storage allowance: measures it while the container runs, at least every 5 s, and the sooner the
//! nearer the task comes to the end of its allowance or of the disk. A task over its allowance is killed.

use std::{sync::Arc, time::Duration};

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use log::debug;
use tokio::time::{Instant, sleep_until};

use super::{TaskActor, TaskEnv};
use crate::{
    domain::{
        id::ContainerId,
        storage::{Allowance, LOOK, Over, Written},
        task::Event,
    },
    failpoint,
    ports::engine::EngineError,
};

/// The time from the container's start, or its adoption, to the first measurement.
const FIRST_LOOK: Duration = Duration::from_millis(500);

impl TaskActor {
    /// Measures the container's storage until it is gone or over its allowance. Does nothing for a task that asked for no storage,
    /// or under `--limits reserve`.
    pub(super) fn watch_storage(&self, container: ContainerId, ctx: &mut Context<Self>) {
        let allowance = Allowance::of(&self.record.spec.wants);
        let Some(allowance) = allowance.filter(|_| self.env.rules.enforce_limits) else {
            return;
        };
        let mut looks = Looks::at(Arc::clone(&self.env), container, allowance);
        let looks = async move {
            loop {
                let seen = looks.look().await;
                failpoint!("task.watch_storage");
                match seen {
                    Seen::Within => {}
                    Seen::Over(over) => return Some(over),
                    Seen::Gone => return None,
                }
            }
        };
        ctx.spawn(looks.into_actor(self).map(|over, actor, ctx| {
            if let Some(over) = over {
                actor.advance(Event::OverStorage(over), ctx);
            }
        }));
    }
}

/// The result of one measurement.
enum Seen {
    Within,
    Over(Over),
    Gone,
}

/// The measurements of one container's storage.
struct Looks {
    env: Arc<TaskEnv>,
    container: ContainerId,
    allowance: Allowance,
    before: Written,
    /// When `before` was measured.
    looked: Instant,
    next: Instant,
}

impl Looks {
    fn at(env: Arc<TaskEnv>, container: ContainerId, allowance: Allowance) -> Self {
        let now = Instant::now();
        Self {
            env,
            container,
            allowance,
            before: Written::default(),
            looked: now,
            next: now + FIRST_LOOK,
        }
    }

    async fn look(&mut self) -> Seen {
        sleep_until(self.next).await;
        let begun = Instant::now();
        let root = self.env.view.data_root();
        let engine = &self.env.engine;
        let written = engine.storage(&self.container, root.as_deref(), &self.allowance);
        let pause = match written.await {
            Ok(written) => match self.allowance.over(&written) {
                Some(over) => return Seen::Over(over),
                None => self.take(written, begun),
            },
            Err(EngineError::NotFound(_)) => return Seen::Gone,
            Err(error) => {
                debug!(container:% = self.container, error:%; "what a task has written is not known now");
                LOOK
            }
        };
        // A measurement that takes long, since there are many files, is followed by a pause as long as itself.
        self.next = (begun + pause).max(Instant::now() + begun.elapsed());
        Seen::Within
    }

    /// Keeps a measurement that began at this time, and tells how long to wait until the next one begins.
    fn take(&mut self, written: Written, at: Instant) -> Duration {
        let (between, low) = (at - self.looked, self.env.rules.disk_low);
        let pause = self
            .allowance
            .next_look(&self.before, &written, between, low);
        (self.before, self.looked) = (written, at);
        pause
    }
}
