//! More output than an engine keeps: its record loses its beginning while nobody reads, or while it is read. What is lost with
//! it is said at the place, and no line of the rest is missing or comes twice.

use crate::harness::{Cluster, EngineProxy, OnStop, PrivateEngine, master_options};
use crate::rounds;
use crate::tasks::{FLOOD, Gaps, Pace, Printing};

/// A record read to where it goes on is cut off after so many bytes; one that has another beginning is not read as far.
const FAR: usize = 2 << 20;

#[tokio::test]
async fn a_record_that_lost_its_beginning_goes_on_where_the_log_ends() {
    let proxy = EngineProxy::start();
    let engine = proxy.address();
    let mut cluster = Cluster::start_with(|setup| setup.arguments(["--engine", &engine])).await;
    let mut printing = Printing::start(&cluster, Pace::Floods).await;
    printing.has_printed(&cluster).await;
    flood(&cluster, &printing, 1).await;
    printing.has_come_to(2 * FLOOD).await;

    // The first file of three goes, and the log ends within the second one.
    cluster.kill_worker().await;
    flood(&cluster, &printing, 1).await;
    // Where it is searched for, and not found from the record's end, the search breaks off, and says nothing.
    proxy.cut_answers("tail=all", FAR, 2);
    started(&mut cluster, &mut printing).await;
    printing.end(&cluster).await;
    let gaps = printing.gaps(&cluster).await;

    assert_eq!(gaps, Gaps::default());
    cluster.finish().await;
}

#[tokio::test]
async fn a_record_that_lost_what_nobody_read_says_so() {
    let mut cluster = Cluster::start().await;
    let mut printing = Printing::start(&cluster, Pace::Floods).await;
    printing.has_printed(&cluster).await;
    printing.has_come_to(FLOOD).await;

    cluster.kill_worker().await;
    flood(&cluster, &printing, 3).await;
    started(&mut cluster, &mut printing).await;
    printing.end(&cluster).await;
    let gaps = printing.gaps(&cluster).await;

    // The engine keeps the newer one of its two files at least.
    let kept = (3 * FLOOD).checked_sub(gaps.missing);
    assert_eq!(gaps.markers, 1, "{gaps:?}");
    assert!(gaps.missing > 0 && kept >= Some(FLOOD), "{gaps:?}");
    cluster.finish().await;
}

#[tokio::test]
async fn a_record_that_loses_its_beginning_while_it_is_read_costs_nothing_in_silence() {
    let engine = PrivateEngine::start(OnStop::RunOn).await;
    let mut cluster = Cluster::start_on(&engine, master_options(), |setup| setup).await;
    let mut printing = Printing::start(&cluster, Pace::Floods).await;

    for _ in 0..rounds(2, 10) {
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
