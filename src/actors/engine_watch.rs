//! The connection to the engine: says whether it is there and what it holds of ours. A listing every few seconds is the
//! truth; the engine's events are hints that bring the next listing forward. Nobody else decides that the engine is away.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix::{Actor, AsyncContext, Context, WrapFuture};
use log::warn;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};
use tokio_stream::StreamExt as _;

use crate::{
    domain::id::{ContainerId, WorkerId},
    failpoint,
    ports::engine::{ContainerEngine, EngineError, EngineEvent, EngineInfo, Listed},
    telemetry::{operator, voice::Outage},
};

/// Between two listings while the engine is there.
const RELIST: Duration = Duration::from_secs(5);

/// Between two tries while it is away.
const RETRY: Duration = Duration::from_secs(1);

/// Containers whose foreign signals are remembered at most.
const HINTS: usize = 4_096;

/// Whether the engine is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum EngineStatus {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// It does not answer.
    Away {
        /// Since when.
        since: Instant,
        /// Why, in the words of the last try.
        why: String,
    },
    /// It answers.
    Here(EngineInfo),
}

/// What the engine holds of this worker's, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Counts listings from 1; 0 is none yet.
    pub number: u64,
    /// All of them, whatever their state.
    pub containers: Arc<Vec<Listed>>,
}

/// What everybody may look at without asking: kept beside the actor, so that its restart changes nothing.
#[derive(Debug)]
pub struct EngineView {
    status: watch::Sender<EngineStatus>,
    listing: watch::Sender<Listing>,
    /// The first look is over, and this worker may go by its name.
    looked: watch::Sender<bool>,
    signals: Mutex<HashMap<ContainerId, String>>,
}

impl Default for EngineView {
    fn default() -> Self {
        Self {
            status: watch::Sender::new(EngineStatus::Unknown),
            listing: watch::Sender::new(Listing::default()),
            looked: watch::Sender::new(false),
            signals: Mutex::default(),
        }
    }
}

