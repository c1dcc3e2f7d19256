//! Events that must not be lost while their receiver restarts: a channel that is owned by the receiver's child spec and
//! outlives its incarnations. Order is kept; what came while nobody listened is handled by the next incarnation. News that
//! an incarnation died over are handed to the next one too, so whoever reads them must bear to read them twice; news that
//! two died over are poison, and left out.

use std::{
    fmt::Debug,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::{FutureExt, Stream, future::BoxFuture};
use log::error;
use tokio::sync::{
    Mutex, OwnedMutexGuard,
    mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

/// Incarnations that may die over the same news.
const DEATHS_OF_POISON: u32 = 2;

/// The receiver's end, kept by its child spec.
#[derive(Debug)]
pub struct NewsDesk<T>(Arc<Mutex<Desk<T>>>);

#[derive(Debug)]
struct Desk<T> {
    receiver: UnboundedReceiver<T>,
    /// What was handed out last, until the next is asked for; and how often it was.
    open: Option<(T, u32)>,
}

impl<T> Clone for NewsDesk<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// A channel for news of one kind. Unbounded, so that no sender ever waits: what is sent is small and each task sends a few.
#[must_use]
pub fn news<T>() -> (UnboundedSender<T>, NewsDesk<T>) {
    let (sender, receiver) = unbounded_channel();
    let desk = Desk {
        receiver,
        open: None,
    };
    (sender, NewsDesk(Arc::new(Mutex::new(desk))))
}

impl<T: Send + 'static> NewsDesk<T> {
    /// The news from here on. Waits until the incarnation before has let go of it.
    #[must_use]
    pub fn read(&self) -> News<T> {
        News(Reading::Later(Arc::clone(&self.0).lock_owned().boxed()))
    }
}

/// A stream of news for one incarnation. Asking for the next says that the last was dealt with.
pub struct News<T>(Reading<T>);

enum Reading<T> {
    /// The incarnation before still holds the desk.
    Later(BoxFuture<'static, OwnedMutexGuard<Desk<T>>>),
    /// The desk is ours.
    Now(OwnedMutexGuard<Desk<T>>),
}

impl<T: Clone + Debug> Stream for News<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        loop {
            match &mut self.0 {
                Reading::Later(lock) => {
                    let mut desk = ready!(lock.poll_unpin(cx));
                    let again = desk.hand_out_again();
                    self.0 = Reading::Now(desk);
                    if let Some(news) = again {
                        return Poll::Ready(Some(news));
                    }
                }
                Reading::Now(desk) => {
                    desk.open = None;
                    let news = ready!(desk.receiver.poll_recv(cx));
                    desk.open = news.clone().map(|news| (news, 1));
                    return Poll::Ready(news);
                }
            }
        }
    }
}

impl<T: Clone + Debug> Desk<T> {
    /// What the incarnation before was dealing with when it ended.
    fn hand_out_again(&mut self) -> Option<T> {
        let (news, times) = self.open.as_mut()?;
        if *times >= DEATHS_OF_POISON {
            error!(news:?; "news that killed their reader twice are left out");
            self.open = None;
            return None;
        }
        *times += 1;
        Some(news.clone())
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

        assert!(first.next().now_or_never().is_none(), "it waits for more");
        drop(first);
        sender.send(2).unwrap();
        sender.send(3).unwrap();

        let mut second = desk.read();
        assert_eq!(second.next().await, Some(2));
        assert_eq!(second.next().await, Some(3));
    }

    #[tokio::test]
    async fn news_that_their_reader_died_over_are_handed_to_the_next_but_not_to_a_third() {
        let (sender, desk) = news();
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        let mut first = desk.read();
        assert_eq!(first.next().await, Some(1));
        drop(first);
        let mut second = desk.read();
        assert_eq!(second.next().await, Some(1));
        drop(second);

        let mut third = desk.read();

        assert_eq!(third.next().await, Some(2));
        assert!(third.next().now_or_never().is_none(), "there is no more");
    }
}
