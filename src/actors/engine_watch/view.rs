//! The board about the engine, which everybody can look at without asking: whether it is there, which containers of this worker
//! it has, and what its events told of ends. Kept beside the actor, so that a restart of it changes nothing.

use std::{
    collections::{HashMap, VecDeque},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ipnet::IpNet;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{fitness::Fitness, trouble::Troubles};
use crate::{
    domain::id::ContainerId,
    ports::engine::{EngineEvent, EngineInfo, Listed, ToldEnd},
};

/// Most containers whose ends are remembered: many times what runs at once. Ends of further ones are not.
const ENDS: usize = 4_096;

/// Most outages of the engine that are remembered: a reader of a log that falls behind by more misses a marker.
const OUTAGES: usize = 64;

/// How long the end of a removed container is remembered.
const KEEP: Duration = Duration::from_secs(60);

/// How long to wait for the event of an end after the engine has answered the wait for it: both leave at the same moment, on
/// connections of their own.
const SEE: Duration = Duration::from_secs(1);

/// How long to wait for the event of a lack of memory after an end. Docker 20.10 sent it up to 0.42 s late on a busy machine.
const LATE: Duration = Duration::from_secs(3);

/// Whether the engine is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum EngineStatus {
    /// The engine was not looked at yet.
    #[default]
    Unknown,
    /// The engine does not answer.
    Away {
        /// When it was found away.
        since: Instant,
        /// The error of the last try.
        why: String,
    },
    /// The engine answers.
    Here(EngineInfo),
}

/// This worker's containers on the engine, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Counts the listings from 1; 0 before the first.
    pub number: u64,
    /// All of this worker's containers, whatever their state.
    pub containers: Arc<Vec<Listed>>,
}

/// What the engine's events told of a container's end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EndSeen {
    /// Signals and a lack of memory, as far as they were told.
    pub told: ToldEnd,
    /// Whether the end itself was told.
    pub died: bool,
}

/// The board about the engine. See the module.
#[derive(Debug)]
pub struct EngineView {
    pub(super) status: watch::Sender<EngineStatus>,
    pub(super) listing: watch::Sender<Listing>,
    /// True once no other worker of this id is known to use the engine, or the engine is away.
    pub(super) looked: watch::Sender<bool>,
    /// Whether events are being received.
    pub(super) hearing: watch::Sender<bool>,
    /// Rings when an end was told.
    told: watch::Sender<()>,
    ends: Mutex<HashMap<ContainerId, (EndSeen, Instant)>>,
    live_restore: AtomicBool,
    /// When the engine went away each time, the latest last.
    outages: Mutex<VecDeque<Instant>>,
    fitness: watch::Sender<Option<Fitness>>,
    networks: watch::Sender<Vec<IpNet>>,
    troubles: Mutex<Troubles>,
}

impl Default for EngineView {
    fn default() -> Self {
        Self {
            status: watch::Sender::new(EngineStatus::Unknown),
            listing: watch::Sender::new(Listing::default()),
            looked: watch::Sender::new(false),
            hearing: watch::Sender::new(false),
            told: watch::Sender::new(()),
            ends: Mutex::default(),
            live_restore: AtomicBool::new(false),
            outages: Mutex::default(),
            fitness: watch::Sender::new(None),
            networks: watch::Sender::default(),
            troubles: Mutex::default(),
        }
    }
}

impl EngineView {
    /// A view of an engine that is there.
    #[cfg(test)]
    pub(crate) fn of(info: EngineInfo) -> Self {
        let view = Self::default();
        view.status.send_replace(EngineStatus::Here(info));
        view
    }

