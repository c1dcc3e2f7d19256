//! The death watch: the future of an actor's context, wrapped so that its end is reported exactly once, whatever ends it.
//!
//! It runs on the child's arbiter. It catches panics below the drop of the actor, so that no destructor runs while one unwinds;
//! it carries the supervisor's stop past the mailbox; and it does not poll an incarnation that was fenced off. Of a panicked or
//! fenced actor nothing runs any more but its destructor: `stopping` and `stopped` are for orderly ends, and could otherwise
//! handle further messages. One thing escapes the watch: messages in the mailbox of a zombie whose present poll has not returned.
//! Their askers dropped them when the slot changed, and actix skips a message whose reply is awaited by nobody.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use actix::{Actor, ActorContext, Addr, Context, dev::ContextFut};
use tokio::{sync::mpsc::UnboundedSender, time::Instant};

use super::{
    exit::Exit,
    incarnation::{Incarnation, Running},
    panics,
    ping::Signal,
    places::Marker,
    slot::Occupancy,
};

/// Reports the end of an incarnation once: when it is told, or as `Dropped` when it is dropped before that.
pub(super) struct Report {
    pub(super) incarnation: Arc<Incarnation>,
    signals: Option<UnboundedSender<Signal>>,
}

impl Report {
    pub(super) fn new(incarnation: Arc<Incarnation>, signals: UnboundedSender<Signal>) -> Self {
        Self {
            incarnation,
            signals: Some(signals),
        }
    }

    fn started(&self) {
        let Incarnation {
            key, generation, ..
        } = *self.incarnation;
        if let Some(signals) = &self.signals {
            let _ = signals.send(Signal::Started { key, generation });
        }
    }

    pub(super) fn exited(&mut self, exit: Exit) {
        let Some(signals) = self.signals.take() else {
            return;
        };
        let Incarnation {
            key, generation, ..
        } = *self.incarnation;
        self.incarnation.fence_off(exit.ending());
        // If the supervisor has ended, the report is not needed.
        let _ = signals.send(Signal::Exited {
            key,
            generation,
            exit,
        });
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.exited(Exit::Dropped);
    }
}

/// The watched future of an actor's context. See the module.
pub(super) struct Watched<A>
where
    A: Actor<Context = Context<A>>,
{
    /// Taken out before the report, so that the actor and its mailbox are gone when the end is reported.
    future: Option<ContextFut<A, Context<A>>>,
    /// Where the address is published after the first poll; `None` from then on.
    vacancy: Option<(Arc<Occupancy<A>>, Addr<A>)>,
    marker: Arc<Marker>,
    report: Report,
}

impl<A> Watched<A>
where
    A: Actor<Context = Context<A>>,
{
    pub(super) fn new(
        future: ContextFut<A, Context<A>>,
        vacancy: (Arc<Occupancy<A>>, Addr<A>),
        marker: Arc<Marker>,
        report: Report,
    ) -> Self {
        Self {
            future: Some(future),
            vacancy: Some(vacancy),
            marker,
            report,
        }
    }

    /// Polls the actor once: marked as running, timed, with panics caught. `Ok(true)` when its context has ended.
    fn poll_actor(&mut self, cx: &mut TaskContext<'_>) -> Result<bool, Exit> {
        let Some(future) = self.future.as_mut() else {
            return Ok(true);
        };
        let incarnation = &self.report.incarnation;
        if incarnation.take_stop_request() {
            future.ctx().stop();
        }
        let (_running, _marked) = (
            Running::enter(incarnation),
            self.marker.enter(incarnation.key),
        );
        let since = Instant::now();
        let polled = panics::catch(|| Pin::new(future).poll(cx).is_ready());
        incarnation.add_busy(since.elapsed());
        polled
    }

    /// Publishes the address once `started` has run, and reports the start.
    fn announce(&mut self) {
        if let Some((occupancy, address)) = self.vacancy.take() {
            occupancy.occupy(address, &self.report.incarnation);
            self.report.started();
        }
    }

    /// Drops the actor, and reports its end. A panic of its destructor turns an orderly end into a panic.
    fn finish(&mut self, exit: Exit) {
        let dropped = self.drop_actor();
        let exit = match (exit, dropped) {
            (Exit::Stopped, Err(panicked)) => panicked,
            (exit, _) => exit,
        };
        self.report.exited(exit);
    }

    fn drop_actor(&mut self) -> Result<(), Exit> {
        self.vacancy = None;
        let Some(mut future) = self.future.take() else {
            return Ok(());
        };
        let incarnation = &self.report.incarnation;
        let (_running, _marked) = (
            Running::enter(incarnation),
            self.marker.enter(incarnation.key),
        );
        // Terminate the context, so that dropping its future polls nothing: `stopping` could answer 'continue' and handle
        // messages.
        future.ctx().terminate();
        panics::catch(move || drop(future))
    }
}

impl<A> Future for Watched<A>
where
    A: Actor<Context = Context<A>>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let this = &mut *self;
        // Register before the flags are read: a flag that is set after this line wakes the watch.
        this.report.incarnation.waker.register(cx.waker());
        if this.report.incarnation.is_fenced() {
            this.finish(Exit::Dropped);
            return Poll::Ready(());
        }
        let exit = match (this.poll_actor(cx), this.report.incarnation.failure()) {
            (Err(panicked), _) => panicked,
            (Ok(_), Some(reason)) => Exit::Failed(reason),
            (Ok(true), None) => Exit::Stopped,
            (Ok(false), None) => {
                this.announce();
                return Poll::Pending;
            }
        };
        this.finish(exit);
        Poll::Ready(())
    }
}

impl<A> Drop for Watched<A>
where
    A: Actor<Context = Context<A>>,
{
    fn drop(&mut self) {
        // Dropped with its arbiter; or after it finished, when nothing is left to drop or report.
        self.finish(Exit::Dropped);
    }
}
