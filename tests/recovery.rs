//! What outlives a crash of the process, or of one of its parts, at the moments between a promise and its keeping. The real
//! binary, the real engine, the recording master.

#[path = "support/harness.rs"]
mod harness;

#[path = "recovery/offers.rs"]
mod offers;
#[path = "recovery/parts.rs"]
mod parts;
