//! Carries lifecycle events into the durable history, on a thread of its own: the supervisor's arbiter does no I/O.

use std::{
    io,
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use log::warn;

use crate::{
    ports::clock::Clock,
    supervision::LifecycleEvent,
    telemetry::history::{Book, History, HistoryEvent},
};

/// The supervisor's listener.
#[derive(Clone)]
pub(super) struct Lifecycle {
    events: mpsc::Sender<HistoryEvent>,
    clock: Arc<dyn Clock>,
}

impl Lifecycle {
    pub(super) fn open(folder: &Path, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let history = History::open(folder, Book::Lifecycle)?;
        let (events, queue) = mpsc::channel::<HistoryEvent>();
        thread::Builder::new()
            .name("history".into())
            .spawn(move || {
                for event in queue {
                    if let Err(error) = history.append(&event) {
                        warn!(error:%; "a lifecycle event is not in the history");
                    }
                }
            })?;
        Ok(Self { events, clock })
    }

    pub(super) fn listener(&self) -> Arc<dyn Fn(&LifecycleEvent) + Send + Sync> {
        let this = self.clone();
        Arc::new(move |event| {
            // The thread ends with the process alone.
            let _ = this.events.send(this.entry(event));
        })
    }

    fn entry(&self, event: &LifecycleEvent) -> HistoryEvent {
        let time = jiff::Timestamp::try_from(self.clock.now()).unwrap_or_default();
        HistoryEvent {
            ts: time.to_string(),
            actor: event.actor.to_string(),
            event: event.edge.as_str().to_owned(),
            generation: event.generation,
            cause: event.cause.clone(),
            restarts: event.restarts.map(|restarts| restarts.used),
            intensity: event.restarts.map(|restarts| restarts.of),
            window_ms: event.restarts.map(|restarts| millis(restarts.window)),
            backoff_ms: event.backoff.map(millis),
            duration_ms: event.duration.map(millis),
            uptime_ms: event.uptime.map(millis),
            ..HistoryEvent::default()
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
