//! What only real threads show: blocked arbiters, dead arbiters, zombies that wake up. In real time, so that every wait is for a fact and
//! the deadlines are short.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::{Actor, Arbiter, AsyncContext, Context, Handler, Message, WrapFuture};
use futures_util::FutureExt;
use tokio::sync::mpsc;
use worker_node::{
    answers_pings,
    supervision::{
        self, AskError, Budget, ChildSpec, Edge, Ended, Fence, PingOptions, Placement, Slot,
        StartChildError, SupervisorActor, SupervisorHandle, SupervisorOptions, slot,
    },
};

use crate::cast::{Fault, Note, Spot, Stage, Suffer, far, options, subject};

/// A lock that threads block on until the test opens it.
#[derive(Default)]
struct Latch {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Latch {
    fn block(&self) {
        let open = self.open.lock().expect("nobody panics with it");
        let open = self.opened.wait_while(open, |open| !*open);
        drop(open.expect("nobody panics with it"));
    }

    fn open(&self) {
        *self.open.lock().expect("nobody panics with it") = true;
        self.opened.notify_all();
    }
}

/// Opens the latch when the test ends, however it ends: no thread stays behind.
struct Opens(Arc<Latch>);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Blocks its thread when told to.
struct Blocker {
    latch: Arc<Latch>,
    tell: mpsc::UnboundedSender<News>,
    fence: Fence,
    generation: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Blocked { generation: u64 },
    Woke { generation: u64, current: bool },
    Handled { generation: u64 },
    Dropped { generation: u64 },
}

answers_pings!(Blocker);

impl Actor for Blocker {
    type Context = Context<Self>;
}

impl Drop for Blocker {
    fn drop(&mut self) {
        let generation = self.generation;
        let _ = self.tell.send(News::Dropped { generation });
    }
}

#[derive(Clone, Message)]
#[rtype(result = "()")]
struct Block;

impl Handler<Block> for Blocker {
    type Result = ();

    fn handle(&mut self, _: Block, _: &mut Self::Context) {
        let generation = self.generation;
        let _ = self.tell.send(News::Blocked { generation });
        self.latch.block();
        let current = self.fence.is_current();
        let _ = self.tell.send(News::Woke {
            generation,
            current,
        });
    }
}

#[derive(Clone, Message)]
#[rtype(result = "u64")]
struct Work;

impl Handler<Work> for Blocker {
    type Result = u64;

    fn handle(&mut self, _: Work, _: &mut Self::Context) -> u64 {
        let generation = self.generation;
        let _ = self.tell.send(News::Handled { generation });
        generation
    }
}

#[derive(Clone, Message)]
#[rtype(result = "()")]
struct KillArbiter;

impl Handler<KillArbiter> for Blocker {
    type Result = ();

    fn handle(&mut self, _: KillArbiter, _: &mut Self::Context) {
        Arbiter::current().stop();
    }
}

struct Rig {
    slot: Slot<Blocker>,
    news: mpsc::UnboundedReceiver<News>,
    latch: Opens,
    made: Arc<AtomicU64>,
}

impl Rig {
    async fn hears(&mut self, wanted: News) {
        let deadline = far();
        loop {
            let news = tokio::time::timeout_at(deadline, self.news.recv()).await;
            let news = news.expect("news in time").expect("the actor lives");
            if news == wanted {
                return;
            }
        }
    }
}

fn blocker(name: &str) -> (Rig, ChildSpec) {
    let (slot, seat) = slot::<Blocker>(name);
    let (tell, news) = mpsc::unbounded_channel();
    let latch = Arc::new(Latch::default());
    let made = Arc::new(AtomicU64::new(0));
    let rig = Rig {
        slot,
        news,
        latch: Opens(Arc::clone(&latch)),
        made: Arc::clone(&made),
    };
    let spec = ChildSpec::new(seat, move |_| {
        made.fetch_add(1, Ordering::SeqCst);
        let current = supervision::current().expect("supervised");
        Ok(Blocker {
            latch: Arc::clone(&latch),
            tell: tell.clone(),
            fence: current.fence,
            generation: current.generation,
        })
    });
    (rig, spec)
}

/// Short, but long enough for a busy machine to answer a ping.
fn short() -> SupervisorOptions {
    SupervisorOptions {
        ping: PingOptions {
            interval: Duration::from_millis(50),
            deadline: Duration::from_millis(400),
            start_deadline: Duration::from_secs(5),
        },
        ..options()
    }
}

/// Starts an ask that nobody waits for at once.
fn ask_apart<M>(
    slot: &Slot<Blocker>,
    message: M,
) -> tokio::task::JoinHandle<Result<M::Result, AskError>>
where
    Blocker: Handler<M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    let slot = slot.clone();
    actix::spawn(async move { slot.ask(message, far()).await })
}

