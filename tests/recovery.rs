//! What outlives a crash of the process, or of one of its parts, at the moments between a promise and its keeping. The real
//! binary, the real engine, the recording master.

#[path = "support/harness.rs"]
mod harness;

#[path = "recovery/cancels.rs"]
mod cancels;
#[path = "recovery/crash_points.rs"]
mod crash_points;
#[path = "recovery/kill_storm.rs"]
mod kill_storm;
#[path = "recovery/life.rs"]
mod life;
#[path = "recovery/masters.rs"]
mod masters;
#[path = "recovery/offers.rs"]
mod offers;
#[path = "recovery/parts.rs"]
mod parts;
#[path = "recovery/reading.rs"]
mod reading;
#[path = "failpoints/stimuli.rs"]
mod stimuli;
#[path = "recovery/times.rs"]
mod times;
