//! Which message killed an actor: actix does not tell, but the ask that waits for the reply can see it.
//!
//! The sender of the reply to an ask is dropped in one of two moments: while the handler of that message unwinds, or
//! afterwards, with the mailbox (see `watch.rs`). Either wakes the asker, on the actor's thread. A [`Witness`] is woken in the
//! asker's place, and looks whether the thread is panicking just then. It cannot see a panic behind the handler: in a future that
//! the handler returned or spawned, or in a timer.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;

use super::incarnation::Incarnation;

/// The part of an ask in the end of the incarnation that had its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The handler of its own message panicked.
    Culprit,
    /// The handler of another message panicked.
    Bystander,
    /// No ask saw the cause.
    Unknown,
}

/// Watches one offer of a message to an incarnation. See the module.
pub(super) struct Witness {
    asker: AtomicWaker,
    incarnation: Arc<Incarnation>,
    culprit: AtomicBool,
}

impl Witness {
    pub(super) fn of(incarnation: &Arc<Incarnation>) -> Arc<Self> {
        Arc::new(Self {
            asker: AtomicWaker::new(),
            incarnation: Arc::clone(incarnation),
            culprit: AtomicBool::new(false),
        })
    }

    /// Waits for the reply, with this witness in the asker's place.
    pub(super) async fn watch<F: Future>(self: &Arc<Self>, answer: F) -> F::Output {
        let mut answer = pin!(answer);
        let eyes = Waker::from(Arc::clone(self));
        std::future::poll_fn(|cx| self.poll(&eyes, answer.as_mut(), cx)).await
    }

    fn poll<F: Future>(
        &self,
        eyes: &Waker,
        answer: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<F::Output> {
        self.asker.register(cx.waker());
        answer.poll(&mut Context::from_waker(eyes))
    }

    /// The part of this ask, once the incarnation has ended.
    pub(super) fn part(&self) -> Part {
        match (
            self.culprit.load(Ordering::Acquire),
            self.incarnation.is_culprit_known(),
        ) {
            (true, _) => Part::Culprit,
            (false, true) => Part::Bystander,
            (false, false) => Part::Unknown,
        }
    }
}

impl Wake for Witness {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if std::thread::panicking() {
            self.culprit.store(true, Ordering::Release);
            self.incarnation.culprit_is_known();
        }
        self.asker.wake();
    }
}
