//! The state folder: looked at, damaged, lost, full, bounded, and under a clock that jumps. The real binary, the real engine,
//! the recording master.

mod clock;
mod damage;
mod filled;
mod full;
mod looked_at;
mod lost;
mod samples;

use std::path::PathBuf;

use crate::harness::Cluster;
use sha2::{Digest as _, Sha256};

/// What the state folder calls everything of a task.
pub(crate) fn file_name(task: &str) -> String {
    let digest = Sha256::digest(task);
    digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Where a task's output folder lies.
pub(crate) fn outputs_of(cluster: &Cluster, task: &str) -> PathBuf {
    let outputs = cluster.worker.state_dir().join("outputs");
    outputs.join(file_name(task))
}

/// A command that runs until its test says `go`, and then this one.
pub(crate) fn until_go(then: &str) -> String {
    format!("while [ ! -e /output/go ]; do sleep 0.05; done; rm /output/go; {then}")
}

/// Lets such a task go on.
pub(crate) fn go(cluster: &Cluster, task: &str) {
    let go = outputs_of(cluster, task).join("go");
    std::fs::File::create(go).expect("the task has an output folder");
}
