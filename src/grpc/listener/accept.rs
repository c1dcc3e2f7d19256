//! The accept loop: takes connections off the listener, within the limit, and waits when the process is out of descriptors.
//! Never waits for a connection's own doings; those are [`super::guarded`]'s.

use std::{io, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use log::{info, warn};
use rustix::io::Errno;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

use super::{
    Limits,
    guarded::{Guarded, Patience},
};
use crate::grpc::socket;

/// How long to leave the listener alone when no descriptor or buffer is to be had: without it the loop takes a whole core.
const BACKOFF: Duration = Duration::from_millis(100);

/// Accepts connections, one after another.
pub(super) struct Acceptor {
    listener: Arc<TcpListener>,
    slots: Arc<Semaphore>,
    patience: Patience,
    cut: CancellationToken,
    exhausted: Episode,
    crowded: Episode,
}

impl Acceptor {
    /// Accepts from `listener`; every connection ends when `cut` fires.
    pub(super) fn new(listener: Arc<TcpListener>, limits: &Limits, cut: CancellationToken) -> Self {
        Self {
            listener,
            slots: Arc::new(Semaphore::new(limits.connections)),
            patience: Patience {
                preface: limits.preface_within,
                idle: limits.idle,
            },
            cut,
            exhausted: Episode::new("out of descriptors or memory for connections"),
            crowded: Episode::new("too many connections, closing new ones"),
        }
    }

    /// The connections, for ever.
    pub(super) fn connections(self) -> impl Stream<Item = io::Result<Guarded<TcpStream>>> {
        stream::unfold(self, |mut acceptor| async move {
            let connection = acceptor.next().await;
            Some((Ok(connection), acceptor))
        })
    }

    async fn next(&mut self) -> Guarded<TcpStream> {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    self.exhausted.end();
                    if let Some(connection) = self.admit(stream) {
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

    fn admit(&mut self, stream: TcpStream) -> Option<Guarded<TcpStream>> {
        let Some(slot) = self.slot() else {
            self.crowded.begin("limit reached");
            return None;
        };
        self.crowded.end();
        // A connection that cannot take an option is about to fail by itself.
        socket::prepare(&stream).ok()?;
        Some(Guarded::new(stream, slot, self.patience, &self.cut))
    }

    fn slot(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).try_acquire_owned().ok()
    }
}

/// An error that says something about the connection that was to be accepted, not about us: the next may be fine.
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
    lasts: bool,
}

impl Episode {
    fn new(what: &'static str) -> Self {
        Self { what, lasts: false }
    }

    fn begin(&mut self, why: &str) {
        if !self.lasts {
            self.lasts = true;
            warn!(why; "{}", self.what);
        }
    }

    fn end(&mut self) {
        if self.lasts {
            self.lasts = false;
            info!("accepting connections again");
        }
    }
}
