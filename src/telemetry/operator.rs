//! The log lines by which operators know the existing worker, one function each: its text word for word, with the values behind
//! it as fields for machines. The part that does a thing calls its function; `voice` decides at which level.

use std::{fmt::Display, net::SocketAddr, path::Path, time::Duration};

use log::{Level, debug, error, info, log, warn};
use tokio::time::Instant;

use super::{
    program,
    voice::{Outage, Trouble},
};
use crate::{
    domain::{
        callers::AllowFrom,
        cordon::Cordon,
        id::{Attempt, ContainerId, TaskId, WorkerId},
        outcome::{Exit, Outcome},
        spec::TaskSpec,
        text::escape,
    },
    ports::{
        admin::LogLevel,
        master::{MasterAddress, Registration},
    },
};

/// Most bytes that a line's text shows of a text from outside; the whole of it is in the line's field.
const SHOWN: usize = 256;

/// The process begins: its version, the worker's id, its state folder and its engine.
pub fn starting(worker: &WorkerId, state: &Path, engine: &dyn Display) {
    let (version, commit, process) = (program::VERSION, program::COMMIT, std::process::id());
    let state = state.display();
    info!(worker:%, version, commit, process, state:%, engine:%; "Starting worker node: {worker}");
}

/// The address of the master that is called.
pub fn master_address(master: &MasterAddress) {
    info!(master = master.0; "Master address: {}", master.0);
}

/// The listener is bound.
pub fn listening(address: SocketAddr) {
    info!(address:%; "✓ gRPC server listening on {address}");
}

/// The HTTP door is bound.
pub fn answering_http(address: SocketAddr) {
    info!(address:%; "answering over HTTP on {address}: /metrics, /healthz, /readyz");
}

/// The port is open to others than this machine and the master, and callers need neither a certificate nor a token.
pub fn open_port(address: SocketAddr, allow: &AllowFrom) {
    let tasks = match allow.admits_tasks() {
        true => "tasks included",
        false => "but tasks",
    };
    warn!(
        address:%, allow_from:% = allow;
        "anyone who reaches {address} ({tasks}) can run containers here and read their output: --allow-from master keeps it to the \
         master's addresses, --tls-cert, --tls-key and --tls-ca to those who show a certificate, --token-file to those who know a token, -port 127.0.0.1:50052 to this machine; \
         --pin-master keeps others from moving this worker"
    );
}

/// From now on the worker takes offers.
pub fn ready() {
    info!("✓ Ready to receive tasks");
}

/// The master has accepted the registration.
pub fn registered(master: &MasterAddress, registration: &Registration) {
    let Registration {
        worker,
        address,
        totals,
    } = registration;
    info!(
        worker:%, address = address.as_str(), master = master.0, cpu = totals.cpu,
        memory_gib = rounded(totals.memory), storage_gib = rounded(totals.storage), gpu = totals.gpu;
        "✓ Worker registered: {worker} at {address}"
    );
}

/// The master refuses the registration: said once, with the command that its administrator has to type.
pub fn registration_refused(outage: &mut Outage, registration: &Registration, reason: &str) {
    let Registration {
        worker, address, ..
    } = registration;
    log!(
        outage.again(), worker:%, address = address.as_str(), reason;
        "The master refuses this worker; its administrator must type: register {worker} {address} (tried again until then)"
    );
}

/// The master cannot be reached: said once until it can.
pub fn master_away(away: &mut Trouble, master: &MasterAddress, reason: &dyn Display) {
    log!(
        away.again(Instant::now()), master = master.0, reason:%;
        "Master away: {} (tried again until it is there)", master.0
    );
}

/// The master answers again; silent if it did all the time.
pub fn master_back(away: &mut Trouble, master: &MasterAddress) {
    if let Some(after) = away.over(Instant::now()) {
        let after = humantime::format_duration(after);
        info!(master = master.0; "✓ Master back after {after}: {}", master.0);
    }
}

