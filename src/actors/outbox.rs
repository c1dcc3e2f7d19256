//! Delivery: uploads outputs, seals outcomes, reports results, for as long as it takes. What is still to be delivered is in
//! the journal; a new incarnation takes all of it up again. One result per task is in flight at a time.

#[cfg(test)]
mod correspondence;
mod delivery;
mod receipts;
mod reporting;
mod silence;
mod turns;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, SpawnHandle,
    WrapFuture,
};
use tokio::{
    sync::{Semaphore, mpsc::UnboundedSender, watch},
    time::{Instant, sleep, timeout},
};

pub use self::receipts::Receipts;
use self::{
    delivery::{Delivery, Told, again},
    silence::Silence,
    turns::Turns,
};
use super::{
    journal::Records,
    log_router::LogRouterActor,
    registry::{RegistryActor, TaskNews},
    session::MasterView,
};
use crate::{
    domain::{
        backoff::Backoff,
        id::{TaskId, WorkerId},
        record::{Change, Phase, TaskRecord},
        settle::SettleTime,
    },
    failpoint,
    ports::{clock::Clock, journal::Known, master::Master, outputs::OutputStore},
    supervision::{AskError, Slot},
    telemetry::operator,
};

/// Uploads at once. The master takes one at a time for the whole cluster; a second and third wait there, not here.
const UPLOADS: usize = 3;

/// Reports at once.
const REPORTS: usize = 16;

/// Logs that are ended at once.
const LOGS: usize = 16;

/// A task has ended: deliver its result. Idempotent.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Deliver(pub Box<TaskRecord>);

/// How long the outbox may take to take a result, and between two asks of one that is being restarted.
const TAKE: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(200);

/// Between two asks of an outbox that does not survive the question: not so soon that this would spend its restart budget.
const POISON: Duration = Duration::from_secs(300);

/// Hands a result over, until it is taken.
pub(super) async fn hand_over(outbox: &Slot<OutboxActor>, record: TaskRecord) {
    let deliver = Deliver(Box::new(record));
    while let Err(error) = outbox
        .ask_idempotent(deliver.clone(), Instant::now() + TAKE)
        .await
    {
        sleep(match error {
            AskError::Poisoned => POISON,
            AskError::Unavailable | AskError::Deadline => RETRY,
        })
        .await;
    }
}

/// The master offered a task again whose result may have left: send it once more, not before the given time. The journal
/// knows of it (`Change::Redeliver`), so that it survives whoever forgets it. Idempotent.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct DeliverAgain {
    /// Whose.
    pub task: TaskId,
    /// The settle time after the acknowledgement of the new offer; `None`: that was some time ago, and you may know of it.
    pub not_before: Option<Instant>,
}

/// Whom deliveries work with.
#[derive(Clone)]
pub struct Correspondents {
    /// Who we are.
    pub worker: WorkerId,
    /// Whom we call.
    pub master: Arc<dyn Master>,
    /// Where it is.
    pub master_view: Arc<MasterView>,
    /// What is durable.
    pub records: Records,
    /// The texts for the reports.
    pub logs: Slot<LogRouterActor>,
    /// Who knows of cancels and of the settle time.
    pub registry: Slot<RegistryActor>,
    /// Where news of deliveries go.
    pub news: UnboundedSender<TaskNews>,
    /// The files to upload.
    pub outputs: Arc<dyn OutputStore>,
    /// How long a repeat waits after the acknowledgement of its offer.
    pub settle: Arc<Mutex<SettleTime>>,
    /// What the master took and the journal does not know of yet.
    pub receipts: Arc<Receipts>,
    /// For records.
    pub clock: Arc<dyn Clock>,
    /// How long to wait for what.
    pub patience: Patience,
}

impl Correspondents {
    /// Whether the master has registered us, as far as is known.
    fn is_registered(&self) -> bool {
        *self.master_view.registered().borrow()
    }

    /// A pause between two tries, which ends early when the master registers us: then it is back.
    async fn wait_for_master(&self, most: Duration) {
        let mut registered = self.master_view.registered();
        let back = async {
            while registered.changed().await.is_ok() {
                if *registered.borrow_and_update() {
                    return;
                }
            }
            std::future::pending().await
        };
        let _ = timeout(most, back).await;
    }
}

/// Deadlines and backoffs of deliveries; the defaults are the design's.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// An upload without progress for this long has failed.
    pub upload_inactivity: Duration,
    /// An upload takes no longer than this.
    pub upload_total: Duration,
    /// Uploads in contact with the master before it is given up.
    pub upload_tries: u32,
    /// How long to wait for the answer to a report.
    pub report: Duration,
    /// Before a report in doubt through its deadline is repeated, once.
    pub doubt: Duration,
    /// Refusals in a row before a report is parked.
    pub refusals: u32,
    /// Between tries of a parked report.
    pub parked: Duration,
    /// Between tries.
    pub backoff: Backoff,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            upload_inactivity: Duration::from_secs(60),
            upload_total: Duration::from_secs(1_800),
            upload_tries: 3,
            report: Duration::from_secs(60),
            doubt: Duration::from_secs(300),
            refusals: 8,
            parked: Duration::from_secs(600),
            backoff: Backoff {
                first: Duration::from_millis(500),
                cap: Duration::from_secs(30),
                jitter: 0.2,
            },
        }
    }
}

