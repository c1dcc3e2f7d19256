//! The gRPC adapters over real sockets: the server above a fake worker, the client against small fake masters. No engine, no
//! actors.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails like the test itself"
)]

mod batches;
mod calling;
mod crowding;
mod fake_master;
mod fakes;
mod guarding;
mod serving;
mod streaming;
mod uploading;
