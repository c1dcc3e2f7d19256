//! The operator's door over gRPC, both sides of it: [`serve`] answers on the socket in the state folder from a
//! `ports::admin::Admin`, and [`RemoteAdmin`] is one, for the commands of another process. `app` wires both.
//!
//! It is a server of its own beside the listener of the master's calls: neither sees the other's callers, and neither falls
//! with the other. Who may come in is decided before a byte is read (`door`), and nothing is decided about actors.

mod client;
mod convert;
mod door;
mod service;

use std::{io, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use log::warn;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use self::service::AdminService;
pub use self::{client::RemoteAdmin, door::Door};
use super::listener::{Entry, Guarded, Measured, Patience, Peer, Places, ServeError, end_in_time};
use crate::{
    domain::callers::Caller,
    ports::{admin::Admin, audit::Audit},
    proto::worker_admin::admin_server::AdminServer,
};

/// How many operators are connected at once; one more takes the place of the one that was longest without a question.
const CONNECTIONS: usize = 64;

/// How long a connection may take to begin, and how long it may be idle: a caller on this machine who needs longer is no caller.
const PATIENCE: Patience = Patience {
    preface: Duration::from_secs(5),
    idle: Duration::from_secs(60),
};

/// How long to leave the socket alone when no descriptor is to be had. The master's listener says that there is none.
const BACKOFF: Duration = Duration::from_millis(100);

/// How long calls in flight may take once the server stops; then they are cut.
const DRAIN: Duration = Duration::from_secs(2);

/// Serves operators at `door` until `stop` fires. The door is shared, so that a restarted server takes over the same socket.
///
/// # Errors
/// The server ended by itself; it can be started again.
pub async fn serve(
    door: Arc<Door>,
    admin: Arc<dyn Admin>,
    audit: Arc<dyn Audit>,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    // Dropped with this future, and fires then: a server that is thrown away leaves no connection behind.
    let cut = CancellationToken::new();
    let _cut_at_the_end = cut.clone().drop_guard();
    let service = AdminService::new(admin, audit);
    let serving = Server::builder()
        .add_service(Measured::new(AdminServer::new(service)))
        .serve_with_incoming_shutdown(visitors(door, cut.clone()), stop.clone().cancelled_owned());
    end_in_time(serving, DRAIN, &stop, &cut).await
}

/// The connections of operators who may come in, for ever.
fn visitors(
    door: Arc<Door>,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Guarded<UnixStream>>> {
    let places = Places::new(CONNECTIONS, CONNECTIONS);
    stream::unfold((door, places, cut), |(door, places, cut)| async move {
        let visitor = loop {
            let stream = match door.accept().await {
                Ok(stream) => stream,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    warn!(error:%; "somebody was turned away at the operator's door");
                    continue;
                }
                Err(_) => {
                    tokio::time::sleep(BACKOFF).await;
                    continue;
                }
            };
            if let Entry::Free(place) | Entry::Displacing(place, _) = places.enter(Peer::Local) {
                place.connection().is_of(Caller {
                    user: stream.peer_cred().ok().map(|visitor| visitor.uid()),
                    ..Caller::default()
                });
                break Guarded::new(stream, place, PATIENCE, &cut);
            }
        };
        Some((Ok(visitor), (door, places, cut)))
    })
}
