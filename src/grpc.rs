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

/// The largest call that a worker takes, in bytes: a command has 128 KiB at most. Refused by the length that it announces.
pub const CALL_LIMIT: usize = 1024 * 1024;

/// A message over this many bytes is refused by gRPC's defaults, on the master's side.
pub const MESSAGE_LIMIT: usize = 4 * 1024 * 1024;

/// What we send stays under this many bytes, so that no master's limit is ever met.
pub const SEND_LIMIT: usize = 3 * 1024 * 1024 + 512 * 1024;
