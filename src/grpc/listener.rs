//! The server of the socket that masters call: accepts connections, guards and serves them, and ends when it is told to. `app` (or
//! the child that owns the servers) calls [`serve`] with a bound listener.
//!
//! The [`Doorkeeper`] decides which callers may come in: by the address when a connection is accepted, by the certificate in its
//! handshake, and by each call's own credentials before a byte of its body is read.
//!
//! Guards against what tonic lets through: a client that sends nothing or half a preface holds a connection for ever, as does one
//! that only pings; half a message has no end; and an accept loop without descriptors spins. Where room is short, whoever takes up
//! the most is cut off first, and connections that only wait keep nobody out. This module binds no socket, and does not decide what
//! the worker answers.
//!
//! Order of the end: no new connections, log streams end, calls in flight are answered, and after [`Limits::drain`] the rest
//! is cut off.

mod accept;
mod checked;
mod doorkeeper;
mod guarded;
mod places;
mod shaken;
mod tally;
mod unfinished;

use std::{future::ready, sync::Arc, time::Duration};

use log::warn;
use rustix::process::{Resource, getrlimit};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{service::Routes, transport::Server};

pub use self::doorkeeper::Doorkeeper;
pub(crate) use self::places::{Connection, Use};
use self::{accept::Acceptor, checked::Checked};
pub(super) use self::{
    guarded::{Guarded, Patience},
    places::{Entry, Peer, Places},
    unfinished::Measured,
};
use super::{
    CALL_LIMIT, MESSAGE_LIMIT,
    health::{HealthService, IsReady},
    server::WorkerService,
};
use crate::{
    ports::worker::Worker,
    proto::{
        SERVED, health::health_server::HealthServer, master_worker_server::MasterWorkerServer,
    },
};

/// How many HTTP/2 streams one connection may have open at once; a further call waits for one to end. A master opens a connection
/// for each call.
const STREAMS_PER_CONNECTION: u32 = 16;

/// How much a client may send on one stream ahead of what is read, in bytes: HTTP/2's own default.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The same for all streams of one connection together.
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;

/// The largest metadata of a call, in bytes; a call with more is refused.
const HEADERS_LIMIT: u32 = 16 * 1024;

/// How many connections are open at once, where the process has descriptors enough.
const CONNECTIONS: usize = 1_024;

/// The limits on connections, calls and log streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once, a quarter of them of one peer; one more takes the place of the one that was longest without a call.
    pub connections: usize,
    /// A connection that has not sent the HTTP/2 preface (24 bytes) after this time is closed, its TLS handshake included.
    pub preface_within: Duration,
    /// A connection without a log stream and without a call for this time is closed, whatever else it sends.
    pub idle: Duration,
    /// Calls of each kind at once; one more is refused.
    pub calls: usize,
    /// Log streams at once; one more takes the place of another.
    pub viewers: usize,
    /// Log streams of one peer at once.
    pub viewers_per_peer: usize,
    /// Log streams of one task at once.
    pub viewers_per_task: usize,
    /// A log stream whose peer takes nothing for this time, while there is something to send, is ended.
    pub stalled: Duration,
    /// How long calls in flight may take once the server stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS,
            preface_within: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            calls: 256,
            viewers: 256,
            viewers_per_peer: 128,
            viewers_per_task: 64,
            stalled: Duration::from_secs(60),
            drain: Duration::from_secs(2),
        }
    }
}

impl Limits {
    /// The default, with at most a quarter of the process's descriptors for connections.
    #[must_use]
    pub fn of_this_process() -> Self {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let quarter = usize::try_from(descriptors / 4).unwrap_or(usize::MAX);
        Self {
            connections: CONNECTIONS.min(quarter).max(1),
            ..Self::default()
        }
    }

    /// The most connections of one peer: a quarter of all, so that one peer cannot keep three others out.
    fn connections_per_peer(&self) -> usize {
        (self.connections / 4).max(1)
    }
}

/// The services at the master's port.
#[derive(Clone)]
pub struct Services {
    /// Answers the master's calls.
    pub worker: Arc<dyn Worker>,
    /// Answers health checks.
    pub is_ready: IsReady,
    /// Whether clients are told which methods and messages there are (`--reflection`).
    pub reflection: bool,
}

impl Services {
    /// The services of a worker that is always ready, without reflection.
    #[must_use]
    pub fn of(worker: Arc<dyn Worker>) -> Self {
        Self {
            worker,
            is_ready: Arc::new(|| Box::pin(ready(true))),
            reflection: false,
        }
    }
}

