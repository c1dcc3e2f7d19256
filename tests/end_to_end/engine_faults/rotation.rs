//! More output than an engine keeps: its files go while nobody reads, or while they are read. What is lost with them is said at
//! the place, and no line of the rest is missing or comes twice.

use super::tasks::{FLOOD, Gaps, Pace, Printing};
use crate::harness::times;
use crate::harness::{Cluster, OnStop, PrivateEngine, WorkerSetup, master_options};

/// The engine keeps four files of 10 MiB, each a little more than a flood.
fn small_files(setup: WorkerSetup) -> WorkerSetup {
    setup.arguments(["--engine-log", "40MiB"])
}

#[tokio::test]
async fn a_log_goes_on_where_it_ended_though_the_first_file_is_gone() {
    let mut cluster = Cluster::start_with(small_files).await;
    let mut printing = Printing::start(&cluster, Pace::Floods).await;
    printing.has_printed(&cluster).await;
    flood(&cluster, &printing, 2).await;
    printing.has_come_to(3 * FLOOD).await;

    cluster.kill_worker().await;
    flood(&cluster, &printing, 2).await;
    started(&mut cluster, &mut printing).await;
    printing.end(&cluster).await;
    let gaps = printing.gaps(&cluster).await;

    assert_eq!(gaps, Gaps::default());
    cluster.finish().await;
}

#[tokio::test]
async fn files_that_went_before_they_were_read_are_told() {
    let mut cluster = Cluster::start_with(small_files).await;
    let mut printing = Printing::start(&cluster, Pace::Floods).await;
    printing.has_printed(&cluster).await;
    printing.has_come_to(FLOOD).await;

    cluster.kill_worker().await;
    flood(&cluster, &printing, 5).await;
    started(&mut cluster, &mut printing).await;
    printing.end(&cluster).await;
    let gaps = printing.gaps(&cluster).await;

    // The engine keeps the three newest of its four files at least.
    let kept = (5 * FLOOD).checked_sub(gaps.missing);
    assert_eq!(gaps.markers, 1, "{gaps:?}");
    assert!(gaps.missing > 0 && kept >= Some(3 * FLOOD), "{gaps:?}");
    cluster.finish().await;
}

#[tokio::test]
async fn files_that_go_while_they_are_read_cost_nothing_in_silence() {
    let engine = PrivateEngine::start(OnStop::RunOn).await;
    let mut cluster = Cluster::start_on(&engine, master_options(), small_files).await;
    let mut printing = Printing::start(&cluster, Pace::Floods).await;

    for _ in 0..times(1, 10) {
        cluster.kill_worker().await;
        started(&mut cluster, &mut printing).await;
        printing.wait_more(1_000).await;
        engine.kill().await;
        cluster.worker.wait_log_line("Docker engine away").await;
        engine.start_again().await;
        cluster.worker.wait_log_line("Docker engine back").await;
        printing.burst(&cluster).await;
        printing.wait_more(1_000).await;
    }

    printing.end(&cluster).await;
    printing.assert_whole(&cluster).await;
    cluster.finish().await;
}

/// Makes it print so much more.
async fn flood(cluster: &Cluster, printing: &Printing, times: usize) {
    for _ in 0..times {
        printing.burst(cluster).await;
        printing.has_printed(cluster).await;
    }
}

/// Starts the worker again, and looks at that task.
async fn started(cluster: &mut Cluster, printing: &mut Printing) {
    cluster.restart_worker().await;
    printing.watch_again(cluster);
}
