//! Starting an actor under the watch, and the erased face by which the supervisor handles children of any type.

use std::sync::Arc;

use actix::{
    Actor, Addr, Context, Handler,
    dev::{Request, channel},
};
use tokio::sync::mpsc::UnboundedSender;

use super::{
    incarnation::{Incarnation, Running},
    panics,
    ping::{Ping, Signal},
    places::Site,
    slot::{Occupancy, Seat, SlotStatistics, Successor},
    spec::StartError,
    threads,
    watch::{Report, Watched},
};

/// A child as the supervisor sees it.
pub(super) trait Launch: Send {
    /// Makes a new incarnation at `site`. Whatever comes of it is reported as a signal, also when the site is dead.
    fn launch(
        &mut self,
        site: &Site,
        incarnation: Arc<Incarnation>,
        signals: UnboundedSender<Signal>,
    );

    /// Puts a ping into the present incarnation's mailbox.
    fn ping(&mut self, ping: Ping);

    /// Lets go of the present incarnation.
    fn vacate(&mut self, successor: Successor);

    fn statistics(&self) -> SlotStatistics;
}

/// actix rounds it up with every sender, so it bounds nothing: it is the size of what is allocated.
const MAILBOX: usize = 16;

type Factory<A> = dyn Fn(&mut Context<A>) -> Result<A, StartError> + Send + Sync;

pub(super) struct TypedLaunch<A>
where
    A: Actor<Context = Context<A>> + Handler<Ping>,
{
    seat: Seat<A>,
    factory: Arc<Factory<A>>,
    /// Keeps the incarnation reachable before it is published in the slot.
    address: Option<Addr<A>>,
    /// Never polled. It only has to live: actix skips a message whose request is gone.
    pinged: Option<Request<A, Ping>>,
}

impl<A> TypedLaunch<A>
where
    A: Actor<Context = Context<A>> + Handler<Ping>,
{
    pub(super) fn new<F>(seat: Seat<A>, factory: F) -> Self
    where
        F: Fn(&mut Context<A>) -> Result<A, StartError> + Send + Sync + 'static,
    {
        Self {
            seat,
            factory: Arc::new(factory),
            address: None,
            pinged: None,
        }
    }
}

impl<A> Launch for TypedLaunch<A>
where
    A: Actor<Context = Context<A>> + Handler<Ping>,
{
    fn launch(
        &mut self,
        site: &Site,
        incarnation: Arc<Incarnation>,
        signals: UnboundedSender<Signal>,
    ) {
        let (sender, receiver) = channel::channel::<A>(MAILBOX);
        let address = Addr::new(sender);
        self.address = Some(address.clone());
        self.pinged = None;
        let birth = Birth {
            factory: Arc::clone(&self.factory),
            vacancy: (Arc::clone(&self.seat.0), address),
            marker: Arc::clone(&site.marker),
            // Reports `Dropped` if the arbiter is gone and the function never runs.
            report: Report::new(incarnation, signals),
        };
        site.handle.spawn_fn(move || {
            birth.give(Context::with_receiver(receiver));
        });
    }

    fn ping(&mut self, ping: Ping) {
        // A fresh clone always has room for one message, so the ping is in the mailbox when `send` returns.
        self.pinged = self.address.as_ref().map(|it| it.clone().send(ping));
    }

    fn vacate(&mut self, successor: Successor) {
        self.address = None;
        self.pinged = None;
        self.seat.vacate(successor);
    }

    fn statistics(&self) -> SlotStatistics {
        self.seat.statistics()
    }
}

/// What travels to the child's arbiter.
struct Birth<A>
where
    A: Actor<Context = Context<A>>,
{
    factory: Arc<Factory<A>>,
    vacancy: (Arc<Occupancy<A>>, Addr<A>),
    marker: Arc<super::places::Marker>,
    report: Report,
}

impl<A> Birth<A>
where
    A: Actor<Context = Context<A>>,
{
    fn give(mut self, mut context: Context<A>) {
        let incarnation = Arc::clone(&self.report.incarnation);
        if incarnation.is_fenced() {
            return;
        }
        let made = {
            let (_running, _marked) = (
                Running::enter(&incarnation),
                self.marker.enter(incarnation.key),
            );
            panics::catch(|| (self.factory)(&mut context))
        };
        match made {
            Ok(Ok(actor)) => {
                let future = context.into_future(actor);
                let watched = Watched::new(future, self.vacancy, self.marker, self.report);
                threads::here(watched);
            }
            Ok(Err(StartError(reason))) => self.report.exited(super::Exit::Failed(reason)),
            Err(panicked) => self.report.exited(panicked),
        }
    }
}
