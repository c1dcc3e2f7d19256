//! The registration with the master: at the start, after every reconnect, at a new address, and when the master has forgotten
//! this worker; with backoff, for as long as it takes. It keeps the master's address durable. A wish to register that comes while
//! one is under way is served by that one, and registrations begin at most once a second, however many wishes come.

use std::{
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, WrapFuture,
};
use log::warn;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{engine_watch::EngineView, journal::Records};
use crate::{
    domain::{backoff::Backoff, record::Change},
    failpoint,
    ports::{
        master::{Master, MasterAddress, MasterError, Registration},
        worker::MoveError,
    },
    telemetry::{
        operator,
        voice::{Outage, Trouble},
    },
};

/// The waits between two tries to register. A master that comes back calls the worker, so the longest may be long.
const RETRY: Backoff = Backoff {
    first: Duration::from_millis(500),
    cap: Duration::from_secs(15),
    jitter: 0.2,
};

/// The least time between the beginnings of two registrations, so that no caller makes this worker flood a master. A registration
/// that is overtaken by a wish for another address has as long to end.
const PACE: Duration = Duration::from_secs(1);

/// How long the first registration waits for the engine, which may take a connection and not answer.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// The journal's setting with the address that a master announced.
pub const LEARNT_ADDRESS: &str = "master.address";

/// The journal's setting with the `-master` value that was in force when the address was announced: the announced address counts
/// only while that value is the same.
pub const LEARNT_UNDER: &str = "master.configured";

/// The master has announced its address, or (`None`) called from where it was. Registers there at once.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), MoveError>")]
pub struct MasterIsAt(pub Option<MasterAddress>);

/// The master does not know this worker, or has come back: register again.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct RegisterAgain;

/// Whether a master may move this worker to another address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// A master may.
    Free,
    /// No: `--pin-master`.
    Pinned,
    /// No: nothing proves who announces the address.
    Unproven,
}

/// The board about the master: its address, and whether it knows this worker. Kept beside the actor.
#[derive(Debug)]
pub struct MasterView {
    address: watch::Sender<MasterAddress>,
    registered: watch::Sender<bool>,
    /// Logs once that the master is away: every actor that calls the master may find that out.
    away: Mutex<Trouble>,
    contact: Mutex<Contact>,
}

/// How the calls to the master have gone, and when.
#[derive(Debug, Clone, Default)]
pub struct Contact {
    /// Since when the master has known this worker.
    pub registered_since: Option<Instant>,
    /// When the last heartbeat was taken, and how long the answer took.
    pub beat: Option<(Instant, Duration)>,
    /// Since when calls have been failing, and the last error.
    pub failure: Option<(Instant, String)>,
}

impl MasterView {
    /// A board with the address to begin with.
    #[must_use]
    pub fn new(address: MasterAddress) -> Self {
        Self {
            address: watch::Sender::new(address),
            registered: watch::Sender::new(false),
            away: Mutex::default(),
            contact: Mutex::default(),
        }
    }

    /// How the calls to the master have gone.
    #[must_use]
    pub fn contact(&self) -> Contact {
        self.contacted().clone()
    }

    fn contacted(&self) -> MutexGuard<'_, Contact> {
        self.contact.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The master could not be reached, or refuses this worker.
    fn has_failed(&self, reason: &dyn Display) {
        let mut contact = self.contacted();
        let since = contact.failure.take().map(|(since, _)| since);
        contact.failure = Some((since.unwrap_or_else(Instant::now), reason.to_string()));
    }

    /// The master has taken a heartbeat; its answer took this long.
    pub(super) fn has_beaten(&self, took: Duration) {
        let mut contact = self.contacted();
        contact.beat = Some((Instant::now(), took));
        contact.failure = None;
    }

    /// The master could not be reached at that address.
    pub(super) fn is_away(&self, address: &MasterAddress, reason: &dyn Display) {
        self.has_failed(reason);
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        operator::master_away(&mut away, address, reason);
    }

