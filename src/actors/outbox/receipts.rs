//! What must be known of reports even if the outbox falls, so that the next incarnation does not report again: which reports are
//! under way, which the master took and the journal does not know of yet, and which results are wanted again. Kept beside the
//! outbox.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::watch, time::Instant};

use crate::{
    domain::id::TaskId,
    ports::master::MasterError,
    supervision::{is_current, threads::beside},
};

/// The memory of reports. See the module.
#[derive(Debug, Default)]
pub struct Receipts(Mutex<Tickets>);

#[derive(Debug, Default)]
struct Tickets {
    /// Reports that were sent and not answered yet.
    on_their_way: HashMap<TaskId, watch::Receiver<Option<Sent>>>,
    /// When the report left that the master took.
    taken: HashMap<TaskId, Instant>,
    /// Results that are to be sent once more, with the earliest time for that.
    wanted: HashMap<TaskId, Instant>,
}

/// A report that was sent, and the answer.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    /// When it left.
    pub(super) left: Instant,
    /// The master's answer.
    pub(super) answer: Result<(), MasterError>,
}

impl Receipts {
    fn lock(&self) -> MutexGuard<'_, Tickets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a report, unless a report of this task is under way already, or the master took one that left late enough: then that
    /// one's answer is returned. The call goes on if its sender falls, until its own deadline: otherwise it would be unknown
    /// whether the master has it. With `not_before` of `None` any report will do. Never returns to an
    /// incarnation that was replaced: its successor reports, and may have done so long ago.
    pub(super) async fn send(
        self: &Arc<Self>,
        task: &TaskId,
        not_before: Option<Instant>,
        call: impl Future<Output = Result<(), MasterError>> + Send + 'static,
    ) -> Sent {
        let Some(mut way) = self.way(task, not_before, call) else {
            return std::future::pending().await;
        };
        match way.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(sent)) => sent.clone(),
            Ok(None) | Err(_) => Sent {
                left: Instant::now(),
                answer: Err(MasterError::Lost("the call to the master failed".into())),
            },
        }
    }

    fn way(
        self: &Arc<Self>,
        task: &TaskId,
        not_before: Option<Instant>,
        call: impl Future<Output = Result<(), MasterError>> + Send + 'static,
    ) -> Option<watch::Receiver<Option<Sent>>> {
        let mut tickets = self.lock();
        // Asked with the lock held: whoever is replaced only now is on its way before its successor looks.
        if !is_current() {
            return None;
        }
        if let Some(way) = tickets.on_their_way.get(task) {
            return Some(way.clone());
        }
        let serves = |left: &&Instant| not_before.is_none_or(|not_before| **left >= not_before);
        if let Some(&left) = tickets.taken.get(task).filter(serves) {
            let answer = Ok(());
            return Some(watch::channel(Some(Sent { left, answer })).1);
        }
        let (tell, way) = watch::channel(None);
        tickets.on_their_way.insert(task.clone(), way.clone());
        let journey = Journey {
            receipts: Arc::clone(self),
            task: task.clone(),
        };
        beside(async move {
            let left = Instant::now();
            let answer = call.await;
            if answer.is_ok() {
                journey.receipts.keep(journey.task.clone(), left);
            }
            // Removed before its end is told: who hears of the end may send the next report.
            drop(journey);
            tell.send_replace(Some(Sent { left, answer }));
        });
        Some(way)
    }

    /// When the report left that the master took and the journal does not know of yet.
    pub(super) fn taken(&self, task: &TaskId) -> Option<Instant> {
        self.lock().taken.get(task).copied()
    }

    fn keep(&self, task: TaskId, left: Instant) {
        self.lock().taken.insert(task, left);
    }

    pub(super) fn wanted(&self, task: &TaskId) -> Option<Instant> {
        self.lock().wanted.get(task).copied()
    }

    pub(super) fn want(&self, task: TaskId, not_before: Instant) {
        self.lock().wanted.insert(task, not_before);
    }

    /// The result was sent again, unless it has been wanted anew meanwhile.
    pub(super) fn fulfilled(&self, task: &TaskId, not_before: Instant) {
        let mut tickets = self.lock();
        if tickets.wanted.get(task) == Some(&not_before) {
            tickets.wanted.remove(task);
            tickets.taken.remove(task);
        }
    }

    /// Forgets a task's report, which the journal knows of by now; not if the result is wanted again.
    pub(super) fn forget(&self, task: &TaskId) {
        let mut tickets = self.lock();
        if !tickets.wanted.contains_key(task) {
            tickets.taken.remove(task);
        }
    }
}

