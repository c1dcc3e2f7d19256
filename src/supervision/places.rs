//! Where children run: an arbiter of their own, one of a shared pool, or the supervisor's.
//!
//! A place is an arbiter. One whose thread is blocked is abandoned: told to stop when its thread comes back, and counted until
//! then. Pool places are pinged as arbiters, and a marker tells which child's poll holds the thread. What becomes of the children
//! is decided elsewhere.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::{Arbiter, ArbiterHandle};
use tokio::{sync::mpsc::UnboundedSender, time::Instant};

use super::{
    incarnation::ChildKey, options::ArbiterFactory, ping::Signal, run_queue::RunQueue,
    spec::Placement,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PlaceId(u64);

/// The place of the supervisor's own arbiter.
const HOME: PlaceId = PlaceId(0);

/// The child whose poll runs on an arbiter now. Written by the watch, read by the supervisor.
#[derive(Default)]
pub(crate) struct Marker(AtomicU64);

impl Marker {
    /// Marks `key` until the guard is dropped. Polls on one arbiter do not nest, but a poll may drop another child's actor.
    pub(super) fn enter(&self, key: ChildKey) -> Marked<'_> {
        Marked {
            marker: self,
            previous: self.0.swap(key.0, Ordering::Relaxed),
        }
    }

    fn running(&self) -> Option<ChildKey> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            key => Some(ChildKey(key)),
        }
    }
}

pub(super) struct Marked<'a> {
    marker: &'a Marker,
    previous: u64,
}

impl Drop for Marked<'_> {
    fn drop(&mut self) {
        self.marker.0.store(self.previous, Ordering::Relaxed);
    }
}

struct Place {
    handle: ArbiterHandle,
    marker: Arc<Marker>,
    residents: usize,
    /// How long the place's thread has waited for a core.
    queue: RunQueue,
    /// The ping that it has not answered yet: when it was sent, and how long the thread had waited for a core until then.
    pinged: Option<(Instant, Duration)>,
}

impl Place {
    /// The age of its unanswered ping, less the time in which its thread waited for a core.
    fn silent_for(&self, now: Instant) -> Option<Duration> {
        let (at, waited) = self.pinged?;
        let waits = self.queue.waited().saturating_sub(waited);
        Some(now.duration_since(at).saturating_sub(waits))
    }
}

/// The part of a place that a launch needs.
pub(super) struct Site {
    pub(super) id: PlaceId,
    pub(super) handle: ArbiterHandle,
    pub(super) marker: Arc<Marker>,
}

/// All arbiters of one supervisor.
pub(super) struct Places {
    factory: ArbiterFactory,
    signals: UnboundedSender<Signal>,
    places: HashMap<PlaceId, Place>,
    pool: Vec<PlaceId>,
    pool_size: usize,
    abandoned: HashSet<PlaceId>,
    last: u64,
}

impl Places {
    /// Must run on the supervisor's arbiter.
    pub(super) fn new(
        factory: ArbiterFactory,
        pool_size: usize,
        signals: UnboundedSender<Signal>,
    ) -> Self {
        let home = Place {
            handle: Arbiter::current(),
            marker: Arc::default(),
            residents: 0,
            queue: RunQueue::default(),
            pinged: None,
        };
        home.queue.is_of_this_thread();
        Self {
            factory,
            signals,
            places: HashMap::from([(HOME, home)]),
            pool: Vec::new(),
            pool_size: pool_size.max(1),
            abandoned: HashSet::new(),
            last: HOME.0,
        }
    }

    /// Gives a child a place to run: its present one if that still runs, else another. Ended by [`leave`](Self::leave).
    pub(super) fn settle(
        &mut self,
        placement: Placement,
        present: Option<PlaceId>,
    ) -> io::Result<Site> {
        let kept = present.filter(|id| self.serves(*id));
        if let (Some(gone), None) = (present, kept) {
            self.leave(placement, gone);
        }
        let id = match (kept, placement) {
            (Some(id), _) => return Ok(self.site(id)),
            (None, Placement::OwnArbiter) => self.open()?,
            (None, Placement::Pool) => self.least_crowded()?,
            (None, Placement::SupervisorsArbiter) => HOME,
        };
        if let Some(place) = self.places.get_mut(&id) {
            place.residents += 1;
        }
        Ok(self.site(id))
    }

    /// Takes a child out of its place for good. An arbiter of its own is stopped.
    pub(super) fn leave(&mut self, placement: Placement, id: PlaceId) {
        let Some(place) = self.places.get_mut(&id) else {
            return;
        };
        place.residents = place.residents.saturating_sub(1);
        if placement == Placement::OwnArbiter {
            place.handle.stop();
            self.places.remove(&id);
        }
    }

    /// Gives a blocked arbiter up: it ends when its thread comes back, and no child is placed there any more. False for the
    /// supervisor's own arbiter, which cannot be blocked, since this code runs on it.
    pub(super) fn abandon(&mut self, id: PlaceId) -> bool {
        if id == HOME {
            return false;
        }
        if let Some(place) = self.places.remove(&id) {
            self.pool.retain(|pooled| *pooled != id);
            place.handle.stop();
            self.abandoned.insert(id);
        }
        true
    }

