//! The worker node of a CloudAI cluster. `actors.md` is the map; the modules below stand in reading order.

pub mod cli;
pub mod config;
pub mod exit;
pub mod app;
pub mod handle;
pub mod domain;
pub mod ports;
pub mod supervision;
pub mod actors;
pub mod engine;
pub mod grpc;
pub mod journal;
pub mod spool;
pub mod outputs;
pub mod state_dir;
pub mod telemetry;
pub mod dev_master;
pub mod proto;
pub mod spool;
