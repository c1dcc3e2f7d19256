//! Tells systemd, where it asks to be told (`Type=notify`, `WatchdogSec=`), that the worker is ready, stopping, or alive. Alive
//! is told only after a round trip through the supervisor, so that a worker whose supervisor hangs is restarted. Without such a
//! unit nothing happens.

use std::{convert::Infallible, future::pending, time::Duration};

use log::{debug, info};
use sd_notify::NotifyState;
use tokio::{
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use crate::supervision::SupervisorHandle;

/// How long to wait for the subsystems: longer than any start takes, since systemd has a deadline of its own.
const START: Duration = Duration::from_secs(24 * 60 * 60);

/// Tells systemd that the worker is ready once every subsystem is up; then that it is alive, as often as the watchdog needs.
/// Never returns.
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

/// Tells systemd that the worker is stopping.
pub(super) fn stopping() {
    drop(spawn_blocking(|| {
        sd_notify::notify(&[NotifyState::Stopping])
    }));
}

/// Tells systemd that the stop may take up to `time` from now: until then it does not kill the process, whatever
/// `TimeoutStopSec=` says.
pub(super) fn stopping_takes(time: Duration) {
    let microseconds = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
    let state = NotifyState::ExtendTimeoutUsec(microseconds);
    drop(spawn_blocking(move || sd_notify::notify(&[state])));
}

/// Feeds the watchdog twice in each `limit`, as `sd_watchdog_enabled(3)` recommends, whenever `alive` is true.
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
    // On a blocking thread: systemd's socket may be full.
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
