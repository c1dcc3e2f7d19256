//! An engine on another machine: its files cannot be read, so what it tells of a container's output is.

use super::tasks::{Gaps, Pace, Printing};
use crate::harness::times;
use crate::harness::{Cluster, FarDoor, OnStop, PrivateEngine, master_options};

const AWAY: &str = "Docker engine away";
const BACK: &str = "Docker engine back";

#[tokio::test]
async fn a_worker_that_is_killed_far_from_its_engine_loses_no_line_and_says_nothing_of_gaps() {
    // Of its own: it remembers 256 events, and shows by those that it has lived while nobody looked.
    let engine = PrivateEngine::start(OnStop::RunOn).await;
    let door = FarDoor::to(engine.socket()).await;
    let address = door.address();
    let mut cluster = Cluster::start_on_by(&engine, address, master_options(), |setup| setup).await;
    let mut printing = [
        Printing::start(&cluster, Pace::Megabyte).await,
        Printing::start(&cluster, Pace::Bursts).await,
        Printing::start(&cluster, Pace::Slow).await,
    ];

    for _ in 0..times(1, 20) {
        printing[1].burst(&cluster).await;
        printing[1].wait_more(5_000).await;
        cluster.kill_worker().await;
        cluster.restart_worker().await;
        for one in &mut printing {
            one.watch_again(&cluster);
        }
        printing[0].wait_more(1_000).await;
    }

    for one in printing {
        one.end(&cluster).await;
        assert_eq!(one.gaps(&cluster).await, Gaps::default());
    }
    cluster.finish().await;
}

#[tokio::test]
async fn an_engine_that_is_killed_far_away_loses_no_line_without_a_word() {
    let engine = PrivateEngine::start(OnStop::RunOn).await;
    let door = FarDoor::to(engine.socket()).await;
    let address = door.address();
    let cluster = Cluster::start_on_by(&engine, address, master_options(), |setup| setup).await;
    let mut printing = [
        Printing::start(&cluster, Pace::Bursts).await,
        Printing::start(&cluster, Pace::Megabyte).await,
        Printing::start(&cluster, Pace::Slow).await,
    ];

    for round in 1..=times(1, 20) {
        printing[0].burst(&cluster).await;
        printing[0].wait_more(5_000).await;
        engine.kill().await;
        cluster.worker.process().wait_lines(AWAY, round).await;
        engine.start_again().await;
        cluster.worker.process().wait_lines(BACK, round).await;
        for one in &printing[1..] {
            one.wait_more(2).await;
        }
    }

    printing[2].excuse_the_engine(&cluster).await;
    for one in &printing {
        one.end(&cluster).await;
    }
    for one in printing {
        one.assert_whole(&cluster).await;
    }
    cluster.finish().await;
}
