//! The only door into the actors. Nobody outside of them sees an address, a slot or a mailbox; an error of theirs comes out as an
//! answer that the caller's contract has.

pub mod admin;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use log::{debug, error, warn};
use tokio::{sync::mpsc::UnboundedSender, time::Instant};

use crate::{
    actors::{
        journal::{CommitError, Records},
        log_router::{LogRouterActor, OpenLog, OpenSpool},
        registry::{
            AssignTask, CancelTask, FailOffer, GetStanding, RegistryActor, TaskNews,
            finished_answer,
        },
        session::{MasterIsAt, SessionActor},
    },
    domain::{
        id::TaskId,
        record::{Change, Phase},
        spec::Offer,
    },
    ports::{
        journal::Known,
        master::MasterAddress,
        spool::{LogCursor, LogEnd, LogRange},
        worker::{AssignAnswer, CancelAnswer, LogsError, MoveError, Worker},
    },
    supervision::{AskError, Slot, threads::beside},
    telemetry::{operator, voice::RefusalVoice},
};

/// Within this an AssignTask is answered: the master's call holds up the submissions of all its users.
const ASSIGN: Duration = Duration::from_secs(1);

/// The part of [`ASSIGN`] that is kept for the answer's way back.
const MARGIN: Duration = Duration::from_millis(100);

/// Within this a CancelTask is answered: the master's call holds a lock of its whole cluster.
const CANCEL: Duration = Duration::from_secs(2);

/// How long to try to make a cancel durable that the registry did not take in time.
const KEEP: Duration = Duration::from_secs(1);

/// The line before the end of a log that was lost and is written anew.
const END_WAS_LOST: &str =
    "[worker-node] the end of this log was damaged: what stood here may be missing";

/// How long a viewer waits for its cursor; then the answer is `Unavailable`.
const OPEN_LOG: Duration = Duration::from_secs(5);

/// Within this a master's call to register here is answered: its own timeout, less the way.
const MOVE: Duration = Duration::from_secs(2);

/// The door, cheap to clone. See the module.
#[derive(Clone)]
pub struct WorkerHandle {
    registry: Slot<RegistryActor>,
    logs: Slot<LogRouterActor>,
    session: Slot<SessionActor>,
    records: Records,
    news: UnboundedSender<TaskNews>,
    voice: Arc<Mutex<RefusalVoice>>,
}

impl WorkerHandle {
    /// A door to these actors. `news` leads to the registry.
    #[must_use]
    pub fn new(
        registry: Slot<RegistryActor>,
        logs: Slot<LogRouterActor>,
        session: Slot<SessionActor>,
        records: Records,
        news: UnboundedSender<TaskNews>,
    ) -> Self {
        Self {
            registry,
            logs,
            session,
            records,
            news,
            voice: Arc::default(),
        }
    }
}

impl WorkerHandle {
    /// Accepts an offer that killed two registries, with a task that has failed: refused, it would be offered again for ever.
    async fn fail_offer(&self, offer: Offer, deadline: Instant) -> AssignAnswer {
        let task = offer.spec.id.clone();
        error!(task:%; "the registry failed twice over an offer; the task fails");
        let fail = FailOffer {
            offer,
            reason: "the worker failed twice over its offer".into(),
            deadline: deadline - MARGIN,
        };
        match self.registry.ask_idempotent(fail, deadline).await {
            Ok(answer) => answer,
            Err(error) => self.refuse_offer(task, error),
        }
    }

    fn refuse_offer(&self, task: TaskId, error: AskError) -> AssignAnswer {
        debug!(task:%, error:%; "an offer could not be judged; it is refused for now");
        self.tell(TaskNews::OfferLost(task));
        AssignAnswer::Refused(
            "the worker is busy or restarting a part of itself; offer again".into(),
        )
    }

    /// Writes the end of a finished task's log where it is missing, since it was damaged or did not fit on a full disk: viewers
    /// would wait for it for ever. The journal knows how the task ended.
    async fn restore_end(&self, task: &TaskId, deadline: Instant) {
        let open = OpenSpool(task.clone());
        let Ok(Ok(spool)) = self.logs.ask_idempotent(open, deadline).await else {
            return;
        };
        if spool.end().is_some() {
            return;
        }
        let verdict = match self.records.find(task, deadline).await {
            // Before delivery the outbox has still to write the log's end.
            Ok(Some(Known::Record(record))) if record.phase < Phase::Delivered => None,
            Ok(Some(Known::Record(record))) => record.verdict,
            Ok(Some(Known::Retired(stone))) => Some(stone.verdict),
            Ok(Some(Known::Unreadable) | None) | Err(_) => None,
        };
        let end = verdict.map(|verdict| LogEnd {
            word: verdict.outcome.word(),
            trailer: verdict.trailer,
        });
        let Some(end) = end else { return };
        let restored = async {
            spool.note(END_WAS_LOST.to_owned()).await?;
            spool.close(end).await
        };
        if let Err(error) = restored.await {
            warn!(task:%, error:%; "the lost end of a log could not be written anew");
        }
    }

