//! Steps of a task that meet trouble that passes: they are tried again after a wait, during which the task holds no turn. The
//! task's log says so, and a stop that comes meanwhile takes effect at once.

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use log::debug;
use tokio::time::{Instant, sleep};

use super::{TaskActor, image::note};
use crate::{domain::task::Event, failpoint};

/// The result of a step.
#[derive(Debug)]
pub(super) enum Step {
    /// The step has ended, well or not.
    Over(Event),
    /// The step met trouble that may pass; the text says which.
    Passing(String),
    /// The image was removed after it had been found; the text is the engine's.
    ImageGone(String),
}

/// A step that is tried again.
pub(super) struct Retry {
    /// Begins the step again.
    pub(super) step: fn(&mut TaskActor, &mut Context<TaskActor>),
    /// The event when the patience is used up.
    pub(super) failed: fn(String) -> Event,
}

/// Trouble that may pass, and has lasted for some time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trouble {
    since: Instant,
    failures: u32,
}

impl Trouble {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            failures: 0,
        }
    }
}

impl TaskActor {
    /// Goes on with the result of a step: with its event, or with another try after a wait.
    pub(super) fn go_on(&mut self, step: Step, retry: Retry, ctx: &mut Context<Self>) {
        match step {
            Step::Over(event) => {
                self.trouble = None;
                self.advance(event, ctx);
            }
            // The first time it is simply pulled again. If it disappears each time, that is trouble like any other.
            Step::ImageGone(_) if self.trouble.is_none() || self.is_asked_to_stop() => {
                self.trouble = Some(Trouble::new());
                self.advance(Event::ImageGone, ctx);
            }
            Step::ImageGone(why) => {
                let retry = Retry {
                    step: |actor, ctx| actor.advance(Event::ImageGone, ctx),
                    failed: Event::CreateFailed,
                };
                self.wait_out(why, retry, ctx);
            }
            // The task is to stop, so the step is not tried again.
            Step::Passing(why) if self.is_asked_to_stop() => {
                self.advance((retry.failed)(why), ctx);
            }
            Step::Passing(why) => self.wait_out(why, retry, ctx),
        }
    }

    fn wait_out(&mut self, why: String, retry: Retry, ctx: &mut Context<Self>) {
        let trouble = *self.trouble.get_or_insert_with(Trouble::new);
        let lasted = trouble.since.elapsed();
        let patience = self.env.rules.patience;
        let Some(wait) = patience.wait(lasted, trouble.failures, &why, fastrand::f64()) else {
            self.trouble = None;
            self.advance(
                (retry.failed)(format!("{why} (tried for {lasted:.1?})")),
                ctx,
            );
            return;
        };
        self.trouble = Some(Trouble {
            failures: trouble.failures + 1,
            ..trouble
        });
        debug!(task:% = self.id(), why, wait:?; "a step of a task is tried again");
        let spool = self.spool.clone();
        let pause = async move {
            failpoint!("task.wait_out");
            let line = format!("[worker-node] {why}; again in {wait:.1?}");
            note(spool.as_deref(), line).await;
            sleep(wait).await;
        };
        let handle = ctx.spawn(pause.into_actor(self).map(move |(), actor, ctx| {
            actor.waiting = None;
            (retry.step)(actor, ctx);
        }));
        self.waiting = Some(handle);
    }
}
