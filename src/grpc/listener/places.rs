//! The places for connections: which have one, since when they are without a call, and which goes when there is no place left. A
//! peer holds at most its share; a newcomer is let in at the cost of the connection that has been without a call the longest, so
//! that nobody is kept out by those who only wait. Decides about connections alone; their bytes are [`super::guarded`]'s.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::callers::Caller;

/// A peer, whose connections have one share of the places together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in super::super) enum Peer {
    /// All on this machine who come by a socket in a folder.
    Local,
    /// All at a network address. One of IPv6 is its first 64 bits: that much belongs to every single subscriber.
    Network(IpAddr),
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        match address.ip().to_canonical() {
            IpAddr::V6(ip) => {
                let subscriber = u128::from(ip) & !u128::from(u64::MAX);
                Self::Network(IpAddr::V6(subscriber.into()))
            }
            ip @ IpAddr::V4(_) => Self::Network(ip),
        }
    }
}

/// What is known of one connection. A request has its own among its extensions.
#[derive(Debug, Clone)]
pub(crate) struct Connection(Arc<State>);

#[derive(Debug)]
struct State {
    peer: Peer,
    /// The caller, known before its first call: from the beginning, or once the handshake has ended.
    caller: OnceLock<Caller>,
    life: Mutex<Life>,
    closing: CancellationToken,
    /// Fires when the connection's descriptor is free.
    gone: CancellationToken,
}

/// What a connection is used for. Bytes alone are no use: pings cost nothing.
#[derive(Debug, Clone, Copy)]
struct Life {
    /// When a call last began or ended, or the connection was made.
    called: Instant,
    /// How many calls are still coming in.
    reading: usize,
    /// How many calls have come in and are not answered.
    answering: usize,
    /// How many log streams are open.
    viewers: usize,
}

/// One use of a connection, for as long as this value is kept.
pub(crate) struct Use {
    connection: Connection,
    count: fn(&mut Life) -> &mut usize,
}

impl Connection {
    fn new(peer: Peer) -> Self {
        Self(Arc::new(State {
            peer,
            caller: OnceLock::new(),
            life: Mutex::new(Life {
                called: Instant::now(),
                reading: 0,
                answering: 0,
                viewers: 0,
            }),
            closing: CancellationToken::new(),
            gone: CancellationToken::new(),
        }))
    }

    /// The peer that it counts for.
    pub(in super::super) fn peer(&self) -> Peer {
        self.0.peer
    }

    /// The caller; nothing is known of it before the handshake has ended.
    pub(crate) fn caller(&self) -> Caller {
        self.0.caller.get().cloned().unwrap_or_default()
    }

    /// Says who the caller is, once.
    pub(in super::super) fn is_of(&self, caller: Caller) {
        // The caller does not change while the connection lasts.
        let _ = self.0.caller.set(caller);
    }

    /// Counts a request that begins to come in.
    pub(in super::super) fn reads(&self) -> Use {
        self.used(|life| &mut life.reading)
    }

    /// Counts a request that has come in and is being answered.
    pub(crate) fn answers(&self) -> Use {
        self.used(|life| &mut life.answering)
    }

    /// Counts a log stream that is open.
    pub(in super::super) fn views(&self) -> Use {
        self.used(|life| &mut life.viewers)
    }

    /// Ends the connection, with all that it carries.
    pub(in super::super) fn close(&self) {
        self.0.closing.cancel();
    }

    /// Fires when the connection has to end.
    pub(super) fn closing(&self) -> CancellationToken {
        self.0.closing.clone()
    }

    /// Whether the connection was told to end.
    #[cfg(test)]
    pub(in super::super) fn is_closing(&self) -> bool {
        self.0.closing.is_cancelled()
    }

    /// Returns when the connection has ended.
    pub(super) async fn gone(&self) {
        self.0.gone.cancelled().await;
    }

    /// Since when the connection has been of no use; `None` while it is in use.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let life = *self.life();
        (life.reading + life.answering + life.viewers == 0).then_some(life.called)
    }

    /// The connection of the least rank goes first: it has no viewer, and has been without a call the longest. `None`: it is being
    /// answered, and stays.
    fn rank(&self) -> Option<(bool, Instant)> {
        let life = *self.life();
        (life.answering == 0).then_some((life.viewers > 0, life.called))
    }

    fn used(&self, count: fn(&mut Life) -> &mut usize) -> Use {
        let mut life = self.life();
        *count(&mut life) += 1;
        life.called = Instant::now();
        drop(life);
        Use {
            connection: self.clone(),
            count,
        }
    }

    fn life(&self) -> MutexGuard<'_, Life> {
        self.0.life.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut life = self.connection.life();
        *(self.count)(&mut life) -= 1;
        life.called = Instant::now();
    }
}

/// All places for connections.
#[derive(Debug)]
pub(in super::super) struct Places {
    total: usize,
    share: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    connections: HashMap<u64, Connection>,
}

/// A connection's place, for as long as this value is kept.
#[derive(Debug)]
pub(in super::super) struct Place {
    places: Arc<Places>,
    number: u64,
    connection: Connection,
}

