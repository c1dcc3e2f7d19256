//! [`SupervisorHandle`]: the only door to a running supervisor, and the messages behind it.

use std::{fmt, sync::Arc, time::Duration};

use actix::{Addr, Message};
use thiserror::Error;
use tokio::{
    select,
    sync::{oneshot, watch},
    time::{Instant, timeout_at},
};

use super::{actor::SupervisorActor, incarnation::is_current, spec::ChildSpec, view::ChildView};

/// Why a supervisor ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to stop.
    Stopped,
    /// A static child failed for good, or too many arbiters are blocked.
    Escalated {
        /// The child's name.
        child: Arc<str>,
        /// How its last incarnation ended, or how many arbiters are blocked.
        reason: String,
    },
}

/// How the end of a supervisor went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopReport {
    /// Why it ended.
    pub ended: Ended,
    /// Static children in the order in which they came down.
    pub stopped: Vec<Arc<str>>,
    /// Children, static and dynamic, that did not stop in time and were abandoned.
    pub killed: Vec<Arc<str>>,
    /// Dynamic children that existed when the end began.
    pub dynamic_stopped: usize,
    /// Time from the request until the last child was down.
    pub took: Duration,
}

/// Why [`SupervisorHandle::ready`] gave up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReadyError {
    /// Not all static children were up at the deadline.
    #[error("not all children were up in time")]
    Deadline,
    /// The supervisor ended instead.
    #[error("the supervisor ended: {0:?}")]
    Ended(Ended),
}

/// Why a dynamic child was not added.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StartChildError {
    /// A child with this name exists.
    #[error("a child named {0} is there already")]
    DuplicateName(Arc<str>),
    /// The supervisor is ending, or has ended.
    #[error("the supervisor is shutting down")]
    ShuttingDown,
    /// The caller is an incarnation that was replaced; its successor decides what starts.
    #[error("the caller was replaced")]
    Replaced,
}

/// Why a command on a child was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum ChildError {
    /// No child has this name.
    #[error("no such child")]
    Unknown,
    /// The supervisor is ending, or has ended.
    #[error("the supervisor is shutting down")]
    ShuttingDown,
}

/// A running supervisor, from any thread. Dropping all handles changes nothing: it is ended by [`stop`](Self::stop) or by escalation.
#[derive(Clone)]
pub struct SupervisorHandle {
    pub(super) address: Addr<SupervisorActor>,
    pub(super) ready: watch::Receiver<bool>,
    pub(super) report: watch::Receiver<Option<StopReport>>,
}

impl SupervisorHandle {
    /// Waits until all static children have been up.
    ///
    /// # Errors
    /// At the deadline, or when the supervisor ended before.
    pub async fn ready(&self, deadline: Instant) -> Result<(), ReadyError> {
        let mut ready = self.ready.clone();
        let outcome = async {
            select! {
                biased;
                Ok(_) = ready.wait_for(|ready| *ready) => Ok(()),
                ended = self.ended() => Err(ReadyError::Ended(ended)),
            }
        };
        timeout_at(deadline, outcome)
            .await
            .unwrap_or(Err(ReadyError::Deadline))
    }

    /// Adds a dynamic child and sends it to its arbiter; it starts there. Failures from then on are the supervisor's business.
    ///
    /// # Errors
    /// When the name is taken, the supervisor is ending, or the caller was replaced.
    pub async fn start_child(&self, spec: ChildSpec) -> Result<(), StartChildError> {
        if !is_current() {
            return Err(StartChildError::Replaced);
        }
        let sent = self.address.send(StartChild(spec)).await;
        sent.unwrap_or(Err(StartChildError::ShuttingDown))
    }

    /// Stops a child for good and waits until it is down; a dynamic one is then forgotten. Its shutdown timeout bounds the wait.
    ///
    /// # Errors
    /// When there is no such child or the supervisor has ended.
    pub async fn stop_child(&self, name: &str) -> Result<(), ChildError> {
        let sent = self.address.send(StopChild(name.into())).await;
        let down = sent.unwrap_or(Err(ChildError::ShuttingDown))?;
        // The sender is dropped only with the supervisor: then the child is down as well.
        let _ = down.await;
        Ok(())
    }

    /// Stops a child and starts it again, without charge to its budget; one that is down is started. Does not wait for it.
    ///
    /// # Errors
    /// When there is no such child or the supervisor is ending.
    pub async fn restart_child(&self, name: &str) -> Result<(), ChildError> {
        let sent = self.address.send(RestartChild(name.into())).await;
        sent.unwrap_or(Err(ChildError::ShuttingDown))
    }

    /// Stops dynamic children together and then static ones in reverse order, each within its shutdown timeout and all before
    /// `deadline`; what is left then is abandoned.
    pub async fn stop(&self, deadline: Instant) -> StopReport {
        // If the supervisor has ended already, its report is there.
        let _ = self.address.send(StopAll(deadline)).await;
        self.reported().await
    }

    /// Waits for the end of the supervisor.
    pub async fn ended(&self) -> Ended {
        self.reported().await.ended
    }

    /// All children: static ones in start order, then dynamic ones by name. Empty when the supervisor has ended.
    pub async fn children(&self) -> Vec<ChildView> {
        self.address.send(ListChildren).await.unwrap_or_default()
    }

    async fn reported(&self) -> StopReport {
        let mut report = self.report.clone();
        let reported = match report.wait_for(Option::is_some).await {
            Ok(report) => report.clone(),
            Err(_) => None,
        };
        reported.unwrap_or_else(|| StopReport {
            ended: Ended::Escalated {
                child: "supervisor".into(),
                reason: "the supervisor's own actor was lost".to_owned(),
            },
            stopped: Vec::new(),
            killed: Vec::new(),
            dynamic_stopped: 0,
            took: Duration::ZERO,
        })
    }
}

impl fmt::Debug for SupervisorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorHandle")
            .field("ready", &*self.ready.borrow())
            .field("report", &*self.report.borrow())
            .finish()
    }
}

/// Command: add a dynamic child.
#[derive(Message)]
#[rtype(result = "Result<(), StartChildError>")]
pub(super) struct StartChild(pub(super) ChildSpec);

/// Command: stop a child for good. The receiver hears when it is down.
#[derive(Message)]
#[rtype(result = "Result<oneshot::Receiver<()>, ChildError>")]
pub(super) struct StopChild(pub(super) Arc<str>);

/// Command: stop a child and start it again.
#[derive(Message)]
#[rtype(result = "Result<(), ChildError>")]
pub(super) struct RestartChild(pub(super) Arc<str>);

/// Command: end everything before the deadline.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct StopAll(pub(super) Instant);

/// Query: all children.
#[derive(Message)]
#[rtype(result = "Vec<ChildView>")]
pub(super) struct ListChildren;
