//! The worker node of a CloudAI cluster. `actors.md` is the map. Start reading in [`app`], which wires everything, then
//! [`domain`], where the decisions are, and [`actors`].

pub mod actors;
pub mod app;
pub mod cli;
pub mod config;
pub mod dev_master;
pub mod domain;
pub mod engine;
pub mod exit;
pub mod failpoint;
pub mod grpc;
pub mod handle;
pub mod http;
pub mod journal;
pub mod metrics;
pub mod outputs;
pub mod ports;
pub mod proto;
pub mod spool;
pub mod state_dir;
pub mod supervision;
pub mod telemetry;
