//! The accept loop: takes connections off the listener, finds them a place, and waits when the process is out of descriptors. It
//! waits for no connection's bytes, which are [`super::guarded`]'s, and only briefly for the end of one whose place it has given
//! away.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use log::{info, warn};
use rustix::io::Errno;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Doorkeeper, Limits,
    guarded::{Guarded, Patience},
    places::{Entry, Place, Places},
    shaken::Shaken,
};
use crate::grpc::socket;

/// How long to leave the listener alone when no descriptor or buffer is to be had: without it the loop takes a whole core.
const BACKOFF: Duration = Duration::from_millis(100);

/// A crowd is over once newcomers have been let in for this long without closing anybody: without this a caller who comes and goes
/// would fill the log.
const CALM: Duration = Duration::from_secs(60);

/// Accepts connections, one after another.
pub(super) struct Acceptor {
    listener: Arc<TcpListener>,
    places: Arc<Places>,
    doorkeeper: Arc<Doorkeeper>,
    patience: Patience,
    cut: CancellationToken,
    exhausted: Episode,
    crowded: Episode,
}

impl Acceptor {
    /// Accepts from `listener`; every connection ends when `cut` fires.
    pub(super) fn new(
        listener: Arc<TcpListener>,
        limits: &Limits,
        doorkeeper: Arc<Doorkeeper>,
        cut: CancellationToken,
    ) -> Self {
        Self {
            listener,
            places: Places::new(limits.connections, limits.connections_per_peer()),
            doorkeeper,
            patience: Patience {
                preface: limits.preface_within,
                idle: limits.idle,
            },
            cut,
            exhausted: Episode::new(
                "out of descriptors or memory for connections",
                "accepting connections again",
            ),
            crowded: Episode::new(
                "too many connections: those without a call are closed for new ones",
                "there is room for connections again",
            ),
        }
    }

    /// The connections, for ever.
    pub(super) fn connections(self) -> impl Stream<Item = io::Result<Guarded<Shaken>>> {
        stream::unfold(self, |mut acceptor| async move {
            let connection = acceptor.next().await;
            Some((Ok(connection), acceptor))
        })
    }

    async fn next(&mut self) -> Guarded<Shaken> {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    self.exhausted.end();
                    if let Some(connection) = self.admit(stream, peer).await {
                        return connection;
                    }
                }
                Err(error) if of_one_connection(&error) => {}
                Err(error) => {
                    self.exhausted.begin(&error.to_string());
                    tokio::time::sleep(BACKOFF).await;
                }
            }
        }
    }

    async fn admit(&mut self, stream: TcpStream, peer: SocketAddr) -> Option<Guarded<Shaken>> {
        if !self.doorkeeper.admits(peer.ip()) {
            return None;
        }
        let place = self.place(peer).await?;
        // A connection that cannot take an option is about to fail by itself.
        socket::prepare(&stream).ok()?;
        let shaken = Shaken::new(stream, peer, &self.doorkeeper, place.connection());
        Some(Guarded::new(shaken, place, self.patience, &self.cut))
    }

    async fn place(&mut self, peer: SocketAddr) -> Option<Place> {
        let entry = self.places.enter(peer.into());
        if !matches!(entry, Entry::Free(_)) {
            self.crowded.begin(&peer.ip().to_string());
        } else if self.crowded.lasted_until() + CALM <= Instant::now() {
            self.crowded.end();
        }
        match entry {
            Entry::Free(place) => Some(place),
            Entry::Displacing(place, displaced) => {
                // Without this wait, a crowd that comes at once would have all its descriptors before the first of them is given
                // back.
                let _ended = timeout(BACKOFF, displaced.gone()).await;
                Some(place)
            }
            Entry::Full => None,
        }
    }
}

/// Whether an error says something about the connection that was to be accepted, not about us: the next may be fine.
fn of_one_connection(error: &io::Error) -> bool {
    use Errno as E;
    // `accept(2)` hands on what the network found out about a connection that is in the queue.
    matches!(
        Errno::from_io_error(error),
        Some(
            E::CONNABORTED
                | E::CONNRESET
                | E::INTR
                | E::PROTO
                | E::NETDOWN
                | E::NETUNREACH
                | E::HOSTDOWN
                | E::HOSTUNREACH
                | E::PERM
        )
    )
}

/// Something that lasts for a while and is logged once at its beginning and once at its end.
struct Episode {
    what: &'static str,
    over: &'static str,
    lasts: bool,
    /// When its condition was last met.
    last: Instant,
}

impl Episode {
    fn new(what: &'static str, over: &'static str) -> Self {
        Self {
            what,
            over,
            lasts: false,
            last: Instant::now(),
        }
    }

    fn begin(&mut self, why: &str) {
        self.last = Instant::now();
        if !self.lasts {
            self.lasts = true;
            warn!(why; "{}", self.what);
        }
    }

    fn lasted_until(&self) -> Instant {
        self.last
    }

    fn end(&mut self) {
        if self.lasts {
            self.lasts = false;
            info!("{}", self.over);
        }
    }
}
