//! The journal's thread: takes the waiting requests, commits them together, and answers each. On a full disk it refuses offers,
//! and writes what existing tasks need. It closes a store that turns out to be damaged, and ends.

use std::{
    ops::ControlFlow,
    sync::{Arc, PoisonError},
};

use log::error;
use tokio::sync::{mpsc, oneshot};

use super::{CommitError, Job, WritersTurn};
use crate::{
    domain::record::{Change, Phase},
    ports::journal::{JournalError, JournalStore, Refused},
    supervision::Fence,
};

#[cfg(feature = "failpoints")]
use super::points;

/// Most requests in one commit: a bound on how long the first of them waits.
const GROUP: usize = 256;

/// Changes to be made durable, and where the answer goes.
type Request = (Vec<Change>, oneshot::Sender<Result<(), CommitError>>);

/// The work of the thread.
pub(super) struct Writer {
    /// The open store, or why there is none.
    store: Result<Box<dyn JournalStore>, JournalError>,
    turn: WritersTurn,
    /// Tells whether this thread's incarnation was replaced; `None` outside of supervision.
    fence: Option<Fence>,
}

impl Writer {
    pub(super) fn new(
        store: Result<Box<dyn JournalStore>, JournalError>,
        turn: WritersTurn,
        fence: Option<Fence>,
    ) -> Self {
        Self { store, turn, fence }
    }

    /// Works until the actor is gone, or the store is damaged: then the next incarnation opens it anew, and unanswered requests
    /// are asked of that one.
    pub(super) async fn work(mut self, mut queue: mpsc::UnboundedReceiver<Job>) {
        let mut jobs = Vec::new();
        while queue.recv_many(&mut jobs, GROUP).await > 0 {
            let turn = Arc::clone(&self.turn);
            let _turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
            if self.fence.as_ref().is_some_and(|fence| !fence.is_current()) {
                // The askers have turned to the next incarnation: a write now would happen behind its back.
                return;
            }
            if self.perform(jobs.drain(..)).is_break() {
                return;
            }
        }
    }

    fn perform(&mut self, jobs: impl Iterator<Item = Job>) -> ControlFlow<()> {
        let mut group = Vec::new();
        for job in jobs {
            match job {
                Job::Commit(changes, reply) => group.push((changes, reply)),
                Job::Settle(reply) => {
                    // So that the reader, who reads after this, sees all that was asked for before.
                    self.commit(&mut group)?;
                    let _ = reply.send(());
                }
                Job::Damaged(why) => {
                    self.commit(&mut group)?;
                    let _ = self.with(|_| Err::<(), _>(JournalError::Damaged(why)))?;
                }
                Job::Task(task, reply) => {
                    self.commit(&mut group)?;
                    let _ = reply.send(self.with(|store| store.find(&task))?);
                }
                Job::Tend => {
                    self.commit(&mut group)?;
                    // A store that was never opened needs no tending: its error is the answer to every request.
                    let _ = self.with(|store| store.tend())?;
                }
            }
        }
        self.commit(&mut group)
    }

    /// Uses the store. A damaged one is closed before anything is answered, since the next incarnation opens the same file.
    fn with<T>(
        &mut self,
        run: impl FnOnce(&mut dyn JournalStore) -> Result<T, JournalError>,
    ) -> ControlFlow<(), Result<T, JournalError>> {
        let answer = match &mut self.store {
            Ok(store) => run(store.as_mut()),
            Err(error) => Err(error.clone()),
        };
        if let Err(JournalError::Damaged(damage)) = &answer {
            error!(damage; "the journal is damaged; it is opened anew");
            self.store = Err(JournalError::Broken("it was damaged".into()));
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(answer)
    }

    fn commit(&mut self, group: &mut Vec<Request>) -> ControlFlow<()> {
        if group.is_empty() {
            return ControlFlow::Continue(());
        }
        let (requests, replies): (Vec<_>, Vec<_>) = group.drain(..).unzip();
        #[cfg(feature = "failpoints")]
        points::before(&requests.concat());
        match self.with(|store| store.commit(&requests))? {
            Ok(answers) => give(&requests, replies, answers),
            Err(JournalError::Full(why)) => self.commit_on_full_disk(requests, replies, &why)?,
            Err(error) => refuse(replies, &error),
        }
        ControlFlow::Continue(())
    }

    /// Refuses offers, and writes the other requests into the space that was kept back.
    fn commit_on_full_disk(
        &mut self,
        requests: Vec<Vec<Change>>,
        replies: Vec<oneshot::Sender<Result<(), CommitError>>>,
        why: &str,
    ) -> ControlFlow<()> {
        let full = JournalError::Full(why.to_owned());
        let (offers, others): (Vec<Request>, Vec<_>) = requests
            .into_iter()
            .zip(replies)
            .partition(|(changes, _)| changes.iter().any(is_offer));
        refuse(offers.into_iter().map(|(_, reply)| reply), &full);
        if others.is_empty() {
            return ControlFlow::Continue(());
        }
        let (requests, replies): (Vec<_>, Vec<_>) = others.into_iter().unzip();
        let committed = self.with(|store| {
            store.make_room();
            store.commit(&requests)
        })?;
        match committed {
            Ok(answers) => give(&requests, replies, answers),
            Err(error) => refuse(replies, &error),
        }
        ControlFlow::Continue(())
    }
}

/// Whether the change is a new offer. Records in later phases are written anew because the journal has lost them.
fn is_offer(change: &Change) -> bool {
    matches!(change, Change::Accept(record) if record.phase == Phase::Accepted)
}

fn give(
    requests: &[Vec<Change>],
    replies: Vec<oneshot::Sender<Result<(), CommitError>>>,
    answers: Vec<Result<(), Refused>>,
) {
    #[cfg(feature = "failpoints")]
    points::after(&written(requests, &answers));
    #[cfg(not(feature = "failpoints"))]
    let _ = requests;
    for (reply, answer) in replies.into_iter().zip(answers) {
        let _ = reply.send(answer.map_err(CommitError::from));
    }
}

fn refuse(
    replies: impl IntoIterator<Item = oneshot::Sender<Result<(), CommitError>>>,
    error: &JournalError,
) {
    for reply in replies {
        let _ = reply.send(Err(error.clone().into()));
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
