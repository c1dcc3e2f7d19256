//! The one writer of the database: an actor in front of a thread that may block. Whatever must become durable is asked for here.
//! Requests that come while a commit runs go into the next one together (group commit), so that a hundred offers at once cost a
//! few disk flushes.

#[cfg(feature = "failpoints")]
mod points;
mod reader;
mod writer;

use std::{
    future::{pending, ready},
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, WrapFuture,
};
use futures_util::FutureExt;
use log::warn;
use thiserror::Error;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};

use crate::{
    domain::{
        backoff::Backoff,
        id::TaskId,
        record::{Change, Snapshot, TaskRecord},
    },
    failpoint,
    ports::journal::{Household, JournalError, JournalStore, Known, Refused},
    supervision::{self, AskError, Slot, threads},
};
use reader::Question;
use writer::Writer;

/// Opens the store; called once per incarnation, on its thread.
pub type OpenJournal = Arc<dyn Fn() -> Result<Box<dyn JournalStore>, JournalError> + Send + Sync>;

/// The lock that a writer holds while it writes: so the thread of a replaced incarnation never writes in between its successor.
pub type WritersTurn = Arc<Mutex<()>>;

/// How often the thread checks that the store's file is still there, and fills the reserve for a full disk.
const TEND: Duration = Duration::from_secs(2);

/// Makes changes durable, all of them or none, in one commit with all that is waiting. A repeat is harmless.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), CommitError>")]
pub struct Commit(pub Vec<Change>);

/// Reads all unfinished tasks. It holds up no commit, and sees all commits that were asked for before.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Snapshot, JournalError>")]
pub struct GetUnfinished;

/// Reads ids and times of all tasks. It holds up no commit, and sees all commits that were asked for before.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Household, JournalError>")]
pub struct GetHousehold;

/// Reads what is known of one task.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Option<Known>, JournalError>")]
pub struct GetTask(pub TaskId);

/// Why a change is not durable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommitError {
    /// The journal works, and its rules refuse the change.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The journal does not work.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal's actor did not answer in time.
    #[error("the journal did not answer")]
    Unavailable,
    /// The journal's actor died twice of this change.
    #[error("internal error: the journal fails over it")]
    Poisoned,
}

impl From<AskError> for CommitError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Unavailable | AskError::Deadline => Self::Unavailable,
            AskError::Poisoned => Self::Poisoned,
        }
    }
}

enum Job {
    Commit(Vec<Change>, oneshot::Sender<Result<(), CommitError>>),
    /// Tells when all that was asked for before is durable: then a read may begin.
    Settle(oneshot::Sender<()>),
    /// The reader has found the store damaged.
    Damaged(String),
    Task(TaskId, oneshot::Sender<Result<Option<Known>, JournalError>>),
    /// Check that the store's file is still there, and fill the reserve for a full disk.
    Tend,
}

/// The actor in front of the journal's threads. See the module.
pub struct JournalActor {
    jobs: mpsc::UnboundedSender<Job>,
    questions: mpsc::UnboundedSender<Question>,
    /// Resolves with an error when the thread ends; taken when the actor starts.
    thread: Option<oneshot::Receiver<()>>,
}

