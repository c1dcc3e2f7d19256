//! The one writer of the database: an actor in front of a thread that may block. Everybody who makes something durable asks
//! here. What is asked while a commit runs goes into the next one together (group commit), so that a hundred offers at once
//! cost a few disk flushes.

use std::{sync::Arc, thread, time::Duration};

use actix::{Actor, ActorFutureExt, Context, Handler, Message, ResponseActFuture, WrapFuture};
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
    ports::journal::{JournalError, JournalStore, Known, Refused},
    supervision::{self, AskError, Slot},
};

/// Opens the store; called once per incarnation, on its thread.
pub type OpenJournal = Arc<dyn Fn() -> Result<Box<dyn JournalStore>, JournalError> + Send + Sync>;

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
}

enum Job {
    Commit(Vec<Change>, oneshot::Sender<Result<(), CommitError>>),
    Snapshot(oneshot::Sender<Result<Snapshot, JournalError>>),
    Task(TaskId, oneshot::Sender<Result<Option<Known>, JournalError>>),
}

/// See the module.
pub struct JournalActor {
    jobs: mpsc::UnboundedSender<Job>,
}

impl JournalActor {
    /// Starts the thread. The store is opened there; if that fails, the first question is answered with it.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn new(open: OpenJournal) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::unbounded_channel();
        thread::Builder::new()
            .name("journal".into())
            .spawn(move || work(&open, queue))?;
        Ok(Self { jobs })
    }

    /// Hands a job to the thread and brings its answer back. If the thread is gone, this incarnation has failed.
    fn put<T: 'static>(
        &mut self,
        job: Job,
        answer: oneshot::Receiver<Result<T, CommitError>>,
    ) -> ResponseActFuture<Self, Result<T, CommitError>> {
        // A thread that is gone drops the job, and with it the sender of the answer.
        let _ = self.jobs.send(job);
        Box::pin(answer.into_actor(self).map(|answer, _, ctx| {
            answer.unwrap_or_else(|_| {
                supervision::fail(ctx, "the journal's thread ended");
                Err(CommitError::Unavailable)
            })
        }))
    }
}

impl Actor for JournalActor {
    type Context = Context<Self>;
}

crate::answers_pings!(JournalActor);

impl Handler<Commit> for JournalActor {
    type Result = ResponseActFuture<Self, Result<(), CommitError>>;

    fn handle(&mut self, Commit(changes): Commit, _: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        self.put(Job::Commit(changes, reply), answer)
    }
}

impl Handler<GetSnapshot> for JournalActor {
    type Result = ResponseActFuture<Self, Result<Snapshot, JournalError>>;

    fn handle(&mut self, _: GetSnapshot, _: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        let _ = self.jobs.send(Job::Snapshot(reply));
        Box::pin(
            async move { answer.await.unwrap_or_else(|_| Err(thread_ended())) }.into_actor(self),
        )
    }
}

impl Handler<GetTask> for JournalActor {
    type Result = ResponseActFuture<Self, Result<Option<Known>, JournalError>>;

    fn handle(&mut self, GetTask(task): GetTask, _: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        let _ = self.jobs.send(Job::Task(task, reply));
        Box::pin(
            async move { answer.await.unwrap_or_else(|_| Err(thread_ended())) }.into_actor(self),
        )
    }
}

fn thread_ended() -> JournalError {
    JournalError::Broken("its thread ended".into())
}

/// The thread: takes what is waiting, commits it in one go, answers each.
fn work(open: &OpenJournal, mut queue: mpsc::UnboundedReceiver<Job>) {
    let mut store = open();
    let mut jobs = Vec::new();
    while queue.blocking_recv_many(&mut jobs, GROUP) > 0 {
        let mut group = Vec::new();
        for job in jobs.drain(..) {
            match job {
                Job::Commit(changes, reply) => group.push((changes, reply)),
                Job::Snapshot(reply) => {
                    // What was asked before is in what is read after.
                    commit(&mut store, &mut group);
                    let _ = reply.send(with(&mut store, |store| store.snapshot()));
                }
                Job::Task(task, reply) => {
                    commit(&mut store, &mut group);
                    let _ = reply.send(with(&mut store, |store| store.find(&task)));
                }
            }
        }
        commit(&mut store, &mut group);
    }
}

/// What shall be durable, and who waits for it.
type Request = (Vec<Change>, oneshot::Sender<Result<(), CommitError>>);

type Store = Result<Box<dyn JournalStore>, JournalError>;

fn with<T>(
    store: &mut Store,
    run: impl FnOnce(&mut dyn JournalStore) -> Result<T, JournalError>,
) -> Result<T, JournalError> {
    match store {
        Ok(store) => run(store.as_mut()),
        Err(error) => Err(error.clone()),
    }
}

fn commit(store: &mut Store, group: &mut Vec<Request>) {
    if group.is_empty() {
        return;
    }
    let (requests, replies): (Vec<_>, Vec<_>) = group.drain(..).unzip();
    match with(store, |store| store.commit(&requests)) {
        Ok(answers) => {
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

/// Everybody's way to the journal.
#[derive(Clone)]
pub struct Records(pub Slot<JournalActor>);

/// Between two tries of a change that must become durable.
const RETRY: Backoff = Backoff {
    first: Duration::from_millis(200),
    cap: Duration::from_secs(5),
    jitter: 0.3,
};

/// How long one try may take: a disk under load flushes in seconds.
const PATIENCE: Duration = Duration::from_secs(20);

impl Records {
    /// Makes changes durable before `deadline`.
    ///
    /// # Errors
    /// They are not, or (`Unavailable`) it is not known.
    pub async fn commit(&self, changes: Vec<Change>, deadline: Instant) -> Result<(), CommitError> {
        match self.0.ask_idempotent(Commit(changes), deadline).await {
            Ok(answer) => answer,
            Err(AskError::Unavailable | AskError::Deadline | AskError::Poisoned) => {
                Err(CommitError::Unavailable)
            }
        }
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
                Err(error @ (CommitError::Journal(_) | CommitError::Unavailable)) => {
                    pause(&mut attempt, &error).await
                }
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
                Err(_) => pause(&mut attempt, &CommitError::Unavailable).await,
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
        match self.0.ask_idempotent(GetTask(task.clone()), deadline).await {
            Ok(answer) => Ok(answer?),
            Err(AskError::Unavailable | AskError::Deadline | AskError::Poisoned) => {
                Err(CommitError::Unavailable)
            }
        }
    }
}

/// Says it once, and waits before the next try.
async fn pause(attempt: &mut u32, error: &CommitError) {
    if *attempt == 0 {
        warn!(error:%; "the journal cannot be used; trying on");
    }
    sleep(RETRY.delay(*attempt, fastrand::f64())).await;
    *attempt += 1;
}