/// The server ended although nobody had stopped it.
#[derive(Debug, Error)]
#[error("the server ended by itself")]
pub struct ServeError(#[source] Option<tonic::transport::Error>);

/// Serves `services` to those whom `doorkeeper` lets in on `listener` until `stop` fires. The listener is shared, so that a
/// restarted server takes over the same port without a gap.
///
/// # Errors
/// The server ended by itself; it can be started again.
pub async fn serve(
    listener: Arc<TcpListener>,
    services: Services,
    limits: Limits,
    doorkeeper: Arc<Doorkeeper>,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    // Fires when this future is dropped, so that a server that is thrown away leaves no connection behind.
    let cut = CancellationToken::new();
    let _cut_at_the_end = cut.clone().drop_guard();
    let Services {
        worker,
        is_ready,
        reflection,
    } = services;
    let service = WorkerService::new(worker, doorkeeper.audit(), &limits, stop.clone());
    let watching = service.watch_viewers(limits.stalled);
    let looking_up = Arc::clone(&doorkeeper).watch();
    let reading_keys = Arc::clone(doorkeeper.keys()).watch();
    let acceptor = Acceptor::new(listener, &limits, Arc::clone(&doorkeeper), cut.clone());
    let serving = Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_max_header_list_size(HEADERS_LIMIT)
        .add_routes(routes(service, is_ready, reflection, &doorkeeper))
        .serve_with_incoming_shutdown(acceptor.connections(), stop.clone().cancelled_owned());
    let serving = end_in_time(serving, limits.drain, &stop, &cut);
    tokio::pin!(serving, watching, looking_up, reading_keys);
    tokio::select! {
        ended = &mut serving => ended,
        never = &mut watching => match never {},
        never = &mut looking_up => match never {},
        never = &mut reading_keys => match never {},
    }
}

/// All services of the master's port, each behind the same guards.
fn routes(
    service: WorkerService,
    is_ready: IsReady,
    reflection: bool,
    doorkeeper: &Arc<Doorkeeper>,
) -> Routes {
    let service = MasterWorkerServer::new(service)
        .max_decoding_message_size(CALL_LIMIT)
        .max_encoding_message_size(MESSAGE_LIMIT);
    let service = Measured::new(service);
    let health = service.beside(HealthServer::new(HealthService::new(is_ready)));
    let reflection = reflection.then(|| {
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(SERVED)
            .build_v1();
        // The descriptors are made by the build, and a test decodes them, so this does not fail.
        reflection.inspect_err(|error| warn!(error:%; "no reflection: {error}"))
    });
    let mut routes = Routes::new(Checked::new(service.clone(), Arc::clone(doorkeeper)))
        .add_service(Checked::new(health, Arc::clone(doorkeeper)));
    if let Some(Ok(reflection)) = reflection {
        let reflection = service.beside(reflection);
        routes = routes.add_service(Checked::new(reflection, Arc::clone(doorkeeper)));
    }
    routes
}

/// The same for pages over HTTP, 1.1 and 2: `router` answers those whom `doorkeeper` lets connect. The router itself must ask the
/// doorkeeper about each request, since only the router knows how a refusal looks as a page.
///
/// # Errors
/// The server ended by itself; it can be started again.
pub async fn serve_pages(
    listener: Arc<TcpListener>,
    router: axum::Router,
    limits: Limits,
    doorkeeper: Arc<Doorkeeper>,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let cut = CancellationToken::new();
    let _cut_at_the_end = cut.clone().drop_guard();
    let acceptor = Acceptor::new(listener, &limits, Arc::clone(&doorkeeper), cut.clone());
    let serving = Server::builder()
        .accept_http1(true)
        .http2_max_header_list_size(HEADERS_LIMIT)
        .add_routes(Routes::from(router))
        .serve_with_incoming_shutdown(acceptor.connections(), stop.clone().cancelled_owned());
    let watching = doorkeeper.watch();
    let serving = end_in_time(serving, limits.drain, &stop, &cut);
    tokio::select! {
        ended = serving => ended,
        never = watching => match never {},
    }
}

/// Serves until `stop` fires, and then for `drain` at most: connections that have not ended by then are cut off.
pub(super) async fn end_in_time(
    serving: impl Future<Output = Result<(), tonic::transport::Error>>,
    drain: Duration,
    stop: &CancellationToken,
    cut: &CancellationToken,
) -> Result<(), ServeError> {
    let cutting = async {
        stop.cancelled().await;
        tokio::time::sleep(drain).await;
        warn!("cutting off calls that have not ended in time");
        cut.cancel();
    };
    tokio::pin!(serving, cutting);
    let ended = tokio::select! {
        ended = &mut serving => ended,
        () = &mut cutting => serving.await,
    };
    match ended {
        Ok(()) if stop.is_cancelled() => Ok(()),
        Ok(()) => Err(ServeError(None)),
        Err(error) => Err(ServeError(Some(error))),
    }
}
