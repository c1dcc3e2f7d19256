//! The wire contract, hazard by hazard, over the real binary, the real engine and the recording master. Every test ends with
//! `Cluster::finish`, so each of them also asks for a clean verdict on all the other rules, and for nothing left behind.

#[path = "support/harness.rs"]
mod harness;

#[path = "contract/cancels.rs"]
mod cancels;
#[path = "contract/delivery.rs"]
mod delivery;
#[path = "contract/logs.rs"]
mod logs;
#[path = "contract/offers.rs"]
mod offers;
#[path = "contract/room.rs"]
mod room;
#[path = "contract/session.rs"]
mod session;
#[path = "contract/uploads.rs"]
mod uploads;
