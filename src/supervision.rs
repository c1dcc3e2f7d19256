//! Supervision in the manner of Erlang/OTP for actix actors: an actor that stops, panics or hangs is noticed once, replaced by a fresh one
//! from its factory within a budget, and given up or escalated when the budget is spent.
//!
//! ```text
//!   callers ── ask ──► Slot ═══ present address ═══ Seat ──┐
//!                                                       ChildSpec (factory, restart type, budget, placement)
//!   SupervisorHandle ── commands ──► SupervisorActor ───── launches ──► Watched { ContextFut of the child }
//!                                        ▲   ▲                               │ started, exited (exactly once)
//!                                        │   └──── one unbounded channel ────┘ answers to pings
//!                                        └ timers: ping tick, backoff, stop deadlines
//! ```
//!
//! - [`SupervisorActor::builder`] takes static [`ChildSpec`]s in start order; [`SupervisorHandle`] is what the rest of the process holds.
//! - Nobody stores an address: [`slot`] gives a [`Slot`] to ask through and a [`Seat`] for the child spec.
//! - Decisions are in [`crate::domain::restart`]; this module performs them. It knows nothing of what its children do.
//! - [`install_panic_hook`] belongs at the start of `main`: without it panics are caught all the same, but without their place.
//!
//! What it can't do: end a blocked thread (the actor is fenced off and its arbiter abandoned), or survive a stack overflow, an abort, or a
//! panic in a destructor that runs while another panic unwinds.

mod actor;
mod ask;
mod child;
mod children;
mod event;
mod exit;
mod handle;
mod incarnation;
mod launch;
mod options;
mod panics;
mod ping;
mod places;
mod run_queue;
mod slot;
mod spec;
pub mod threads;
mod timers;
mod tree;
mod view;
mod watch;
mod witness;

pub use crate::{
    answers_pings,
    domain::{
        backoff::Backoff,
        restart::{Budget, Ending, RestartPolicy, RestartType, Restarts, Strategy},
    },
};

#[cfg(test)]
pub(crate) use self::incarnation::as_replaced;
pub use self::{
    actor::{SupervisorActor, SupervisorBuilder},
    ask::AskError,
    event::{Edge, LifecycleEvent, RestartsUsed},
    exit::Exit,
    handle::{ChildError, Ended, ReadyError, StartChildError, StopReport, SupervisorHandle},
    incarnation::{ChildContext, Fence, current, fail, halt_if_replaced, is_current},
    options::{ArbiterFactory, PingOptions, SupervisorOptions},
    panics::install_panic_hook,
    ping::Ping,
    slot::{Seat, Slot, SlotStatistics, slot},
    spec::{ChildSpec, GaveUp, Placement, StartError},
    view::{ChildState, ChildView},
};