/// A report under way, however its call ends.
struct Journey {
    receipts: Arc<Receipts>,
    task: TaskId,
}

impl Drop for Journey {
    fn drop(&mut self) {
        self.receipts.lock().on_their_way.remove(&self.task);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::FutureExt as _;
    use tokio::sync::oneshot;

    use super::*;
    use crate::supervision::as_replaced;

    fn task() -> TaskId {
        TaskId::new("t-1").unwrap()
    }

    #[tokio::test]
    async fn a_report_whose_sender_fell_is_waited_for_by_the_next_and_not_sent_again() {
        let receipts = Arc::new(Receipts::default());
        let (answer, answered) = oneshot::channel();
        let call = async { answered.await.expect("the test answers") };
        let first = receipts.send(&task(), None, call).now_or_never();
        assert!(first.is_none(), "it waits, and falls");

        let (task, again) = (task(), async { panic!("it is sent again") });
        let next = receipts.send(&task, None, again);
        answer.send(Ok(())).expect("the call goes on");
        let sent = next.await;

        assert_eq!(sent.answer, Ok(()));
        assert_eq!(receipts.taken(&task), Some(sent.left));
        let later = async { panic!("it was taken") };
        assert_eq!(receipts.send(&task, None, later).await.left, sent.left);
    }

    #[tokio::test]
    async fn an_outbox_that_wakes_after_it_was_replaced_sends_nothing() {
        let receipts = Arc::new(Receipts::default());
        let (task, sent) = (task(), Arc::new(AtomicBool::new(false)));
        let late = Arc::clone(&sent);
        let call = async move {
            late.store(true, Ordering::SeqCst);
            Ok(())
        };

        let answer = as_replaced(|| receipts.send(&task, None, call).now_or_never());

        assert!(answer.is_none(), "it waits for ever");
        let own = receipts.send(&task, None, async { Ok(()) }).await;
        assert_eq!(own.answer, Ok(()), "its successor's");
        assert!(!sent.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn a_report_that_left_too_early_for_a_repeated_offer_is_sent_again() {
        let receipts = Arc::new(Receipts::default());
        let first = receipts.send(&task(), None, async { Ok(()) }).await;

        let not_before = first.left + std::time::Duration::from_nanos(1);
        let again = receipts
            .send(&task(), Some(not_before), async { Ok(()) })
            .await;

        assert!(again.left > first.left);
    }

    #[tokio::test]
    async fn after_an_answer_the_next_report_is_sent() {
        let receipts = Arc::new(Receipts::default());
        let refused = MasterError::Refused("no".into());
        let answer = Err(refused.clone());
        let sent = receipts.send(&task(), None, async { answer }).await;
        assert_eq!(sent.answer, Err(refused));
        assert_eq!(receipts.taken(&task()), None);

        let sent = receipts.send(&task(), None, async { Ok(()) }).await;

        assert_eq!(sent.answer, Ok(()));
    }

    #[tokio::test]
    async fn a_call_that_panics_leaves_the_report_in_doubt_and_the_way_free() {
        let receipts = Arc::new(Receipts::default());

        let sent = receipts
            .send(&task(), None, async { panic!("as planned") })
            .await;

        assert!(matches!(sent.answer, Err(MasterError::Lost(_))));
        let sent = receipts.send(&task(), None, async { Ok(()) }).await;
        assert_eq!(sent.answer, Ok(()));
    }
}
