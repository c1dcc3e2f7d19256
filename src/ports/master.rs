//! The master as the worker calls it.

use std::{fmt, net::SocketAddrV6, sync::Arc, time::Duration};

use async_trait::async_trait;
use thiserror::Error;

use super::outputs::OutputStore;
use crate::domain::{
    id::{ResultId, TaskId, WorkerId},
    outcome::StatusWord,
    record::OutputFile,
    spec::MachineTotals,
    text,
};

/// The longest host name that the DNS knows, in bytes.
const HOST_LIMIT: usize = 253;

/// `host:port` of a master, checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MasterAddress(pub String);

/// A text that is no address of a master; says what is wrong and what is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "the address '{address}' {reason}; give host:port, such as 10.0.0.1:50051 or [fd00::1]:50051"
)]
pub struct AddressError {
    /// What was given, escaped and cut.
    address: String,
    /// The end of a sentence.
    reason: &'static str,
}

impl MasterAddress {
    /// Checks an address: a host name, an IPv4 address or an IPv6 address in brackets, then a port that is not 0.
    /// Whether anybody is there is another question.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(address: &str) -> Result<Self, AddressError> {
        match check_address(address) {
            Ok(()) => Ok(Self(address.to_owned())),
            Err(reason) => Err(AddressError {
                address: text::escape(address, HOST_LIMIT),
                reason,
            }),
        }
    }
}

impl fmt::Display for MasterAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check_address(address: &str) -> Result<(), &'static str> {
    let (host, port) = address.rsplit_once(':').ok_or("has no port")?;
    if !port.bytes().all(|byte| byte.is_ascii_digit()) || !matches!(port.parse::<u16>(), Ok(1..)) {
        return Err("has no port from 1 to 65535");
    }
    if host.is_empty() {
        return Err("has no host");
    }
    if host.starts_with('[') {
        return match address.parse::<SocketAddrV6>() {
            Ok(_) => Ok(()),
            Err(_) => Err("holds no IPv6 address in its brackets"),
        };
    }
    if host.contains(':') {
        return Err("has an IPv6 address without brackets, or too many colons");
    }
    // Underscores are no letters of the DNS, but container networks give such names.
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if host.len() > HOST_LIMIT || !host.bytes().all(allowed) {
        return Err("has a host that is no name");
    }
    Ok(())
}

/// What a registration tells.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// Who we are.
    pub worker: WorkerId,
    /// Where we are reached: always `host:port`.
    pub address: String,
    /// What we have.
    pub totals: MachineTotals,
}

/// One sign of life.
#[derive(Debug, Clone, PartialEq)]
pub struct Beat {
    /// Who we are.
    pub worker: WorkerId,
    /// Percent of the machine.
    pub cpu: f64,
    /// Percent of the machine.
    pub memory: f64,
    /// Percent of the file system that holds the state folder.
    pub storage: f64,
    /// Percent of the GPUs.
    pub gpu: f64,
    /// What runs, and what it holds.
    pub running: Vec<RunningTask>,
}

/// A task as heartbeats list it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunningTask {
    /// Which.
    pub task: TaskId,
    /// Cores held.
    pub cpu: f64,
    /// GiB held.
    pub memory: f64,
    /// GPUs held.
    pub gpu: f64,
    /// Where it stands, for people.
    pub status: &'static str,
}

/// The output files of one task.
#[derive(Clone)]
pub struct Upload {
    /// Whose.
    pub task: TaskId,
    /// Who submitted it.
    pub user_id: String,
    /// Its name; the adapter replaces `/`.
    pub task_name: String,
    /// Unix seconds.
    pub submitted_at: i64,
    /// What to send, in this order; not empty.
    pub files: Vec<OutputFile>,
    /// Where the files are read from.
    pub store: Arc<dyn OutputStore>,
    /// Without progress for this long the upload has failed.
    pub inactivity: Duration,
    /// It takes no longer than this in all.
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
    /// Whose.
    pub task: TaskId,
    /// By whom.
    pub worker: WorkerId,
    /// The same on every repeat.
    pub result_id: ResultId,
    /// The contract's word.
    pub status: StatusWord,
    /// Valid UTF-8, cut to the contract's limit, trailer at the end.
    pub logs: String,
    /// Relative paths of what was uploaded.
    pub output_files: Vec<String>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for good in [
            "10.0.0.1:50051",
            "master:1",
            "cloud_master.local:65535",
            "[::1]:50051",
            "0.0.0.0:50051",
        ] {
            assert_eq!(
                MasterAddress::parse(good),
                Ok(MasterAddress(good.into())),
                "{good}"
            );
        }
        for bad in [
            "",
            "master",
            "master:",
            ":50051",
            "master:0",
            "master:65536",
            "master:+1",
            "::1:50051",
            "[::1]",
            "[::1:50051",
            "[master]:50051",
            "http://master:50051",
            "user@master:50051",
            "a b:50051",
            "master\n:50051",
        ] {
            assert!(MasterAddress::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_bad_address_is_told_without_its_control_characters() {
        let error = MasterAddress::parse("a\x1b[2J:1").unwrap_err();

        assert_eq!(
            error.to_string(),
            "the address 'a\\u{1b}[2J:1' has a host that is no name; give host:port, such as 10.0.0.1:50051 or [fd00::1]:50051"
        );
    }
}
