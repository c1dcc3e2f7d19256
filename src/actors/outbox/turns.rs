//! Turns to upload. The master takes one upload at a time for its whole cluster, and may hang in one for ever: so no result waits
//! for its turn longer than an upload of its own would take to be given up.

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::{Instant, sleep_until},
};

/// Bounds the uploads at the same time, and knows whether uploads stand still.
#[derive(Debug)]
pub(crate) struct Turns {
    places: Semaphore,
    /// Since when all uploads have ended without progress; `None` if the last one did not.
    still: watch::Sender<Option<Instant>>,
}

impl Turns {
    pub(crate) fn new(at_once: usize) -> Self {
        Self {
            places: Semaphore::new(at_once),
            still: watch::Sender::new(None),
        }
    }

    /// Waits for a turn; `None` once uploads have stood still for `patience`. A free place is taken even then, so that it is
    /// noticed when they go on.
    pub(super) async fn take(&self, patience: Duration) -> Option<SemaphorePermit<'_>> {
        tokio::select! {
            biased;
            place = self.places.acquire() => place.ok(),
            () = self.stood_still(patience) => None,
        }
    }

    async fn stood_still(&self, patience: Duration) {
        let mut still = self.still.subscribe();
        loop {
            let since = *still.borrow_and_update();
            let over = async {
                match since {
                    Some(since) => sleep_until(since + patience).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = over => return,
                // The sender lives as long as this future.
                _ = still.changed() => {}
            }
        }
    }

    /// An upload has ended without progress.
    pub(super) fn stands_still(&self) {
        let now = Instant::now();
        self.still.send_if_modified(|since| {
            let begins = since.is_none();
            since.get_or_insert(now);
            begins
        });
    }

    /// The master took an upload, or refused it with a reason.
    pub(super) fn goes_on(&self) {
        self.still.send_if_modified(|since| since.take().is_some());
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(180);

    #[tokio::test(start_paused = true)]
    async fn one_stuck_upload_delays_nobody_for_longer_than_its_own_would_take() {
        let turns = Turns::new(1);
        let stuck = turns.take(PATIENCE).await.expect("a free place");
        turns.stands_still();
        let begun = Instant::now();

        // Two hundred tasks that wait at the same time, not one after the other.
        let waiting = (0..200).map(|_| turns.take(PATIENCE));
        let turned = futures_util::future::join_all(waiting).await;

        assert!(turned.iter().all(Option::is_none));
        assert_eq!(begun.elapsed(), PATIENCE);
        // A task that comes later does not wait at all, but tries a free place.
        assert!(turns.take(PATIENCE).now_or_never().flatten().is_none());
        drop(stuck);
        assert!(turns.take(PATIENCE).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn while_uploads_go_on_everybody_waits_for_a_turn() {
        let turns = Turns::new(1);
        let first = turns.take(PATIENCE).await;
        turns.stands_still();
        turns.goes_on();

        let mut waiting = std::pin::pin!(turns.take(PATIENCE));
        tokio::time::advance(100 * PATIENCE).await;
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(first);
        assert!(waiting.await.is_some());
    }
}
