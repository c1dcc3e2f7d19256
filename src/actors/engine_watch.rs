//! The connection to the engine: whether it is there, and which of its containers are this worker's. A listing every few seconds
//! is the truth; the engine's events are hints about ends. Nothing else decides that the engine is away.

mod fitness;
mod trouble;
mod view;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix::{Actor, AsyncContext, Context, WrapFuture};
use log::debug;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_stream::StreamExt as _;

pub use self::{
    fitness::{Fitness, Trier, Unfit},
    trouble::ride_out,
    view::{EndSeen, EngineStatus, EngineView, Listing},
};

use crate::{
    domain::id::{ContainerId, WorkerId},
    failpoint,
    ports::engine::{ContainerEngine, EngineError, EngineInfo, Events, Listed},
    telemetry::{operator, voice::Outage},
};

/// Between two listings while the engine is there.
const RELIST: Duration = Duration::from_secs(5);

/// Between two tries to connect while the engine is away.
const RETRY: Duration = Duration::from_secs(1);

/// Between two trials of an engine that lacks something that tasks need.
const TRY_AGAIN: Duration = Duration::from_secs(15);

/// Checks on every new connection, and after every listing, that the engine is the one with this worker's containers, and locks
/// it under this worker's id. An implementation that refuses has told the operator why.
pub type ClaimEngine = Arc<dyn Fn(&EngineInfo) -> Result<(), Unclaimed> + Send + Sync>;

/// Why an engine that answers must not be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unclaimed {
    /// Another worker of this id uses it: this process ends.
    Taken,
    /// It is not the engine with this worker's containers; the reason, for `status`.
    Another(String),
}

/// The actor that watches the engine. See the module.
pub struct EngineWatchActor {
    engine: Arc<dyn ContainerEngine>,
    worker: WorkerId,
    view: Arc<EngineView>,
    claim: ClaimEngine,
    trier: Trier,
}

impl EngineWatchActor {
    /// Watches `engine` for this worker's containers and shows what it sees in `view`.
    #[must_use]
    pub fn new(
        engine: Arc<dyn ContainerEngine>,
        worker: WorkerId,
        view: Arc<EngineView>,
        claim: ClaimEngine,
        trier: Trier,
    ) -> Self {
        Self {
            engine,
            worker,
            view,
            claim,
            trier,
        }
    }
}

impl Actor for EngineWatchActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        failpoint!("engine_watch.started");
        let watcher = Watcher {
            engine: Arc::clone(&self.engine),
            worker: self.worker.clone(),
            view: Arc::clone(&self.view),
            claim: Arc::clone(&self.claim),
            trier: self.trier.clone(),
            outage: Mutex::default(),
        };
        ctx.spawn(async move { watcher.run().await }.into_actor(self));
    }
}

crate::answers_pings!(EngineWatchActor);

/// Why there is no usable connection.
enum NotOurs {
    /// The engine does not answer, or another one answers in its place.
    Away(String),
    /// The engine answers, and another worker of this id uses it.
    Claimed,
}

struct Watcher {
    engine: Arc<dyn ContainerEngine>,
    worker: WorkerId,
    view: Arc<EngineView>,
    claim: ClaimEngine,
    trier: Trier,
    outage: Mutex<Outage>,
}

impl Watcher {
    async fn run(&self) {
        loop {
            match self.connect().await {
                Ok(info) => {
                    if let Err(lost) = self.stay(&info).await {
                        self.away(lost.to_string());
                    } else {
                        // Another engine may have taken its place: identify it before its listings are believed.
                        continue;
                    }
                }
                Err(NotOurs::Away(why)) => self.away(why),
                // The operator has been told, and the process is about to end: until then the view stays as it is.
                Err(NotOurs::Claimed) => {}
            }
            sleep(RETRY).await;
        }
    }

    async fn connect(&self) -> Result<EngineInfo, NotOurs> {
        failpoint!("engine_watch.connect");
        let info = self.identify().await?;
        // Publish this before the trial, which may take seconds on a busy engine and does not concern the worker's id.
        self.view.looked.send_replace(true);
        let fitness = self.trier.try_out(&*self.engine).await;
        self.view
            .tried(fitness.map_err(|error| NotOurs::Away(error.to_string()))?);
        Ok(info)
    }

    /// Tries an engine again that lacked something at its last trial.
    async fn try_again(&self, tried: &mut Instant) {
        if self.view.lack().is_none() || tried.elapsed() < TRY_AGAIN {
            return;
        }
        // If the trial fails, the next listing tells why.
        if let Ok(fitness) = self.trier.try_out(&*self.engine).await {
            self.view.tried(fitness);
        }
        *tried = Instant::now();
    }

