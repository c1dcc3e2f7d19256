//! gRPC at the border: the server that a master calls and the client that calls a master, both over the generated code of
//! `proto`. `app` starts [`listener::serve`] over a `ports::worker::Worker`, and gives [`client::GrpcMaster`] to the actors as
//! their `ports::master::Master`. The operator's door is beside them, in [`admin`].
//!
//! Wire types end here: what goes inwards is in domain words. Nothing is decided here about tasks, retries or settle times.

pub mod admin;
pub mod client;
pub mod convert;
pub mod health;
pub mod keys;
pub mod listener;
mod server;
mod socket;
mod status;

/// Bytes of the largest call that a worker takes: a command has 128 KiB at most. A larger one is refused by the length that it
/// announces.
pub const CALL_LIMIT: usize = 1024 * 1024;

/// Bytes of the largest message that the master takes, by gRPC's defaults.
pub const MESSAGE_LIMIT: usize = 4 * 1024 * 1024;

/// Bytes of the largest message that the worker sends: less, so that no master's limit is ever met.
pub const SEND_LIMIT: usize = 3 * 1024 * 1024 + 512 * 1024;
