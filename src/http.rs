//! The operator's door over HTTP (`--http`): whether the process is alive (`/healthz`) and of use (`/readyz`), its figures
//! (`/metrics`), and a page to look at it (`/`). Read-only. The figures come from the same view as `worker-node status`
//! (`ports::admin`); who may connect, and how long, is decided by the listener's guards, as at the master's port.
//!
//! A browser that a stranger's page sends here is turned away by the name that it asked for (`host`); whoever comes from another
//! machine must show the token or a certificate, without which [`Door`] is not opened beyond this machine (`config`).

mod host;
mod observer;

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::spawn_blocking,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

pub use self::host::Hosts;
use crate::{
    grpc::listener::{self, Connection, Doorkeeper, Limits, ServeError},
    metrics::{Form, Metrics, Reading},
    ports::{
        admin::{Admin, AdminError},
        master::RunningTask,
        spool::SpoolStore,
        status::Reason,
    },
};

/// The version of the JSON answers, which only grow.
const JSON_VERSION: u32 = 1;

/// How many connections there are at once: a monitoring system, a probe, some people. One more takes the place of the one that was
/// longest without a request.
const CONNECTIONS: usize = 64;

/// How many requests are answered at once; one more gets 503 and is told to come again. Each asks the supervisor one question.
const REQUESTS: usize = 8;

/// How long the file system may take to say what is free on it.
const DISK: Duration = Duration::from_secs(1);

/// Tells the bytes that are free on the disk of the state folder. May block.
pub type DiskFree = Arc<dyn Fn() -> Option<u64> + Send + Sync>;

/// What the door shows, and whom it lets in.
#[derive(Clone)]
pub struct Door {
    /// The view of the worker.
    pub admin: Arc<dyn Admin>,
    /// The metrics of the worker.
    pub metrics: Arc<Metrics>,
    /// Tells the bytes that are free on the disk of the state folder.
    pub disk_free: DiskFree,
    /// The tasks that are not done.
    pub tasks: watch::Receiver<Arc<Vec<RunningTask>>>,
    /// The tasks' logs.
    pub spools: Arc<dyn SpoolStore>,
    /// The names by which it may be asked.
    pub hosts: Hosts,
    /// Decides who may come in.
    pub doorkeeper: Arc<Doorkeeper>,
}

/// The state that every request has.
#[derive(Clone)]
struct Desk {
    door: Door,
    turns: Arc<Semaphore>,
    readers: Arc<observer::Readers>,
    /// Fires when the door closes.
    stop: CancellationToken,
}

/// Serves `door` on `listener` until `stop` fires. The listener is shared, so that a restarted server takes over the same port.
///
/// # Errors
/// The server ended by itself; it can be started again.
pub async fn serve(
    listener: Arc<TcpListener>,
    door: Door,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let limits = Limits {
        connections: CONNECTIONS,
        ..Limits::default()
    };
    let doorkeeper = Arc::clone(&door.doorkeeper);
    let watching = observer::watch_stages(door.tasks.clone(), Arc::clone(&door.metrics));
    let router = router(door, stop.clone());
    let serving = listener::serve_pages(listener, router, limits, doorkeeper, stop);
    tokio::select! {
        served = serving => served,
        never = watching => match never {},
    }
}

fn router(door: Door, stop: CancellationToken) -> Router {
    let desk = Desk {
        door,
        turns: Arc::new(Semaphore::new(REQUESTS)),
        readers: Arc::default(),
        stop,
    };
    observer::routes()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(page_of_metrics))
        .fallback(|| async {
            (
                StatusCode::NOT_FOUND,
                "there is /, /healthz, /readyz and /metrics\n",
            )
        })
        .layer(from_fn_with_state(desk.clone(), admit))
        .with_state(desk)
}

