//! The doors by which callers come in: the listener for the master's calls, the operator's socket, and the HTTP door with
//! `--http`.

use std::sync::Arc;

use futures_util::FutureExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{
    build::Built,
    tree::{Inside, spec},
};
use crate::{
    actors::servers::{Serve, ServersActor},
    config::ListenAddress,
    domain::callers::MasterNames,
    grpc::{
        admin::{self, Door},
        health::IsReady,
        keys::Keys,
        listener::{self, Doorkeeper, Services},
    },
    handle::admin::AdminHandle,
    http,
    metrics::{CountedWorker, Metrics},
    ports::{admin::Admin, audit::Audit},
    supervision::{ChildSpec, slot},
};

/// What the doors need, opened before anything runs.
pub(super) struct Doors {
    pub(super) listener: Arc<TcpListener>,
    /// The listener of the HTTP door.
    pub(super) http: Option<Arc<TcpListener>>,
    /// The counts that the doors keep and show.
    pub(super) metrics: Arc<Metrics>,
    pub(super) door: Arc<Door>,
    /// Certificates, keys and tokens of callers.
    pub(super) keys: Arc<Keys>,
    /// The book of who changed what.
    pub(super) audit: Arc<dyn Audit>,
}

/// The child that serves the master's calls.
pub(super) fn servers(built: &Built, inside: &Inside, stop: &CancellationToken) -> ChildSpec {
    let Doors {
        listener,
        keys,
        audit,
        metrics,
        ..
    } = &built.doors;
    let door = &built.parts.config.cluster.door;
    let doorkeeper = Doorkeeper::new(
        door.allow_from.clone(),
        inside.beside.master_view.addresses(),
        inside.beside.view.networks(),
    );
    let doorkeeper = doorkeeper.with_keys(Arc::clone(keys), door.master_names.clone());
    let doorkeeper = Arc::new(doorkeeper.with_audit(Arc::clone(audit)));
    let listener = Arc::clone(listener);
    let worker = CountedWorker::new(inside.handle.clone(), Arc::clone(metrics));
    let services = Services {
        worker: Arc::new(worker),
        is_ready: is_ready(admin_handle(built, inside)),
        reflection: built.parts.config.cluster.reflection,
    };
    let serve: Serve = Arc::new(move |stop| {
        let limits = listener::Limits::of_this_process();
        let serving = listener::serve(
            Arc::clone(&listener),
            services.clone(),
            limits,
            Arc::clone(&doorkeeper),
            stop,
        );
        async move { serving.await.map_err(std::io::Error::other) }.boxed()
    });
    let (stop, (_, seat)) = (stop.clone(), slot("servers"));
    spec(seat, move || ServersActor::new(Arc::clone(&serve), &stop))
}

/// What health checks are answered by.
fn is_ready(handle: AdminHandle) -> IsReady {
    Arc::new(move || {
        let handle = handle.clone();
        let ready = async move {
            let status = handle.status().await;
            status.is_ok_and(|status| status.not_ready().is_empty())
        };
        ready.boxed()
    })
}

/// The handle that answers an operator's questions and orders, through either door.
pub(super) fn admin_handle(built: &Built, inside: &Inside) -> AdminHandle {
    let keys = Arc::clone(&built.doors.keys);
    AdminHandle::new(
        built.parts.config.cluster.worker.clone(),
        inside.beside.supervisor.subscribe(),
        inside.asked.clone(),
        inside.beside.boards(&built.parts),
        Arc::clone(&built.parts.clock),
    )
    .with_certificate(Arc::new(move || keys.certificate_until()))
}

/// The child that serves the operator's socket. It starts late and stops early, since it answers for all other children; and it
/// is a child of its own, so that it fails alone.
pub(super) fn admin(built: &Built, handle: AdminHandle) -> ChildSpec {
    let door = Arc::clone(&built.doors.door);
    let audit = Arc::clone(&built.doors.audit);
    let serve: Serve = Arc::new(move |stop| {
        let (handle, audit) = (Arc::new(handle.clone()), Arc::clone(&audit));
        let serving = admin::serve(Arc::clone(&door), handle, audit, stop);
        async move { serving.await.map_err(std::io::Error::other) }.boxed()
    });
    let never = CancellationToken::new();
    let (_, seat) = slot("admin");
    spec(seat, move || ServersActor::new(Arc::clone(&serve), &never))
}

/// The child that serves the HTTP door, read-only; `None` without `--http`.
pub(super) fn http(built: &Built, inside: &Inside, handle: &AdminHandle) -> Option<ChildSpec> {
    let listener = Arc::clone(built.doors.http.as_ref()?);
    let room = Arc::clone(&built.parts.room);
    let cluster = &built.parts.config.cluster;
    let door = http::Door {
        admin: Arc::new(handle.clone()),
        metrics: Arc::clone(&built.doors.metrics),
        disk_free: Arc::new(move || room(None).ok().map(|room| room.bytes)),
        tasks: inside.beside.board.subscribe(),
        spools: Arc::clone(&built.parts.spools),
        hosts: http::Hosts::named([cluster.reach.host().to_owned()]),
        doorkeeper: Arc::new(http_doorkeeper(built, inside)),
    };
    let serve: Serve = Arc::new(move |stop| {
        let serving = http::serve(Arc::clone(&listener), door.clone(), stop);
        async move { serving.await.map_err(std::io::Error::other) }.boxed()
    });
    let never = CancellationToken::new();
    let (_, seat) = slot("http");
    let make = move || ServersActor::new(Arc::clone(&serve), &never);
    Some(spec(seat, make))
}

/// Who may use the HTTP door: on a loopback address everybody whose address is allowed, elsewhere only callers with the
/// certificate or token that the configuration asks for.
fn http_doorkeeper(built: &Built, inside: &Inside) -> Doorkeeper {
    let cluster = &built.parts.config.cluster;
    let keeper = Doorkeeper::new(
        cluster.door.allow_from.clone(),
        inside.beside.master_view.addresses(),
        inside.beside.view.networks(),
    );
    let address = cluster.http.as_ref();
    match address.is_some_and(ListenAddress::is_loopback) {
        true => keeper,
        false => keeper.with_keys(Arc::clone(&built.doors.keys), MasterNames::default()),
    }
}
