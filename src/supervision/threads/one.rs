//! One thread for a whole worker, for tests: what would run on arbiters, on threads and on a runtime's workers is polled here,
//! one after the other, in the order in which each began, whichever was woken first. Only this order is the same each time: a
//! runtime wakes those who wait for one thing in a random order (`tokio::sync::watch`). Blocking work is done at once.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    future::{pending, poll_fn},
    mem,
    panic::{AssertUnwindSafe, resume_unwind},
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex},
    task::{Context, Poll, Wake, Waker},
};

use futures_util::{FutureExt, task::AtomicWaker};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

thread_local! {
    static TURNS: RefCell<Option<Rc<Turns>>> = const { RefCell::new(None) };
    /// Until then, work that would have a thread of its own is blocked.
    static BLOCKED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// All work on this thread, until this is dropped.
pub(crate) struct OneThread(Rc<Turns>);

struct Turns {
    /// By the order in which they began; `None` while a job is polled.
    jobs: RefCell<BTreeMap<u64, Option<Job>>>,
    last: Cell<u64>,
    woken: Arc<Woken>,
}

struct Job {
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
}

#[derive(Default)]
struct Woken {
    jobs: Mutex<BTreeSet<u64>>,
    root: AtomicWaker,
}

struct WakeJob(u64, Arc<Woken>);

impl Wake for WakeJob {
    fn wake(self: Arc<Self>) {
        self.1.jobs.lock().unwrap().insert(self.0);
        self.1.root.wake();
    }
}

impl OneThread {
    /// From here on, work that begins on this thread is polled by [`run`](Self::run) alone.
    pub(crate) fn new() -> Self {
        let turns = Rc::new(Turns {
            jobs: RefCell::default(),
            last: Cell::new(0),
            woken: Arc::default(),
        });
        TURNS.set(Some(Rc::clone(&turns)));
        BLOCKED.set(None);
        Self(turns)
    }

    /// Polls each job that was woken, for as long as the returned future is polled.
    pub(crate) fn run(&self) -> impl Future<Output = Infallible> + '_ {
        tokio::task::unconstrained(poll_fn(|cx| {
            let woken = &self.0.woken;
            woken.root.register(cx.waker());
            let turn = mem::take(&mut *woken.jobs.lock().unwrap());
            for job in turn {
                self.0.poll(job);
            }
            if !woken.jobs.lock().unwrap().is_empty() {
                cx.waker().wake_by_ref();
            }
            Poll::Pending
        }))
    }
}

impl Drop for OneThread {
    /// Drops all jobs as they are, like a machine that stops.
    fn drop(&mut self) {
        TURNS.set(None);
        let jobs = mem::take(&mut *self.0.jobs.borrow_mut());
        drop(jobs);
    }
}

impl Turns {
    fn poll(&self, id: u64) {
        let Some(mut job) = self.jobs.borrow_mut().get_mut(&id).and_then(Option::take) else {
            return;
        };
        let polled = job
            .future
            .as_mut()
            .poll(&mut Context::from_waker(&job.waker));
        let mut jobs = self.jobs.borrow_mut();
        let left = match jobs.get_mut(&id) {
            Some(place) if polled.is_pending() => place.replace(job),
            // The job has ended, or has removed itself.
            _ => jobs.remove(&id).flatten().or(Some(job)),
        };
        drop(jobs);
        drop(left);
    }
}

pub(crate) fn is_on() -> bool {
    TURNS.with_borrow(Option::is_some)
}

/// Begins work on this thread; returns its place in the order.
pub(crate) fn begin(work: impl Future<Output = ()> + 'static) -> u64 {
    let turns = TURNS
        .with_borrow(Clone::clone)
        .expect("everything on one thread");
    let id = turns.last.get() + 1;
    turns.last.set(id);
    let waker = Waker::from(Arc::new(WakeJob(id, Arc::clone(&turns.woken))));
    let future = Box::pin(work);
    let job = Job {
        future,
        waker: waker.clone(),
    };
    turns.jobs.borrow_mut().insert(id, Some(job));
    waker.wake();
    id
}

/// Work on a thread of its own stands still until `end`, as over a disk that does not answer.
pub(crate) fn block_until(end: Instant) {
    BLOCKED.set(Some(end));
}

/// Work on a thread of its own, which [`block_until`] can hold up.
pub(super) fn held_up(work: impl Future<Output = ()>) -> impl Future<Output = ()> {
    let mut work = Box::pin(work);
    let mut wait = Box::pin(None);
    poll_fn(move |cx| {
        let blocked = BLOCKED.get().filter(|end| Instant::now() < *end);
        if let Some(end) = blocked {
            // Poll again when the blocking ends.
            wait.set(Some(timeout_at(end, pending::<()>())));
        }
        if let Some(wait) = wait.as_mut().as_pin_mut()
            && wait.poll(cx).is_pending()
        {
            return Poll::Pending;
        }
        wait.set(None);
        work.as_mut().poll(cx)
    })
}

/// Work of a thread: a panic ends it, and nothing else.
pub(super) async fn alone(work: impl Future<Output = ()>) {
    // What the work leaves behind is the same as after a panic of a thread.
    let _ended = AssertUnwindSafe(work).catch_unwind().await;
}

/// Work with a result. Dropping the returned future drops the work; a panic of the work is passed on to it.
pub(super) fn in_turn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = T> + Send {
    let (done, result) = oneshot::channel();
    let work = AssertUnwindSafe(work).catch_unwind();
    let place = Place(begin(async move { drop(done.send(work.await)) }));
    async move {
        let _place = place;
        match result.await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => resume_unwind(panic),
            // The machine has stopped: no result comes.
            Err(_) => pending().await,
        }
    }
}

struct Place(u64);

impl Drop for Place {
    fn drop(&mut self) {
        let turns = TURNS.with_borrow(Clone::clone);
        let job = turns.and_then(|turns| turns.jobs.borrow_mut().remove(&self.0));
        drop(job);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::watch;

    use super::{
        super::{beside, blocking, own},
        *,
    };

    /// The order in which ten tasks that wait for one thing are woken.
    #[tokio::test]
    async fn those_who_wait_for_one_thing_come_in_the_order_in_which_they_began() {
        let thread = OneThread::new();
        let (tell, told) = watch::channel(false);
        let heard = Arc::new(Mutex::new(Vec::new()));
        for number in 0..10 {
            let (mut told, heard) = (told.clone(), Arc::clone(&heard));
            beside(async move {
                told.changed().await.unwrap();
                heard.lock().unwrap().push(number);
            });
        }
        let last = Arc::clone(&heard);
        let over = async {
            own("own", || async move { tell.send(true).unwrap() }).unwrap();
            while last.lock().unwrap().len() < 10 {
                tokio::task::yield_now().await;
            }
        };

        tokio::select! {
            never = thread.run() => match never {},
            () = over => {}
        }

        assert_eq!(*heard.lock().unwrap(), (0..10).collect::<Vec<_>>());
        assert_eq!(blocking(|| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn what_is_aborted_is_dropped() {
        let thread = OneThread::new();
        let held = Arc::new(());
        let kept = Arc::clone(&held);
        let handle = beside(async move {
            let _kept = kept;
            pending::<()>().await;
        });

        handle.abort();
        let dropped = async {
            while Arc::strong_count(&held) > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            never = thread.run() => match never {},
            () = dropped => {}
        }
    }
}
