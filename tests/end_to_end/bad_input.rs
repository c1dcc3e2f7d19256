//! What should not come and comes: tasks that cannot be, callers that do not speak, an engine that is not there, starts that
//! cannot work. Whoever sent it gets a clear answer, and the worker goes on: a good task afterwards succeeds.

mod callers;
mod crowds;
mod engine_away;
mod engine_lacks;
mod messages;
mod other_engine;
mod starts;
mod tasks;
mod words;

use crate::harness::Cluster;

/// Runs a task that must succeed, whatever came before it.
pub(crate) async fn assert_goes_on(cluster: &Cluster) {
    let task = cluster.submit(cluster.task("echo still here")).await;
    let report = cluster.report(&task).await;
    assert_eq!(report.status, "success", "{}", report.logs);
    assert!(report.logs.starts_with("still here\n"), "{:?}", report.logs);
}
