//! The master, as the worker calls it. `grpc` implements it.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use thiserror::Error;

use super::outputs::OutputStore;
use crate::domain::{
    address::{AddressError, HostPort},
    id::{ResultId, TaskId, WorkerId},
    outcome::StatusWord,
    record::OutputFile,
    spec::MachineTotals,
    usage::Usage,
};

/// `host:port` of a master, checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MasterAddress(pub String);

impl MasterAddress {
    /// Checks an address: a host name, an IPv4 address or an IPv6 address in brackets, then a port that is not 0. Whether
    /// anybody is there is another question.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that starts with the address.
    pub fn parse(address: &str) -> Result<Self, AddressError> {
        Ok(Self(address.parse::<HostPort>()?.to_string()))
    }
}

impl fmt::Display for MasterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a registration tells the master.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// This worker's id.
    pub worker: WorkerId,
    /// The address at which the master reaches this worker: always `host:port`.
    pub address: String,
    /// What we can give to tasks: a master that knows of more offers what is refused.
    pub totals: MachineTotals,
}

/// One sign of life.
#[derive(Debug, Clone, PartialEq)]
pub struct Beat {
    /// This worker's id.
    pub worker: WorkerId,
    /// CPU in use, in percent of the machine.
    pub cpu: f64,
    /// Memory in use, in percent of the machine.
    pub memory: f64,
    /// Disk in use, in percent of the file system that holds the state folder.
    pub storage: f64,
    /// GPUs in use, in percent.
    pub gpu: f64,
    /// The tasks that are here, and what they hold.
    pub running: Vec<RunningTask>,
}

/// A task as heartbeats list it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunningTask {
    /// The task's id.
    pub task: TaskId,
    /// Cores held.
    pub cpu: f64,
    /// GiB held.
    pub memory: f64,
    /// GPUs held.
    pub gpu: f64,
    /// The stage that the task is at, for people.
    pub status: &'static str,
}

impl RunningTask {
    /// Whether its end is durable.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_undelivered() || matches!(self.status, "cleaning" | "done")
    }

    /// Whether it has ended, and the master does not know how.
    #[must_use]
    pub fn is_undelivered(&self) -> bool {
        matches!(self.status, "uploading" | "reporting" | "parked")
    }
}

/// The output files of one task.
#[derive(Clone)]
pub struct Upload {
    /// The task's id.
    pub task: TaskId,
    /// The user who submitted it.
    pub user_id: String,
    /// Its name; the adapter replaces `/`.
    pub task_name: String,
    /// When it was submitted, in Unix seconds.
    pub submitted_at: i64,
    /// The files to send, in this order; not empty.
    pub files: Vec<OutputFile>,
    /// The store that the files are read from.
    pub store: Arc<dyn OutputStore>,
    /// The upload has failed after this long without progress.
    pub inactivity: Duration,
    /// The upload has failed after this long in all.
    pub total: Duration,
}

/// What an upload came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Uploaded {
    /// How many files the master says that it received.
    pub received: u32,
    /// What was left out or broke off, and why; one sentence each, in the order of the files.
    pub skipped: Vec<String>,
}

/// A result to deliver.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The task's id.
    pub task: TaskId,
    /// This worker's id.
    pub worker: WorkerId,
    /// The id of the result, the same on every repeat.
    pub result_id: ResultId,
    /// The outcome, in the contract's word.
    pub status: StatusWord,
    /// The task's log: valid UTF-8, cut to the contract's limit, trailer at the end.
    pub logs: String,
    /// Relative paths of the files that were uploaded.
    pub output_files: Vec<String>,
    /// What its container used, where that was seen.
    pub usage: Option<Usage>,
    /// Which image ran; `None`: none did, or it is not known any more.
    pub image: Option<String>,
    /// How long to wait for the answer.
    pub timeout: Duration,
}

/// Why a call to the master did not do what it was for; a variant per decision of the caller.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MasterError {
    /// The connection was never made: nothing has left, try again for ever.
    #[error("the master cannot be reached: {0}")]
    Unreachable(String),
    /// The request may have left and no answer came: the connection was lost.
    #[error("the connection to the master was lost: {0}")]
    Lost(String),
    /// The request may have left and no answer came within the deadline.
    #[error("the master did not answer within {0:?}")]
    Deadline(Duration),
    /// The master answered and said no; its words.
    #[error("the master refused: {0}")]
    Refused(String),
    /// The master does not know this worker (registration was refused, or forgotten).
    #[error("the master does not know this worker: {0}")]
    NotRegistered(String),
    /// The message itself can never pass (too large, not valid).
    #[error("the master cannot take the message: {0}")]
    Unacceptable(String),
    /// None of the files to upload could be read.
    #[error("the output files could not be read: {0}")]
    Source(String),
}

/// The four methods that the master serves. Every call connects by itself within its own deadline.
#[async_trait]
pub trait Master: Send + Sync {
    /// Announces this worker.
    ///
    /// # Errors
    /// See [`MasterError`].
    async fn register(
        &self,
        master: &MasterAddress,
        registration: Registration,
    ) -> Result<(), MasterError>;

    /// Sends one sign of life, within its own deadline, never queued behind other calls.
    ///
    /// # Errors
    /// See [`MasterError`].
    async fn heartbeat(&self, master: &MasterAddress, beat: Beat) -> Result<(), MasterError>;

    /// Sends all files of a task, one after another. A file that is gone or cannot be read any more is left out, said in the
    /// answer, and never keeps the others from being sent.
    ///
    /// # Errors
    /// See [`MasterError`]; `Source` where not a single file could be read: then no stream was opened.
    async fn upload(&self, master: &MasterAddress, upload: Upload)
    -> Result<Uploaded, MasterError>;

    /// Delivers a result.
    ///
    /// # Errors
    /// See [`MasterError`]; `Lost` and `Deadline` are doubts.
    async fn report(&self, master: &MasterAddress, report: Report) -> Result<(), MasterError>;
}