#[actix::test]
async fn a_blocked_thread_is_left_behind_and_its_zombie_handles_nothing_when_it_wakes() {
    let (mut rig, spec) = blocker("b");
    let (sibling, other) = subject("sibling");
    let mut stage = Stage::open(short(), vec![spec, other.placement(Placement::OwnArbiter)]);
    stage.supervisor.ready(far()).await.unwrap();

    let blocked = ask_apart(&rig.slot, Block);
    rig.hears(News::Blocked { generation: 1 }).await;
    let queued = ask_apart(&rig.slot, Work);
    let retried = rig.slot.ask_idempotent(Work, far()).await;

    assert_eq!(retried, Ok(2));
    assert_eq!(blocked.await.unwrap(), Err(AskError::Unavailable));
    assert_eq!(queued.await.unwrap(), Err(AskError::Unavailable));
    stage.event(Edge::Hung, "b").await;
    assert_eq!(sibling.slot.ask(Note(1), far()).await, Ok(1), "alone");
    rig.latch.0.open();
    let woke = News::Woke {
        generation: 1,
        current: false,
    };
    rig.hears(woke).await;
    let next = rig.news.recv().await;
    assert_eq!(
        next,
        Some(News::Dropped { generation: 1 }),
        "and nothing handled before"
    );
    assert_eq!(
        rig.slot.ask(Work, far()).await,
        Ok(2),
        "its late end concerns nobody"
    );
    stage.supervisor.stop(far()).await;
}

/// Blocks its thread, and asks somebody and starts a child when it is released.
struct Meddler {
    latch: Arc<Latch>,
    blocked: mpsc::UnboundedSender<()>,
    told: mpsc::UnboundedSender<Told>,
    asks: Slot<Blocker>,
    supervisor: SupervisorHandle,
}

/// What came of it.
type Told = (Result<u64, AskError>, Result<(), StartChildError>, Went);

/// Whether it went past the place where one that was replaced halts.
#[derive(Debug, PartialEq, Eq)]
enum Went {
    On,
    Nowhere,
}

answers_pings!(Meddler);

impl Actor for Meddler {
    type Context = Context<Self>;
}

impl Handler<Block> for Meddler {
    type Result = ();

    fn handle(&mut self, _: Block, ctx: &mut Self::Context) {
        let _ = self.blocked.send(());
        self.latch.block();
        let (asks, supervisor) = (self.asks.clone(), self.supervisor.clone());
        let told = self.told.clone();
        let meddle = async move {
            let answer = asks.ask_idempotent(Work, far()).await;
            let (_, spec) = subject("child");
            let started = supervisor.start_child(spec).await;
            let went = match supervision::halt_if_replaced().now_or_never() {
                Some(()) => Went::On,
                None => Went::Nowhere,
            };
            let _ = told.send((answer, started, went));
        };
        ctx.spawn(meddle.into_actor(self));
    }
}

