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

/// A child as the supervisor sees it, whatever its actor's type.
pub(super) trait Launch: Send {
    /// Makes a new incarnation at `site`. Its start or end is reported as a signal in any case, also when the site's arbiter is
    /// dead.
    fn launch(
        &mut self,
        site: &Site,
        incarnation: Arc<Incarnation>,
        signals: UnboundedSender<Signal>,
    );

    /// Puts a ping into the present incarnation's mailbox.
    fn ping(&mut self, ping: Ping);

    /// Takes the present incarnation out of its slot.
    fn vacate(&mut self, successor: Successor);

    fn statistics(&self) -> SlotStatistics;
}

/// Slots of a mailbox that are allocated at first. It is no bound: actix adds one for every sender.
const MAILBOX: usize = 16;

type Factory<A> = dyn Fn(&mut Context<A>) -> Result<A, StartError> + Send + Sync;

pub(super) struct TypedLaunch<A>
where
    A: Actor<Context = Context<A>> + Handler<Ping>,
{
    seat: Seat<A>,
    factory: Arc<Factory<A>>,
    /// The present incarnation's address, also before it is published in the slot.
    address: Option<Addr<A>>,
    /// The last ping's request. It is never polled, but must live: actix skips a message whose request was dropped.
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
            // If the arbiter is gone, the function below never runs: dropping this report tells `Dropped`.
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

/// What is sent to the child's arbiter to make the actor there.
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
