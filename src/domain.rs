//! Decisions without side effects: every rule of the worker that can be stated as a function of values. Imports the standard
//! library and `thiserror` alone: no clock, randomness, async or logging; `now` and jitter are arguments.
#![warn(clippy::wildcard_enum_match_arm)]

pub mod address;
pub mod admission;
pub mod backoff;
pub mod callers;
pub mod cordon;
pub mod id;
pub mod image_rules;
pub mod limits;
pub mod log_joint;
pub mod log_line;
pub mod outcome;
pub mod patience;
pub mod policy;
pub mod privileges;
pub mod profile;
pub mod recent;
pub mod record;
pub mod restart;
pub mod settle;
pub mod shelf;
pub mod spec;
pub mod storage;
pub mod task;
pub mod task_settings;
pub mod text;
pub mod usage;
