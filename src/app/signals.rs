//! The signals that the process obeys: to end, or (SIGHUP) to read its configuration again.

use std::{io, sync::Arc};

use log::info;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::reload::Reloader;

/// Listens from its creation on: a signal that comes before it is waited for is not lost.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    /// Carries out SIGHUP; `None` until the worker is built.
    reloader: Option<Arc<Reloader>>,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            reloader: None,
        })
    }

    /// From now on SIGHUP makes `reloader` reload the configuration.
    pub(super) fn reload_by(&mut self, reloader: Arc<Reloader>) {
        self.reloader = Some(reloader);
    }

    /// Waits for the next signal that asks for the end, and returns its name. Carries out SIGHUP meanwhile.
    pub(super) async fn end(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.quit.recv() => return "SIGQUIT",
                _ = self.hangup.recv() => self.hung_up(),
            }
        }
    }

    fn hung_up(&self) {
        info!(signal = "SIGHUP"; "the worker goes on, and reads its configuration again, certificates and token where it has any; SIGTERM ends it");
        if let Some(reloader) = self.reloader.clone() {
            // On a blocking thread: it reads a file.
            tokio::task::spawn_blocking(move || reloader.hung_up());
        }
    }
}
