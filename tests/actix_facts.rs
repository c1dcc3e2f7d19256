//! Facts about actix 0.13 that the supervision library leans on. If an upgrade breaks one, we want to know here. Nothing of ours is tested.

#![expect(
    clippy::disallowed_methods,
    reason = "what `do_send` does is among the facts"
)]

use std::{
    pin::Pin,
    task::{Context as TaskContext, Poll, Waker},
    time::Duration,
};

use actix::{
    dev::{ContextFut, channel},
    prelude::*,
};
use tokio::sync::{mpsc, oneshot};

/// Reports what it lives through on `seen`.
struct Subject {
    seen: mpsc::UnboundedSender<&'static str>,
    calls: usize,
    gate: Option<oneshot::Receiver<()>>,
    mailbox: Option<usize>,
    interval: bool,
}

#[derive(Message)]
#[rtype(result = "usize")]
struct Count;

#[derive(Message)]
#[rtype(result = "()")]
struct Crash;

#[derive(Message)]
#[rtype(result = "()")]
struct Finish;

/// Parks the actor with `ctx.wait` until the gate opens.
#[derive(Message)]
#[rtype(result = "()")]
struct Block;

/// Awaits the gate inside the response future.
#[derive(Message)]
#[rtype(result = "()")]
struct Linger;

impl Subject {
    fn new() -> (Self, mpsc::UnboundedReceiver<&'static str>) {
        let (seen, events) = mpsc::unbounded_channel();
        (
            Self {
                seen,
                calls: 0,
                gate: None,
                mailbox: None,
                interval: false,
            },
            events,
        )
    }

    fn gated() -> (Self, oneshot::Sender<()>) {
        let (open, gate) = oneshot::channel();
        let (mut subject, _) = Self::new();
        subject.gate = Some(gate);
        (subject, open)
    }
}

impl Actor for Subject {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Some(capacity) = self.mailbox {
            ctx.set_mailbox_capacity(capacity);
        }
        if self.interval {
            ctx.run_interval(Duration::from_secs(10), |this, _| {
                let _ = this.seen.send("tick");
            });
        }
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        let _ = self.seen.send("stopped");
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        let _ = self.seen.send(if std::thread::panicking() {
            "dropped by panic"
        } else {
            "dropped"
        });
    }
}

impl Supervised for Subject {
    fn restarting(&mut self, _: &mut Self::Context) {
        let _ = self.seen.send("restarting");
    }
}

impl Handler<Count> for Subject {
    type Result = usize;
    fn handle(&mut self, _: Count, _: &mut Self::Context) -> usize {
        self.calls += 1;
        self.calls
    }
}

impl Handler<Crash> for Subject {
    type Result = ();
    fn handle(&mut self, _: Crash, _: &mut Self::Context) {
        panic!("crash requested by test");
    }
}

impl Handler<Finish> for Subject {
    type Result = ();
    fn handle(&mut self, _: Finish, ctx: &mut Self::Context) {
        ctx.stop();
    }
}

impl Handler<Block> for Subject {
    type Result = ();
    fn handle(&mut self, _: Block, ctx: &mut Self::Context) {
        if let Some(gate) = self.gate.take() {
            ctx.wait(async move { drop(gate.await) }.into_actor(self));
        }
    }
}

impl Handler<Linger> for Subject {
    type Result = ResponseActFuture<Self, ()>;
    fn handle(&mut self, _: Linger, _: &mut Self::Context) -> Self::Result {
        let gate = self.gate.take().expect("gated subject");
        Box::pin(async move { drop(gate.await) }.into_actor(self))
    }
}