/// An operator has taken the worker out of service, or put it back.
pub fn cordoned(cordon: Option<&Cordon>) {
    match cordon {
        Some(Cordon { by, stop_at, .. }) => {
            let stop_at = stop_at.map(|at| humantime::format_rfc3339_seconds(at).to_string());
            warn!(by, stop_at:?; "Cordoned by {by}: no new tasks are taken until `worker-node uncordon`");
        }
        None => info!("✓ Uncordoned: new tasks are taken again"),
    }
}

/// An operator has changed which lines are shown.
pub fn log_level(level: &LogLevel) {
    let LogLevel { in_force, left, .. } = level;
    match left.map(humantime::format_duration) {
        Some(left) => info!("Log level for {left}: {in_force}"),
        None => info!("Log level: {in_force}"),
    }
}

/// The master has announced another address, which is used from now on.
pub fn master_moved(from: &MasterAddress, to: &MasterAddress) {
    info!(
        from = from.0, to = to.0;
        "Master address: {} (was {}; whoever is there announced it, it outlives a restart, and --pin-master refuses the next)", to.0, from.0
    );
}

/// Rounds to two decimals: a reader of the log needs no more.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// The master has taken a heartbeat. The level is `voice::HeartbeatVoice`'s.
pub fn heartbeat_sent(level: Level, cpu: f64, memory: f64, tasks: usize) {
    let (cpu, memory) = (rounded(cpu), rounded(memory));
    log!(level, cpu, memory, tasks; "Heartbeat sent: CPU={cpu:.1}%, Memory={memory:.1}%, Tasks={tasks}");
}

/// A heartbeat has failed. The level is `voice::HeartbeatVoice`'s.
pub fn heartbeat_failed(level: Level, reason: &dyn Display) {
    log!(level, reason:%; "Heartbeat failed");
}

/// A heartbeat has no room for all tasks: said once, until one has.
pub fn heartbeat_cut(left_out: usize) {
    warn!(left_out; "Heartbeats list not all tasks: {left_out} with the longest ids do not fit");
}

/// The engine cannot be reached: said once until it can.
pub fn engine_away(outage: &mut Outage, address: &str, reason: &dyn Display) {
    log!(
        outage.again(), address, reason:%;
        "Docker engine away: {address}; running tasks are left alone, new ones are refused for now"
    );
}

/// The engine answers again; silent if it did all the time.
pub fn engine_back(outage: &mut Outage, address: &str, version: &str) {
    if outage.over() {
        info!(address, version; "✓ Docker engine back");
    }
}

/// An offer was accepted.
pub fn task_received(spec: &TaskSpec) {
    let TaskSpec {
        id, image, wants, ..
    } = spec;
    let shown = escape(image, SHOWN);
    info!(
        task:% = id, image = image.as_str(), cpu = wants.cpu, memory_gib = wants.memory,
        storage_gib = wants.storage, gpu = wants.gpu;
        "Received task assignment: {id} (Image: {shown})"
    );
}

/// An offer was refused for now. The master repeats it every 5 s, so [`RefusalVoice`](super::voice::RefusalVoice) decides the
/// level.
pub fn task_refused(level: Level, task: &TaskId, reason: &str) {
    let shown = escape(reason, SHOWN);
    log!(level, task:%, reason; "Refused task assignment: {task}: {shown}");
}

/// This many refusals of the last minute were shown at debug level only, since there were too many.
pub fn refusals_not_shown(count: u64) {
    info!(count; "{count} more refused task assignments are not shown one by one (RUST_LOG=operator=debug shows them)");
}

/// The master cancels a task, and the worker begins to end it.
pub fn task_cancelling(task: &TaskId) {
    info!(task:%; "Cancelling task: {task}");
}

/// Work on a task begins, or goes on after a restart.
pub fn task_starting(task: &TaskId, attempt: Attempt) {
    debug!(task:%, attempt; "[Task {task}] Starting execution...");
}

/// The task's container is being created.
pub fn task_creating(task: &TaskId) {
    debug!(task:%; "[Task {task}] Creating container...");
}

/// The task's container is being started.
pub fn task_container_starting(task: &TaskId, container: &ContainerId) {
    debug!(task:%, container:%; "[Task {task}] Starting container: {container}");
}

