//! What the actors need of the world, in domain words. Adapters implement these: `engine` (Docker), `grpc` (the master),
//! `journal` (SQLite), `outputs` (folders), and the fakes of the tests. `worker` and `admin` are the other way round: what the
//! master and the operator need of the actors.

pub mod admin;
pub mod audit;
pub mod clock;
pub mod doctor;
pub mod engine;
pub mod engine_log;
pub mod holdings;
pub mod journal;
pub mod master;
pub mod outputs;
pub mod shelf;
pub mod spool;
pub mod state;
pub mod status;
pub mod worker;
