//! What the process is told by signals: to end, or (a terminal that closes, a reload by reflex) nothing that it could do.

use std::io;

use log::info;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from its making on; a signal that came meanwhile is not lost.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The name of the next one that asks for the end.
    pub(super) async fn end(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.quit.recv() => return "SIGQUIT",
                _ = self.hangup.recv() => {
                    info!(signal = "SIGHUP"; "the worker goes on: there is nothing to read again, and SIGTERM ends it");
                }
            }
        }
    }
}
