//! What systemd is told, where it asks to be told (`Type=notify`, `WatchdogSec=`): ready, stopping, and that we are alive. It
//! is told that we are alive only after a round trip through the supervisor, so that a worker whose supervisor hangs is
//! restarted. Nothing happens where nobody asks.

use std::{convert::Infallible, future::pending, time::Duration};

use log::{debug, info};
use sd_notify::NotifyState;
use tokio::{
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use crate::supervision::SupervisorHandle;

/// Longer than any start takes: until then systemd has its own deadline.
const START: Duration = Duration::from_secs(24 * 60 * 60);

/// Says that we are ready once every subsystem is up, then that we are alive, as often as is asked for. Never returns.
pub(super) async fn attend(supervisor: &SupervisorHandle) -> Infallible {
    if supervisor.ready(Instant::now() + START).await.is_ok() {
        tell(NotifyState::Ready).await;
    }
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return pending().await;
    };
    info!(limit_s = limit.as_secs_f64(); "the service manager's watchdog is fed");
    let alive = async || !supervisor.children().await.is_empty();
    feed(limit, alive, async || tell(NotifyState::Watchdog).await).await
}

/// No more tasks are taken.
pub(super) fn stopping() {
    drop(spawn_blocking(|| {
        sd_notify::notify(&[NotifyState::Stopping])
    }));
}

/// The stop goes on, for so long at most from now on: we are not to be killed before, whatever `TimeoutStopSec=` says.
pub(super) fn stopping_takes(time: Duration) {
    let microseconds = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    let state = NotifyState::ExtendTimeoutUsec(microseconds);
    drop(spawn_blocking(move || sd_notify::notify(&[state])));
}

/// Twice in the time after which we would be taken for dead, as `sd_watchdog_enabled(3)` recommends.
async fn feed(limit: Duration, alive: impl AsyncFn() -> bool, tell: impl AsyncFn()) -> Infallible {
    let mut period = interval(limit / 2);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        if timeout(limit, alive()).await == Ok(true) {
            tell().await;
        }
    }
}

async fn tell(state: NotifyState<'static>) {
    // Not on the supervisor's thread: the socket may be full.
    let told = spawn_blocking(move || sd_notify::notify(&[state])).await;
    if let Ok(Err(error)) = told {
        debug!(error:%; "the service manager cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    async fn fed(alive: impl AsyncFn() -> bool) -> u32 {
        let fed = Cell::new(0);
        let feeding = feed(LIMIT, alive, async || fed.set(fed.get() + 1));
        assert!(timeout(10 * LIMIT, feeding).await.is_err(), "it goes on");
        fed.get()
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_alive_is_said_to_be_twice_in_the_time() {
        // A paused clock ticks in whole milliseconds, a little late.
        assert!((19..=21).contains(&fed(async || true).await));
    }

    #[tokio::test(start_paused = true)]
    async fn a_supervisor_that_does_not_answer_is_not_said_to_be_alive() {
        assert_eq!(fed(async || pending().await).await, 0);
        assert_eq!(fed(async || false).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_comes_back_is_said_to_be_alive_again() {
        let asked = Cell::new(0);
        let hangs_once = async || {
            asked.set(asked.get() + 1);
            if asked.get() == 1 {
                pending().await
            } else {
                true
            }
        };

        assert!(fed(hangs_once).await > 10);
    }
}
