//! Which lines the log shows, changed while the worker runs.

use serde_json::Value;

use super::{Cluster, asked, text};

#[tokio::test]
async fn a_log_shows_more_for_a_while_by_order_and_the_book_says_whose() {
    let cluster = Cluster::start().await;
    let at_first = text(&asked(&cluster, &["loglevel"]).await);

    let order = ["loglevel", "operator=debug", "--for", "10m"];
    let told = text(&asked(&cluster, &order).await);

    assert!(
        told.contains("worker_node::telemetry::operator=debug\nfor 10m"),
        "{told}"
    );
    cluster.worker.wait_log_line("DEBUG operator: ").await;
    assert_eq!(
        text(&asked(&cluster, &["loglevel", "reset"]).await),
        at_first
    );
    let book = asked(&cluster, &["events", "--audit", "--json"]).await;
    let book = String::from_utf8(book.stdout).expect("UTF-8");
    let entries = book
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    let orders: Vec<Value> = entries
        .filter(|entry: &Value| entry["event"] == "loglevel")
        .collect();
    assert_eq!(orders[0]["cause"], "operator=debug for 10m", "{book}");
    assert!(orders[0]["user"].is_number(), "{book}");
}

#[tokio::test]
async fn a_name_that_nothing_has_changes_nothing() {
    let cluster = Cluster::start().await;

    let refused = asked(&cluster, &["loglevel", "operatr=debug"]).await;

    assert_eq!(refused.status.code(), Some(2));
    let told = String::from_utf8(refused.stderr).expect("UTF-8");
    assert!(
        told.contains("nothing here is called 'operatr'; write "),
        "{told}"
    );
    let conflict = asked(&cluster, &["loglevel", "reset", "--for", "1m"]).await;
    assert_eq!(conflict.status.code(), Some(2));
}
