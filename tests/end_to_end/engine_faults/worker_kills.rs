//! The worker is killed under tasks that print, one of them at full speed: the next one goes on exactly behind the last byte.

use rustix::process::Signal;

use super::tasks::{FLOOD, Gaps, Pace, Printing};
use crate::harness::Cluster;
use crate::harness::times;

#[tokio::test]
async fn a_worker_that_is_killed_again_and_again_loses_no_line_and_says_nothing_of_gaps() {
    let mut cluster = Cluster::start().await;
    let mut printing = [
        Printing::start(&cluster, Pace::Megabyte).await,
        Printing::start(&cluster, Pace::Bursts).await,
    ];

    for _ in 0..times(2, 20) {
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

/// It may hold a container back of which it reads the stream, and lags behind the engine's files of another one.
#[tokio::test]
async fn a_worker_that_stands_still_under_floods_and_goes_on_lacks_nothing() {
    const FLOODS: u64 = 4;
    let mut cluster = Cluster::start().await;
    let mut from_files = Printing::start(&cluster, Pace::Floods).await;
    cluster.kill_worker().await;
    cluster.restart_worker().await;
    from_files.watch_again(&cluster);
    from_files.has_printed(&cluster).await;
    from_files.has_come_to(FLOOD).await;
    let attached = Printing::start(&cluster, Pace::Floods).await;
    attached.has_printed(&cluster).await;
    attached.has_come_to(FLOOD).await;

    cluster.worker.process().signal(Signal::STOP);
    attached.burst(&cluster).await;
    for _ in 0..FLOODS {
        from_files.burst(&cluster).await;
        from_files.has_printed(&cluster).await;
    }
    cluster.worker.process().signal(Signal::CONT);
    attached.has_printed(&cluster).await;

    for one in [from_files, attached] {
        one.end(&cluster).await;
        assert_eq!(one.gaps(&cluster).await, Gaps::default());
    }
    cluster.finish().await;
}
