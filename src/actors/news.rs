//! Events that must not be lost while their receiver restarts: a channel that is owned by the receiver's child spec and
//! outlives its incarnations. Order is kept; what came while nobody listened is handled by the next incarnation.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::{FutureExt, Stream, future::BoxFuture};
use tokio::sync::{
    Mutex, OwnedMutexGuard,
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

/// The receiver's end, kept by its child spec.
#[derive(Debug)]
pub struct NewsDesk<T>(Arc<Mutex<UnboundedReceiver<T>>>);

impl<T> Clone for NewsDesk<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// A channel for news of one kind. Unbounded, so that no sender ever waits: what is sent is small and each task sends a few.
#[must_use]
pub fn news<T>() -> (UnboundedSender<T>, NewsDesk<T>) {
    let (sender, receiver) = unbounded_channel();
    (sender, NewsDesk(Arc::new(Mutex::new(receiver))))
}

impl<T: Send + 'static> NewsDesk<T> {
    /// The news from here on. Waits until the incarnation before has let go of it.
    #[must_use]
    pub fn read(&self) -> News<T> {
        News::Waiting(Arc::clone(&self.0).lock_owned().boxed())
    }
}

/// A stream of news for one incarnation.
pub enum News<T> {
    /// The incarnation before still holds the desk.
    Waiting(BoxFuture<'static, OwnedMutexGuard<UnboundedReceiver<T>>>),
    /// Ours.
    Reading(OwnedMutexGuard<UnboundedReceiver<T>>),
}

impl<T> Stream for News<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        loop {
            match &mut *self {
                Self::Waiting(lock) => {
                    let guard = ready!(lock.poll_unpin(cx));
                    *self = Self::Reading(guard);
                }
                Self::Reading(receiver) => return receiver.poll_recv(cx),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn what_came_while_nobody_listened_is_read_by_the_next_incarnation() {
        let (sender, desk) = news();
        let mut first = desk.read();
        sender.send(1).unwrap();
        assert_eq!(first.next().await, Some(1));

        drop(first);
        sender.send(2).unwrap();
        sender.send(3).unwrap();

        let mut second = desk.read();
        assert_eq!(second.next().await, Some(2));
        assert_eq!(second.next().await, Some(3));
    }
}
