//! Delivery of results: uploads outputs, seals outcomes, reports results, for as long as it takes. What is still to be delivered
//! is in the journal, and each incarnation takes all of it up again. At most one result per task is in flight.

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

/// Uploads at the same time. The master takes one at a time for the whole cluster; the second and third wait there.
const UPLOADS: usize = 3;

/// Reports at the same time.
const REPORTS: usize = 16;

/// Logs that are being ended at the same time.
const LOGS: usize = 16;

/// Delivers the result of a task that has ended. Idempotent.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Deliver(pub Box<TaskRecord>);

/// How long the outbox may take to accept a result; and the wait between two asks of one that is being restarted.
const TAKE: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_millis(200);

/// Between two asks of an outbox that dies of the ask: so long that the asks do not spend its restart budget.
const POISON: Duration = Duration::from_secs(300);

/// Hands a result to the outbox, and tries until it has accepted it.
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

/// Sends a result once more, since the master offered its task again and may have overwritten the status. The journal knows of it
/// (`Change::Redeliver`), so it survives a restart of the outbox. Idempotent.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct DeliverAgain {
    /// The task whose result it is.
    pub task: TaskId,
    /// Send no earlier than this: one settle time after the repeated offer was acknowledged. `None` after a restart: the time
    /// that `Receipts` keeps counts, or else one settle time from now.
    pub not_before: Option<Instant>,
}

/// What deliveries work with.
#[derive(Clone)]
pub struct Correspondents {
    /// This worker's id.
    pub worker: WorkerId,
    /// The master to call.
    pub master: Arc<dyn Master>,
    /// The board about the master.
    pub master_view: Arc<MasterView>,
    /// The journal.
    pub records: Records,
    /// Opens the logs for the reports.
    pub logs: Slot<LogRouterActor>,
    /// Tells whether a task was cancelled, and when its verdict may be fixed.
    pub registry: Slot<RegistryActor>,
    /// Leads to the registry.
    pub news: UnboundedSender<TaskNews>,
    /// The files to upload.
    pub outputs: Arc<dyn OutputStore>,
    /// How long to wait after the acknowledgement of an offer before its result may be sent.
    pub settle: Arc<Mutex<SettleTime>>,
    /// Reports under way, and those that the master took and the journal does not know of yet.
    pub receipts: Arc<Receipts>,
    /// Dates records.
    pub clock: Arc<dyn Clock>,
    /// Deadlines and backoffs.
    pub patience: Patience,
}

impl Correspondents {
    /// Whether the master has registered this worker, as far as is known.
    fn is_registered(&self) -> bool {
        *self.master_view.registered().borrow()
    }

    /// A pause before the next try. It ends early when the master registers this worker, since then it is back.
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

/// Deadlines and backoffs of deliveries; the defaults are those of the design.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// An upload without progress for this long has failed.
    pub upload_inactivity: Duration,
    /// An upload takes no longer than this.
    pub upload_total: Duration,
    /// Failed uploads of one task, in contact with the master, before its upload is given up.
    pub upload_tries: u32,
    /// How long to wait for the answer to a report.
    pub report: Duration,
    /// How long to wait before a report that was not answered in time is sent again, once.
    pub doubt: Duration,
    /// Refusals in a row before a report is parked.
    pub refusals: u32,
    /// Between two tries of a parked report.
    pub parked: Duration,
    /// The waits between other tries.
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

/// Tries all parked results again now; returns how many there are. Idempotent.
#[derive(Debug, Clone, Message)]
#[rtype(result = "usize")]
pub struct RetryParked;

/// Drops a parked result: it counts as delivered, and what is left of its task is removed. Returns whether it was parked.
/// Idempotent.
#[derive(Debug, Clone, Message)]
#[rtype(result = "bool")]
pub struct DropParked {
    /// The task whose result it is.
    pub task: TaskId,
    /// The reason, for the log.
    pub why: String,
}

/// How long the journal may take to find a result that is to be dropped.
const FIND: Duration = Duration::from_secs(5);

/// Bounds on deliveries under way, and the signal to try parked reports again, to which each of these subscribes.
pub(crate) struct Gates {
    pub(crate) uploads: Turns,
    pub(crate) reports: Semaphore,
    pub(crate) logs: Semaphore,
    pub(crate) retry_parked: watch::Sender<()>,
    /// Decides what is logged about a master that takes no results.
    pub(crate) silence: Silence,
}

impl Gates {
    /// Rings for all parked reports; returns how many there are.
    fn retry_parked(&self) -> usize {
        self.retry_parked.send_replace(());
        self.retry_parked.receiver_count()
    }
}

/// The actor that delivers results. See the module.
pub struct OutboxActor {
    correspondents: Correspondents,
    gates: Arc<Gates>,
    under_way: HashMap<TaskId, SpawnHandle>,
    /// Results that were handed over while another delivery of their task was under way.
    waiting: HashMap<TaskId, Box<TaskRecord>>,
}

impl OutboxActor {
    /// An outbox that delivers to the master of `correspondents`.
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
            // The delivery under way may be a repeat that began before there was a result.
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
            // The delivery under way has sent the result that was handed over.
            (Some(_) | None, _) => self.tell_again(task, told, ctx),
        }
    }

    /// If the result was wanted again while its delivery was under way: a report that left late enough serves for both, else it
    /// is sent again.
    fn tell_again(&mut self, task: TaskId, told: Told, ctx: &mut Context<Self>) {
        let Some(not_before) = self.correspondents.receipts.wanted(&task) else {
            self.correspondents.receipts.forget(&task);
            return;
        };
        let left = match told {
            Told::At(left) => Some(left),
            // An earlier incarnation sent it.
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
            // No rule of the journal refuses this.
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
            // An earlier incarnation sent it, and did not come to note that.
            Some(left) if left >= not_before => self.told_again(task, not_before, ctx),
            Some(_) | None => self.deliver_again(task, not_before, ctx),
        }
    }

    /// Takes up the deliveries that the last incarnation, or the last process, left. All of them are due at once.
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

    /// Tells the registry of a delivery that is durable: an incarnation that fell in between has not told.
    fn say_delivered(&self, task: TaskId) {
        let _ = self.correspondents.news.send(TaskNews::Delivered(task));
    }

    fn settle_time(&self) -> Duration {
        let settle = self.correspondents.settle.lock();
        settle.unwrap_or_else(PoisonError::into_inner).now()
    }

    /// Rings for parked reports at each registration: a master that has just registered this worker may take what it refused
    /// before.
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
