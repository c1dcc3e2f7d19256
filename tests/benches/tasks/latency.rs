//! One task at a time: from AssignTask to the accepted result, beside one bare container of the same kind, in turns.

use std::time::Duration;

use crate::Extent;
use crate::bare::{BareLoop, COMMAND};
use crate::commit::BareCommit;
use crate::figures::{Times, p50_p99, quantile};
use crate::stage::Stage;
use crate::table::Row;

/// What a task may take longer than a bare container, beside the commits on its path, in milliseconds.
const EXTRA_MS: f64 = 10.0;
/// Commits on the path of a task: accepted, ended, sealed. The one for its start overlaps the create.
const COMMITS: f64 = 3.0;

pub(crate) async fn measure(stage: &Stage, bare: &BareLoop, extent: Extent) -> Vec<Row> {
    let (mut task, mut container, mut plain) = <(Times, Times, Times)>::default();
    let mut bare_commits = Times::default();
    let commit = BareCommit::new();
    for pair in 0..extent.pairs {
        // Each goes first as often as the other: what one leaves behind is the other's burden.
        if pair % 2 == 0 {
            container.push(bare.run().await);
            task.push(run(stage).await);
        } else {
            task.push(run(stage).await);
            container.push(bare.run().await);
        }
        if pair % 4 == 0 {
            plain.push(bare.run_plain().await);
        }
        bare_commits.push(commit.time().await);
    }
    let more = task.minus(&container);
    let (extra, limit) = (
        quantile(&more, 0.5),
        EXTRA_MS + COMMITS * bare_commits.p50(),
    );
    vec![
        Row::new("one task at a time: `true`, from AssignTask to the accepted result, without settle time")
            .samples(task.count())
            .bare(p50_p99(&container))
            .worker(p50_p99(&task))
            .compared(format!(
                "{extra:+.1} ms (middle half {:+.1} to {:+.1})",
                quantile(&more, 0.25),
                quantile(&more, 0.75)
            ))
            .budget(format!("<= +10 ms and 3 commits: {limit:.1} ms"), extra <= limit),
        Row::new("the same, beside a container with nothing but image and command")
            .samples(plain.count())
            .bare(p50_p99(&plain))
            .worker(p50_p99(&task)),
        Row::new("a bare commit in between")
            .samples(bare_commits.count())
            .bare(p50_p99(&bare_commits)),
    ]
}

/// With the settle time as it is by default: what a master sees.
pub(crate) async fn with_settle_time(stage: &Stage, extent: Extent) -> Vec<Row> {
    let mut task = Times::default();
    for _ in 0..extent.pairs.min(10) {
        task.push(run(stage).await);
    }
    vec![
        Row::new("one task at a time, with the default settle time (250 ms at least)")
            .samples(task.count())
            .worker(p50_p99(&task)),
    ]
}

/// Runs one task, and waits until nothing is left of it.
async fn run(stage: &Stage) -> Duration {
    let task = stage.task(COMMAND);
    let id = task.task_id.clone();
    stage.offer(task).await;
    let report = stage.report(&id, "success").await;
    let offered = stage
        .master
        .look(|record| Some(record.task(&id)?.offers.first()?.at));
    stage.wait_removed(&id).await;
    report.at - offered.expect("an offer is on record")
}
