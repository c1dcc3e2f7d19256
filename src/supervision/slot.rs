//! Where an actor can be found now, across its restarts.
//!
//! A [`Slot`] is what callers hold, a [`Seat`] goes into the child spec. Both share an occupancy: the present address, or that
//! none is there yet, or that none will come. The watch publishes an address after `started`; the supervisor takes it away at the
//! end.
//! Asking is in `ask.rs`.

use std::{
    any::type_name,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use actix::{Actor, Addr, Context};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout_at},
};

use super::{ask::AskError, incarnation::Incarnation};

/// The present state of a slot.
pub(super) enum Occupant<A: Actor> {
    /// No incarnation yet, or the last one has ended and a successor comes.
    Expected,
    /// This incarnation answers.
    Present(Addr<A>, Arc<Incarnation>),
    /// The child ended for good: no incarnation comes any more.
    Absent,
}

impl<A: Actor> Clone for Occupant<A> {
    fn clone(&self) -> Self {
        match self {
            Self::Expected => Self::Expected,
            Self::Present(address, incarnation) => {
                Self::Present(address.clone(), Arc::clone(incarnation))
            }
            Self::Absent => Self::Absent,
        }
    }
}

/// What [`Slot`]s and the [`Seat`] share.
pub(super) struct Occupancy<A: Actor> {
    pub(super) name: Arc<str>,
    pub(super) occupant: watch::Sender<Occupant<A>>,
    /// Lets one suspect at a time through: see `ask.rs`.
    pub(super) suspects: Semaphore,
    asks_in_flight: AtomicU64,
    handled: AtomicU64,
    last_message: Mutex<&'static str>,
}

impl<A: Actor> Occupancy<A> {
    /// Publishes an address, unless its incarnation has been fenced off.
    pub(super) fn occupy(&self, address: Addr<A>, incarnation: &Arc<Incarnation>) {
        self.occupant.send_if_modified(|occupant| {
            // This runs under the channel's lock. The supervisor fences first and vacates then, so a zombie is refused here or
            // removed there.
            if incarnation.is_fenced() {
                return false;
            }
            *occupant = Occupant::Present(address, Arc::clone(incarnation));
            true
        });
    }

    fn vacate(&self, successor: Successor) {
        self.occupant.send_if_modified(|occupant| match successor {
            Successor::Coming if matches!(occupant, Occupant::Expected) => false,
            Successor::None if matches!(occupant, Occupant::Absent) => false,
            Successor::Coming => {
                *occupant = Occupant::Expected;
                true
            }
            Successor::None => {
                *occupant = Occupant::Absent;
                true
            }
        });
    }

    pub(super) fn ask_begins<M>(&self) -> AskInFlight<'_> {
        self.asks_in_flight.fetch_add(1, Ordering::Relaxed);
        *self
            .last_message
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = type_name::<M>();
        AskInFlight {
            asks_in_flight: &self.asks_in_flight,
            handled: &self.handled,
        }
    }

    fn statistics(&self) -> SlotStatistics {
        SlotStatistics {
            in_flight: self.asks_in_flight.load(Ordering::Relaxed),
            handled: self.handled.load(Ordering::Relaxed),
            last_message: *self
                .last_message
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        }
    }
}

/// Counts an ask until it ends or is dropped.
pub(super) struct AskInFlight<'a> {
    asks_in_flight: &'a AtomicU64,
    handled: &'a AtomicU64,
}

impl AskInFlight<'_> {
    pub(super) fn answered(&self) {
        self.handled.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for AskInFlight<'_> {
    fn drop(&mut self) {
        self.asks_in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a vacated slot will be taken again.
#[derive(Clone, Copy)]
pub(super) enum Successor {
    Coming,
    None,
}

/// Figures of a slot, over all incarnations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SlotStatistics {
    /// Asks that wait for their answer now. actix does not tell the depth of a mailbox, so this stands for it.
    pub in_flight: u64,
    /// Asks that were answered.
    pub handled: u64,
    /// Type name of the message asked last, empty before the first.
    pub last_message: &'static str,
}

/// Makes the two ends of a child's address: the slot for callers, the seat for its [`ChildSpec`](super::ChildSpec).
pub fn slot<A>(name: impl Into<Arc<str>>) -> (Slot<A>, Seat<A>)
where
    A: Actor<Context = Context<A>>,
{
    let occupancy = Arc::new(Occupancy {
        name: name.into(),
        occupant: watch::Sender::new(Occupant::Expected),
        suspects: Semaphore::new(1),
        asks_in_flight: AtomicU64::new(0),
        handled: AtomicU64::new(0),
        last_message: Mutex::new(""),
    });
    (Slot(Arc::clone(&occupancy)), Seat(occupancy))
}

/// A child's address that stays good across its restarts. Cheap to clone, usable from any thread.
pub struct Slot<A: Actor>(pub(super) Arc<Occupancy<A>>);

impl<A: Actor> Clone for Slot<A> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<A: Actor> fmt::Debug for Slot<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("name", &self.0.name)
            .field("generation", &self.generation())
            .finish()
    }
}

impl<A: Actor> Slot<A> {
    /// The child's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    /// Generation of the incarnation that answers now; `None` while there is none.
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        match &*self.0.occupant.borrow() {
            Occupant::Present(_, incarnation) => Some(incarnation.generation),
            Occupant::Expected | Occupant::Absent => None,
        }
    }

    /// True while an incarnation answers.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.generation().is_some()
    }

    /// True once no incarnation comes any more: the child ended for good, or its supervisor did.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(&*self.0.occupant.borrow(), Occupant::Absent)
    }

    /// Waits for the next change: an incarnation came or went, or the slot was closed.
    pub async fn changed(&self) {
        // The sender lives as long as `self`, so the only error can't happen.
        let _ = self.0.occupant.subscribe().changed().await;
    }

    /// Waits until an incarnation answers and gives its generation.
    ///
    /// # Errors
    /// `Unavailable` at the deadline, or at once when no incarnation comes any more.
    pub async fn up(&self, deadline: Instant) -> Result<u64, AskError> {
        let mut occupant = self.0.occupant.subscribe();
        loop {
            match &*occupant.borrow_and_update() {
                Occupant::Present(_, incarnation) => return Ok(incarnation.generation),
                Occupant::Absent => return Err(AskError::Unavailable),
                Occupant::Expected => {}
            }
            let changed = timeout_at(deadline, occupant.changed()).await;
            let Ok(Ok(())) = changed else {
                return Err(AskError::Unavailable);
            };
        }
    }

    /// The slot's figures.
    #[must_use]
    pub fn statistics(&self) -> SlotStatistics {
        self.0.statistics()
    }
}

/// The child's end of a slot: there is one per slot, and the child spec owns it. Dropping it closes the slot.
pub struct Seat<A: Actor>(pub(super) Arc<Occupancy<A>>);

impl<A: Actor> Seat<A> {
    pub(super) fn vacate(&self, successor: Successor) {
        self.0.vacate(successor);
    }

    pub(super) fn statistics(&self) -> SlotStatistics {
        self.0.statistics()
    }
}

impl<A: Actor> fmt::Debug for Seat<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("name", &self.0.name).finish()
    }
}

impl<A: Actor> Drop for Seat<A> {
    fn drop(&mut self) {
        self.vacate(Successor::None);
    }
}
