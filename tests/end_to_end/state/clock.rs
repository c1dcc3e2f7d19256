//! The time of day jumps, ahead and back, while tasks run and a result waits: nothing ends early, nothing waits a day, nothing
//! that is kept for a while is thrown away. The clock is libfaketime's, which reads how far it is off from a file; the
//! monotonic clock is the machine's own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use worker_node::dev_master::{Fault, Method};

use super::{go, until_go};
use crate::harness::Cluster;
use crate::harness::times;

/// How far the clock is off after each jump.
const JUMPS: &[&str] = &["+1h", "-1d", "+10y", "+0"];

/// The library that lies about the time.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("the system's libraries");
    let mut beneath = folders
        .flatten()
        .map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    let found = beneath.find(|path| path.exists());
    found.expect("libfaketime is installed; tests/with-docker does that")
}

async fn cluster(clock: &Path) -> Cluster {
    fs::write(clock, "+0").expect("written");
    Cluster::start_with(|setup| {
        setup
            // The janitor goes round every second, and keeps less than the clock jumps.
            .arguments(["--orphan-grace", "1s", "--retention", "30m"])
            .variable("LD_PRELOAD", &library().display().to_string())
            .variable("FAKETIME_TIMESTAMP_FILE", &clock.display().to_string())
            .variable("FAKETIME_NO_CACHE", "1")
            .variable("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    })
    .await
}

#[tokio::test]
async fn a_clock_that_jumps_ends_nothing_early_and_lets_nothing_wait() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = folder.path().join("clock");
    let cluster = cluster(&clock).await;
    let long = cluster.run(&until_go("echo after")).await;
    let kept = cluster.submit(cluster.task("echo kept")).await;
    assert_eq!(cluster.report(&kept).await.status, "success");

    for jump in JUMPS.iter().cycle().take(times(4, 40)) {
        cluster.master.inject(Method::Report, Fault::Hold);
        let calls = cluster.master.look(|record| record.calls(Method::Report));
        let waiting = cluster.submit(cluster.task("echo waiting")).await;
        let sent = cluster.master.wait_calls(Method::Report, calls + 1);
        sent.await.expect("a report that is held");
        fs::write(&clock, jump).expect("written");
        let beats = cluster
            .master
            .look(|record| record.calls(Method::Heartbeat));
        let beaten = cluster.master.wait_calls(Method::Heartbeat, beats + 2);
        beaten.await.expect("it beats on");
        cluster.master.heal(Method::Report);
        assert_eq!(cluster.report(&waiting).await.status, "success", "{jump}");
        let next = cluster.submit(cluster.task("echo next")).await;
        assert_eq!(cluster.report(&next).await.status, "success", "{jump}");
    }

    let lines = cluster.worker.process().lines();
    let days: BTreeSet<&str> = lines.iter().filter_map(|line| line.get(..10)).collect();
    assert!(days.len() >= 3, "the clock did not jump: {days:?}");
    let log = cluster.master.watch_log(&kept).wait_end().await;
    assert_eq!(log.expect("it is kept").lines(), ["kept"]);
    assert_eq!(cluster.engine.containers_of(&long).await.len(), 1);
    go(&cluster, &long);
    let report = cluster.report(&long).await;
    assert_eq!(report.status, "success");
    assert!(report.logs.starts_with("after\n"), "{}", report.logs);
    cluster.finish().await;
}