    pub(super) fn abandoned(&self) -> usize {
        self.abandoned.len()
    }

    pub(super) fn ended(&mut self, id: PlaceId) {
        self.abandoned.remove(&id);
        self.pool.retain(|pooled| *pooled != id);
        self.places.remove(&id);
    }

    /// Pings every pool arbiter that has answered its last ping; also an empty one, since a child that left may still hold its
    /// thread.
    pub(super) fn ping_pool(&mut self, now: Instant) {
        for id in &self.pool {
            let Some(place) = self.places.get_mut(id) else {
                continue;
            };
            if place.pinged.is_some() {
                continue;
            }
            let (id, signals) = (*id, self.signals.clone());
            let answer = move || drop(signals.send(Signal::PlaceAnswered(id)));
            // If the arbiter is gone, its end is reported by its sentinel.
            let sent = (now, place.queue.waited());
            place.pinged = place.handle.spawn_fn(answer).then_some(sent);
        }
    }

    pub(super) fn answered(&mut self, id: PlaceId) {
        if let Some(place) = self.places.get_mut(&id) {
            place.pinged = None;
        }
    }

    /// True while a pool arbiter has not answered: meanwhile its residents are not judged by pings of their own.
    pub(super) fn owes_answer(&self, id: PlaceId) -> bool {
        self.places
            .get(&id)
            .is_some_and(|place| place.pinged.is_some())
    }

    /// How long the place's thread has waited for a core since it began.
    pub(super) fn waited(&self, id: PlaceId) -> Duration {
        let place = self.places.get(&id);
        place.map_or(Duration::ZERO, |place| place.queue.waited())
    }

    /// Pool arbiters that have not answered for at least `limit`, each with the child whose poll holds its thread.
    pub(super) fn overdue(
        &self,
        now: Instant,
        limit: Duration,
    ) -> Vec<(PlaceId, Option<ChildKey>)> {
        let overdue = |id: &&PlaceId| {
            let silent_for = self.places.get(id).and_then(|place| place.silent_for(now));
            silent_for.is_some_and(|time| time >= limit)
        };
        let with_culprit = |id: &PlaceId| {
            let place = self.places.get(id);
            (*id, place.and_then(|place| place.marker.running()))
        };
        self.pool.iter().filter(overdue).map(with_culprit).collect()
    }

    /// Counts the age of all unanswered pings from `now` on.
    pub(super) fn forgive(&mut self, now: Instant) {
        for place in self.places.values_mut() {
            place.pinged = place.pinged.map(|_| (now, place.queue.waited()));
        }
    }

    /// Stops all arbiters but the supervisor's.
    pub(super) fn close(&mut self) {
        for (id, place) in self.places.drain() {
            if id != HOME {
                place.handle.stop();
            }
        }
        self.pool.clear();
    }

    fn serves(&self, id: PlaceId) -> bool {
        self.places
            .get(&id)
            .is_some_and(|place| place.handle.alive())
    }

    fn site(&self, id: PlaceId) -> Site {
        let place = &self.places[&id];
        Site {
            id,
            handle: place.handle.clone(),
            marker: Arc::clone(&place.marker),
        }
    }

    /// The pool's place with the fewest residents. While none is empty, the pool grows by one arbiter, up to its size.
    fn least_crowded(&mut self) -> io::Result<PlaceId> {
        let places = &self.places;
        self.pool
            .retain(|id| places.get(id).is_some_and(|place| place.handle.alive()));
        let crowd = |id: &PlaceId| {
            let place = self.places.get(id);
            place.map(|place| (place.pinged.is_some(), place.residents))
        };
        // An arbiter that has not answered may be blocked: it comes last.
        let least = self.pool.iter().copied().min_by_key(crowd);
        let is_empty = |id: &PlaceId| crowd(id) == Some((false, 0));
        match least {
            Some(id) if is_empty(&id) || self.pool.len() >= self.pool_size => Ok(id),
            _ => match (self.open(), least) {
                (Ok(id), _) => {
                    self.pool.push(id);
                    Ok(id)
                }
                // No new thread can be had: share an arbiter instead.
                (Err(_), Some(id)) => Ok(id),
                (Err(error), None) => Err(error),
            },
        }
    }

    fn open(&mut self) -> io::Result<PlaceId> {
        let arbiter = (self.factory)()?;
        self.last += 1;
        let id = PlaceId(self.last);
        let handle = arbiter.handle();
        let sentinel = Sentinel(id, self.signals.clone());
        let queue = RunQueue::default();
        let of_this_thread = queue.clone();
        handle.spawn(async move {
            let _sentinel = sentinel;
            of_this_thread.is_of_this_thread();
            std::future::pending::<()>().await;
        });
        let place = Place {
            handle,
            marker: Arc::default(),
            residents: 0,
            queue,
            pinged: None,
        };
        self.places.insert(id, place);
        Ok(id)
    }
}

/// Lives on an arbiter, and reports when that arbiter's event loop ends.
struct Sentinel(PlaceId, UnboundedSender<Signal>);

impl Drop for Sentinel {
    fn drop(&mut self) {
        // If the supervisor is gone, the report is not needed.
        let _ = self.1.send(Signal::PlaceEnded(self.0));
    }
}
