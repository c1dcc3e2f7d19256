//! The worker from without: the real binary, the real engine, the recording master. One program of all suites, so that what they
//! stand on is built once, and a suite that waits for an engine leaves the cores to the others. `cargo test --test end_to_end
//! recovery::` runs one of them.

#[path = "../support/authority.rs"]
mod authority;
#[path = "../support/dialled.rs"]
mod dialled;
#[path = "../support/harness.rs"]
mod harness;

mod admin;
mod bad_input;
mod contract;
mod demo;
mod doors;
mod engine_faults;
mod failpoints;
mod http;
mod lifecycle;
mod recovery;
mod service;
mod state;
mod tools;
