//! The registration with the master: at once at the start, again after every reconnect, at a new address, and when the master
//! has forgotten us; with backoff for as long as it takes. Keeps the master's address, durably.

use std::{sync::Arc, time::Duration};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, SpawnHandle,
    WrapFuture,
};
use log::warn;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{engine_watch::EngineView, journal::Records};
use crate::{
    domain::{backoff::Backoff, record::Change},
    failpoint,
    ports::{
        master::{Master, MasterAddress, MasterError, Registration},
        worker::MoveError,
    },
    telemetry::{operator, voice::Outage},
};

/// Between two tries to register. A master that comes back calls us itself, so the cap can be long.
const RETRY: Backoff = Backoff {
    first: Duration::from_millis(500),
    cap: Duration::from_secs(15),
    jitter: 0.2,
};

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
}

/// Who the master is and whether it knows us; kept beside the actor.
#[derive(Debug)]
pub struct MasterView {
    address: watch::Sender<MasterAddress>,
    registered: watch::Sender<bool>,
}

impl MasterView {
    /// Begins at an address.
    #[must_use]
    pub fn new(address: MasterAddress) -> Self {
        Self {
            address: watch::Sender::new(address),
            registered: watch::Sender::new(false),
        }
    }

    /// Where the master is now.
    #[must_use]
    pub fn address(&self) -> MasterAddress {
        self.address.borrow().clone()
    }

    /// What a registration or a heartbeat came to.
    pub(super) fn note(&self, registered: bool) {
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
    registering: Option<SpawnHandle>,
}

impl SessionActor {
    /// Registers `registration` with the master of `peers`. `configured` is the `-master` value in force.
    #[must_use]
    pub fn new(
        peers: SessionPeers,
        registration: Registration,
        (configured, pin): (MasterAddress, Pin),
    ) -> Self {
        Self {
            peers,
            registration,
            configured,
            pin,
            registering: None,
        }
    }

    /// Begins anew: an attempt that is waiting or under way is for an older wish.
    fn register(&mut self, ctx: &mut Context<Self>) {
        if let Some(earlier) = self.registering.take() {
            ctx.cancel_future(earlier);
        }
        let attempts = Attempts {
            peers: self.peers.clone(),
            registration: self.registration.clone(),
        };
        let handle = ctx.spawn(async move { attempts.run().await }.into_actor(self).map(
            |(), actor, _| {
                failpoint!("session.registered");
                actor.registering = None;
            },
        ));
        self.registering = Some(handle);
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
        if self.registering.is_none() {
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
        if moved && self.pin == Pin::Pinned {
            warn!(address = address.0; "a master asked to move this worker, which is pinned");
            return Box::pin(async { Err(MoveError::Pinned) }.into_actor(self));
        }
        if moved {
            operator::master_moved(&before, &address);
            self.peers.view.address.send_replace(address.clone());
            self.remember(address, ctx);
        }
        // Takes effect at once, also for a registration that waits out its backoff.
        self.register(ctx);
        Box::pin(async { Ok(()) }.into_actor(self))
    }
}

impl SessionActor {
    /// Makes the address durable; the answer to the master does not wait for it.
    fn remember(&self, address: MasterAddress, ctx: &mut Context<Self>) {
        let records = self.peers.records.clone();
        let settings = vec![
            Change::Set {
                key: LEARNT_ADDRESS.into(),
                value: address.0,
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
        ctx.spawn(keep.into_actor(self));
    }
}

struct Attempts {
    peers: SessionPeers,
    registration: Registration,
}

impl Attempts {
    /// Until it is accepted. What went wrong is said when it changes, not at every try.
    async fn run(&self) {
        let SessionPeers {
            master,
            view,
            engine,
            ..
        } = &self.peers;
        view.note(false);
        // A second worker of our name would take the first one's place with the master, and then end.
        let _ = timeout(FIRST_LOOK, engine.looked()).await;
        let mut attempt = 0;
        let (mut refused, mut away) = (Outage::default(), Outage::default());
        loop {
            failpoint!("session.register");
            let address = view.address();
            match master.register(&address, self.registration.clone()).await {
                Ok(()) => {
                    operator::registered(&address, &self.registration);
                    view.note(true);
                    return;
                }
                Err(MasterError::NotRegistered(reason) | MasterError::Refused(reason)) => {
                    operator::registration_refused(&mut refused, &self.registration, &reason);
                }
                Err(
                    error @ (MasterError::Unreachable(_)
                    | MasterError::Lost(_)
                    | MasterError::Deadline(_)
                    | MasterError::Unacceptable(_)
                    | MasterError::Source(_)),
                ) => operator::master_away(&mut away, &address, &error),
            }
            sleep(RETRY.delay(attempt, fastrand::f64())).await;
            attempt += 1;
        }
    }
}
