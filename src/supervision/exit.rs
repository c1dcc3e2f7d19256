//! How an incarnation of a child ended. The watch reports it; the supervisor adds `Hung`; views and events show it.

use std::fmt;

use crate::domain::restart::Ending;

/// The end of one incarnation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// The context ended by itself or on request, and the actor did not call it a failure.
    Stopped,
    /// The actor called [`fail`](super::fail), its factory returned an error, or its thread could not be had.
    Failed(String),
    /// The factory, `started`, a handler, a future on the context, `stopping`, `stopped` or the actor's destructor panicked.
    Panicked {
        /// The panic's message.
        message: String,
        /// `file:line:column`, empty where the panic hook is not installed.
        location: String,
    },
    /// The incarnation was dropped before its end, since its arbiter was stopped.
    Dropped,
    /// The incarnation did not answer a ping, or did not stop, within its time. It was fenced off, and what still runs of it is
    /// ignored.
    Hung,
}

impl Exit {
    /// The end as the restart decision sees it.
    #[must_use]
    pub fn ending(&self) -> Ending {
        match self {
            Self::Stopped => Ending::Normal,
            Self::Failed(_) | Self::Panicked { .. } | Self::Dropped | Self::Hung => Ending::Failure,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => f.write_str("stopped"),
            Self::Failed(reason) => write!(f, "failed: {reason}"),
            Self::Panicked { message, location } if location.is_empty() => {
                write!(f, "panicked: {message}")
            }
            Self::Panicked { message, location } => write!(f, "panicked at {location}: {message}"),
            Self::Dropped => f.write_str("dropped with its arbiter"),
            Self::Hung => f.write_str("hung"),
        }
    }
}