    /// The master has answered at that address, whatever it said.
    pub(super) fn is_there(&self, address: &MasterAddress) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        operator::master_back(&mut away, address);
    }

    /// The master's address.
    #[must_use]
    pub fn address(&self) -> MasterAddress {
        self.address.borrow().clone()
    }

    /// The master's address, now and later.
    #[must_use]
    pub fn addresses(&self) -> watch::Receiver<MasterAddress> {
        self.address.subscribe()
    }

    /// Notes the result of a registration or a heartbeat.
    pub(super) fn note(&self, registered: bool) {
        let mut contact = self.contacted();
        contact.registered_since = match registered {
            true => contact.registered_since.or_else(|| Some(Instant::now())),
            false => None,
        };
        if registered {
            contact.failure = None;
        }
        drop(contact);
        self.registered.send_replace(registered);
    }

    /// Whether the master has registered this worker, and taken its heartbeats since.
    #[must_use]
    pub fn registered(&self) -> watch::Receiver<bool> {
        self.registered.subscribe()
    }
}

/// What the session works with.
#[derive(Clone)]
pub struct SessionPeers {
    /// The master to register with.
    pub master: Arc<dyn Master>,
    /// The board about the master.
    pub view: Arc<MasterView>,
    /// Tells whether another worker of this id uses the engine.
    pub engine: Arc<EngineView>,
    /// The journal.
    pub records: Records,
}

/// The actor that registers. See the module.
pub struct SessionActor {
    peers: SessionPeers,
    registration: Registration,
    configured: MasterAddress,
    pin: Pin,
    /// Counts the wishes to register.
    wishes: watch::Sender<u64>,
    registering: bool,
    /// The address that was last used, and when a registration last began.
    last: Last,
    /// Whether an address is being written to the journal.
    keeping: bool,
}

/// What one run of registrations hands to the next.
#[derive(Debug, Clone)]
struct Last {
    address: MasterAddress,
    began: Option<Instant>,
}

impl SessionActor {
    /// Registers `registration` with the master of `peers`. `configured` is the `-master` value in force.
    #[must_use]
    pub fn new(
        peers: SessionPeers,
        registration: Registration,
        (configured, pin): (MasterAddress, Pin),
    ) -> Self {
        let address = peers.view.address();
        Self {
            peers,
            registration,
            configured,
            pin,
            wishes: watch::Sender::new(0),
            registering: false,
            last: Last {
                address,
                began: None,
            },
            keeping: false,
        }
    }

    /// Notes a wish to register. A registration that is under way serves it; otherwise one begins.
    fn register(&mut self, ctx: &mut Context<Self>) {
        self.wishes.send_modify(|wishes| *wishes += 1);
        if std::mem::replace(&mut self.registering, true) {
            return;
        }
        let attempts = Attempts {
            peers: self.peers.clone(),
            registration: self.registration.clone(),
            wishes: self.wishes.subscribe(),
            last: self.last.clone(),
        };
        ctx.spawn(attempts.run().into_actor(self).map(|last, actor, _| {
            failpoint!("session.registered");
            actor.last = last;
            actor.registering = false;
        }));
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        failpoint!("session.started");
        self.register(ctx);
    }
}

crate::answers_pings!(SessionActor);

impl Handler<RegisterAgain> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: RegisterAgain, ctx: &mut Self::Context) {
        failpoint!("session.RegisterAgain");
        if !self.registering {
            self.register(ctx);
        }
    }
}

impl Handler<MasterIsAt> for SessionActor {
    type Result = ResponseActFuture<Self, Result<(), MoveError>>;

    fn handle(&mut self, MasterIsAt(address): MasterIsAt, ctx: &mut Self::Context) -> Self::Result {
        failpoint!("session.MasterIsAt", address);
        let before = self.peers.view.address();
        let address = address.unwrap_or_else(|| before.clone());
        let moved = address != before;
        let refused = match self.pin {
            Pin::Pinned => Some(MoveError::Pinned),
            Pin::Unproven => Some(MoveError::Unproven),
            Pin::Free => None,
        };
        if let Some(refused) = refused.filter(|_| moved) {
            warn!(address = address.0, reason:% = refused; "a master asked to move this worker, and may not");
            return Box::pin(async { Err(refused) }.into_actor(self));
        }
        if moved {
            self.peers.view.address.send_replace(address);
            self.remember(ctx);
        }
        // Takes effect at once, also while a registration waits for its next try.
        self.register(ctx);
        Box::pin(async { Ok(()) }.into_actor(self))
    }
}

