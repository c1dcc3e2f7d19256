//! The worker node of a CloudAI cluster. `actors.md` is the map; the modules below stand in reading order.

pub mod cli;
pub mod config;
pub mod domain;
pub mod grpc;
pub mod exit;
pub mod engine;
pub mod journal;
pub mod ports;
pub mod supervision;
pub mod actors;
pub mod handle;
pub mod telemetry;
pub mod dev_master;
pub mod proto;
pub mod state_dir;