    /// Logs a refusal once per task and cause: the master repeats the offer every 5 s.
    fn say_refused(&self, task: &TaskId, reason: &str) {
        let mut voice = self.voice.lock().unwrap_or_else(PoisonError::into_inner);
        let (level, not_shown) = voice.refused(task.as_str(), reason, Instant::now());
        drop(voice);
        if not_shown > 0 {
            operator::refusals_not_shown(not_shown);
        }
        operator::task_refused(level, task, reason);
    }

    /// The answer to a cancel that the journal refused: the task has its verdict already, or was retired.
    async fn finished(&self, task: &TaskId) -> CancelAnswer {
        let known = self.records.find(task, Instant::now() + KEEP).await;
        let known = known.ok().flatten();
        let over = known.as_ref().and_then(finished_answer);
        over.unwrap_or(CancelAnswer::NotFound)
    }

    fn tell(&self, news: TaskNews) {
        // The receiver lives as long as the process.
        let _ = self.news.send(news);
    }
}

#[async_trait]
impl Worker for WorkerHandle {
    async fn assign(&self, offer: Offer) -> AssignAnswer {
        let deadline = Instant::now() + ASSIGN;
        let task = offer.spec.id.clone();
        let poison = offer.clone();
        let assign = AssignTask {
            offer,
            deadline: deadline - MARGIN,
        };
        let answer = match self.registry.ask_idempotent(assign, deadline).await {
            Ok(answer) => answer,
            Err(AskError::Poisoned) => self.fail_offer(poison, deadline).await,
            Err(error @ (AskError::Unavailable | AskError::Deadline)) => {
                self.refuse_offer(task.clone(), error)
            }
        };
        if let AssignAnswer::Refused(reason) = &answer {
            self.say_refused(&task, reason);
        }
        answer
    }

    async fn cancel(&self, task: TaskId) -> CancelAnswer {
        let asked = self
            .registry
            .ask_idempotent(
                CancelTask {
                    task: task.clone(),
                    by: None,
                },
                Instant::now() + CANCEL,
            )
            .await;
        match asked {
            Ok(answer) => answer,
            // Written to the journal instead: the registry's next incarnation carries it out.
            Err(error) => {
                warn!(task:%, error:%; "the registry does not answer; the cancel is kept for it");
                let keep = vec![Change::CancelRequested(task.clone())];
                let kept = self.records.commit(keep, Instant::now() + KEEP).await;
                self.tell(TaskNews::CancelKept(task.clone()));
                match kept {
                    Ok(())
                    | Err(
                        CommitError::Journal(_) | CommitError::Unavailable | CommitError::Poisoned,
                    ) => CancelAnswer::Accepted,
                    Err(CommitError::Refused(_)) => self.finished(&task).await,
                }
            }
        }
    }

    async fn open_log(
        &self,
        task: TaskId,
        range: LogRange,
    ) -> Result<Box<dyn LogCursor>, LogsError> {
        let deadline = Instant::now() + OPEN_LOG;
        let unavailable = |_| LogsError::Unavailable;
        let open = OpenLog(task.clone(), range);
        let opened = self.logs.ask_idempotent(open, deadline).await;
        if matches!(opened, Ok(Ok(_))) {
            // Beside the viewer, who need not wait for it.
            let (this, task) = (self.clone(), task.clone());
            beside(async move { this.restore_end(&task, deadline).await });
        }
        if !matches!(opened, Ok(Err(LogsError::UnknownTask))) {
            return opened.map_err(unavailable)?;
        }
        // A task that was accepted a moment ago has nothing to log yet, and no spool.
        let active = self
            .registry
            .ask_idempotent(GetStanding(task.clone()), deadline);
        if !active.await.map_err(unavailable)? {
            return Err(LogsError::UnknownTask);
        }
        let spool = self.logs.ask_idempotent(OpenSpool(task), deadline);
        match spool.await.map_err(unavailable)? {
            Ok(spool) => Ok(spool.cursor_from(range)),
            Err(_) => Err(LogsError::Unavailable),
        }
    }

    async fn master_is_at(&self, master: Option<MasterAddress>) -> Result<(), MoveError> {
        match self
            .session
            .ask_idempotent(MasterIsAt(master), Instant::now() + MOVE)
            .await
        {
            Ok(answer) => answer,
            Err(error) => {
                warn!(error:%; "a master's call to register could not be handed over; it is tried at the next one");
                Err(MoveError::Unavailable)
            }
        }
    }
}