/// The task's container runs.
pub fn task_running(task: &TaskId) {
    debug!(task:%; "[Task {task}] Waiting for completion...");
}

/// After a restart of the worker, the task's container was found running.
pub fn task_adopted(task: &TaskId, container: &ContainerId) {
    info!(task:%, container:%; "[Task {task}] Found its container again: {container}");
}

/// The upload of the task's output files begins.
pub fn task_uploading(task: &TaskId, files: usize) {
    debug!(task:%, files; "[Task {task}] Uploading {files} output file(s)...");
}

/// The task has ended and its outcome is durable; the master is not told yet.
pub fn task_ended(task: &TaskId, outcome: &Outcome) {
    debug!(task:%; "[Task {task}] Its end is known: {}", escape(&outcome.to_string(), SHOWN));
}

/// How a task ended, for the one line about it.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// The outcome that the master is told.
    pub outcome: &'a Outcome,
    /// The container's exit; `None` if none ran.
    pub exit: Option<&'a Exit>,
    /// The image that the task asked for, or that ran.
    pub image: &'a str,
}

/// Whether the master has the task's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reported {
    /// The master has taken it.
    Yes,
    /// The first report failed; it is tried again.
    NotYet,
}

/// The one line about a task's end, logged after the first try to report it.
pub fn task_over(task: &TaskId, end: End<'_>, reported: Reported) {
    let End {
        outcome,
        exit,
        image,
    } = end;
    let said = match outcome {
        Outcome::Succeeded => "✓ Completed successfully".to_owned(),
        Outcome::Cancelled => "✓ Cancelled".to_owned(),
        Outcome::Failed(failure) => format!("✗ Failed: {}", escape(&failure.to_string(), SHOWN)),
    };
    let reported = match reported {
        Reported::Yes => "yes",
        Reported::NotYet => "not yet",
    };
    let Some(exit) = exit else {
        info!(task:%, image, reported; "[Task {task}] {said}");
        return;
    };
    let (exit_code, duration_s) = (exit.code, rounded(exit.duration.as_secs_f64()));
    match &exit.usage {
        #[expect(clippy::cast_precision_loss, reason = "shown with two decimals")]
        Some(usage) => {
            let cpu_s = rounded(usage.cpu.as_secs_f64());
            let peak_mib = rounded(usage.peak_memory as f64 / 1_048_576.0);
            info!(task:%, exit_code, duration_s, cpu_s, peak_mib, image, reported; "[Task {task}] {said}");
        }
        None => info!(task:%, exit_code, duration_s, image, reported; "[Task {task}] {said}"),
    }
}

/// The master has taken the result. `Level::Info` where [`task_over`] was said before that.
pub fn task_reported(level: Level, task: &TaskId) {
    log!(level, task:%; "[Task {task}] ✓ Task result reported");
}

/// The master takes no results: said once for all results, by the first that fails.
pub fn results_wait(task: &TaskId, reason: &dyn Display) {
    warn!(task:%, reason:%; "Results wait: the master does not take them (tried again until it does)");
}

/// The master takes results again, after `after`; `waiting` results waited for that.
pub fn results_flow(after: Duration, waiting: usize) {
    let seconds = after.as_secs();
    info!(seconds, waiting; "✓ The master takes results again after {seconds} s; {waiting} waited for it");
}

/// The master refuses a result: said once. The report is tried some more times.
pub fn result_refused(task: &TaskId, reason: &dyn Display) {
    warn!(task:%, reason:%; "[Task {task}] Task result not reported yet");
}

/// A result is given up: it is not sent any more.
pub fn result_dropped(task: &TaskId, why: &str) {
    error!(task:%, why; "[Task {task}] ✗ Task result was never taken by the master; it is given up ({why})");
}

/// A result is parked: it is tried seldom, until an operator acts.
pub fn task_parked(task: &TaskId, reason: &str) {
    error!(task:%, reason; "[Task {task}] ✗ Task result could not be delivered; kept, and tried again now and then");
}
