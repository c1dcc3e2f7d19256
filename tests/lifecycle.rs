//! The life of tasks, end to end: the real binary, the real engine, the recording master. Nearly every test ends with
//! `Cluster::finish`: a clean verdict, an orderly stop, and nothing left behind.

#[path = "support/harness.rs"]
mod harness;

#[path = "lifecycle/cancels.rs"]
mod cancels;
#[path = "lifecycle/containers.rs"]
mod containers;
#[path = "lifecycle/crowd.rs"]
mod crowd;
#[path = "lifecycle/endings.rs"]
mod endings;
#[path = "lifecycle/fidelity.rs"]
mod fidelity;
#[path = "lifecycle/hostile.rs"]
mod hostile;
#[path = "lifecycle/in_container.rs"]
mod in_container;
#[path = "lifecycle/logs.rs"]
mod logs;
#[path = "lifecycle/other_user.rs"]
mod other_user;
#[path = "lifecycle/outputs.rs"]
mod outputs;
#[path = "lifecycle/viewers.rs"]
mod viewers;
