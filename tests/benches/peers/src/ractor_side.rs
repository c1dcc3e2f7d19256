//! ractor: its supervisor is an actor that is told of failures and starts a successor under the same name, as its documentation has it; a
//! child is looked up by that name at every ask. An ask that meets a death fails, and is tried again here: mostly at once, but one that crosses
//! the death in a narrow window (seen once in millions) hears nothing until its time is up.

use std::sync::Arc;
use std::time::Duration;

use ractor::concurrency::JoinHandle;
use ractor::rpc::CallResult;
use ractor::{
    Actor, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr, SupervisionEvent, call_t,
};
use tokio::time::Instant;

use crate::work::{Answer, Board, Child, Library, PATIENCE, TRY};

/// Under a supervisor.
pub(crate) struct Ractor(ActorRef<AddChild>);
/// Started by itself, and asked by its address.
pub(crate) struct PlainRactor(Arc<Board>);

struct Counter;

pub(crate) enum Question {
    Add(u64, RpcReplyPort<Answer>),
    BreakDown(RpcReplyPort<()>),
}

impl Actor for Counter {
    type Msg = Question;
    type State = Child;
    type Arguments = Arc<Board>;

    async fn pre_start(
        &self,
        _: ActorRef<Question>,
        board: Arc<Board>,
    ) -> Result<Child, ActorProcessingErr> {
        Ok(Child::born(&board))
    }

    async fn handle(
        &self,
        _: ActorRef<Question>,
        question: Question,
        child: &mut Child,
    ) -> Result<(), ActorProcessingErr> {
        match question {
            // Whoever asked may have left.
            Question::Add(number, reply) => drop(reply.send(child.answer(number))),
            Question::BreakDown(_reply) => child.break_down(),
        }
        Ok(())
    }
}

struct Supervisor;

struct AddChild(String, RpcReplyPort<()>);

impl Actor for Supervisor {
    type Msg = AddChild;
    type State = Arc<Board>;
    type Arguments = Arc<Board>;

    async fn pre_start(
        &self,
        _: ActorRef<AddChild>,
        board: Arc<Board>,
    ) -> Result<Arc<Board>, ActorProcessingErr> {
        Ok(board)
    }

    async fn handle(
        &self,
        myself: ActorRef<AddChild>,
        AddChild(name, reply): AddChild,
        board: &mut Arc<Board>,
    ) -> Result<(), ActorProcessingErr> {
        start_child(name, board, &myself).await?;
        drop(reply.send(()));
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<AddChild>,
        event: SupervisionEvent,
        board: &mut Arc<Board>,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(dead, _) = event {
            let name = dead.get_name().expect("all children have names");
            start_child(name, board, &myself).await?;
        }
        Ok(())
    }
}

async fn start_child(
    name: String,
    board: &Arc<Board>,
    supervisor: &ActorRef<AddChild>,
) -> Result<(ActorRef<Question>, JoinHandle<()>), SpawnErr> {
    Actor::spawn_linked(
        Some(name),
        Counter,
        Arc::clone(board),
        supervisor.get_cell(),
    )
    .await
}

impl Library for Ractor {
    type Handle = Arc<str>;

    async fn open(board: Arc<Board>) -> (Self, Arc<str>) {
        let (supervisor, _) = Actor::spawn(None, Supervisor, board)
            .await
            .expect("a supervisor starts");
        let library = Self(supervisor);
        let first = library.add("first".to_owned()).await;
        (library, first)
    }

    async fn add(&self, name: String) -> Arc<str> {
        let handle = name.as_str().into();
        let added = call_t!(self.0, AddChild, 5000, name);
        added.expect("a supervisor adds");
        handle
    }

    async fn ask(name: &Arc<str>, question: u64) -> Option<Answer> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(child) = ActorRef::<Question>::where_is(name)
                && let Some(answer) = ask_once(&child, question, TRY).await
            {
                return Some(answer);
            }
            // Its successor is not there yet: nobody tells when it is.
            tokio::task::yield_now().await;
        }
        None
    }

    async fn break_down(name: &Arc<str>) {
        // On a busy machine it may not be back yet from the last time.
        let child = loop {
            match ActorRef::<Question>::where_is(name) {
                Some(child) => break child,
                None => tokio::task::yield_now().await,
            }
        };
        let _lost = child.call(Question::BreakDown, Some(TRY)).await;
    }
}

async fn ask_once(child: &ActorRef<Question>, question: u64, limit: Duration) -> Option<Answer> {
    let asked = child.call(|reply| Question::Add(question, reply), Some(limit));
    match asked.await {
        Ok(CallResult::Success(answer)) => Some(answer),
        Ok(CallResult::Timeout | CallResult::SenderError) | Err(_) => None,
    }
}

impl Library for PlainRactor {
    type Handle = ActorRef<Question>;

    async fn open(board: Arc<Board>) -> (Self, ActorRef<Question>) {
        let library = Self(board);
        let first = library.add("first".to_owned()).await;
        (library, first)
    }

    async fn add(&self, _: String) -> ActorRef<Question> {
        let started = Actor::spawn(None, Counter, Arc::clone(&self.0)).await;
        started.expect("it starts").0
    }

    async fn ask(child: &ActorRef<Question>, question: u64) -> Option<Answer> {
        ask_once(child, question, PATIENCE).await
    }

    async fn break_down(_: &ActorRef<Question>) {
        panic!("nobody would start it again");
    }
}