/// Try what is parked again now; how many results that is. Idempotent.
#[derive(Debug, Clone, Message)]
#[rtype(result = "usize")]
pub struct RetryParked;

/// Let go of a result that is parked: it counts as delivered, and what is left of its task is removed. Whether it was parked.
/// Idempotent.
#[derive(Debug, Clone, Message)]
#[rtype(result = "bool")]
pub struct DropParked {
    /// Whose.
    pub task: TaskId,
    /// Who wants that, in words.
    pub why: String,
}

/// How long it may take to find a result that is to be let go of.
const FIND: Duration = Duration::from_secs(5);

/// Bounds on what is under way at once, and the signal that parked reports are to be tried again: each of them subscribes.
pub(crate) struct Gates {
    pub(crate) uploads: Turns,
    pub(crate) reports: Semaphore,
    pub(crate) logs: Semaphore,
    pub(crate) retry_parked: watch::Sender<()>,
    /// What is said of a master that takes no results.
    pub(crate) silence: Silence,
}

impl Gates {
    /// How many there were to hear it.
    fn retry_parked(&self) -> usize {
        self.retry_parked.send_replace(());
        self.retry_parked.receiver_count()
    }
}

/// See the module.
pub struct OutboxActor {
    correspondents: Correspondents,
    gates: Arc<Gates>,
    under_way: HashMap<TaskId, SpawnHandle>,
    /// Results that were handed over while something else was under way for their task.
    waiting: HashMap<TaskId, Box<TaskRecord>>,
}

impl OutboxActor {
    /// Delivers to the master of `correspondents`.
    #[must_use]
    pub fn new(correspondents: Correspondents) -> Self {
        let gates = Gates {
            uploads: Turns::new(UPLOADS),
            reports: Semaphore::new(REPORTS),
            logs: Semaphore::new(LOGS),
            retry_parked: watch::Sender::new(()),
            silence: Silence::default(),
        };
        Self {
            correspondents,
            gates: Arc::new(gates),
            under_way: HashMap::new(),
            waiting: HashMap::new(),
        }
    }

    fn deliver(&mut self, record: Box<TaskRecord>, ctx: &mut Context<Self>) {
        let task = record.spec.id.clone();
        if self.under_way.contains_key(&task) {
            // It may be a repeat that began before there was anything to deliver.
            self.waiting.insert(task, record);
            return;
        }
        let delivery = Delivery::new(
            self.correspondents.clone(),
            Arc::clone(&self.gates),
            *record,
        );
        self.spawn(task, async move { delivery.run().await }, ctx);
    }

    fn spawn(
        &mut self,
        task: TaskId,
        work: impl Future<Output = Told> + 'static,
        ctx: &mut Context<Self>,
    ) {
        let name = task.clone();
        let handle = ctx.spawn(work.into_actor(self).map(move |told, actor, ctx| {
            failpoint!("outbox.finished");
            actor.under_way.remove(&name);
            actor.gates.silence.forget(&name);
            actor.finished(name, told, ctx);
        }));
        self.under_way.insert(task, handle);
    }

    fn finished(&mut self, task: TaskId, told: Told, ctx: &mut Context<Self>) {
        match (self.waiting.remove(&task), told) {
            (Some(record), Told::NotYet) => self.deliver(record, ctx),
            // What was under way told what was handed over.
            (Some(_) | None, _) => self.tell_again(task, told, ctx),
        }
    }

    /// A repeat may have been asked for while the delivery was under way; one that left late enough serves for both.
    fn tell_again(&mut self, task: TaskId, told: Told, ctx: &mut Context<Self>) {
        let Some(not_before) = self.correspondents.receipts.wanted(&task) else {
            self.correspondents.receipts.forget(&task);
            return;
        };
        let left = match told {
            Told::At(left) => Some(left),
            // By an incarnation before this one.
            Told::Earlier => self.correspondents.receipts.taken(&task),
            Told::Nothing => Some(not_before),
            Told::NotYet => return,
        };
        if left.is_some_and(|left| left >= not_before) {
            self.told_again(task, not_before, ctx);
        } else {
            self.deliver_again(task, not_before, ctx);
        }
    }

    fn deliver_again(&mut self, task: TaskId, not_before: Instant, ctx: &mut Context<Self>) {
        let (with, gates) = (self.correspondents.clone(), Arc::clone(&self.gates));
        let work = again(with, gates, task.clone(), not_before);
        self.spawn(task, work, ctx);
    }

