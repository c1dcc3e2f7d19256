//! The process's own part in the story, while it runs and when it does not.

use serde_json::Value;

use super::{Cluster, asked};

async fn story(cluster: &Cluster) -> Vec<(String, String)> {
    let asked = asked(cluster, &["events", "--actor", "worker", "--json"]).await;
    let lines = String::from_utf8(asked.stdout).expect("UTF-8");
    let events = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let word = |value: &Value| value.as_str().expect("a text").to_owned();
    events
        .map(|event| (word(&event["event"]), word(&event["cause"])))
        .collect()
}

/// What `status` says where nobody runs.
async fn last_seen(cluster: &Cluster) -> String {
    let asked = asked(cluster, &["status"]).await;
    assert_eq!(asked.status.code(), Some(3));
    String::from_utf8(asked.stderr).expect("UTF-8")
}

#[tokio::test]
async fn how_a_worker_ended_is_told_by_its_history_and_by_the_next() {
    let mut cluster = Cluster::start().await;
    cluster.worker.kill().await;
    let told = last_seen(&cluster).await;
    let ended = "ended without a stop, last sign of life 20";
    assert!(told.contains(&format!("the last one {ended}")), "{told}");

    cluster.worker.restart().await;
    let line = cluster.worker.wait_log_line(ended).await;
    assert!(line.contains("WARN"), "{line}");
    cluster.worker.wait_log_line("✓ Worker registered").await;
    assert_eq!(cluster.worker.stop().await, Some(0));

    let told = last_seen(&cluster).await;
    assert!(told.contains("the last one stopped at 20"), "{told}");
    assert!(told.contains(" (SIGTERM)"), "{told}");
    let story = story(&cluster).await;
    let events: Vec<_> = story.iter().map(|(event, _)| event.as_str()).collect();
    assert_eq!(events, ["started", "ended", "started", "stopped"]);
    assert!(story[0].1.starts_with("version 0."), "{story:?}");
}