impl EngineView {
    /// Whether it is there, now and later.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<EngineStatus> {
        self.status.subscribe()
    }

    /// What it holds, now and later.
    #[must_use]
    pub fn listing(&self) -> watch::Receiver<Listing> {
        self.listing.subscribe()
    }

    /// Waits until the engine answers.
    pub async fn here(&self) -> EngineInfo {
        let mut status = self.status.subscribe();
        loop {
            if let EngineStatus::Here(info) = &*status.borrow_and_update() {
                return info.clone();
            }
            if status.changed().await.is_err() {
                // The sender lives as long as `self`.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until it is known that no other worker of this name uses the engine, or that the engine is away. Never returns
    /// where there is another: then this process ends.
    pub async fn looked(&self) {
        // The sender lives as long as `self`.
        let _ = self.looked.subscribe().wait_for(|looked| *looked).await;
    }

    /// The signal that somebody sent to a container, as far as the engine's events told.
    #[must_use]
    pub fn signal_seen(&self, container: &ContainerId) -> Option<String> {
        self.signals().get(container).cloned()
    }

    fn signals(&self) -> MutexGuard<'_, HashMap<ContainerId, String>> {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, event: &EngineEvent) {
        let mut signals = self.signals();
        match event.action.as_str() {
            "kill" if signals.len() < HINTS => {
                signals.insert(event.container.clone(), event.action.clone());
            }
            "destroy" => {
                signals.remove(&event.container);
            }
            _ => {}
        }
    }
}

/// Takes the lock on this engine under this worker's id, on every new connection; an error is for the operator.
pub type ClaimEngine = Arc<dyn Fn(&EngineInfo) -> Result<(), String> + Send + Sync>;

/// See the module.
pub struct EngineWatchActor {
    engine: Arc<dyn ContainerEngine>,
    worker: WorkerId,
    view: Arc<EngineView>,
    claim: ClaimEngine,
}

impl EngineWatchActor {
    /// Watches `engine` for this worker's containers and shows what it sees in `view`.
    #[must_use]
    pub fn new(
        engine: Arc<dyn ContainerEngine>,
        worker: WorkerId,
        view: Arc<EngineView>,
        claim: ClaimEngine,
    ) -> Self {
        Self {
            engine,
            worker,
            view,
            claim,
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
            outage: Mutex::default(),
        };
        ctx.spawn(async move { watcher.run().await }.into_actor(self));
    }
}

crate::answers_pings!(EngineWatchActor);

/// Why there is no connection to work with.
enum NotOurs {
    /// The engine does not answer.
    Away(EngineError),
    /// It does, and another worker of this name has it.
    Claimed,
}

struct Watcher {
    engine: Arc<dyn ContainerEngine>,
    worker: WorkerId,
    view: Arc<EngineView>,
    claim: ClaimEngine,
    outage: Mutex<Outage>,
}

impl Watcher {
    async fn run(&self) {
        loop {
            match self.connect().await {
                Ok(info) => {
                    let lost = self.stay(&info).await;
                    self.away(lost.to_string());
                }
                Err(NotOurs::Away(error)) => self.away(error.to_string()),
                // The operator has been told, and the process is about to end: until then nobody is told anything else.
                Err(NotOurs::Claimed) => {}
            }
            sleep(RETRY).await;
        }
    }

    async fn connect(&self) -> Result<EngineInfo, NotOurs> {
        failpoint!("engine_watch.connect");
        let info = self.engine.info().await.map_err(NotOurs::Away)?;
        (self.claim)(&info).map_err(|_| NotOurs::Claimed)?;
        self.view.looked.send_replace(true);
        Ok(info)
    }

    /// Lists until that fails, and says why it did.
    async fn stay(&self, info: &EngineInfo) -> EngineError {
        let mut events = None;
        loop {
            if events.is_none() {
                events = self.engine.events(&self.worker).await.ok();
            }
            match self.engine.list(&self.worker).await {
                Ok(containers) => {
                    failpoint!("engine_watch.listed");
                    self.here(info, containers);
                }
                Err(error) => return error,
            }
            let until = Instant::now() + RELIST;
            loop {
                let Some(stream) = &mut events else {
                    sleep(RELIST).await;
                    break;
                };
                match timeout_at(until, stream.next()).await {
                    Ok(Some(Ok(event))) => self.view.note(&event),
                    // The stream broke: look at once whether the engine is still there.
                    Ok(Some(Err(_)) | None) => {
                        events = None;
                        sleep(RETRY / 4).await;
                        break;
                    }
                    Err(_) => break,
                }
            }
        }
    }

    fn outage(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn here(&self, info: &EngineInfo, containers: Vec<Listed>) {
        self.view.listing.send_modify(|listing| {
            listing.number += 1;
            listing.containers = Arc::new(containers);
        });
        self.view.status.send_if_modified(|status| {
            if matches!(status, EngineStatus::Here(before) if before == info) {
                return false;
            }
            operator::engine_back(&mut self.outage(), &info.version);
            log::info!(version = info.version, api = info.api_version, local = info.local; "container engine connected");
            *status = EngineStatus::Here(info.clone());
            true
        });
    }

    fn away(&self, why: String) {
        self.view.looked.send_replace(true);
        self.view.status.send_if_modified(|status| match status {
            // Said once; the reason of the last try is kept for whoever looks.
            EngineStatus::Away { why: before, .. } => {
                *before = why;
                false
            }
            EngineStatus::Unknown | EngineStatus::Here(_) => {
                operator::engine_away(&mut self.outage(), &why);
                *status = EngineStatus::Away {
                    since: Instant::now(),
                    why,
                };
                true
            }
        });
    }
}

/// Waits out an answer of the engine that leaves it unknown what happened: until it is there again, at least a moment.
pub async fn ride_out(view: &EngineView, error: &EngineError) {
    warn!(error:%; "the engine's answer is missing; asking again");
    sleep(RETRY / 2).await;
    view.here().await;
}