#[actix::test]
async fn a_zombie_that_wakes_asks_nobody_starts_nobody_and_halts() {
    let (rig, spec) = blocker("asked");
    let stage = Stage::open(short(), vec![spec]);
    stage.supervisor.ready(far()).await.unwrap();
    let (slot, seat) = slot::<Meddler>("meddler");
    let latch = Opens(Arc::default());
    let (blocked, mut is_blocked) = mpsc::unbounded_channel();
    let (told, mut hears) = mpsc::unbounded_channel();
    let (inner, asks, supervisor) = (
        Arc::clone(&latch.0),
        rig.slot.clone(),
        stage.supervisor.clone(),
    );
    let meddler = ChildSpec::new(seat, move |_| {
        Ok(Meddler {
            latch: Arc::clone(&inner),
            blocked: blocked.clone(),
            told: told.clone(),
            asks: asks.clone(),
            supervisor: supervisor.clone(),
        })
    });
    stage.supervisor.start_child(meddler).await.unwrap();

    let asked = slot.clone();
    let hung = actix::spawn(async move { asked.ask(Block, far()).await });
    is_blocked.recv().await.unwrap();
    assert_eq!(hung.await.unwrap(), Err(AskError::Unavailable), "replaced");
    latch.0.open();

    let refused = (
        Err(AskError::Unavailable),
        Err(StartChildError::Replaced),
        Went::Nowhere,
    );
    assert_eq!(hears.recv().await, Some(refused));
    stage.supervisor.stop(far()).await;
}

#[actix::test]
async fn a_blocked_pool_arbiter_charges_the_one_that_blocks_and_moves_the_others() {
    let options = SupervisorOptions {
        pool_arbiters: 1,
        ..short()
    };
    let mut stage = Stage::open(options, vec![]);
    let (mut rig, spec) = blocker("guilty");
    stage.supervisor.start_child(spec).await.unwrap();
    let mut innocents = Vec::new();
    for name in ["x", "y", "z"] {
        let (role, spec) = subject(name);
        stage
            .supervisor
            .start_child(spec.placement(Placement::Pool))
            .await
            .unwrap();
        role.slot.up(far()).await.unwrap();
        innocents.push(role);
    }

    drop(ask_apart(&rig.slot, Block));
    rig.hears(News::Blocked { generation: 1 }).await;

    let hung = stage.event(Edge::Hung, "guilty").await;
    assert_eq!(hung.cause.as_deref(), Some("blocked its arbiter"));
    assert_eq!(rig.slot.ask_idempotent(Work, far()).await, Ok(2));
    for role in &innocents {
        assert_eq!(
            role.slot.ask_idempotent(Note(1), far()).await,
            Ok(2),
            "moved"
        );
        let view = stage.view(role.slot.name()).await.unwrap();
        assert_eq!((view.restarts, view.budget_left), (0, 3), "without charge");
    }
    let guilty = stage.view("guilty").await.unwrap();
    assert_eq!((guilty.restarts, guilty.budget_left), (1, 2));
    rig.latch.0.open();
    rig.hears(News::Dropped { generation: 1 }).await;
    assert_eq!(rig.slot.ask(Work, far()).await, Ok(2));
    stage.supervisor.stop(far()).await;
    assert!(
        innocents
            .iter()
            .all(|role| role.script.born() == role.script.dropped())
    );
}

#[actix::test]
async fn a_message_that_was_moved_twice_with_its_actor_is_no_poison() {
    let options = SupervisorOptions {
        pool_arbiters: 1,
        ..short()
    };
    let stage = Stage::open(options, vec![]);
    let (mut rig, spec) = blocker("guilty");
    stage.supervisor.start_child(spec).await.unwrap();
    let (role, spec) = subject("innocent");
    let spec = spec.placement(Placement::Pool);
    stage.supervisor.start_child(spec).await.unwrap();
    role.slot.up(far()).await.unwrap();
    // Its second incarnation takes no messages, so that the note is still there when the second arbiter blocks.
    role.script.plan(1, Fault::Hang, Spot::Started);

    drop(ask_apart(&rig.slot, Block));
    rig.hears(News::Blocked { generation: 1 }).await;
    let slot = role.slot.clone();
    let note = actix::spawn(async move { slot.ask_idempotent(Note(1), far()).await });
    while role.slot.generation() != Some(2) {
        role.slot.changed().await;
    }
    drop(ask_apart(&rig.slot, Block));
    rig.hears(News::Blocked { generation: 2 }).await;

    assert_eq!(note.await.unwrap(), Ok(3));
    rig.latch.0.open();
    stage.supervisor.stop(far()).await;
}

