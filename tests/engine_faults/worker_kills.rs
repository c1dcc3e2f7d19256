//! The worker is killed under tasks that print, one of them at full speed: the next one goes on exactly behind the last byte.

use crate::harness::Cluster;
use crate::rounds;
use crate::tasks::{Gaps, Pace, Printing};

#[tokio::test]
async fn a_worker_that_is_killed_again_and_again_loses_no_line_and_says_nothing_of_gaps() {
    let mut cluster = Cluster::start().await;
    let mut printing = [
        Printing::start(&cluster, Pace::Megabyte).await,
        Printing::start(&cluster, Pace::Bursts).await,
    ];

    for _ in 0..rounds(4, 20) {
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