    /// Whether the engine is there, now and later.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<EngineStatus> {
        self.status.subscribe()
    }

    /// The latest listing, now and later.
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

    /// Waits until the engine has been away and is there again. Connections from before may be dead without any error.
    pub async fn returned(&self) {
        let mut status = self.status.subscribe();
        // The sender lives as long as `self`.
        let _ = status
            .wait_for(|status| matches!(status, EngineStatus::Away { .. }))
            .await;
        self.here().await;
    }

    /// The result of the last trial of the engine; waits for the first one.
    pub async fn fitness(&self) -> Fitness {
        let mut fitness = self.fitness.subscribe();
        let known = fitness.wait_for(Option::is_some).await;
        match known.ok().and_then(|known| known.clone()) {
            Some(fitness) => fitness,
            // The sender lives as long as `self`.
            None => std::future::pending().await,
        }
    }

    /// Why no task could run now, with what to do about it; `None` where the last trial found nothing.
    #[must_use]
    pub fn lack(&self) -> Option<String> {
        self.fitness.borrow().as_ref()?.lack.clone()
    }

    /// The folder in which the engine keeps its data; `None` where that is not on this machine, or the engine is away.
    #[must_use]
    pub fn data_root(&self) -> Option<PathBuf> {
        match &*self.status.borrow() {
            EngineStatus::Here(info) => info.data_root.clone(),
            EngineStatus::Unknown | EngineStatus::Away { .. } => None,
        }
    }

    /// Notes that the engine went away just now.
    pub(crate) fn went_away(&self) {
        let mut outages = self.outages.lock().unwrap_or_else(PoisonError::into_inner);
        if outages.len() == OUTAGES {
            outages.pop_front();
        }
        outages.push_back(Instant::now());
    }

    /// When the engine went away after `moment`, each time, the latest last. Of more than [`OUTAGES`] the oldest are forgotten.
    #[must_use]
    pub fn outages_after(&self, moment: Instant) -> Vec<Instant> {
        let outages = self.outages.lock().unwrap_or_else(PoisonError::into_inner);
        let after = outages.iter().copied().filter(|away| *away > moment);
        after.collect()
    }

    /// The networks of this machine that tasks' containers are in, as the last trial found them.
    #[must_use]
    pub fn networks(&self) -> watch::Receiver<Vec<IpNet>> {
        self.networks.subscribe()
    }

    /// Publishes the result of a trial, and logs what has changed.
    pub(super) fn tried(&self, fitness: Fitness) {
        if let Some(networks) = &fitness.networks {
            self.networks.send_replace(networks.clone());
        }
        self.fitness.send_if_modified(|known| {
            let news = known.as_ref() != Some(&fitness);
            if news {
                fitness.say(known.as_ref());
                *known = Some(fitness);
            }
            news
        });
    }

    pub(super) fn troubles(&self) -> MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no other worker of this id is known to use the engine, or the engine is away. If there is another one it waits
    /// for ever: the process ends.
    pub async fn looked(&self) {
        // The sender lives as long as `self`.
        let _ = self.looked.subscribe().wait_for(|looked| *looked).await;
    }

    /// Waits for a listing in which the container does not run. It stands beside a wait for the container's end, which is never
    /// answered where its connection is dead without any error.
    pub async fn listed_ended(&self, container: &ContainerId) {
        let mut listing = self.listing.subscribe();
        listing.mark_unchanged();
        // The sender lives as long as `self`.
        while listing.changed().await.is_ok() {
            let runs = |listed: &Listed| listed.id == *container && listed.running;
            if !listing.borrow_and_update().containers.iter().any(runs) {
                return;
            }
        }
    }

    /// Whether containers run on while this engine is stopped, as far as it has told.
    #[must_use]
    pub fn live_restore(&self) -> bool {
        self.live_restore.load(Ordering::Relaxed)
    }

    /// What the events told of the end of a container that has ended, after a second at most. Without `died`, the stream of
    /// events was broken.
    pub async fn end_seen(&self, container: &ContainerId) -> EndSeen {
        self.seen(container, SEE, |end| end.died).await
    }

    /// Whether the events tell of a lack of memory in a container that was killed; waits for them up to 3 s, since they may come
    /// after its end.
    pub async fn out_of_memory(&self, container: &ContainerId) -> bool {
        let is_told = |end: &EndSeen| end.told.out_of_memory;
        is_told(&self.seen(container, LATE, is_told).await)
    }

    /// What is known of an end: once that is enough, or after `within`, or when no events are being received.
    async fn seen(
        &self,
        container: &ContainerId,
        within: Duration,
        is_enough: impl Fn(&EndSeen) -> bool,
    ) -> EndSeen {
        let (mut told, mut hearing) = (self.told.subscribe(), self.hearing.subscribe());
        let seen = async {
            while *hearing.borrow_and_update() && !is_enough(&self.end(container)) {
                tokio::select! {
                    biased;
                    _ = told.changed() => {}
                    _ = hearing.changed() => {}
                }
            }
        };
        // A timeout is fine: what is known then is all there will be.
        let _ = timeout(within, seen).await;
        self.end(container)
    }

    fn end(&self, container: &ContainerId) -> EndSeen {
        let ends = self.ends();
        ends.get(container)
            .map(|(seen, _)| seen.clone())
            .unwrap_or_default()
    }

    fn ends(&self) -> MutexGuard<'_, HashMap<ContainerId, (EndSeen, Instant)>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, event: &EngineEvent) {
        let action = event.action.as_str();
        if !["kill", "oom", "die"].contains(&action) {
            return;
        }
        let mut ends = self.ends();
        if ends.len() >= ENDS && !ends.contains_key(&event.container) {
            return;
        }
        let (seen, at) = ends
            .entry(event.container.clone())
            .or_insert_with(|| (EndSeen::default(), Instant::now()));
        *at = Instant::now();
        match action {
            "oom" => seen.told.out_of_memory = true,
            "die" => seen.died = true,
            _ if seen.told.signals.len() < 16 => seen.told.signals.extend(event.signal),
            _ => {}
        }
        drop(ends);
        self.told.send_replace(());
    }

    pub(super) fn show(&self, info: &EngineInfo, containers: Vec<Listed>) {
        self.live_restore
            .store(info.live_restore, Ordering::Relaxed);
        self.ends().retain(|id, (_, at)| {
            at.elapsed() < KEEP || containers.iter().any(|listed| listed.id == *id)
        });
        self.listing.send_modify(|listing| {
            listing.number += 1;
            listing.containers = Arc::new(containers);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str, signal: Option<i64>) -> EngineEvent {
        EngineEvent {
            container: ContainerId("c".into()),
            action: action.into(),
            signal,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lack_of_memory_may_be_told_after_the_end() {
        let (view, container) = (EngineView::default(), ContainerId("c".into()));
        view.hearing.send_replace(true);
        view.note(&event("die", None));
        assert!(view.end_seen(&container).await.died);

        let told = async { view.note(&event("oom", None)) };
        let (is_told, ()) = tokio::join!(view.out_of_memory(&container), told);

        assert!(is_told);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_told_is_waited_for_a_while_and_not_at_all_where_nothing_is_heard() {
        let (view, container) = (EngineView::default(), ContainerId("c".into()));
        view.note(&event("kill", Some(9)));
        let begun = Instant::now();

        let unheard = view.end_seen(&container).await;
        assert_eq!((unheard.told.signals, unheard.died), (vec![9], false));
        assert!(!view.out_of_memory(&container).await);
        assert_eq!(begun.elapsed(), Duration::ZERO);

        view.hearing.send_replace(true);
        assert!(!view.out_of_memory(&container).await);
        assert_eq!(begun.elapsed(), LATE);
    }
}
