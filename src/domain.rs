//! The pure half of the worker: decisions without a clock, randomness, async or logging. Time and jitter are arguments, so every
//! decision can be replayed in a test. Actors and the supervision library ask here and perform what they are told.

pub mod backoff;
pub mod restart;
