//! The one writer of the database: an actor in front of a thread that may block. Everybody who makes something durable asks
//! here. What is asked while a commit runs goes into the next one together (group commit), so that a hundred offers at once
//! cost a few disk flushes.

#[cfg(feature = "failpoints")]
mod points;

use std::{
    future::{pending, ready},
    sync::{Arc, Mutex, PoisonError},
    thread,
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
        record::{Change, Snapshot},
    },
    failpoint,
    ports::journal::{JournalError, JournalStore, Known, Refused},
    supervision::{self, AskError, Fence, Slot},
};

/// Opens the store; called once per incarnation, on its thread.
pub type OpenJournal = Arc<dyn Fn() -> Result<Box<dyn JournalStore>, JournalError> + Send + Sync>;

/// Whoever writes holds it: the thread of an incarnation that was replaced is never in between the writes of its successor.
pub type WritersTurn = Arc<Mutex<()>>;

/// Requests taken into one commit at most: a bound on how long the first of them waits.
const GROUP: usize = 256;

/// Makes changes durable, all of them or none, in one commit with whatever else is waiting. Repeating it is harmless.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<(), CommitError>")]
pub struct Commit(pub Vec<Change>);

/// Reads everything.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "Result<Snapshot, JournalError>")]
pub struct GetSnapshot;

/// Reads what is known of one task.
#[derive(Debug, Clone, Message)]
#[rtype(result = "Result<Option<Known>, JournalError>")]
pub struct GetTask(pub TaskId);

/// Why something is not durable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommitError {
    /// The journal works and said no.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The journal does not work.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal's actor did not answer.
    #[error("the journal did not answer")]
    Unavailable,
    /// The journal died of it, twice.
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
    Snapshot(oneshot::Sender<Result<Snapshot, JournalError>>),
    Task(TaskId, oneshot::Sender<Result<Option<Known>, JournalError>>),
}

/// See the module.
pub struct JournalActor {
    jobs: mpsc::UnboundedSender<Job>,
    /// Resolves with an error when the thread ends; taken when the actor starts.
    thread: Option<oneshot::Receiver<()>>,
}

