//! The observer: one page that shows the worker alive, its actors, its tasks and their logs. The page asks for a snapshot once a
//! second (`/api/v1/observer`), which holds the state of everything and the events that are new to the page, and reads the log of a
//! task as a stream (`/api/v1/tasks/TASK/log`). The page is embedded here, loads nothing from elsewhere, and writes what it is told
//! as text alone.

mod log;
mod snapshot;

pub(super) use self::log::Readers;

use std::{convert::Infallible, future::pending, sync::Arc};

use axum::{
    Router,
    extract::{Path, RawQuery, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::sync::watch;

use super::{Desk, reading};
use crate::{grpc::listener::Connection, metrics::Metrics, ports::master::RunningTask};

/// The page's content security policy: it runs and loads nothing of a stranger's, and no other page shows it as its own.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// How many of a log's last lines a page begins with, unless it asks for more.
const TAIL: u64 = 1_000;

pub(super) fn routes() -> Router<Desk> {
    Router::new()
        .route("/", get(page))
        .route("/observer.css", get(style))
        .route("/observer.js", get(script))
        .route("/api/v1/observer", get(snapshot))
        .route("/api/v1/tasks/{task}/log", get(log))
}

/// Notes when tasks come to another stage, as the board shows them.
pub(super) async fn watch_stages(
    mut tasks: watch::Receiver<Arc<Vec<RunningTask>>>,
    metrics: Arc<Metrics>,
) -> Infallible {
    loop {
        let now = Arc::clone(&tasks.borrow_and_update());
        metrics.timeline().stages(&now);
        if tasks.changed().await.is_err() {
            // The registry is gone and does not come back: the worker ends.
            pending::<()>().await;
        }
    }
}

async fn page() -> Response {
    asset(
        "text/html; charset=utf-8",
        include_str!("observer/page.html"),
    )
}

async fn style() -> Response {
    asset(
        "text/css; charset=utf-8",
        include_str!("observer/observer.css"),
    )
}

async fn script() -> Response {
    asset(
        "text/javascript; charset=utf-8",
        include_str!("observer/observer.js"),
    )
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // The page is asked for each time: the next worker at this address may be a newer one.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

async fn snapshot(State(desk): State<Desk>, RawQuery(query): RawQuery) -> Response {
    let asked = |name| number(query.as_deref(), name).unwrap_or(0);
    // A number that an earlier process has counted means nothing here.
    let is_ours = asked("process") == u64::from(std::process::id());
    let since = if is_ours { asked("since") } else { 0 };
    match reading(&desk.door).await {
        Ok(reading) => {
            let news = desk.door.metrics.timeline().since(since);
            let page = snapshot::json(&reading, &news);
            let headers = [
                (header::CONTENT_TYPE, "application/json"),
                (header::CACHE_CONTROL, "no-store"),
            ];
            (headers, page.to_string()).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

async fn log(
    State(desk): State<Desk>,
    Path(task): Path<String>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response {
    let lines = number(query.as_deref(), "tail").unwrap_or(TAIL);
    let connection = request.extensions().get::<Connection>();
    let answers = connection.map(Connection::answers);
    log::stream(&desk, &task, lines, answers).await
}

/// The value of a parameter of a query, where it has one that is a number.
fn number(query: Option<&str>, name: &str) -> Option<u64> {
    let pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    let mut values = pairs
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value);
    values.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_found_by_its_name() {
        assert_eq!(number(Some("a=1&since=17"), "since"), Some(17));
        for none in [
            None,
            Some(""),
            Some("since"),
            Some("since=-1"),
            Some("xsince=1"),
        ] {
            assert_eq!(number(none, "since"), None, "{none:?}");
        }
    }

    #[test]
    fn the_page_names_no_other_place() {
        for text in [
            include_str!("observer/page.html"),
            include_str!("observer/observer.css"),
            include_str!("observer/observer.js"),
        ] {
            let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!elsewhere.contains("://"));
            assert!(!text.contains("innerHTML"));
        }
    }
}
