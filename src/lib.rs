//! The worker node of a CloudAI cluster. `actors.md` is the map; the modules below stand in reading order.

pub mod domain;
pub mod journal;
pub mod outputs;
pub mod ports;
pub mod proto;
pub mod spool;
