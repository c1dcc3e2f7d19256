//! How a development master is set up. Everything here is a plain value with the real master's behaviour as the default;
//! what can change while it runs (faults, the listener) lives in `fault` and `door`.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// Which workers may register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Any worker, as a demonstration wants it.
    Anyone,
    /// Only those an admin has entered, as the real master has it.
    Listed(BTreeSet<String>),
}

/// What heartbeats, reports, registrations and cancels have to wait for in the master.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locking {
    /// One lock for all of them, held by a cancel until the worker answers: the real master.
    Global,
    /// None, for measurements of the worker alone.
    None,
}

/// How many offers are under way at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submissions {
    /// One: a worker that hangs in AssignTask blocks everybody's offers. The real master.
    OneAtATime,
    /// As many as there are tasks, for measurements.
    Parallel,
}

/// The set-up of a [`DevMaster`](super::DevMaster).
#[derive(Clone, Debug)]
pub struct MasterOptions {
    /// The id that MasterRegister has.
    pub master_id: String,
    /// The address to listen at; port 0 picks a free one.
    pub listen: SocketAddr,
    /// The workers that may register.
    pub admission: Admission,
    /// Whether the global lock is simulated.
    pub locking: Locking,
    /// Whether offers are sent one after another.
    pub submissions: Submissions,
    /// Time from the worker's ack of an offer to the master's own writes. A report that comes in between is overwritten.
    pub late_write: Duration,
    /// Time from a refused offer to the next one of the same task.
    pub offer_again: Duration,
    /// Deadline of one AssignTask.
    pub assign_deadline: Duration,
    /// Deadline of one CancelTask.
    pub cancel_deadline: Duration,
    /// Deadline of one MasterRegister.
    pub register_deadline: Duration,
    /// Silence after which a worker counts as inactive and is sent MasterRegister.
    pub inactive_after: Duration,
    /// How often inactive workers are sent MasterRegister.
    pub poke_period: Duration,
    /// The longest silence between two heartbeats that the judge lets pass.
    pub heartbeat_gap: Duration,
    /// The longest time to an answer of AssignTask or CancelTask that the judge lets pass.
    pub answer_within: Duration,
    /// How long the `wait_` methods wait for a fact before they fail and say what they have seen instead.
    pub patience: Duration,
}

impl Default for MasterOptions {
    fn default() -> Self {
        Self {
            master_id: "dev-master".to_owned(),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            admission: Admission::Listed(BTreeSet::new()),
            locking: Locking::Global,
            submissions: Submissions::OneAtATime,
            late_write: Duration::from_millis(20),
            offer_again: Duration::from_secs(5),
            assign_deadline: Duration::from_secs(10),
            cancel_deadline: Duration::from_secs(30),
            register_deadline: Duration::from_secs(5),
            inactive_after: Duration::from_secs(30),
            poke_period: Duration::from_secs(5),
            heartbeat_gap: Duration::from_secs(7),
            // The contract says a second; the rest is for a busy machine.
            answer_within: Duration::from_millis(1500),
            patience: Duration::from_secs(60),
        }
    }
}

impl MasterOptions {
    /// The defaults, with these workers entered by the admin.
    pub fn pre_registered<I>(workers: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<String>,
    {
        let listed = workers.into_iter().map(Into::into).collect();
        Self {
            admission: Admission::Listed(listed),
            ..Self::default()
        }
    }

    /// The defaults, with every worker welcome.
    pub fn for_anyone() -> Self {
        Self {
            admission: Admission::Anyone,
            ..Self::default()
        }
    }
}
