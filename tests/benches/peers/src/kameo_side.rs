//! kameo: a supervised child keeps its mailbox across a restart, and its reference stays good. An ask that meets a death, or a restart,
//! fails, and is asked again here.

use std::sync::Arc;
use std::time::Duration;

use kameo::Reply;
use kameo::actor::{Actor, ActorRef, Spawn};
use kameo::error::Infallible;
use kameo::message::{Context, Message};
use kameo::supervision::SupervisedActorBuilder;
use tokio::time::Instant;

use crate::work::{Answer, Board, Child, Library, PATIENCE, TRY};

/// Under a supervisor.
pub(crate) struct Kameo {
    supervisor: ActorRef<Supervisor>,
    board: Arc<Board>,
}
/// Under a supervisor, each child on a thread of its own.
pub(crate) struct ThreadKameo(Kameo);
/// Started by itself.
pub(crate) struct PlainKameo(Arc<Board>);

pub(crate) struct Counter(Child);

impl Actor for Counter {
    type Args = Arc<Board>;
    type Error = Infallible;

    async fn on_start(board: Arc<Board>, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Self(Child::born(&board)))
    }
}

struct Add(u64);

/// An answer, as kameo wants it.
#[derive(Reply)]
struct Sum(Answer);

impl Message<Add> for Counter {
    type Reply = Sum;

    async fn handle(&mut self, Add(number): Add, _: &mut Context<Self, Sum>) -> Sum {
        Sum(self.0.answer(number))
    }
}

struct BreakDown;

impl Message<BreakDown> for Counter {
    type Reply = ();

    async fn handle(&mut self, _: BreakDown, _: &mut Context<Self, ()>) {
        self.0.break_down();
    }
}

pub(crate) struct Supervisor;

impl Actor for Supervisor {
    type Args = ();
    type Error = Infallible;

    async fn on_start((): (), _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(Self)
    }
}

impl Kameo {
    fn new(board: Arc<Board>) -> Self {
        Self {
            supervisor: Supervisor::spawn(()),
            board,
        }
    }

    fn child(&self) -> SupervisedActorBuilder<'_, Supervisor, Counter> {
        Counter::supervise(&self.supervisor, Arc::clone(&self.board))
            .restart_limit(u32::MAX, Duration::from_secs(1))
    }
}

impl Library for Kameo {
    type Handle = ActorRef<Counter>;

    async fn open(board: Arc<Board>) -> (Self, ActorRef<Counter>) {
        let library = Self::new(board);
        let first = library.add("first".to_owned()).await;
        (library, first)
    }

    async fn add(&self, _: String) -> ActorRef<Counter> {
        self.child().spawn().await
    }

    async fn ask(child: &ActorRef<Counter>, question: u64) -> Option<Answer> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(answer) = ask_once(child, question, TRY).await {
                return Some(answer);
            }
            tokio::task::yield_now().await;
        }
        None
    }

    async fn break_down(child: &ActorRef<Counter>) {
        let _lost = child.ask(BreakDown).reply_timeout(TRY).await;
    }
}

async fn ask_once(child: &ActorRef<Counter>, question: u64, limit: Duration) -> Option<Answer> {
    let asked = child.ask(Add(question)).reply_timeout(limit).await;
    asked.ok().map(|Sum(answer)| answer)
}

impl Library for ThreadKameo {
    type Handle = ActorRef<Counter>;

    async fn open(board: Arc<Board>) -> (Self, ActorRef<Counter>) {
        let library = Self(Kameo::new(board));
        let first = library.add("first".to_owned()).await;
        (library, first)
    }

    async fn add(&self, _: String) -> ActorRef<Counter> {
        self.0.child().spawn_in_thread().await
    }

    async fn ask(child: &ActorRef<Counter>, question: u64) -> Option<Answer> {
        Kameo::ask(child, question).await
    }

    async fn break_down(child: &ActorRef<Counter>) {
        Kameo::break_down(child).await;
    }
}

impl Library for PlainKameo {
    type Handle = ActorRef<Counter>;

    async fn open(board: Arc<Board>) -> (Self, ActorRef<Counter>) {
        let library = Self(board);
        let first = library.add("first".to_owned()).await;
        (library, first)
    }

    async fn add(&self, _: String) -> ActorRef<Counter> {
        Counter::spawn(Arc::clone(&self.0))
    }

    async fn ask(child: &ActorRef<Counter>, question: u64) -> Option<Answer> {
        ask_once(child, question, PATIENCE).await
    }

    async fn break_down(_: &ActorRef<Counter>) {
        panic!("nobody would start it again");
    }
}
