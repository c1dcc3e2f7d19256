//! What the process is told by signals: to end, or (SIGHUP) to read again what lies in files.

use std::{io, sync::Arc};

use log::info;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::grpc::keys::Keys;

/// Listens from its making on; a signal that came meanwhile is not lost.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    hangup: Signal,
    /// Read again at SIGHUP, once they are there.
    keys: Option<Arc<Keys>>,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            keys: None,
        })
    }

    /// From now on SIGHUP has these read again.
    pub(super) fn read_again(&mut self, keys: Arc<Keys>) {
        self.keys = Some(keys);
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
        info!(signal = "SIGHUP"; "the worker goes on, and reads certificates and the token again where it has any; SIGTERM ends it");
        if let Some(keys) = &self.keys {
            keys.read_again();
        }
    }
}