impl SessionActor {
    /// Makes the address durable, without the answer to the master waiting for that. One write at a time; the newest address in
    /// the end.
    fn remember(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.keeping, true) {
            return;
        }
        let records = self.peers.records.clone();
        let address = self.peers.view.address();
        let settings = vec![
            Change::Set {
                key: LEARNT_ADDRESS.into(),
                value: address.0.clone(),
            },
            Change::Set {
                key: LEARNT_UNDER.into(),
                value: self.configured.0.clone(),
            },
        ];
        let keep = async move {
            failpoint!("session.remember");
            if let Err(refused) = records.keep(settings).await {
                warn!(refused:%; "the master's new address is not kept");
            }
        };
        ctx.spawn(keep.into_actor(self).map(move |(), actor, ctx| {
            actor.keeping = false;
            if actor.peers.view.address() != address {
                actor.remember(ctx);
            }
        }));
    }
}

struct Attempts {
    peers: SessionPeers,
    registration: Registration,
    wishes: watch::Receiver<u64>,
    last: Last,
}

impl Attempts {
    /// Registers until the master at the present address accepts. An error is logged when it changes, not at every try.
    async fn run(mut self) -> Last {
        // A second worker of this id would take the first one's place with the master before it ends itself.
        if self.last.began.is_none() {
            let _ = timeout(FIRST_LOOK, self.peers.engine.looked()).await;
        }
        let mut attempt = 0;
        let mut refused = Outage::default();
        loop {
            if let Some(began) = self.last.began {
                sleep_until(began + PACE).await;
            }
            failpoint!("session.register");
            let began = Instant::now();
            let address = self.begin(began);
            let answer = tokio::select! {
                biased;
                answer = self.peers.master.register(&address, self.registration.clone()) => answer,
                () = overtaken(&self.peers.view, &address, began) => continue,
            };
            if self.answered(answer, &address, &mut refused) {
                return self.last;
            }
            let again = began + RETRY.delay(attempt, fastrand::f64());
            attempt = tokio::select! {
                biased;
                () = sleep_until(again) => attempt + 1,
                // The sender lives as long as the actor that runs this.
                _ = self.wishes.changed() => 0,
            };
        }
    }

    /// Begins a registration, which serves every wish so far.
    fn begin(&mut self, now: Instant) -> MasterAddress {
        self.wishes.mark_unchanged();
        self.peers.view.note(false);
        let address = self.peers.view.address();
        if address != self.last.address {
            operator::master_moved(&self.last.address, &address);
        }
        self.last = Last {
            address: address.clone(),
            began: Some(now),
        };
        address
    }

    /// Notes the answer to a registration; true if it was accepted by the master at the present address, which ends the tries.
    fn answered(
        &self,
        answer: Result<(), MasterError>,
        address: &MasterAddress,
        refused: &mut Outage,
    ) -> bool {
        let view = &self.peers.view;
        match answer {
            Ok(()) => {
                view.is_there(address);
                let here = view.address() == *address;
                if here {
                    operator::registered(address, &self.registration);
                    view.note(true);
                }
                return here;
            }
            Err(MasterError::NotRegistered(reason) | MasterError::Refused(reason)) => {
                view.is_there(address);
                view.has_failed(&format!("it refuses this worker: {reason}"));
                operator::registration_refused(refused, &self.registration, &reason);
            }
            Err(
                error @ (MasterError::Unreachable(_)
                | MasterError::Lost(_)
                | MasterError::Deadline(_)
                | MasterError::Unacceptable(_)
                | MasterError::Source(_)),
            ) => view.is_away(address, &error),
        }
        false
    }
}

/// Resolves when the master has another address than `address`, and the registration that began at `began` has had [`PACE`] to
/// end.
async fn overtaken(view: &MasterView, address: &MasterAddress, began: Instant) {
    let mut now = view.address.subscribe();
    // The sender lives as long as the view.
    let _ = now.wait_for(|now| now != address).await;
    sleep_until(began + PACE).await;
}

#[cfg(test)]
mod tests;
