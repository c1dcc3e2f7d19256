//! The book of who changed what: written by whoever serves a call, kept beside the history of the actors.

use crate::domain::{callers::Caller, id::TaskId};

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// A task was taken.
    Assigned(TaskId),
    /// A task is brought to its end.
    Cancelled(TaskId),
    /// The worker is to be at this master; empty: at the one of before.
    Moved(String),
    /// An actor is restarted by hand.
    Restarted(String),
    /// The results that were put aside are sent again.
    Retried,
    /// The result of this task is given up.
    Dropped(String),
    /// New tasks are refused; those that are here may run on for so long, or to their end.
    Cordoned(Option<std::time::Duration>),
    /// An image is pulled ahead of its tasks.
    Pulled(String),
    /// New tasks are taken again.
    Uncordoned,
    /// The configuration was read anew; these keys of it have changed what the worker does.
    Reloaded(Vec<String>),
    /// The log shows other lines; which, in an operator's words.
    LogLevel(String),
}

/// Keeps the book. Nobody waits for it.
pub trait Audit: Send + Sync {
    /// Writes down that `caller` had something done.
    fn record(&self, caller: &Caller, deed: Deed);
}

/// Keeps none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoAudit;

impl Audit for NoAudit {
    fn record(&self, _: &Caller, _: Deed) {}
}