/// Answers a request itself unless it only reads, names this worker, shows what `--token-file` asks for, and there is room.
async fn admit(
    State(Desk { door, turns, .. }): State<Desk>,
    request: Request,
    next: Next,
) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return (StatusCode::METHOD_NOT_ALLOWED, "this door is read-only\n").into_response();
    }
    if !door.hosts.admit(&request) {
        let words = "this worker is not known by that name: ask for it by its address, as localhost, or by the host of -ip\n";
        return (StatusCode::MISDIRECTED_REQUEST, words).into_response();
    }
    let connection = request.extensions().get::<Connection>().cloned();
    let caller = connection.as_ref().map(Connection::caller);
    let authorization = request.headers().get(header::AUTHORIZATION).map(bearer);
    let path = request.uri().path();
    let caller = caller.unwrap_or_default();
    let judged = door
        .doorkeeper
        .judge(path, authorization.as_deref(), &caller);
    if judged.is_err() {
        // At this header a browser asks for a name and a password.
        let wants = [(header::WWW_AUTHENTICATE, "Basic realm=\"worker-node\"")];
        let words = "this worker wants its token: authorization: Bearer TOKEN, or in a browser as the password (--token-file)\n";
        return (StatusCode::UNAUTHORIZED, wants, words).into_response();
    }
    // Last, so that a caller who may not come in takes no turn.
    let Ok(_turn) = turns.try_acquire() else {
        let again = [(header::RETRY_AFTER, "1")];
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            again,
            "busy with other requests\n",
        )
            .into_response();
    };
    let _answers = connection.as_ref().map(Connection::answers);
    next.run(request).await
}

/// The token of an `authorization` header. A browser can't show a token, but it can show a password: that is the token then, under
/// whatever name.
fn bearer(shown: &HeaderValue) -> Cow<'_, HeaderValue> {
    let password = || {
        let encoded = shown.to_str().ok()?.strip_prefix("Basic ")?;
        let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
        let (_, password) = decoded.split_once(':')?;
        HeaderValue::try_from(format!("Bearer {password}")).ok()
    };
    password().map_or(Cow::Borrowed(shown), Cow::Owned)
}

/// 200 while the supervisor answers: if it does not, nothing helps but to start the process anew.
async fn healthz(State(Desk { door, .. }): State<Desk>) -> Response {
    match door.admin.actors().await {
        Ok(_) => "ok\n".into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

/// 200 while the worker is of use to its master: a task that is offered now is taken if there is room for it. Else 503 with the
/// reasons.
async fn readyz(State(Desk { door, .. }): State<Desk>) -> Response {
    let reasons = match door.admin.status().await {
        Ok(status) => status.not_ready(),
        Err(error) => vec![Reason::of_worker(&error)],
    };
    let status = match reasons.is_empty() {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    let page = json!({
        "version": JSON_VERSION,
        "ready": reasons.is_empty(),
        "reasons": reasons_json(&reasons),
    });
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, format!("{page}\n")).into_response()
}

/// Reasons for programs.
fn reasons_json(reasons: &[Reason]) -> Value {
    let reasons = reasons.iter();
    reasons
        .map(|Reason { what, why }| json!({ "what": what, "why": why }))
        .collect()
}

async fn page_of_metrics(State(Desk { door, .. }): State<Desk>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok());
    let form = Form::accepted_by(accept.unwrap_or_default());
    match reading(&door).await {
        Ok(reading) => {
            let kind = [(header::CONTENT_TYPE, form.content_type())];
            (kind, Body::from(door.metrics.page(&reading, form))).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

/// The worker at this moment. A supervisor that does not answer is a figure, not an error: that is when somebody looks.
async fn reading(door: &Door) -> Result<Reading, AdminError> {
    let actors = door.admin.actors().await.map(|tree| tree.actors);
    let disk_free = Arc::clone(&door.disk_free);
    Ok(Reading {
        status: door.admin.status().await?,
        tasks: door.admin.tasks().await?,
        actors: actors.unwrap_or_default(),
        // A file system that hangs costs one figure.
        disk_free: timeout(DISK, spawn_blocking(move || disk_free()))
            .await
            .ok()
            .and_then(Result::ok)
            .flatten(),
    })
}
