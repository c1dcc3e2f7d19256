//! Events that must not be lost while their receiver restarts: a channel that is owned by the receiver's child spec and outlives
//! its incarnations. Order is kept; events that come while there is no receiver are handled by the next incarnation. An event
//! during which an incarnation died is handed to the next one too, so the receiver must bear to get it twice; an event during
//! which two died is poison, and is left out.
//!
//! The latest incarnation owns the desk: one that hangs holds up no other, and gets nothing when it wakes.

use std::{
    fmt::Debug,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use futures_util::Stream;
use log::error;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Incarnations that may die over the same event.
const DEATHS_OF_POISON: u32 = 2;

/// The receiver's end of the channel, kept by its child spec.
#[derive(Debug)]
pub struct NewsDesk<T>(Arc<Mutex<Desk<T>>>);

#[derive(Debug)]
struct Desk<T> {
    receiver: UnboundedReceiver<T>,
    /// The event that was handed out last, until the next is asked for; and how often it was handed out.
    open: Option<(T, u32)>,
    /// The generation of the latest reader: only that one gets events.
    reader: u64,
}

impl<T> Clone for NewsDesk<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// A channel for events of one kind. Unbounded, so that no sender waits: events are small, and each task sends a few.
#[must_use]
pub fn news<T>() -> (UnboundedSender<T>, NewsDesk<T>) {
    let (sender, receiver) = unbounded_channel();
    let desk = Desk {
        receiver,
        open: None,
        reader: 0,
    };
    (sender, NewsDesk(Arc::new(Mutex::new(desk))))
}

impl<T> NewsDesk<T> {
    /// The events from here on, for the incarnation of that generation; readers of earlier generations get no more.
    #[must_use]
    pub fn read(&self, generation: u64) -> News<T> {
        let mut desk = lock(&self.0);
        desk.reader = desk.reader.max(generation);
        News {
            desk: self.clone(),
            generation,
            begun: false,
        }
    }
}

fn lock<T>(desk: &Mutex<Desk<T>>) -> MutexGuard<'_, Desk<T>> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stream of events for one incarnation. Asking for the next event says that the last one was dealt with.
pub struct News<T> {
    desk: NewsDesk<T>,
    generation: u64,
    /// Whether an event was asked for.
    begun: bool,
}

impl<T: Clone + Debug> Stream for News<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let shared = self.desk.clone();
        let mut desk = lock(&shared.0);
        if desk.reader != self.generation {
            // This reader was replaced, and is about to end.
            return Poll::Pending;
        }
        if !std::mem::replace(&mut self.begun, true)
            && let Some(news) = desk.hand_out_again()
        {
            return Poll::Ready(Some(news));
        }
        desk.open = None;
        let news = ready!(desk.receiver.poll_recv(cx));
        desk.open = news.clone().map(|news| (news, 1));
        Poll::Ready(news)
    }
}

impl<T: Clone + Debug> Desk<T> {
    /// The event that the incarnation before was dealing with when it ended; `None` if there is none, or two died over it.
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
    use futures_util::FutureExt as _;
    use tokio_stream::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn what_came_while_nobody_listened_is_read_by_the_next_incarnation() {
        let (sender, desk) = news();
        let mut first = desk.read(1);
        sender.send(1).unwrap();
        assert_eq!(first.next().await, Some(1));

        assert!(first.next().now_or_never().is_none(), "it waits for more");
        drop(first);
        sender.send(2).unwrap();
        sender.send(3).unwrap();

        let mut second = desk.read(2);
        assert_eq!(second.next().await, Some(2));
        assert_eq!(second.next().await, Some(3));
    }

    #[tokio::test]
    async fn news_that_their_reader_died_over_are_handed_to_the_next_but_not_to_a_third() {
        let (sender, desk) = news();
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        let mut first = desk.read(1);
        assert_eq!(first.next().await, Some(1));
        drop(first);
        let mut second = desk.read(2);
        assert_eq!(second.next().await, Some(1));
        drop(second);

        let mut third = desk.read(3);

        assert_eq!(third.next().await, Some(2));
        assert!(third.next().now_or_never().is_none(), "there is no more");
    }

    #[tokio::test]
    async fn a_reader_that_hangs_over_news_keeps_none_of_them_from_the_next() {
        let (sender, desk) = news();
        let mut hung = desk.read(1);
        sender.send(1).unwrap();
        assert_eq!(hung.next().await, Some(1));

        let mut next = desk.read(2);
        sender.send(2).unwrap();

        assert_eq!(next.next().await, Some(1), "nobody has dealt with it");
        assert!(hung.next().now_or_never().is_none(), "it was replaced");
        assert_eq!(next.next().await, Some(2));
    }

    #[tokio::test]
    async fn a_reader_that_comes_too_late_takes_nothing_from_its_successor() {
        let (sender, desk) = news();
        let mut next = desk.read(2);

        let mut late = desk.read(1);
        sender.send(1).unwrap();

        assert!(late.next().now_or_never().is_none(), "it was replaced");
        assert_eq!(next.next().await, Some(1));
    }
}
