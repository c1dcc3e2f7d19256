//! The actors: thin shells that perform what `domain` decides, over `ports`. `actors.md` has the tree, the messages and the
//! guarantees.
//!
//! They know no tonic, no bollard, no SQL and no files. They hold slots of each other, never addresses, and everything that
//! must outlive them is in the journal, the spool or the engine.

pub mod engine_watch;
pub mod heartbeat;
pub mod images;
pub mod janitor;
pub mod journal;
pub mod log_router;
pub mod news;
pub mod outbox;
pub mod registry;
pub mod servers;
pub mod session;
pub mod task;
