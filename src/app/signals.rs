//! What the process is told by signals: to end, or (SIGHUP) to read again what lies in files.

use std::{io, sync::Arc};

use log::info;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::reload::Reloader;

/// Listens from its making on; a signal that came meanwhile is not lost.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    /// What SIGHUP has done, once it is there.
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

    /// From now on SIGHUP has everything read again.
    pub(super) fn reload_by(&mut self, reloader: Arc<Reloader>) {
        self.reloader = Some(reloader);
    }

    /// The name of the next one that asks for the end.
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
            // It reads a file.
            tokio::task::spawn_blocking(move || reloader.hung_up());
        }
    }
}
