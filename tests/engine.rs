//! The Docker adapter over a real engine: `DOCKER_HOST`, else the usual socket. Needs `busybox:latest` there, and Debian's
//! `docker-registry` for the pulls. Every test works under a worker id of its own and removes what it made.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its arrangement fails"
)]

#[path = "engine/away.rs"]
mod away;
#[path = "engine/bench.rs"]
mod bench;
#[path = "engine/config.rs"]
mod config;
#[path = "engine/images.rs"]
mod images;
#[path = "engine/life.rs"]
mod life;
#[path = "engine/log_file.rs"]
mod log_file;
#[path = "engine/output.rs"]
mod output;
#[path = "engine/pull.rs"]
mod pull;
#[path = "engine/registry.rs"]
mod registry;
#[path = "engine/stopping.rs"]
mod stopping;
#[path = "engine/traces.rs"]
mod traces;
#[path = "engine/trial.rs"]
mod trial;
