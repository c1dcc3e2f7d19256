//! Our library, set up as the worker sets it up: a runtime with several threads that everything shares, the supervisor on the system's
//! arbiter, the first child on an arbiter of its own like a subsystem, many children in the pool like tasks. Askers are tasks of the runtime.
//! Beside it what it is built on: actix without a supervisor.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::{
    Actor, Addr, Arbiter, ArbiterHandle, AsyncContext as _, Context, Handler, Message,
    MessageResult,
};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;
use worker_node::answers_pings;
use worker_node::supervision::{
    Budget, ChildSpec, RestartPolicy, Slot, SupervisorActor, SupervisorHandle, SupervisorOptions,
    install_panic_hook, slot,
};

use crate::work::{
    Answer, Board, Child, Figures, Library, PATIENCE, perform, silence_planned_panics,
};

/// Does one part with one of the libraries that are made of actix.
pub(crate) fn run(library: &str, part: &str, amount: u64) -> Figures {
    silence_planned_panics();
    // It tells their place, as in the worker.
    install_panic_hook();
    let system = actix::System::with_tokio_rt(runtime);
    system.block_on(async {
        match library {
            "ours" => perform::<Ours>(part, amount).await,
            "watched" => perform::<Watched>(part, amount).await,
            "actix" => perform::<Plain>(part, amount).await,
            _ => panic!("no library is named {library}"),
        }
    })
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let runtime = Builder::new_multi_thread().enable_all().build();
        runtime.expect("a runtime")
    })
}

fn arbiter() -> std::io::Result<Arbiter> {
    Arbiter::try_with_tokio_rt(|| Ok(runtime()))
}

/// The actor of all of them.
pub(crate) struct Counter(Child);

answers_pings!(Counter);

impl Actor for Counter {
    type Context = Context<Self>;
}

#[derive(Clone, Message)]
#[rtype(result = "Answer")]
struct Add(u64);

impl Handler<Add> for Counter {
    type Result = MessageResult<Add>;

    fn handle(&mut self, Add(number): Add, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.0.answer(number))
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct BreakDown;

impl Handler<BreakDown> for Counter {
    type Result = ();

    fn handle(&mut self, _: BreakDown, _: &mut Self::Context) {
        self.0.break_down();
    }
}

#[derive(Message)]
#[rtype(result = "Addr<Counter>")]
struct GetAddress;

impl Handler<GetAddress> for Counter {
    type Result = MessageResult<GetAddress>;

    fn handle(&mut self, _: GetAddress, ctx: &mut Self::Context) -> Self::Result {
        MessageResult(ctx.address())
    }
}

/// Supervised, asked through a slot.
pub(crate) struct Ours {
    supervisor: SupervisorHandle,
    board: Arc<Board>,
}

/// Every restart comes at once, as the first one does: what is measured is the restart, and not the backoff.
fn always_at_once() -> RestartPolicy {
    let budget = Budget {
        intensity: u32::MAX,
        window: Duration::from_secs(1),
    };
    RestartPolicy {
        quiet: Duration::ZERO,
        ..RestartPolicy::with_budget(budget)
    }
}

fn child(name: &str, board: &Arc<Board>) -> (Slot<Counter>, ChildSpec) {
    let (slot, seat) = slot(name);
    let board = Arc::clone(board);
    let spec = ChildSpec::new(seat, move |_| Ok(Counter(Child::born(&board))));
    (slot, spec.policy(always_at_once()))
}

impl Library for Ours {
    type Handle = Slot<Counter>;

    async fn open(board: Arc<Board>) -> (Self, Slot<Counter>) {
        let options = SupervisorOptions {
            arbiters: Arc::new(arbiter),
            ..SupervisorOptions::default()
        };
        let (first, spec) = child("first", &board);
        let supervisor = SupervisorActor::builder(options).child(spec).start();
        (Self { supervisor, board }, first)
    }

    async fn add(&self, name: String) -> Slot<Counter> {
        let (slot, spec) = child(&name, &self.board);
        let added = self.supervisor.start_child(spec).await;
        added.expect("a supervisor adds");
        slot
    }

    async fn ask(slot: &Slot<Counter>, question: u64) -> Option<Answer> {
        let asked = slot.ask_idempotent(Add(question), Instant::now() + PATIENCE);
        asked.await.ok()
    }

    async fn break_down(slot: &Slot<Counter>) {
        let _lost = slot.ask(BreakDown, Instant::now() + PATIENCE).await;
    }
}

/// Supervised, asked by the address of its present incarnation: what the watch costs without the slot.
pub(crate) struct Watched(Ours);

impl Library for Watched {
    type Handle = Addr<Counter>;

    async fn open(board: Arc<Board>) -> (Self, Addr<Counter>) {
        let (ours, first) = Ours::open(board).await;
        (Self(ours), address(&first).await)
    }

    async fn add(&self, name: String) -> Addr<Counter> {
        address(&self.0.add(name).await).await
    }

    async fn ask(child: &Addr<Counter>, question: u64) -> Option<Answer> {
        child.send(Add(question)).timeout(PATIENCE).await.ok()
    }

    async fn break_down(_: &Addr<Counter>) {
        panic!("its address would be stale");
    }
}

async fn address(slot: &Slot<Counter>) -> Addr<Counter> {
    let asked = slot.ask(GetAddress, Instant::now() + PATIENCE);
    asked.await.expect("it answers")
}

/// actix alone, on as many arbiters.
pub(crate) struct Plain {
    arbiters: [ArbiterHandle; 2],
    board: Arc<Board>,
}

impl Library for Plain {
    type Handle = Addr<Counter>;

    async fn open(board: Arc<Board>) -> (Self, Addr<Counter>) {
        let open = || arbiter().expect("a thread").handle();
        let first = start(&open(), &board);
        let arbiters = [open(), open()];
        (Self { arbiters, board }, first)
    }

    async fn add(&self, name: String) -> Addr<Counter> {
        let arbiter = &self.arbiters[usize::from(name.ends_with(['1', '3', '5', '7', '9']))];
        start(arbiter, &self.board)
    }

    async fn ask(child: &Addr<Counter>, question: u64) -> Option<Answer> {
        child.send(Add(question)).timeout(PATIENCE).await.ok()
    }

    async fn break_down(_: &Addr<Counter>) {
        panic!("nobody would start it again");
    }
}

fn start(arbiter: &ArbiterHandle, board: &Arc<Board>) -> Addr<Counter> {
    let board = Arc::clone(board);
    Counter::start_in_arbiter(arbiter, move |_| Counter(Child::born(&board)))
}