/// What it cost to let a newcomer in.
#[derive(Debug)]
pub(in super::super) enum Entry {
    /// Nothing.
    Free(Place),
    /// The place of another connection, which has been told to end.
    Displacing(Place, Connection),
    /// The newcomer was not let in: every connection that could go is being answered at this moment.
    Full,
}

impl Places {
    /// Places for `total` connections, of which one peer takes at most `share`.
    pub(in super::super) fn new(total: usize, share: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            share,
            taken: Mutex::default(),
        })
    }

    /// Finds a place for a newcomer of this peer.
    pub(in super::super) fn enter(self: &Arc<Self>, peer: Peer) -> Entry {
        let mut taken = self.taken();
        let Ok(displaced) = self.make_room(&mut taken, peer) else {
            return Entry::Full;
        };
        let connection = Connection::new(peer);
        let number = taken.next;
        taken.next += 1;
        taken.connections.insert(number, connection.clone());
        drop(taken);
        let place = Place {
            places: Arc::clone(self),
            number,
            connection,
        };
        match displaced {
            None => Entry::Free(place),
            Some(displaced) => {
                displaced.close();
                Entry::Displacing(place, displaced)
            }
        }
    }

    fn make_room(&self, taken: &mut Taken, peer: Peer) -> Result<Option<Connection>, ()> {
        let all = &taken.connections;
        let full = all.len() >= self.total;
        let over = all.values().filter(|held| held.peer() == peer).count() >= self.share;
        if !full && !over {
            return Ok(None);
        }
        let first = all
            .iter()
            .filter(|(_, held)| !over || held.peer() == peer)
            .filter_map(|(number, held)| Some((held.rank()?, *number)))
            .min()
            .map(|(_, number)| number);
        match first.and_then(|number| taken.connections.remove(&number)) {
            Some(displaced) => Ok(Some(displaced)),
            None => Err(()),
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The connection that has the place.
    pub(in super::super) fn connection(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().connections.remove(&self.number);
        // The socket of this connection was dropped before its place.
        self.connection.0.gone.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn peer(number: u8) -> Peer {
        Peer::Network(IpAddr::from([10, 0, 0, number]))
    }

    #[track_caller]
    fn enter(places: &Arc<Places>, from: u8) -> Place {
        match places.enter(peer(from)) {
            Entry::Free(place) | Entry::Displacing(place, _) => place,
            Entry::Full => panic!("not let in"),
        }
    }

    async fn a_second() {
        tokio::time::advance(Duration::from_secs(1)).await;
    }

    fn closed(place: &Place) -> bool {
        place.connection.closing().is_cancelled()
    }

    #[tokio::test(start_paused = true)]
    async fn a_newcomer_takes_the_place_of_who_was_longest_without_a_call() {
        let places = Places::new(3, 3);
        let mut held = Vec::new();
        for from in 1..=3 {
            held.push(enter(&places, from));
            a_second().await;
        }
        // The first to come is the last to have called.
        drop(held[0].connection.reads());

        let newcomer = enter(&places, 4);

        assert_eq!(
            held.iter().map(closed).collect::<Vec<_>>(),
            [false, true, false]
        );
        assert!(!closed(&newcomer));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_over_its_share_displaces_itself_alone() {
        let places = Places::new(8, 2);
        let master = enter(&places, 1);
        a_second().await;
        let strangers: Vec<_> = (0..100).map(|_| enter(&places, 2)).collect();

        assert!(!closed(&master));
        assert_eq!(strangers.iter().filter(|place| !closed(place)).count(), 2);
        assert!(!closed(&strangers[99]), "the newest stays");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_being_answered_or_has_a_viewer_stays_before_who_waits() {
        let places = Places::new(3, 3);
        let (answered, viewing) = (enter(&places, 1), enter(&places, 2));
        let _answering = answered.connection.answers();
        let _viewer = viewing.connection.views();
        a_second().await;
        let waits = enter(&places, 3);

        let newcomer = enter(&places, 4);
        assert!(closed(&waits) && !closed(&viewing));
        let _answering = newcomer.connection.answers();
        let last = enter(&places, 5);
        assert!(closed(&viewing) && !closed(&answered));
        let _answering = last.connection.answers();
        assert!(matches!(places.enter(peer(6)), Entry::Full));
    }

    #[tokio::test]
    async fn a_place_that_is_given_back_costs_nobody_anything() {
        let places = Places::new(1, 1);
        drop(enter(&places, 1));

        assert!(matches!(places.enter(peer(2)), Entry::Free(_)));
    }

    #[test]
    fn a_subscriber_of_ipv6_is_one_peer_and_a_mapped_address_is_the_old_one() {
        let of = |address: &str| Peer::from(address.parse::<SocketAddr>().unwrap());

        assert_eq!(of("[2001:db8:0:1::1]:1"), of("[2001:db8:0:1:ffff::9]:2"));
        assert_ne!(of("[2001:db8:0:1::1]:1"), of("[2001:db8:0:2::1]:1"));
        assert_eq!(of("[::ffff:10.0.0.1]:1"), of("10.0.0.1:2"));
    }
}
