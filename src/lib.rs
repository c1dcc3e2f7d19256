//! The worker node of a CloudAI cluster. `actors.md` is the map; the modules below stand in reading order.

pub mod cli;
pub mod config;
pub mod domain;
pub mod exit;
pub mod ports;
pub mod proto;
pub mod state_dir;
pub mod telemetry;
