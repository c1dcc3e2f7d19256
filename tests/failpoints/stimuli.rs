//! What it takes to pass each failpoint: most lie on the way of the ordinary workload, some need a hand, a few cannot be
//! reached by a test of this kind, each with its reason.

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
        "registry.FailOffer" | "registry.failed_offer" => Way::PoisonedOffer,
        "registry.deliver_without_actor" | "registry.close_without_actor" => {
            Way::GivenUpTask("panic")
        }
        "task.grace_elapsed_again" => Way::HeldReports,
        "janitor.round" | "janitor.retire" | "janitor.orphans" | "registry.reconcile_again" => {
            Way::Time
        }
        "registry.Drain" => Way::Stop("drain"),
        "registry.StopAll" => Way::Stop("stop"),
        "servers.served" => Way::Stop("leave"),
        "registry.gave_up" => Way::GivenUpTask("4*panic"),
        "outbox.park" | "journal.Parked.before" | "journal.Parked.after" => {
            Way::NotReached("a report is parked after eight refusals, which takes two minutes")
        }
        "journal.Retire.before" | "journal.Retire.after" => {
            Way::NotReached("the least retention is a minute, and rounds are 30 s apart")
        }
        "task.tell_anew" => {
            Way::NotReached("the journal has to be damaged under the worker, which `state` does")
        }
        "registry.unrepeated_offer" => Way::NotReached(
            "it takes a process that died between a commit and its answer, and 15 s without a master",
        ),
        _ => Way::Workload,
    }
}
