//! A failed subsystem is alone: every failpoint of every actor under a running worker with real tasks, poison messages, hung
//! actors, and what follows when restarting does not help. The judge of every run is the recording master; the lifecycle log
//! tells who fell.

mod hangs;
mod lifecycle;
mod listing;
mod panics;
mod poison;
mod policy;
pub(crate) mod stimuli;
mod workload;