    fn told_again(&mut self, task: TaskId, not_before: Instant, ctx: &mut Context<Self>) {
        let (records, receipts) = (
            self.correspondents.records.clone(),
            Arc::clone(&self.correspondents.receipts),
        );
        let note = async move {
            failpoint!("outbox.told_again");
            // It is refused by nobody: there is nothing that it could undo.
            let _ = records.keep(vec![Change::Redelivered(task.clone())]).await;
            receipts.fulfilled(&task, not_before);
        };
        ctx.spawn(note.into_actor(self));
    }

    fn wanted_again(&mut self, task: TaskId, not_before: Option<Instant>, ctx: &mut Context<Self>) {
        let receipts = Arc::clone(&self.correspondents.receipts);
        let not_before = not_before
            .or_else(|| receipts.wanted(&task))
            .unwrap_or_else(|| Instant::now() + self.settle_time());
        receipts.want(task.clone(), not_before);
        if self.under_way.contains_key(&task) {
            return;
        }
        match receipts.taken(&task) {
            // The incarnation before came to that, and not to noting it.
            Some(left) if left >= not_before => self.told_again(task, not_before, ctx),
            Some(_) | None => self.deliver_again(task, not_before, ctx),
        }
    }

    /// Takes up what the last incarnation, or the last process, left. All of it is due at once.
    fn take_up(&mut self, ctx: &mut Context<Self>) {
        let records = self.correspondents.records.clone();
        ctx.spawn(
            async move { records.unfinished().await }
                .into_actor(self)
                .map(|snapshot, actor, ctx| {
                    failpoint!("outbox.take_up");
                    for record in snapshot.tasks {
                        match record.phase {
                            Phase::Accepted | Phase::Starting | Phase::Running | Phase::Done => {}
                            Phase::Ended | Phase::Sealed => actor.deliver(Box::new(record), ctx),
                            Phase::Delivered => actor.say_delivered(record.spec.id),
                        }
                    }
                    for task in snapshot.redeliveries {
                        actor.wanted_again(task, None, ctx);
                    }
                }),
        );
    }

    /// Whoever fell between the note in the journal and the news of it has told nobody.
    fn say_delivered(&self, task: TaskId) {
        let _ = self.correspondents.news.send(TaskNews::Delivered(task));
    }

    fn settle_time(&self) -> Duration {
        let settle = self.correspondents.settle.lock();
        settle.unwrap_or_else(PoisonError::into_inner).now()
    }

    /// A master that has just registered us may take what it refused before.
    fn watch_registrations(&mut self, ctx: &mut Context<Self>) {
        let mut registered = self.correspondents.master_view.registered();
        let gates = Arc::clone(&self.gates);
        let watch = async move {
            while registered.changed().await.is_ok() {
                failpoint!("outbox.registration");
                if *registered.borrow_and_update() {
                    gates.retry_parked();
                }
            }
        };
        ctx.spawn(watch.into_actor(self));
    }
}

impl Actor for OutboxActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        failpoint!("outbox.started");
        self.take_up(ctx);
        self.watch_registrations(ctx);
    }
}

crate::answers_pings!(OutboxActor);

impl Handler<Deliver> for OutboxActor {
    type Result = ();

    fn handle(&mut self, Deliver(record): Deliver, ctx: &mut Self::Context) {
        failpoint!("outbox.Deliver", record);
        self.deliver(record, ctx);
    }
}

impl Handler<DeliverAgain> for OutboxActor {
    type Result = ();

    fn handle(&mut self, DeliverAgain { task, not_before }: DeliverAgain, ctx: &mut Self::Context) {
        failpoint!("outbox.DeliverAgain", task);
        self.wanted_again(task, not_before, ctx);
    }
}

impl Handler<RetryParked> for OutboxActor {
    type Result = usize;

    fn handle(&mut self, RetryParked: RetryParked, _: &mut Self::Context) -> usize {
        failpoint!("outbox.RetryParked");
        self.gates.retry_parked()
    }
}

impl Handler<DropParked> for OutboxActor {
    type Result = ResponseActFuture<Self, bool>;

    fn handle(
        &mut self,
        DropParked { task, why }: DropParked,
        _: &mut Self::Context,
    ) -> Self::Result {
        failpoint!("outbox.DropParked", task);
        let (records, name) = (self.correspondents.records.clone(), task.clone());
        let give_up = async move {
            let known = records.find(&name, Instant::now() + FIND).await;
            let Ok(Some(Known::Record(record))) = known else {
                return false;
            };
            if record.phase != Phase::Sealed || record.parked.is_none() {
                return false;
            }
            records.keep(vec![Change::Delivered(name)]).await.is_ok()
        };
        Box::pin(
            give_up
                .into_actor(self)
                .map(move |is_given_up, actor, ctx| {
                    failpoint!("outbox.dropped");
                    if is_given_up {
                        if let Some(delivery) = actor.under_way.remove(&task) {
                            ctx.cancel_future(delivery);
                        }
                        actor.waiting.remove(&task);
                        actor.gates.silence.forget(&task);
                        operator::result_dropped(&task, &why);
                        actor.say_delivered(task);
                    }
                    is_given_up
                }),
        )
    }
}