impl JournalActor {
    /// Starts the thread, which opens the store; if opening fails, every request is answered with that error. `turn` is the same
    /// for all incarnations.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn new(open: OpenJournal, turn: WritersTurn) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::unbounded_channel();
        let (questions, asked) = mpsc::unbounded_channel();
        let damage = jobs.downgrade();
        let (alive, thread) = oneshot::channel();
        let fence = supervision::current().map(|child| child.fence);
        threads::own("journal", move || async move {
            let _alive = alive;
            let store = open();
            reader::begin(&store, asked, damage);
            Writer::new(store, turn, fence).work(queue).await;
        })?;
        Ok(Self {
            jobs,
            questions,
            thread: Some(thread),
        })
    }

    /// Hands a job to the thread and waits for its answer. A thread that has ended drops the job, and with it the answer's
    /// sender: then this incarnation fails, and the ask goes to the next one.
    fn put<T: 'static>(
        &mut self,
        job: Job,
        answer: oneshot::Receiver<T>,
    ) -> ResponseActFuture<Self, T> {
        let _ = self.jobs.send(job);
        self.bring(answer)
    }

    /// Hands a question to the reader once all that was asked of the writer before is durable.
    fn ask<T: 'static>(
        &mut self,
        question: Question,
        answer: oneshot::Receiver<T>,
    ) -> ResponseActFuture<Self, T> {
        let (settle, settled) = oneshot::channel();
        let _ = self.jobs.send(Job::Settle(settle));
        let questions = self.questions.clone();
        let answer = async move {
            settled.await?;
            // If the reader has ended, the question is dropped, and the wait below ends.
            let _ = questions.send(question);
            answer.await
        };
        self.bring(answer)
    }

    fn bring<T: 'static>(
        &self,
        answer: impl Future<Output = Result<T, oneshot::error::RecvError>> + 'static,
    ) -> ResponseActFuture<Self, T> {
        Box::pin(answer.into_actor(self).then(|answer, actor, ctx| {
            failpoint!("journal.answer");
            match answer {
                Ok(answer) => ready(answer).left_future(),
                Err(_) => {
                    thread_ended(ctx);
                    pending().right_future()
                }
            }
            .into_actor(actor)
        }))
    }
}

impl Actor for JournalActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        failpoint!("journal.started");
        ctx.run_interval(TEND, |actor, _| {
            failpoint!("journal.tend");
            // If the thread has ended, this actor fails for that anyway.
            let _ = actor.jobs.send(Job::Tend);
        });
        if let Some(thread) = self.thread.take() {
            ctx.spawn(thread.into_actor(self).map(|_, _, ctx| thread_ended(ctx)));
        }
    }
}

fn thread_ended(ctx: &mut Context<JournalActor>) {
    supervision::fail(ctx, "the journal's thread ended");
}

crate::answers_pings!(JournalActor);

impl Handler<Commit> for JournalActor {
    type Result = ResponseActFuture<Self, Result<(), CommitError>>;

    fn handle(&mut self, Commit(changes): Commit, _: &mut Self::Context) -> Self::Result {
        failpoint!("journal.Commit", changes);
        let (reply, answer) = oneshot::channel();
        self.put(Job::Commit(changes, reply), answer)
    }
}

impl Handler<GetUnfinished> for JournalActor {
    type Result = ResponseActFuture<Self, Result<Snapshot, JournalError>>;

    fn handle(&mut self, _: GetUnfinished, _: &mut Self::Context) -> Self::Result {
        failpoint!("journal.GetUnfinished");
        let (reply, answer) = oneshot::channel();
        self.ask(Question::Unfinished(reply), answer)
    }
}

impl Handler<GetHousehold> for JournalActor {
    type Result = ResponseActFuture<Self, Result<Household, JournalError>>;

    fn handle(&mut self, _: GetHousehold, _: &mut Self::Context) -> Self::Result {
        failpoint!("journal.GetHousehold");
        let (reply, answer) = oneshot::channel();
        self.ask(Question::Household(reply), answer)
    }
}

impl Handler<GetTask> for JournalActor {
    type Result = ResponseActFuture<Self, Result<Option<Known>, JournalError>>;

    fn handle(&mut self, GetTask(task): GetTask, _: &mut Self::Context) -> Self::Result {
        failpoint!("journal.GetTask", task);
        let (reply, answer) = oneshot::channel();
        self.put(Job::Task(task, reply), answer)
    }
}

/// The client of the journal, for all other actors.
#[derive(Clone)]
pub struct Records(pub Slot<JournalActor>);

/// The waits between two tries of a change that must become durable.
const RETRY: Backoff = Backoff {
    first: Duration::from_millis(200),
    cap: Duration::from_secs(5),
    jitter: 0.3,
};

/// The wait between two tries of a change that kills the journal's actor: twice its restart budget's window, so that a poison
/// does not spend the budget.
const POISON: Duration = Duration::from_secs(60);

