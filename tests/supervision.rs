//! The supervision library over its public API.

#[path = "supervision/basics.rs"]
mod basics;
#[path = "supervision/cast.rs"]
mod cast;
