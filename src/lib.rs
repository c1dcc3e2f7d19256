//! The worker node of a CloudAI cluster. `actors.md` is the map; the modules below stand in reading order.

pub mod dev_master;
pub mod proto;
