//! The engine killed, stopped, frozen, cut off, meddled with: tasks go on where they can, each is reported once with the
//! truth where they cannot, nobody waits for ever, and nothing of anybody else's is touched. The real binary, real engines,
//! the recording master. Full counts with `WORKER_NODE_FULL=1`.

mod bystanders;
mod elsewhere;
mod meddling;
mod memory;
mod orphans;
mod passing;
mod restarts;
mod rotation;
mod stalls;
mod tasks;
mod worker_kills;
