//! The wire contract, hazard by hazard, over the real binary, the real engine and the recording master. Every test ends with
//! `Cluster::finish`, so each of them also asks for a clean verdict on all the other rules, and for nothing left behind.

mod cancels;
mod delivery;
mod logs;
mod offers;
mod room;
mod session;
mod uploads;
