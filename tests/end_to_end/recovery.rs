//! What outlives a crash of the process, or of one of its parts, at the moments between a promise and its keeping. The real
//! binary, the real engine, the recording master.

mod cancels;
mod crash_points;
mod kill_storm;
mod life;
mod masters;
mod offers;
mod parts;
mod reading;
mod times;
