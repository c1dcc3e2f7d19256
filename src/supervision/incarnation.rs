//! One life of a child: the state that the supervisor, the watch and the actor itself share.
//!
//! The supervisor asks it to stop or fences it off; the watch obeys at its next poll and keeps the figures; the actor reads its generation
//! and reports its own failure. The incarnation is also the fence: once it ended or was replaced, [`Fence::is_current`] is false for good.

use std::{
    cell::RefCell,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::{Actor, ActorContext, Context};
use futures_util::task::AtomicWaker;

use crate::domain::restart::Ending;

/// The number of a child in one supervisor, never used twice. 0 stands for no child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ChildKey(pub(crate) u64);

/// One life of a child. See the module.
pub(crate) struct Incarnation {
    pub(crate) name: Arc<str>,
    pub(crate) key: ChildKey,
    pub(crate) generation: u64,
    /// How it ended, or how it was judged when it was fenced off. Set once; set means fenced.
    ended: OnceLock<Ending>,
    stop_requested: AtomicBool,
    /// Wakes the watch, for a stop or a fence.
    pub(super) waker: AtomicWaker,
    failed: AtomicBool,
    failure: Mutex<Option<String>>,
    /// Whether an ask has seen that its own message killed this incarnation.
    culprit_known: AtomicBool,
    busy_nanos: AtomicU64,
}

impl Incarnation {
    pub(crate) fn new(name: Arc<str>, key: ChildKey, generation: u64) -> Arc<Self> {
        Arc::new(Self {
            name,
            key,
            generation,
            ended: OnceLock::new(),
            stop_requested: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            culprit_known: AtomicBool::new(false),
            busy_nanos: AtomicU64::new(0),
        })
    }

    /// From now on nothing that this incarnation does counts. The watch drops the actor at its next poll.
    pub(crate) fn fence_off(&self, ending: Ending) {
        // A second verdict is ignored: askers may have seen the first one.
        let _ = self.ended.set(ending);
        self.waker.wake();
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.ended.get().is_some()
    }

    /// True when it ended in a failure, which a message that it had may have caused.
    pub(crate) fn died(&self) -> bool {
        self.ended.get() == Some(&Ending::Failure)
    }

    pub(super) fn culprit_is_known(&self) {
        self.culprit_known.store(true, Ordering::Release);
    }

    /// True when the message that killed it is known, so that no other one is suspect.
    pub(super) fn is_culprit_known(&self) -> bool {
        self.culprit_known.load(Ordering::Acquire)
    }

    pub(crate) fn request_stop(&self) {
        self.stop_requested.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// True once per request.
    pub(super) fn take_stop_request(&self) -> bool {
        self.stop_requested.load(Ordering::Acquire)
            && self.stop_requested.swap(false, Ordering::AcqRel)
    }

    fn set_failure(&self, reason: String) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.get_or_insert(reason);
        self.failed.store(true, Ordering::Release);
    }

    pub(super) fn failure(&self) -> Option<String> {
        if !self.failed.load(Ordering::Acquire) {
            return None;
        }
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone()
    }

    pub(super) fn add_busy(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.busy_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    pub(crate) fn busy(&self) -> Duration {
        Duration::from_nanos(self.busy_nanos.load(Ordering::Relaxed))
    }
}

thread_local! {
    /// The incarnation whose code runs on this thread now: its factory, its actor, or a future of its context.
    static CURRENT: RefCell<Option<Arc<Incarnation>>> = const { RefCell::new(None) };
}

/// Marks an incarnation as the one that runs on this thread until this value is dropped, also by a panic that passes.
pub(super) struct Running {
    previous: Option<Arc<Incarnation>>,
}

impl Running {
    pub(super) fn enter(incarnation: &Arc<Incarnation>) -> Self {
        let next = Some(Arc::clone(incarnation));
        // `try_with`: the arbiter's thread may be past the destruction of its locals.
        let previous = CURRENT.try_with(|current| current.replace(next));
        Self {
            previous: previous.ok().flatten(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let previous = self.previous.take();
        let _ = CURRENT.try_with(|current| current.replace(previous));
    }
}

/// Name of the supervised actor whose code runs on this thread, if any.
pub(super) fn running_name() -> Option<Arc<str>> {
    let name = |current: &RefCell<Option<Arc<Incarnation>>>| {
        current.borrow().as_ref().map(|it| Arc::clone(&it.name))
    };
    CURRENT.try_with(name).ok().flatten()
}

/// The identity of the supervised child whose code calls: from a factory, a handler or a future on the context.
#[derive(Debug, Clone)]
pub struct ChildContext {
    /// The child's name.
    pub name: Arc<str>,
    /// Counts the child's incarnations from 1.
    pub generation: u64,
    /// Tells whether this incarnation was replaced or has ended.
    pub fence: Fence,
}

/// The supervised child whose code runs now; `None` outside of supervised actors, such as in a detached task.
#[must_use]
pub fn current() -> Option<ChildContext> {
    let incarnation = CURRENT.with(|current| current.borrow().clone())?;
    Some(ChildContext {
        name: Arc::clone(&incarnation.name),
        generation: incarnation.generation,
        fence: Fence(incarnation),
    })
}

/// False in the code of an incarnation that was replaced and still runs: what it does no longer counts. True everywhere else.
#[must_use]
pub fn is_current() -> bool {
    let fenced = |current: &RefCell<Option<Arc<Incarnation>>>| {
        current.borrow().as_ref().is_some_and(|it| it.is_fenced())
    };
    !CURRENT.try_with(fenced).unwrap_or(false)
}

/// Returns at once; in the code of an incarnation that was replaced it never returns, and that code is not polled again. Await it before
/// what can neither be taken back nor done twice, such as a call that starts a container: a thread that hung wakes in the middle of a
/// poll, and would go on with what comes next.
pub async fn halt_if_replaced() {
    if !is_current() {
        std::future::pending().await
    }
}

/// Runs a test's code as that of an incarnation that was replaced.
#[cfg(test)]
pub(crate) fn as_replaced<T>(work: impl FnOnce() -> T) -> T {
    let incarnation = Incarnation::new("replaced".into(), ChildKey(0), 1);
    incarnation.fence_off(Ending::Failure);
    let _running = Running::enter(&incarnation);
    work()
}

/// Ends the calling actor as failed: it is restarted as after a panic, but quietly. Its mailbox is closed at once; `stopping` runs, but can't
/// keep it alive. The first reason counts. Call it with the actor's own context, from its own code.
pub fn fail<A>(ctx: &mut Context<A>, reason: impl Into<String>)
where
    A: Actor<Context = Context<A>>,
{
    CURRENT.with(|current| {
        if let Some(incarnation) = current.borrow().as_ref() {
            incarnation.set_failure(reason.into());
        }
    });
    // Not `terminate`: with a future cancelled in the same poll actix 0.13.5 then spins for ever.
    ctx.stop();
}

/// Tells whether an incarnation still counts. Work that outlives its handler (a blocking call, a detached future) must ask before
/// it acts.
#[derive(Clone)]
pub struct Fence(Arc<Incarnation>);

impl Fence {
    /// False as soon as the incarnation ended or was declared hung; never true again.
    #[must_use]
    pub fn is_current(&self) -> bool {
        !self.0.is_fenced()
    }

    /// The generation that this fence guards.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.generation
    }
}

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fence")
            .field("name", &self.0.name)
            .field("generation", &self.0.generation)
            .field("current", &self.is_current())
            .finish()
    }
}