#[actix::test]
async fn a_static_child_that_starts_on_a_blocked_pool_arbiter_is_moved_without_charge() {
    let options = SupervisorOptions {
        pool_arbiters: 1,
        ping: PingOptions {
            start_deadline: Duration::from_millis(100),
            ..short().ping
        },
        ..short()
    };
    let (role, spec) = subject("innocent");
    let mut stage = Stage::open(options, vec![spec.placement(Placement::Pool)]);
    stage.supervisor.ready(far()).await.unwrap();
    stage.supervisor.stop_child("innocent").await.unwrap();
    let (mut rig, spec) = blocker("guilty");
    stage.supervisor.start_child(spec).await.unwrap();
    drop(ask_apart(&rig.slot, Block));
    rig.hears(News::Blocked { generation: 1 }).await;

    stage.supervisor.restart_child("innocent").await.unwrap();
    stage.event(Edge::Hung, "guilty").await;

    assert_eq!(role.slot.ask_idempotent(Note(1), far()).await, Ok(3));
    let view = stage.view("innocent").await.unwrap();
    assert_eq!((view.restarts, view.budget_left), (0, 5));
    rig.latch.0.open();
    rig.hears(News::Dropped { generation: 1 }).await;
    stage.supervisor.stop(far()).await;
    assert_eq!(
        role.script.made(),
        2,
        "the start on the blocked arbiter never ran"
    );
}

/// Blocks its thread in `started` of its first incarnation.
struct LateRiser {
    latch: Arc<Latch>,
    tell: mpsc::UnboundedSender<u64>,
    generation: u64,
}

answers_pings!(LateRiser);

impl Actor for LateRiser {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        if self.generation == 1 {
            self.latch.block();
        }
    }
}

impl Drop for LateRiser {
    fn drop(&mut self) {
        let _ = self.tell.send(self.generation);
    }
}

#[actix::test]
async fn an_incarnation_that_wakes_too_late_in_started_is_never_published() {
    let latch = Arc::new(Latch::default());
    let opens = Opens(Arc::clone(&latch));
    let (tell, mut dropped) = mpsc::unbounded_channel();
    let (slot, seat) = slot::<LateRiser>("b");
    let spec = ChildSpec::new(seat, move |_| {
        Ok(LateRiser {
            latch: Arc::clone(&latch),
            tell: tell.clone(),
            generation: supervision::current().expect("supervised").generation,
        })
    });
    let options = SupervisorOptions {
        ping: PingOptions {
            start_deadline: Duration::from_millis(400),
            ..short().ping
        },
        ..short()
    };
    let stage = Stage::open(options, vec![spec]);
    assert_eq!(slot.up(far()).await, Ok(2));

    drop(opens);
    assert_eq!(dropped.recv().await, Some(1));

    assert_eq!(slot.generation(), Some(2));
    stage.supervisor.stop(far()).await;
}

#[actix::test]
async fn a_child_whose_arbiter_dies_gets_a_new_one() {
    let (rig, spec) = blocker("b");
    let mut stage = Stage::open(short(), vec![spec]);
    stage.supervisor.ready(far()).await.unwrap();

    let _ = rig.slot.ask(KillArbiter, far()).await;

    let stopped = stage.event(Edge::Stopped, "b").await;
    assert_eq!(stopped.cause.as_deref(), Some("dropped with its arbiter"));
    assert_eq!(rig.slot.ask_idempotent(Work, far()).await, Ok(2));
    assert_eq!(rig.made.load(Ordering::SeqCst), 2);
    stage.supervisor.stop(far()).await;
}

