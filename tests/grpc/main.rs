//! The gRPC adapters over real sockets: the server above a fake worker, the client against small fake masters. No engine, no
//! actors.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails like the test itself"
)]

#[path = "../support/authority.rs"]
mod authority;
#[path = "../support/dialled.rs"]
mod dialled;

mod batches;
mod calling;
mod crowding;
mod doors;
mod fake_master;
mod fakes;
mod golden;
mod guarding;
mod health;
mod masters_door;
mod serving;
mod streaming;
mod uploading;
mod who_may;