async fn drain(events: &mut mpsc::UnboundedReceiver<&'static str>) -> Vec<&'static str> {
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    std::iter::from_fn(|| events.try_recv().ok()).collect()
}

#[actix::test]
async fn supervisor_does_not_survive_a_panic() {
    let (subject, mut events) = Subject::new();
    let addr = Supervisor::start(|_| subject);
    assert_eq!(addr.send(Crash).await, Err(MailboxError::Closed));
    assert_eq!(drain(&mut events).await, ["stopped", "dropped by panic"]);
    assert!(!addr.connected());
}

#[actix::test]
async fn supervisor_restarts_only_on_stop_and_keeps_the_same_state() {
    let (subject, mut events) = Subject::new();
    let addr = Supervisor::start(|_| subject);
    assert_eq!(addr.send(Count).await, Ok(1));
    addr.send(Finish).await.unwrap();
    assert_eq!(addr.send(Count).await, Ok(2), "not a fresh actor");
    assert_eq!(drain(&mut events).await, ["stopped", "restarting"]);
}

#[actix::test]
async fn a_panic_spares_the_other_actors_of_the_arbiter() {
    let (first, _events) = Subject::new();
    let (second, _more) = Subject::new();
    let (first, second) = (first.start(), second.start());
    let _ = first.send(Crash).await;
    assert_eq!(second.send(Count).await, Ok(1));
}

#[actix::test]
async fn do_send_ignores_the_mailbox_capacity() {
    let (mut subject, open) = Subject::gated();
    subject.mailbox = Some(4);
    let addr = subject.start();
    addr.send(Block).await.unwrap();
    for _ in 0..1_000 {
        addr.do_send(Count);
    }
    open.send(()).unwrap();
    assert_eq!(addr.send(Count).await, Ok(1_001));
}

#[actix::test]
async fn every_clone_of_an_address_can_exceed_the_capacity_by_one() {
    let (mut subject, _open) = Subject::gated();
    subject.mailbox = Some(4);
    let addr = subject.start();
    addr.send(Block).await.unwrap();
    let accepted = |addr: &Addr<Subject>| {
        std::iter::repeat_with(|| addr.try_send(Count))
            .take_while(Result::is_ok)
            .count()
    };
    assert_eq!(accepted(&addr), 4);
    assert_eq!(accepted(&addr.clone()), 1);
    assert_eq!(accepted(&addr.clone()), 1);
}

#[actix::test]
async fn messages_queued_behind_a_stop_are_answered_with_closed() {
    let (subject, open) = Subject::gated();
    let addr = subject.start();
    addr.send(Block).await.unwrap();
    let before = actix::spawn(addr.send(Count));
    addr.do_send(Finish);
    let after = actix::spawn(addr.send(Count));
    tokio::task::yield_now().await;
    open.send(()).unwrap();
    assert_eq!(before.await.unwrap(), Ok(1));
    assert_eq!(after.await.unwrap(), Err(MailboxError::Closed));
}

#[actix::test]
async fn a_response_future_lets_other_messages_through_but_wait_does_not() {
    let (subject, open) = Subject::gated();
    let addr = subject.start();
    let lingering = actix::spawn(addr.send(Linger));
    tokio::task::yield_now().await;
    assert_eq!(addr.send(Count).await, Ok(1), "interleaved with Linger");
    open.send(()).unwrap();
    lingering.await.unwrap().unwrap();

    let (subject, open) = Subject::gated();
    let addr = subject.start();
    addr.send(Block).await.unwrap();
    tokio::time::pause();
    let blocked = tokio::time::timeout(Duration::from_secs(60), addr.send(Count)).await;
    assert!(
        blocked.is_err(),
        "mailbox is closed to everyone, Finish included"
    );
    drop(open);
}

#[actix::test]
async fn an_interval_keeps_an_unreachable_actor_alive() {
    tokio::time::pause();
    let (mut subject, mut events) = Subject::new();
    subject.interval = true;
    drop(subject.start());
    assert_eq!(
        events.recv().await,
        Some("tick"),
        "no address left, still ticking"
    );
}

#[actix::test]
async fn futures_spawned_on_the_context_die_with_the_actor() {
    let (subject, open) = Subject::gated();
    let addr = subject.start();
    let lingering = actix::spawn(addr.send(Linger));
    tokio::task::yield_now().await;
    addr.send(Finish).await.unwrap();
    assert_eq!(lingering.await.unwrap(), Err(MailboxError::Closed));
    assert!(open.is_closed(), "the future was dropped, not completed");
}

#[actix::test]
async fn paused_time_drives_intervals() {
    tokio::time::pause();
    let started = tokio::time::Instant::now();
    let (mut subject, mut events) = Subject::new();
    subject.interval = true;
    let _addr = subject.start();
    for _ in 0..360 {
        assert_eq!(events.recv().await, Some("tick"));
    }
    // Timers round up to the next millisecond, so compare whole seconds.
    assert_eq!(started.elapsed().as_secs(), 3_600);
}

/// A context under our own eyes, as the death watch has it.
fn by_hand(subject: Subject) -> (Addr<Subject>, ContextFut<Subject, Context<Subject>>) {
    let (sender, receiver) = channel::channel(16);
    let context = Context::with_receiver(receiver);
    (Addr::new(sender), context.into_future(subject))
}

fn poll_once(future: &mut ContextFut<Subject, Context<Subject>>) -> Poll<()> {
    Pin::new(future).poll(&mut TaskContext::from_waker(Waker::noop()))
}

#[actix::test]
async fn a_dropped_context_runs_its_hooks_unless_it_was_terminated() {
    let (subject, mut events) = Subject::new();
    let (_addr, mut future) = by_hand(subject);
    assert!(poll_once(&mut future).is_pending());
    drop(future);
    assert_eq!(drain(&mut events).await, ["stopped", "dropped"]);

    let (subject, mut events) = Subject::new();
    let (_addr, mut future) = by_hand(subject);
    assert!(poll_once(&mut future).is_pending());
    future.ctx().terminate();
    drop(future);
    assert_eq!(drain(&mut events).await, ["dropped"]);
}

#[actix::test]
async fn a_context_stopped_from_outside_ends_past_a_wait() {
    let (subject, _open) = Subject::gated();
    let (addr, mut future) = by_hand(subject);
    let _request = addr.send(Block);
    assert!(poll_once(&mut future).is_pending());
    assert!(poll_once(&mut future).is_pending(), "the gate is shut");

    future.ctx().stop();

    assert!(poll_once(&mut future).is_ready());
}

#[actix::test]
async fn a_message_is_queued_before_its_request_is_polled_and_skipped_when_that_is_dropped() {
    let (subject, _events) = Subject::new();
    let (addr, mut future) = by_hand(subject);
    let _kept = addr.send(Count);
    drop(addr.send(Count));
    assert!(poll_once(&mut future).is_pending());

    let mut third = std::pin::pin!(addr.send(Count));
    assert!(poll_once(&mut future).is_pending());

    let mut cx = TaskContext::from_waker(Waker::noop());
    assert_eq!(third.as_mut().poll(&mut cx), Poll::Ready(Ok(2)));
}