#[actix::test]
async fn children_of_a_pool_arbiter_that_dies_move_to_another() {
    let options = SupervisorOptions {
        pool_arbiters: 1,
        ..short()
    };
    let mut stage = Stage::open(options, vec![]);
    let ((first, a), (second, b)) = (blocker("a"), blocker("b"));
    for spec in [a, b] {
        stage.supervisor.start_child(spec).await.unwrap();
    }
    second.slot.up(far()).await.unwrap();

    let _ = first.slot.ask(KillArbiter, far()).await;
    // Until then the second may still answer where it was.
    stage.event(Edge::Stopped, "b").await;

    assert_eq!(first.slot.ask_idempotent(Work, far()).await, Ok(2));
    assert_eq!(second.slot.ask_idempotent(Work, far()).await, Ok(2));
    stage.supervisor.stop(far()).await;
}

#[actix::test]
async fn a_factory_that_blocks_is_abandoned_at_the_start_deadline() {
    let latch = Arc::new(Latch::default());
    let opens = Opens(Arc::clone(&latch));
    let (slot, seat) = slot::<Blocker>("b");
    let calls = AtomicU64::new(0);
    let (tell, mut news) = mpsc::unbounded_channel();
    let spec = ChildSpec::new(seat, move |_| {
        if calls.fetch_add(1, Ordering::SeqCst) == 0 {
            latch.block();
        }
        let current = supervision::current().expect("supervised");
        Ok(Blocker {
            latch: Arc::clone(&latch),
            tell: tell.clone(),
            fence: current.fence,
            generation: current.generation,
        })
    });
    let options = SupervisorOptions {
        ping: PingOptions {
            start_deadline: Duration::from_millis(400),
            ..short().ping
        },
        ..short()
    };
    let mut stage = Stage::open(options, vec![spec]);

    stage.event(Edge::Hung, "b").await;
    stage.supervisor.ready(far()).await.unwrap();
    assert_eq!(slot.ask(Work, far()).await, Ok(2));

    drop(opens);
    let mut heard = Vec::new();
    while heard.last() != Some(&News::Dropped { generation: 1 }) {
        heard.push(news.recv().await.unwrap());
    }
    assert_eq!(
        slot.generation(),
        Some(2),
        "the late one was never published"
    );
    stage.supervisor.stop(far()).await;
}

#[actix::test]
async fn one_blocked_arbiter_too_many_escalates() {
    let options = SupervisorOptions {
        abandoned_limit: 2,
        ..short()
    };
    let (mut rig, spec) = blocker("b");
    let spec = spec.budget(Budget {
        intensity: 100,
        window: Duration::from_secs(30),
    });
    let stage = Stage::open(options, vec![spec]);

    for generation in 1..=3 {
        rig.slot.up(far()).await.unwrap();
        drop(ask_apart(&rig.slot, Block));
        rig.hears(News::Blocked { generation }).await;
        rig.slot.changed().await;
    }

    match stage.supervisor.ended().await {
        Ended::Escalated { child, reason } => {
            assert_eq!(&*child, "b");
            assert!(
                reason.contains("more than 2 arbiters are blocked"),
                "{reason}"
            );
        }
        Ended::Stopped => panic!("not escalated"),
    }
}

#[actix::test]
async fn blocked_arbiters_that_came_back_no_longer_count() {
    let options = SupervisorOptions {
        abandoned_limit: 1,
        ..short()
    };
    let (mut rig, spec) = blocker("b");
    let stage = Stage::open(options, vec![spec]);
    stage.supervisor.ready(far()).await.unwrap();

    for generation in 1..=3 {
        drop(ask_apart(&rig.slot, Block));
        rig.hears(News::Blocked { generation }).await;
        assert_eq!(
            rig.slot.ask_idempotent(Work, far()).await,
            Ok(generation + 1)
        );
        rig.latch.0.open();
        rig.hears(News::Dropped { generation }).await;
        *rig.latch.0.open.lock().unwrap() = false;
    }

    let report = stage.supervisor.stop(far()).await;
    assert_eq!(report.ended, Ended::Stopped);
}

