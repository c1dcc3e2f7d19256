//! A failed subsystem is alone: every failpoint of every actor under a running worker with real tasks, poison messages, hung
//! actors, and what follows when restarting does not help. The judge of every run is the recording master; the lifecycle log
//! tells who fell.

#[path = "support/harness.rs"]
mod harness;

#[path = "failpoints/hangs.rs"]
mod hangs;
#[path = "failpoints/lifecycle.rs"]
mod lifecycle;
#[path = "failpoints/listing.rs"]
mod listing;
#[path = "failpoints/panics.rs"]
mod panics;
#[path = "failpoints/poison.rs"]
mod poison;
#[path = "failpoints/policy.rs"]
mod policy;
#[path = "failpoints/stimuli.rs"]
mod stimuli;
#[path = "failpoints/workload.rs"]
mod workload;