/// How long one try may take: a disk under load takes seconds to flush.
const PATIENCE: Duration = Duration::from_secs(20);

impl Records {
    /// Makes changes durable before `deadline`.
    ///
    /// # Errors
    /// The changes are not durable, or (`Unavailable`) may be.
    pub async fn commit(&self, changes: Vec<Change>, deadline: Instant) -> Result<(), CommitError> {
        self.0.ask_idempotent(Commit(changes), deadline).await?
    }

    /// Makes changes durable, however long the journal is away or the disk is full.
    ///
    /// # Errors
    /// The journal's rules refuse the changes.
    pub async fn keep(&self, changes: Vec<Change>) -> Result<(), Refused> {
        let mut attempt = 0;
        loop {
            match self
                .commit(changes.clone(), Instant::now() + PATIENCE)
                .await
            {
                Ok(()) => return Ok(()),
                Err(CommitError::Refused(refused)) => return Err(refused),
                Err(
                    error @ (CommitError::Journal(_)
                    | CommitError::Unavailable
                    | CommitError::Poisoned),
                ) => pause(&mut attempt, &error).await,
            }
        }
    }

    /// As [`keep`](Self::keep), for a task whose record is at hand: if the journal was lost while in use and does not know the
    /// task, the record is written anew as well.
    ///
    /// # Errors
    /// As [`keep`](Self::keep).
    pub async fn keep_of(&self, record: &TaskRecord, change: Change) -> Result<(), Refused> {
        match self.keep(vec![change.clone()]).await {
            Err(Refused::UnknownTask) => {}
            kept => return kept,
        }
        let anew = Change::Accept(Box::new(record.clone()));
        match self.keep(vec![anew, change.clone()]).await {
            // Another caller has written the record meanwhile.
            Err(Refused::Duplicate) => self.keep(vec![change]).await,
            kept => kept,
        }
    }

    /// All unfinished tasks; waits as long as that takes.
    pub async fn unfinished(&self) -> Snapshot {
        self.read(GetUnfinished).await
    }

    /// Ids and times of all tasks; waits as long as that takes.
    pub async fn household(&self) -> Household {
        self.read(GetHousehold).await
    }

    async fn read<M, T>(&self, question: M) -> T
    where
        M: Message<Result = Result<T, JournalError>> + Clone + Send + 'static,
        JournalActor: Handler<M>,
        T: Send + 'static,
    {
        let mut attempt = 0;
        loop {
            let deadline = Instant::now() + PATIENCE;
            match self.0.ask_idempotent(question.clone(), deadline).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(error)) => pause(&mut attempt, &error.into()).await,
                Err(error) => pause(&mut attempt, &error.into()).await,
            }
        }
    }

    /// What the journal knows of a task; `None` where it knows nothing.
    ///
    /// # Errors
    /// The journal cannot be read before `deadline`.
    pub async fn find(
        &self,
        task: &TaskId,
        deadline: Instant,
    ) -> Result<Option<Known>, CommitError> {
        Ok(self
            .0
            .ask_idempotent(GetTask(task.clone()), deadline)
            .await??)
    }

    /// As [`find`](Self::find), but waits as long as the journal is away.
    pub async fn find_in_the_end(&self, task: &TaskId) -> Option<Known> {
        let mut attempt = 0;
        loop {
            match self.find(task, Instant::now() + PATIENCE).await {
                Ok(known) => return known,
                Err(error) => pause(&mut attempt, &error).await,
            }
        }
    }
}

/// Logs the error of the first try, and waits before the next one.
async fn pause(attempt: &mut u32, error: &CommitError) {
    if *attempt == 0 {
        warn!(error:%; "the journal cannot be used; trying on");
    }
    let delay = match error {
        CommitError::Poisoned => POISON,
        CommitError::Refused(_) | CommitError::Journal(_) | CommitError::Unavailable => {
            RETRY.delay(*attempt, fastrand::f64())
        }
    };
    sleep(delay).await;
    *attempt += 1;
}
