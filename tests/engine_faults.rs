//! The engine killed, stopped, frozen, cut off, meddled with: tasks go on where they can, each is reported once with the
//! truth where they cannot, nobody waits for ever, and nothing of anybody else's is touched. The real binary, real engines,
//! the recording master. Full counts with `WORKER_NODE_FULL=1`.

#[path = "support/harness.rs"]
mod harness;

#[path = "engine_faults/bystanders.rs"]
mod bystanders;
#[path = "engine_faults/elsewhere.rs"]
mod elsewhere;
#[path = "engine_faults/meddling.rs"]
mod meddling;
#[path = "engine_faults/memory.rs"]
mod memory;
#[path = "engine_faults/orphans.rs"]
mod orphans;
#[path = "engine_faults/passing.rs"]
mod passing;
#[path = "engine_faults/restarts.rs"]
mod restarts;
#[path = "engine_faults/rotation.rs"]
mod rotation;
#[path = "engine_faults/stalls.rs"]
mod stalls;
#[path = "engine_faults/tasks.rs"]
mod tasks;
#[path = "engine_faults/worker_kills.rs"]
mod worker_kills;

/// How often something is tried: a few times, or as often as a full run does.
fn rounds(few: usize, full: usize) -> usize {
    match std::env::var_os("WORKER_NODE_FULL") {
        Some(_) => full,
        None => few,
    }
}