    /// Asks the engine who it is, and claims it.
    async fn identify(&self) -> Result<EngineInfo, NotOurs> {
        let info = self.engine.info().await;
        let info = info.map_err(|error| NotOurs::Away(error.to_string()))?;
        (self.claim)(&info).map_err(|unclaimed| match unclaimed {
            Unclaimed::Taken => NotOurs::Claimed,
            Unclaimed::Another(why) => NotOurs::Away(why),
        })?;
        Ok(info)
    }

    /// Whether the listing just made is of this worker's engine. An engine that is too slow to say who it is has listed all the
    /// same, and is believed.
    async fn is_still_ours(&self) -> bool {
        let info = self.engine.info().await;
        info.is_err() || info.is_ok_and(|info| (self.claim)(&info).is_ok())
    }

    /// Lists until a listing fails, which is the error, or until the engine has hung up or was replaced.
    async fn stay(&self, info: &EngineInfo) -> Result<(), EngineError> {
        let mut ear = Ear::default();
        let mut tried = Instant::now();
        let lost = loop {
            match self.engine.list(&self.worker).await {
                Ok(containers) => {
                    failpoint!("engine_watch.listed");
                    if !self.is_still_ours().await {
                        break Ok(());
                    }
                    if ear.is_deaf(&containers) {
                        debug!(
                            "the engine's events do not tell what its listings show; they are asked for anew"
                        );
                        self.listen_to(None, &mut ear);
                    }
                    self.here(info, containers);
                    self.view.troubles_over();
                    self.try_again(&mut tried).await;
                }
                Err(error) => break Err(error),
            }
            let until = Instant::now() + RELIST;
            if ear.events.is_none() {
                let events = self.engine.events(&self.worker).await;
                self.listen_to(events.ok(), &mut ear);
            }
            if self.listen(&mut ear, until).await == Heard::Break {
                break Ok(());
            }
        };
        self.listen_to(None, &mut ear);
        lost
    }

    fn listen_to(&self, events: Option<Events>, ear: &mut Ear) {
        self.view.hearing.send_replace(events.is_some());
        ear.events = events;
    }

    /// Takes events until it is time for a listing, or until their stream breaks.
    async fn listen(&self, ear: &mut Ear, until: Instant) -> Heard {
        while let Some(events) = &mut ear.events {
            match timeout_at(until, events.next()).await {
                Ok(Some(Ok(event))) => {
                    ear.heard = true;
                    self.view.note(&event);
                }
                // Find out at once whether the engine is still there.
                Ok(Some(Err(_)) | None) => {
                    self.listen_to(None, ear);
                    sleep(RETRY / 4).await;
                    return Heard::Break;
                }
                Err(_) => return Heard::Hints,
            }
        }
        sleep(RELIST).await;
        Heard::Hints
    }

    fn outage(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn here(&self, info: &EngineInfo, containers: Vec<Listed>) {
        self.view.show(info, containers);
        self.view.status.send_if_modified(|status| {
            if matches!(status, EngineStatus::Here(before) if before == info) {
                return false;
            }
            let address = self.engine.address();
            operator::engine_back(&mut self.outage(), &address, &info.version);
            log::info!(address, version = info.version, api = info.api_version, local = info.local; "container engine connected");
            *status = EngineStatus::Here(info.clone());
            true
        });
    }

    fn away(&self, why: String) {
        self.view.looked.send_replace(true);
        self.view.status.send_if_modified(|status| match status {
            // Logged once; the last reason is kept for `status`.
            EngineStatus::Away { why: before, .. } => {
                *before = why;
                false
            }
            EngineStatus::Unknown | EngineStatus::Here(_) => {
                operator::engine_away(&mut self.outage(), &self.engine.address(), &why);
                self.view.went_away();
                *status = EngineStatus::Away {
                    since: Instant::now(),
                    why,
                };
                true
            }
        });
    }
}

/// How a time of listening ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// It is time for a listing.
    Hints,
    /// The stream broke: the engine hung up.
    Break,
}

/// The stream of events, and whether it can be trusted: a connection may be dead without any error.
#[derive(Default)]
struct Ear {
    events: Option<Events>,
    /// Whether an event has come since the last listing.
    heard: bool,
    listed: Vec<(ContainerId, bool)>,
}

impl Ear {
    /// Whether the listing has changed since the last one, although no event has come.
    fn is_deaf(&mut self, containers: &[Listed]) -> bool {
        let mut listed: Vec<_> = containers
            .iter()
            .map(|listed| (listed.id.clone(), listed.running))
            .collect();
        listed.sort_unstable();
        let has_changed = std::mem::replace(&mut self.listed, listed) != self.listed;
        let has_heard = std::mem::replace(&mut self.heard, false);
        self.events.is_some() && has_changed && !has_heard
    }
}
