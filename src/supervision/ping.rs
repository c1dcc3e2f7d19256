//! The question 'are you alive?' that goes through a child's mailbox, and the signals that come back to the supervisor.

use std::fmt;

use actix::Message;
use tokio::sync::mpsc::UnboundedSender;

use super::{exit::Exit, incarnation::ChildKey, places::PlaceId};

/// What the supervisor is told by its children and their arbiters. It comes through one unbounded channel: an exit must never be
/// lost.
pub(crate) enum Signal {
    /// `started` of the child has run, and the first messages were handled.
    Started { key: ChildKey, generation: u64 },
    /// The incarnation is fully down.
    Exited {
        key: ChildKey,
        generation: u64,
        exit: Exit,
    },
    /// A ping was handled.
    Answered { key: ChildKey, generation: u64 },
    /// An arbiter of the pool ran a function.
    PlaceAnswered(PlaceId),
    /// An arbiter's event loop ended.
    PlaceEnded(PlaceId),
    /// From the supervisor to itself: look at the pings, after all answers that are in the channel before this.
    Look,
}

/// Sent to every static child each ping interval. [`answers_pings!`](crate::answers_pings) writes the handler.
pub struct Ping {
    key: ChildKey,
    generation: u64,
    signals: UnboundedSender<Signal>,
}

impl Ping {
    pub(crate) fn new(key: ChildKey, generation: u64, signals: &UnboundedSender<Signal>) -> Self {
        Self {
            key,
            generation,
            signals: signals.clone(),
        }
    }

    /// Tells the supervisor that the actor's mailbox moves.
    pub fn answer(self) {
        let Self {
            key,
            generation,
            signals,
        } = self;
        // If the supervisor is gone, no answer is needed.
        let _ = signals.send(Signal::Answered { key, generation });
    }
}

impl Message for Ping {
    type Result = ();
}

impl fmt::Debug for Ping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ping {{ generation: {} }}", self.generation)
    }
}

/// Implements `Handler<Ping>` for actors that have nothing to add: `answers_pings!(RegistryActor);`.
#[macro_export]
macro_rules! answers_pings {
    ($($actor:ty),+ $(,)?) => {$(
        impl ::actix::Handler<$crate::supervision::Ping> for $actor {
            type Result = ();

            fn handle(&mut self, ping: $crate::supervision::Ping, _: &mut Self::Context) {
                ping.answer();
            }
        }
    )+};
}
