//! StreamTaskLogs: hazards 5, 6 and 7.

use tonic::Code;
use worker_node::dev_master::{Keep, LogEnd};

use crate::harness::Cluster;

/// What a report's logs and a message may hold.
const LARGEST: usize = 3_670_016;

#[tokio::test]
async fn hazard_05_final_log_status_word() {
    let cluster = Cluster::start().await;
    let silent = cluster.run("true").await;
    let failed = cluster.run("echo out; echo err >&2; exit 3").await;
    let cancelled = cluster.run("echo waiting; exec sleep 600").await;
    let views = [&silent, &failed, &cancelled].map(|task| cluster.master.watch_log(task));
    views[2].wait_line("waiting").await.unwrap();
    assert!(
        cluster
            .master
            .cancel(&cancelled)
            .await
            .unwrap()
            .answer
            .is_success()
    );

    for (view, (task, word)) in views.iter().zip([
        (&silent, "completed"),
        (&failed, "failed"),
        (&cancelled, "cancelled"),
    ]) {
        let report = cluster.report(task).await;
        let early = view.wait_end().await.unwrap();
        let late = cluster.master.watch_log(task).wait_end().await.unwrap();

        assert_eq!(early.final_status(), Some(word), "{task}");
        assert_eq!(late.final_status(), Some(word), "{task}: a late viewer");
        assert_eq!(late.lines(), early.lines(), "{task}: a late viewer");
        let Some(LogEnd::Complete { trailer, .. }) = early.end else {
            panic!("{early:?}")
        };
        assert!(trailer.starts_with("[worker-node] "), "{trailer:?}");
        assert!(
            report.logs.trim_end().ends_with(&trailer),
            "{:?} does not end with {trailer:?}",
            report.logs
        );
    }
    cluster.finish().await;
}

#[tokio::test]
async fn hazard_06_an_unknown_task_is_never_told_in_a_chunk() {
    let cluster = Cluster::start().await;
    // A task that ran proves that the containers are reconciled: before that every id could be one of them.
    let known = cluster.run("true").await;
    cluster.report(&known).await;

    let seen = cluster
        .master
        .watch_log_at(cluster.worker.id(), "nobody", Keep::Lines)
        .wait_end()
        .await
        .unwrap();

    assert_eq!(seen.count, 0, "{seen}");
    let Some(LogEnd::Error(status)) = &seen.end else {
        panic!("{seen}")
    };
    assert_eq!(status.code(), Code::NotFound);
    cluster.finish().await;
}

#[tokio::test]
async fn hazard_07_utf8_and_size_of_every_message() {
    let cluster = Cluster::start().await;
    // 100 bytes a line; bad bytes at the beginning, a line of 3 MB without an end at the end.
    let line = "x".repeat(99);
    let command = format!(
        "printf 'caf\\351 \\377\\n'; echo; yes {line} | head -n 60000; head -c 3000000 /dev/zero | tr '\\0' y; echo; echo the end"
    );
    let task = cluster.submit(cluster.task(&command)).await;
    let log = cluster.master.watch_log(&task);

    let report = cluster.report(&task).await;
    let seen = log.wait_end().await.unwrap();

    assert_eq!(
        report.status,
        "success",
        "{}",
        cluster.worker.process().tail()
    );
    assert!(
        report.logs.len() <= LARGEST,
        "{} bytes of logs",
        report.logs.len()
    );
    assert!(
        report.logs.starts_with("caf\u{FFFD} \u{FFFD}\n"),
        "{:?}",
        report.logs.get(..40)
    );
    assert!(report.logs.contains("\nthe end\n"), "the tail is missing");
    let lines: Vec<String> = seen.lines();
    let expected = 1 + 1 + 60_000 + 1 + 1;
    assert_eq!(lines.len(), expected, "{seen}");
    assert_eq!(lines[0], "caf\u{FFFD} \u{FFFD}");
    assert_eq!(lines[1], " ", "an empty line goes as one space");
    assert_eq!(lines[expected - 2].len(), 3_000_000);
    let bytes = 8 + 60_000 * 100 + 3_000_001 + 8;
    let full = cluster.master.wait_upload(&task).await.unwrap();
    assert!(
        full.files.iter().any(|file| file.size >= bytes),
        "the full log is not among {:?}",
        full.files
    );
    cluster.finish().await;
}
