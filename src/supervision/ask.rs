//! Asking an actor through its slot, across its deaths.
//!
//! An ask waits for the reply or for a change of the slot. Dropping an ask cancels its message: actix skips messages whose reply
//! is awaited by nobody, so a hung actor does no work late when it wakes. And the asks that such an actor makes itself are
//! refused.
//!
//! Poison: a message that killed two incarnations ends as `Poisoned`, and no third one gets it. When a handler panics, the ask
//! that waits for it sees that (`witness.rs`), and all other asks are bystanders then, however many deaths they meet. Where no
//! ask saw the cause (a panic behind the handler, or a hang), an idempotent ask that met the death becomes a suspect. Suspects
//! are offered to the successor one at a time: if the actor dies again it was this one, and the innocent ones that were queued
//! behind it pass. (If a second, different poison arrives at the same moment, and is not seen either, an innocent suspect can
//! look guilty.)

use std::sync::Arc;

use actix::{Actor, Addr, Context, Handler, Message};
use thiserror::Error;
use tokio::{
    select,
    sync::{SemaphorePermit, watch},
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    incarnation::{self, Incarnation},
    slot::{Occupancy, Occupant, Slot},
    witness::{Part, Witness},
};

/// Why an ask has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum AskError {
    /// No incarnation took the message, or the one that had it ended: then it may or may not have been carried out. Or the asker
    /// itself was replaced: then the message was not sent.
    #[error("the actor is unavailable")]
    Unavailable,
    /// An incarnation took the message, and did not answer before the deadline: it may or may not have been carried out.
    #[error("the actor did not answer in time")]
    Deadline,
    /// Two incarnations died while they had the message. It is not offered to a third.
    #[error("the message killed the actor twice")]
    Poisoned,
}

/// Incarnations that may die of a message before it counts as poison.
const DEATHS_OF_POISON: u32 = 2;

enum Offer<T> {
    Answered(T),
    /// The incarnation ended, or was replaced, before it answered.
    Lost(Part),
    TimedOut,
}

impl<A> Slot<A>
where
    A: Actor<Context = Context<A>>,
{
    /// Sends the message once: waits for an incarnation, then for its answer.
    ///
    /// # Errors
    /// `Unavailable` when there was no incarnation before `deadline`, or the one that had the message ended; `Deadline` when it
    /// did not answer.
    pub async fn ask<M>(&self, message: M, deadline: Instant) -> Result<M::Result, AskError>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let in_flight = self.0.ask_begins::<M>();
        let mut occupant = self.0.occupant.subscribe();
        let present = present(&mut occupant, deadline).await?;
        match offer(&mut occupant, &present, message, deadline).await {
            Offer::Answered(answer) => {
                in_flight.answered();
                Ok(answer)
            }
            Offer::Lost(_) => Err(AskError::Unavailable),
            Offer::TimedOut => Err(AskError::Deadline),
        }
    }

    /// Sends the message until an incarnation answers. It may be carried out more than once, so it must carry an id by which the
    /// actor can tell.
    ///
    /// # Errors
    /// As [`ask`](Self::ask), but a death leads to the successor; `Poisoned` when two incarnations died of this message.
    pub async fn ask_idempotent<M>(
        &self,
        message: M,
        deadline: Instant,
    ) -> Result<M::Result, AskError>
    where
        A: Handler<M>,
        M: Message + Clone + Send + 'static,
        M::Result: Send,
    {
        let in_flight = self.0.ask_begins::<M>();
        let mut occupant = self.0.occupant.subscribe();
        let mut suspicion = Suspicion::new(&self.0);
        loop {
            let present = present(&mut occupant, deadline).await?;
            match offer(&mut occupant, &present, message.clone(), deadline).await {
                Offer::Answered(answer) => {
                    in_flight.answered();
                    return Ok(answer);
                }
                Offer::TimedOut => return Err(AskError::Deadline),
                Offer::Lost(part) => {
                    let (_, incarnation) = present;
                    replaced(&mut occupant, &incarnation, deadline).await?;
                    suspicion.seen_end_of(&incarnation, part, deadline).await?;
                }
            }
        }
    }
}

/// The deaths that one ask may have caused, and its turn among the suspects.
struct Suspicion<'a, A: Actor> {
    occupancy: &'a Occupancy<A>,
    deaths: u32,
    turn: Option<SemaphorePermit<'a>>,
}

impl<'a, A: Actor> Suspicion<'a, A> {
    fn new(occupancy: &'a Occupancy<A>) -> Self {
        Self {
            occupancy,
            deaths: 0,
            turn: None,
        }
    }

    async fn seen_end_of(
        &mut self,
        incarnation: &Incarnation,
        part: Part,
        deadline: Instant,
    ) -> Result<(), AskError> {
        if !incarnation.died() || part == Part::Bystander {
            return Ok(());
        }
        self.deaths += 1;
        if self.deaths >= DEATHS_OF_POISON {
            return Err(AskError::Poisoned);
        }
        let turn = timeout_at(deadline, self.occupancy.suspects.acquire()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(AskError::Unavailable);
        };
        self.turn = Some(turn);
        Ok(())
    }
}

/// Waits for an incarnation that takes messages.
async fn present<A: Actor>(
    occupant: &mut watch::Receiver<Occupant<A>>,
    deadline: Instant,
) -> Result<(Addr<A>, Arc<Incarnation>), AskError> {
    loop {
        if !incarnation::is_current() {
            return Err(AskError::Unavailable);
        }
        match occupant.borrow_and_update().clone() {
            // An incarnation that has just ended is still in the slot. Wait for its successor instead of losing the message.
            Occupant::Present(address, incarnation) if address.connected() => {
                return Ok((address, incarnation));
            }
            Occupant::Absent => return Err(AskError::Unavailable),
            Occupant::Present(..) | Occupant::Expected => {}
        }
        change(occupant, deadline).await?;
    }
}

/// Waits until `incarnation` is no longer the present one.
async fn replaced<A: Actor>(
    occupant: &mut watch::Receiver<Occupant<A>>,
    incarnation: &Arc<Incarnation>,
    deadline: Instant,
) -> Result<(), AskError> {
    loop {
        let is_same = |present: &Occupant<A>| match present {
            Occupant::Present(_, present) => Arc::ptr_eq(present, incarnation),
            Occupant::Expected | Occupant::Absent => false,
        };
        if !is_same(&occupant.borrow_and_update()) {
            return Ok(());
        }
        change(occupant, deadline).await?;
    }
}

async fn change<A: Actor>(
    occupant: &mut watch::Receiver<Occupant<A>>,
    deadline: Instant,
) -> Result<(), AskError> {
    match timeout_at(deadline, occupant.changed()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(AskError::Unavailable),
    }
}

async fn offer<A, M>(
    occupant: &mut watch::Receiver<Occupant<A>>,
    (address, incarnation): &(Addr<A>, Arc<Incarnation>),
    message: M,
    deadline: Instant,
) -> Offer<M::Result>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    let witness = Witness::of(incarnation);
    let lost = || Offer::Lost(witness.part());
    select! {
        // Look for the reply first: otherwise work that was carried out is offered again.
        biased;
        reply = witness.watch(address.send(message)) => reply.map_or_else(|_| lost(), Offer::Answered),
        _ = occupant.changed() => lost(),
        () = sleep_until(deadline) => Offer::TimedOut,
    }
}
