//! What should not come and comes: tasks that cannot be, callers that do not speak, an engine that is not there, starts that
//! cannot work. Whoever sent it gets a clear answer, and the worker goes on: a good task afterwards succeeds.

#[path = "support/harness.rs"]
mod harness;

#[path = "bad_input/callers.rs"]
mod callers;
#[path = "bad_input/crowds.rs"]
mod crowds;
#[path = "bad_input/engine_away.rs"]
mod engine_away;
#[path = "bad_input/engine_lacks.rs"]
mod engine_lacks;
#[path = "bad_input/messages.rs"]
mod messages;
#[path = "bad_input/other_engine.rs"]
mod other_engine;
#[path = "bad_input/starts.rs"]
mod starts;
#[path = "bad_input/tasks.rs"]
mod tasks;
#[path = "bad_input/words.rs"]
mod words;

use harness::Cluster;

/// Many in a full run (`WORKER_NODE_FULL`), few in the gate.
pub(crate) fn times(few: usize, many: usize) -> usize {
    match std::env::var_os("WORKER_NODE_FULL") {
        Some(_) => many,
        None => few,
    }
}

/// Runs a task that must succeed, whatever came before it.
pub(crate) async fn assert_goes_on(cluster: &Cluster) {
    let task = cluster.submit(cluster.task("echo still here")).await;
    let report = cluster.report(&task).await;
    assert_eq!(report.status, "success", "{}", report.logs);
    assert!(report.logs.starts_with("still here\n"), "{:?}", report.logs);
}
