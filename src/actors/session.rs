//! The registration with the master: at once at the start, again after every reconnect, at a new address, and when the master
//! has forgotten us; with backoff for as long as it takes. Keeps the master's address, durably. A wish for what is under way
//! is that one, and there is at most one registration a second, however many wishes come.

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

/// Between two tries to register. A master that comes back calls us itself, so the cap can be long.
const RETRY: Backoff = Backoff {
    first: Duration::from_millis(500),
    cap: Duration::from_secs(15),
    jitter: 0.2,
};

/// Between the beginnings of two registrations, so that nobody makes us flood a master. One that has been overtaken by a wish
/// for another address has as much time to end.
const PACE: Duration = Duration::from_secs(1);

/// An engine that takes connections and says nothing holds the registration up for no longer than this.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// The setting that holds the address learnt from a master.
pub const LEARNT_ADDRESS: &str = "master.address";

/// The setting that holds the `-master` value that was in force when the address was learnt: it wins only while that is the
/// same.
pub const LEARNT_UNDER: &str = "master.configured";

/// The master is at an address, or (`None`) where it was. Registers there at once.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), MoveError>")]
pub struct MasterIsAt(pub Option<MasterAddress>);

/// The master does not know us, or has come back: register again.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub struct RegisterAgain;

/// Whether a master may move us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pin {
    /// It may.
    Free,
    /// Only to where it is (`--pin-master`).
    Pinned,
    /// The same: whoever says so has shown nobody who he is.
    Unproven,
}

/// Who the master is and whether it knows us; kept beside the actor.
#[derive(Debug)]
pub struct MasterView {
    address: watch::Sender<MasterAddress>,
    registered: watch::Sender<bool>,
    /// Whoever calls the master finds out that it is away; it is said once.
    away: Mutex<Trouble>,
    contact: Mutex<Contact>,
}

/// What has come of the calls to the master, and when.
#[derive(Debug, Clone, Default)]
pub struct Contact {
    /// It has known us since then.
    pub registered_since: Option<Instant>,
    /// The last heartbeat that it took, and how long its answer took.
    pub beat: Option<(Instant, Duration)>,
    /// Since when calls come to nothing, and why the last one did.
    pub failure: Option<(Instant, String)>,
}

impl MasterView {
    /// Begins at an address.
    #[must_use]
    pub fn new(address: MasterAddress) -> Self {
        Self {
            address: watch::Sender::new(address),
            registered: watch::Sender::new(false),
            away: Mutex::default(),
            contact: Mutex::default(),
        }
    }

    /// What has come of the calls to it.
    #[must_use]
    pub fn contact(&self) -> Contact {
        self.contacted().clone()
    }

    fn contacted(&self) -> MutexGuard<'_, Contact> {
        self.contact.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It could not be reached, or refuses us.
    fn has_failed(&self, reason: &dyn Display) {
        let mut contact = self.contacted();
        let since = contact.failure.take().map(|(since, _)| since);
        contact.failure = Some((since.unwrap_or_else(Instant::now), reason.to_string()));
    }

    /// It took a heartbeat after so long.
    pub(super) fn has_beaten(&self, took: Duration) {
        let mut contact = self.contacted();
        contact.beat = Some((Instant::now(), took));
        contact.failure = None;
    }

    /// It could not be reached there.
    pub(super) fn is_away(&self, address: &MasterAddress, reason: &dyn Display) {
        self.has_failed(reason);
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        operator::master_away(&mut away, address, reason);
    }

    /// It answered there, whatever it said.
    pub(super) fn is_there(&self, address: &MasterAddress) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        operator::master_back(&mut away, address);
    }

    /// Where the master is now.
    #[must_use]
    pub fn address(&self) -> MasterAddress {
        self.address.borrow().clone()
    }

    /// Where it is, now and later.
    #[must_use]
    pub fn addresses(&self) -> watch::Receiver<MasterAddress> {
        self.address.subscribe()
    }

    /// What a registration or a heartbeat came to.
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

    /// Whether the master registered us, and has taken our heartbeats since.
    #[must_use]
    pub fn registered(&self) -> watch::Receiver<bool> {
        self.registered.subscribe()
    }
}

/// Whom the session works with.
#[derive(Clone)]
pub struct SessionPeers {
    /// Whom we register with.
    pub master: Arc<dyn Master>,
    /// Where it is.
    pub view: Arc<MasterView>,
    /// Whether our name is ours.
    pub engine: Arc<EngineView>,
    /// What is durable.
    pub records: Records,
}

/// See the module.
pub struct SessionActor {
    peers: SessionPeers,
    registration: Registration,
    configured: MasterAddress,
    pin: Pin,
    /// Counts what was asked for.
    wishes: watch::Sender<u64>,
    registering: bool,
    /// The address that was last said and used, and when a registration last began.
    last: Last,
    /// An address is on its way to the journal.
    keeping: bool,
}

/// What one run of registrations leaves to the next.
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

    /// What is under way takes the wish up; else it begins.
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
        // Takes effect at once, also for a registration that waits out its backoff.
        self.register(ctx);
        Box::pin(async { Ok(()) }.into_actor(self))
    }
}

impl SessionActor {
    /// Makes the address durable; the answer to the master does not wait for it. One at a time, and the newest in the end.
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
    /// Until it is accepted where the master is. What went wrong is said when it changes, not at every try.
    async fn run(mut self) -> Last {
        // A second worker of our name would take the first one's place with the master, and then end.
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

    /// Every wish until now is served by this registration.
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

    /// Whether this is the end of it.
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

/// Resolves when the master is elsewhere, and a registration that began at `began` has had its time.
async fn overtaken(view: &MasterView, address: &MasterAddress, began: Instant) {
    let mut now = view.address.subscribe();
    // The sender lives as long as the view.
    let _ = now.wait_for(|now| now != address).await;
    sleep_until(began + PACE).await;
}

#[cfg(test)]
mod tests;
