//! Writes lifecycle events into the durable history, on a thread of its own, since the supervisor's arbiter does no I/O. The
//! start and the end of the process are events too.

use std::{
    convert::Infallible,
    io,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use log::warn;

use crate::{
    ports::clock::Clock,
    supervision::LifecycleEvent,
    telemetry::{
        history::{Book, History, HistoryEvent, process},
        program,
    },
};

/// How often the history's file is touched while there is nothing to write: so the next process can tell the end of a killed one
/// to the minute.
const SIGN_OF_LIFE: Duration = Duration::from_secs(60);

/// How long the end of the process waits for its last event to be written.
const FAREWELL: Duration = Duration::from_secs(1);

/// The supervisor's listener, and the source of the process's own events.
#[derive(Clone)]
pub(super) struct Lifecycle {
    folder: PathBuf,
    events: mpsc::Sender<Told>,
    clock: Arc<dyn Clock>,
}

enum Told {
    Event(Box<HistoryEvent>),
    /// Asks for everything sent before to be written: then this sender is dropped.
    Last(mpsc::SyncSender<Infallible>),
}

impl Lifecycle {
    pub(super) fn open(folder: &Path, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let history = History::open(folder, Book::Lifecycle)?;
        let (events, queue) = mpsc::channel();
        let now = Arc::clone(&clock);
        thread::Builder::new()
            .name("history".into())
            .spawn(move || write_on(&history, &queue, &*now))?;
        Ok(Self {
            folder: folder.to_owned(),
            events,
            clock,
        })
    }

    pub(super) fn listener(&self) -> Arc<dyn Fn(&LifecycleEvent) + Send + Sync> {
        let this = self.clone();
        Arc::new(move |event| this.send(this.entry(event)))
    }

    /// Records that this process has begun; before that, how the process before it ended, if that one could not tell.
    pub(super) fn begun(&self) {
        match process::untold_end(&self.folder) {
            Ok(None) => {}
            Ok(Some(end)) => {
                warn!("the worker that ran here before ended {end}");
                self.tell(process::ENDED, end);
            }
            Err(error) => warn!(error:%; "how the worker before ended cannot be read"),
        }
        let (version, commit) = (program::VERSION, program::COMMIT);
        let process = std::process::id();
        let what = format!("version {version}, commit {commit}, process {process}");
        self.tell(process::STARTED, what);
    }

    /// Records the end of this process, and waits until all events are written, a second at most.
    pub(super) fn stopped(&self, why: String) {
        self.tell(process::STOPPED, why);
        self.write_all();
    }

    fn write_all(&self) {
        let (last, written) = mpsc::sync_channel(0);
        let _ = self.events.send(Told::Last(last));
        let _ = written.recv_timeout(FAREWELL);
    }

    fn tell(&self, event: &str, cause: String) {
        self.send(HistoryEvent {
            ts: self.now(),
            actor: process::PROCESS.to_owned(),
            event: event.to_owned(),
            cause: Some(cause),
            ..HistoryEvent::default()
        });
    }

    fn send(&self, event: HistoryEvent) {
        // The thread ends with the process alone.
        let _ = self.events.send(Told::Event(Box::new(event)));
    }

    fn now(&self) -> String {
        let time = jiff::Timestamp::try_from(self.clock.now()).unwrap_or_default();
        time.to_string()
    }

    fn entry(&self, event: &LifecycleEvent) -> HistoryEvent {
        HistoryEvent {
            ts: self.now(),
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

fn write_on(history: &History, queue: &mpsc::Receiver<Told>, clock: &dyn Clock) {
    loop {
        let written = match queue.recv_timeout(SIGN_OF_LIFE) {
            Ok(Told::Event(event)) => history.append(&event),
            Ok(Told::Last(last)) => {
                drop(last);
                Ok(())
            }
            Err(mpsc::RecvTimeoutError::Timeout) => history.touch(clock.now()),
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        };
        if let Err(error) = written {
            warn!(error:%; "a lifecycle event is not in the history");
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use crate::{ports::clock::SystemClock, telemetry::history};

    use super::*;

    fn open(folder: &Path) -> Lifecycle {
        Lifecycle::open(folder, Arc::new(SystemClock)).unwrap()
    }

    #[test]
    fn the_story_has_the_beginning_and_the_end_of_each_process() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path());
        first.begun();
        first.stopped("SIGTERM".into());
        let killed = open(folder.path());
        killed.begun();
        killed.write_all();
        let last = open(folder.path());
        last.begun();
        last.stopped("SIGINT".into());

        let told = history::read(folder.path(), Book::Lifecycle).unwrap();
        let told: Vec<_> = told
            .map(|event| (event.event, event.cause.unwrap()))
            .collect();
        let events: Vec<_> = told.iter().map(|(event, _)| event.as_str()).collect();
        assert_eq!(
            events,
            [
                "started", "stopped", "started", "ended", "started", "stopped"
            ]
        );
        assert_eq!(told[1].1, "SIGTERM");
        assert!(told[0].1.starts_with("version "), "{told:?}");
        assert!(told[3].1.starts_with("without a stop, last sign of life 2"));
    }
}
