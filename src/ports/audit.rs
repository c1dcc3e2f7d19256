//! The book of who changed what: written by whoever serves a call, kept beside the history of the actors.

use crate::domain::{callers::Caller, id::TaskId};

/// What somebody had done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// A task was accepted.
    Assigned(TaskId),
    /// A task is brought to its end.
    Cancelled(TaskId),
    /// The worker is to follow this master; empty: the one of before.
    Moved(String),
    /// An actor is restarted by hand.
    Restarted(String),
    /// The parked results are sent again.
    Retried,
    /// The result of this task is given up.
    Dropped(String),
    /// New tasks are refused; those that are here may run on for this long, or to their end.
    Cordoned(Option<std::time::Duration>),
    /// An image is pulled ahead of its tasks.
    Pulled(String),
    /// New tasks are taken again.
    Uncordoned,
    /// The configuration was read again; these keys have changed what the worker does.
    Reloaded(Vec<String>),
    /// The log shows other lines; which, in an operator's words.
    LogLevel(String),
}

/// Keeps the book. No caller waits for it.
pub trait Audit: Send + Sync {
    /// Writes down that `caller` had something done.
    fn record(&self, caller: &Caller, deed: Deed);
}

/// Keeps no book.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoAudit;

impl Audit for NoAudit {
    fn record(&self, _: &Caller, _: Deed) {}
}