impl JournalActor {
    /// Starts the thread. The store is opened there; if that fails, every question is answered with it. `turn` is the same
    /// for all incarnations.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn new(open: OpenJournal, turn: WritersTurn) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::unbounded_channel();
        let (alive, thread) = oneshot::channel();
        let fence = supervision::current().map(|child| child.fence);
        thread::Builder::new()
            .name("journal".into())
            .spawn(move || {
                let _alive = alive;
                let writer = Writer {
                    store: open(),
                    turn,
                    fence,
                };
                writer.work(queue);
            })?;
        Ok(Self {
            jobs,
            thread: Some(thread),
        })
    }

    /// Hands a job to the thread and brings its answer back. A thread that is gone drops the job, and with it the sender of
    /// the answer: then this incarnation has failed, and whoever asks is to ask the next one.
    fn put<T: 'static>(
        &mut self,
        job: Job,
        answer: oneshot::Receiver<T>,
    ) -> ResponseActFuture<Self, T> {
        let _ = self.jobs.send(job);
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

impl Handler<GetSnapshot> for JournalActor {
    type Result = ResponseActFuture<Self, Result<Snapshot, JournalError>>;

    fn handle(&mut self, _: GetSnapshot, _: &mut Self::Context) -> Self::Result {
        failpoint!("journal.GetSnapshot");
        let (reply, answer) = oneshot::channel();
        self.put(Job::Snapshot(reply), answer)
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

/// What shall be durable, and who waits for it.
type Request = (Vec<Change>, oneshot::Sender<Result<(), CommitError>>);

/// The thread's side.
struct Writer {
    /// Open, or why not.
    store: Result<Box<dyn JournalStore>, JournalError>,
    turn: WritersTurn,
    /// Whether the incarnation that it works for still counts; `None` outside of supervision.
    fence: Option<Fence>,
}

impl Writer {
    /// Takes what is waiting, commits it in one go, answers each.
    fn work(mut self, mut queue: mpsc::UnboundedReceiver<Job>) {
        let mut jobs = Vec::new();
        while queue.blocking_recv_many(&mut jobs, GROUP) > 0 {
            let turn = Arc::clone(&self.turn);
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            if self.fence.as_ref().is_some_and(|fence| !fence.is_current()) {
                // Who asked has been told, and has asked the next incarnation: what is done now would be done behind its back.
                return;
            }
            self.perform(jobs.drain(..));
        }
    }

    fn perform(&mut self, jobs: impl Iterator<Item = Job>) {
        let mut group = Vec::new();
        for job in jobs {
            match job {
                Job::Commit(changes, reply) => group.push((changes, reply)),
                Job::Snapshot(reply) => {
                    // What was asked before is in what is read after.
                    self.commit(&mut group);
                    let _ = reply.send(self.with(|store| store.snapshot()));
                }
                Job::Task(task, reply) => {
                    self.commit(&mut group);
                    let _ = reply.send(self.with(|store| store.find(&task)));
                }
            }
        }
        self.commit(&mut group);
    }

    fn with<T>(
        &mut self,
        run: impl FnOnce(&mut dyn JournalStore) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        match &mut self.store {
            Ok(store) => run(store.as_mut()),
            Err(error) => Err(error.clone()),
        }
    }

    fn commit(&mut self, group: &mut Vec<Request>) {
        if group.is_empty() {
            return;
        }
        let (requests, replies): (Vec<_>, Vec<_>) = group.drain(..).unzip();
        #[cfg(feature = "failpoints")]
        points::before(&requests.concat());
        match self.with(|store| store.commit(&requests)) {
            Ok(answers) => {
                #[cfg(feature = "failpoints")]
                points::after(&written(&requests, &answers));
                for (reply, answer) in replies.into_iter().zip(answers) {
                    let _ = reply.send(answer.map_err(CommitError::from));
                }
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(Err(error.clone().into()));
                }
            }
        }
    }
}

#[cfg(feature = "failpoints")]
fn written(requests: &[Vec<Change>], answers: &[Result<(), Refused>]) -> Vec<Change> {
    let written = requests.iter().zip(answers);
    written
        .filter(|(_, answer)| answer.is_ok())
        .flat_map(|(changes, _)| changes.clone())
        .collect()
}

/// Everybody's way to the journal.
#[derive(Clone)]
pub struct Records(pub Slot<JournalActor>);

/// Between two tries of a change that must become durable.
const RETRY: Backoff = Backoff {
    first: Duration::from_millis(200),
    cap: Duration::from_secs(5),
    jitter: 0.3,
};

/// Between two tries of what the journal dies of: twice its restart budget's window, so that a poison does not spend it.
const POISON: Duration = Duration::from_secs(60);

/// How long one try may take: a disk under load flushes in seconds.
const PATIENCE: Duration = Duration::from_secs(20);

impl Records {
    /// Makes changes durable before `deadline`.
    ///
    /// # Errors
    /// They are not, or (`Unavailable`) it is not known.
    pub async fn commit(&self, changes: Vec<Change>, deadline: Instant) -> Result<(), CommitError> {
        self.0.ask_idempotent(Commit(changes), deadline).await?
    }

    /// Makes changes durable, however long the journal is away or its disk full.
    ///
    /// # Errors
    /// The journal works and said no.
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

    /// Everything in it, however long it takes.
    pub async fn snapshot(&self) -> Snapshot {
        let mut attempt = 0;
        loop {
            match self
                .0
                .ask_idempotent(GetSnapshot, Instant::now() + PATIENCE)
                .await
            {
                Ok(Ok(snapshot)) => return snapshot,
                Ok(Err(error)) => pause(&mut attempt, &error.into()).await,
                Err(error) => pause(&mut attempt, &error.into()).await,
            }
        }
    }

    /// What is known of a task.
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

    /// As [`find`](Self::find), however long the journal is away.
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

/// Says it once, and waits before the next try.
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
