//! What it takes to pass each failpoint: most lie on the way of the ordinary workload, some need a hand, a few cannot be
//! reached by a test of this kind, each with its reason.

use std::process::{Command, Stdio};
use std::time::Duration;

use worker_node::dev_master::{Fault, Method};

use crate::harness::{Cluster, WorkerSetup};

/// How a point is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The ordinary workload passes it.
    Workload,
    /// So it does, with these failpoints more, which make these actors fail too.
    With(&'static str, &'static [&'static str]),
    /// The master forgets the worker.
    Forgotten,
    /// The master refuses the first upload.
    RefusedUpload,
    /// The master refuses the first report.
    RefusedReport,
    /// The master holds the reports back until the point was passed.
    HeldReports,
    /// The master leaves reports without an answer until one is parked; then the operator has it sent again.
    ParkedReport,
    /// Time has to pass while a task runs.
    Time,
    /// The worker is stopped with `--on-stop` of this kind while a task runs.
    Stop(&'static str),
    /// A task's actor fails like this, until it is given up.
    GivenUpTask(&'static str),
    /// An offer kills the registry twice.
    PoisonedOffer,
    /// It is not: why.
    NotReached(&'static str),
}

/// The way to a point.
pub(crate) fn way_to(name: &str) -> Way {
    match name {
        "heartbeat.register_again" | "session.RegisterAgain" => Way::Forgotten,
        "journal.UploadFailed.before" | "journal.UploadFailed.after" => Way::RefusedUpload,
        "journal.ReportFailed.before" | "journal.ReportFailed.after" => Way::RefusedReport,
        // A task that is slow at its beginning: its image is not found at once.
        "journal.Answered.before" | "journal.Answered.after" => {
            Way::With("images.GetImage=1*sleep(700)", &[])
        }
        // A disk that is too slow for the answer to an offer.
        "journal.Withdraw.before" | "journal.Withdraw.after" | "registry.withdrawn" => {
            Way::With("journal.Accept.before=1*sleep(1500)", &[])
        }
        "task.prove_start" | "task.create_anew" => Way::With("task.created=1*panic", &["task"]),
        // A viewer who comes before the task has opened its log.
        "registry.GetStanding" => Way::With("task.started=1*sleep(500)", &[]),
        // Offers that come before the engine's containers are known.
        "registry.settled" => Way::With("engine_watch.listed=1*sleep(900)", &[]),
        "registry.FailOffer" => Way::PoisonedOffer,
        "registry.deliver_without_actor" | "registry.close_without_actor" => {
            Way::GivenUpTask("panic")
        }
        "task.grace_elapsed_again" => Way::HeldReports,
        "janitor.round"
        | "janitor.retire"
        | "janitor.orphans"
        | "janitor.images"
        | "journal.GetHousehold"
        | "registry.reconcile_again" => Way::Time,
        "registry.Drain" => Way::Stop("drain"),
        "registry.StopAll" => Way::Stop("stop"),
        "servers.served" => Way::Stop("leave"),
        "registry.gave_up" => Way::GivenUpTask("4*panic"),
        "outbox.park" | "outbox.RetryParked" | "journal.Parked.before" | "journal.Parked.after" => {
            Way::ParkedReport
        }
        "outbox.DropParked" | "outbox.dropped" => {
            Way::NotReached("an operator has to let go of a parked result")
        }
        "registry.SetCordon" | "registry.cordoned" | "registry.stop_at" => {
            Way::NotReached("an operator has to take the worker out of service")
        }
        "registry.judge_after" => {
            Way::NotReached("it takes two offers of one task within the same commit")
        }
        "journal.Retire.before" | "journal.Retire.after" => {
            Way::NotReached("the least retention is a minute, and rounds are 30 s apart")
        }
        "journal.ImagePulled.before"
        | "journal.ImagePulled.after"
        | "journal.ImageRemoved.before"
        | "journal.ImageRemoved.after" => {
            Way::NotReached("it takes a registry of images, which `engine` has")
        }
        "task.wait_out" => Way::NotReached(
            "it takes an engine or a registry of images that fails for a while, which `engine_faults` has",
        ),
        "task.tell_anew" => {
            Way::NotReached("the journal has to be damaged under the worker, which `state` does")
        }
        "registry.unrepeated_offer" => Way::NotReached(
            "it takes a process that died between a commit and its answer, and 15 s without a master",
        ),
        _ => Way::Workload,
    }
}

/// A worker that parks a report soon, where that is the way.
pub(crate) fn quick_to_park(setup: WorkerSetup, way: Way) -> WorkerSetup {
    match way {
        Way::ParkedReport => {
            setup.arguments(["--report-timeout", "500ms", "--report-doubt", "500ms"])
        }
        _ => setup,
    }
}

/// What the master does from the start on to lead a worker this way.
pub(crate) fn prepare(cluster: &Cluster, way: Way) {
    let refused = || Fault::Refuse("a passing database error".to_owned());
    match way {
        Way::RefusedUpload => cluster.master.inject_times(Method::Upload, refused(), 1),
        Way::RefusedReport => cluster.master.inject_times(Method::Report, refused(), 1),
        Way::HeldReports => cluster.master.inject(Method::Report, Fault::Hold),
        Way::ParkedReport => cluster.master.inject(Method::Report, Fault::Ignore),
        _ => {}
    }
}

/// Once a report is parked the master is mended, and an operator says so again and again: what is parked a moment later is
/// sent again too. Ends with whatever it is raced against.
pub(crate) async fn retry_parked(cluster: &Cluster) {
    let mut again = tokio::time::interval(Duration::from_millis(200));
    let is_parked = |line: &String| line.contains("could not be delivered");
    loop {
        again.tick().await;
        // It may end without such a line.
        if !cluster.worker.process().lines().iter().any(is_parked) {
            continue;
        }
        cluster.master.heal(Method::Report);
        let mut retry = Command::new(env!("CARGO_BIN_EXE_worker-node"));
        retry
            .args(["outbox", "retry", "--state-dir"])
            .arg(cluster.worker.state_dir())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Whoever should obey may be the one that falls.
        let _said = tokio::task::spawn_blocking(move || retry.status()).await;
    }
}
