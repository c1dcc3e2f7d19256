//! The worker as its callers see it: what the gRPC server needs, in domain words. `WorkerHandle` implements it; so do the
//! fakes in the server's tests. No method fails in silence, and each answers within a second or so, whatever the actors do.

use async_trait::async_trait;
use thiserror::Error;

use super::{
    master::MasterAddress,
    spool::{LogCursor, LogRange},
};
use crate::domain::{id::TaskId, outcome::StatusWord, spec::Offer};

/// The answer to an offer. There is no error: whatever went wrong is a refusal, and the master offers again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssignAnswer {
    /// The task is durable and will be run.
    Accepted,
    /// The same offer was accepted before: nothing runs twice, its result is sent again if it has ended.
    AlreadyAccepted,
    /// The task is not taken now; the words go to the master.
    Refused(String),
}

/// The answer to a cancel. There is no error either: a cancel is kept and carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelAnswer {
    /// The cancel is durable and will be carried out.
    Accepted,
    /// There is no such task.
    NotFound,
    /// The task's result has left; nothing changes.
    AlreadyFinished(StatusWord),
}

/// Why there is no log to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LogsError {
    /// There is no such task, or its retention is over.
    #[error("no such task")]
    UnknownTask,
    /// Not now; try again.
    #[error("the log is not available at the moment, try again")]
    Unavailable,
}

/// Why a master may not move us.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MoveError {
    /// The address is no `host:port`.
    #[error("{0}")]
    Address(String),
    /// `--pin-master` is on and the address is another one.
    #[error("this worker is pinned to its master (--pin-master)")]
    Pinned,
    /// TLS is on, and no caller has to show who it is.
    #[error(
        "this worker follows nobody who has not shown who he is (--tls-ca, --token-file or --allow-from)"
    )]
    Unproven,
    /// Not now; the master calls again.
    #[error("the worker is restarting a part of itself, try again")]
    Unavailable,
}

/// What a master can ask of a worker.
#[async_trait]
pub trait Worker: Send + Sync + 'static {
    /// Offers a task.
    async fn assign(&self, offer: Offer) -> AssignAnswer;

    /// Asks for a task's end.
    async fn cancel(&self, task: TaskId) -> CancelAnswer;

    /// Opens a part of a task's log.
    ///
    /// # Errors
    /// See [`LogsError`].
    async fn open_log(
        &self,
        task: TaskId,
        range: LogRange,
    ) -> Result<Box<dyn LogCursor>, LogsError>;

    /// Tells the worker where its master is from now on (`None`: where it was); it registers there at once.
    ///
    /// # Errors
    /// See [`MoveError`].
    async fn master_is_at(&self, master: Option<MasterAddress>) -> Result<(), MoveError>;
}