#[actix::test]
async fn a_stop_leaves_a_blocked_child_behind_at_its_deadline() {
    let (mut rig, spec) = blocker("b");
    let patient = SupervisorOptions {
        ping: PingOptions {
            deadline: Duration::from_secs(60),
            ..short().ping
        },
        ..short()
    };
    let stage = Stage::open(patient, vec![spec.shutdown(Duration::from_millis(100))]);
    stage.supervisor.ready(far()).await.unwrap();
    drop(ask_apart(&rig.slot, Block));
    rig.hears(News::Blocked { generation: 1 }).await;

    let report = stage.supervisor.stop(far()).await;

    assert_eq!(report.killed, ["b".into()]);
    rig.latch.0.open();
    rig.hears(News::Dropped { generation: 1 }).await;
}

#[actix::test]
async fn a_message_that_blocks_two_incarnations_is_poison() {
    let (rig, spec) = blocker("b");
    let stage = Stage::open(short(), vec![spec]);
    stage.supervisor.ready(far()).await.unwrap();

    let answer = rig.slot.ask_idempotent(Block, far()).await;

    assert_eq!(answer, Err(AskError::Poisoned));
    assert_eq!(rig.slot.ask_idempotent(Work, far()).await, Ok(3));
    stage.supervisor.stop(far()).await;
}

#[actix::test]
async fn a_supervisor_that_is_lost_with_its_arbiter_counts_as_escalated() {
    let arbiter = Arbiter::new();
    let (tell, told) = tokio::sync::oneshot::channel();
    arbiter.spawn_fn(move || {
        let (role, spec) = subject("a");
        let handle = SupervisorActor::builder(options()).child(spec).start();
        assert!(tell.send((handle, role)).is_ok());
    });
    let (supervisor, role) = told.await.unwrap();
    supervisor.ready(far()).await.unwrap();

    arbiter.stop();

    match supervisor.ended().await {
        Ended::Escalated { child, .. } => assert_eq!(&*child, "supervisor"),
        Ended::Stopped => panic!("nobody asked it to"),
    }
    assert_eq!(
        role.slot.ask(Note(1), far()).await,
        Err(AskError::Unavailable)
    );
}

#[test]
fn what_callers_hold_may_go_to_any_thread() {
    fn sends<T: Send>(_: &T) {}
    fn shares<T: Send + Sync + Clone>() {}

    shares::<Slot<Blocker>>();
    shares::<SupervisorHandle>();
    shares::<Fence>();
    let (slot, _seat) = slot::<Blocker>("b");
    sends(&slot.ask(Work, far()));
    sends(&slot.ask_idempotent(Work, far()));
    sends(&slot.up(far()));
}

#[actix::test]
async fn ten_thousand_short_lived_children_leave_nothing_behind() {
    let stage = Stage::open(short(), vec![]);
    let made = Arc::new(AtomicU64::new(0));
    for round in 0..100 {
        let mut roles = Vec::new();
        for number in 0..100 {
            let (role, spec) = subject(&format!("task-{round}-{number}"));
            let spec = spec.placement(Placement::Pool);
            stage.supervisor.start_child(spec).await.unwrap();
            roles.push(role);
        }
        for (number, role) in roles.iter().enumerate() {
            let fault = if number % 10 == 0 {
                Fault::Panic
            } else {
                Fault::Stop
            };
            let _ = role.slot.ask(Suffer(fault), far()).await;
            if fault == Fault::Panic {
                let _ = role.slot.ask_idempotent(Suffer(Fault::Stop), far()).await;
            }
        }
        for role in &roles {
            while !role.slot.is_closed() {
                role.slot.changed().await;
            }
            assert_eq!(role.script.born(), role.script.dropped());
            made.fetch_add(role.script.made(), Ordering::SeqCst);
            assert_eq!(
                Arc::strong_count(&role.script),
                1,
                "the spec is gone as well"
            );
        }
    }

    assert_eq!(made.load(Ordering::SeqCst), 11_000);
    assert_eq!(stage.supervisor.children().await, []);
    let report = stage.supervisor.stop(far()).await;
    assert_eq!(report.dynamic_stopped, 0);
}
