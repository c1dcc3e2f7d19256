//! The supervision library over its public API.

#[path = "supervision/asks.rs"]
mod asks;
#[path = "supervision/basics.rs"]
mod basics;
#[path = "supervision/cast.rs"]
mod cast;
#[path = "supervision/grid.rs"]
mod grid;
#[path = "supervision/shutdown.rs"]
mod shutdown;
#[path = "supervision/threads.rs"]
mod threads;
