//! The signals that end a demo in order: Ctrl-C, a polite kill, and a terminal that was closed.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::error::DemoError;

/// Listens from its making on; a signal that came meanwhile is not lost.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, DemoError> {
        let on = |kind| signal(kind).map_err(DemoError::machine("cannot listen for signals"));
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            hang_up: on(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
