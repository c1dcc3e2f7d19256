//! A development master: the other side of the wire contract, over real gRPC, for the demonstration, the tests and the
//! benchmarks. It behaves as the real master does, down to its global lock, its late writes and its refusals, records
//! everything, and judges the worker by it (`verdict`).
//!
//! Of this crate it imports the generated code alone, and nothing but the demonstration and the tests imports it. It schedules
//! nothing: a task goes to the worker that it names, or to the first one that is registered. State is in memory.

mod caller;
mod door;
mod fault;
mod judge;
mod ledger;
mod log_feed;
mod log_view;
mod options;
mod record;
mod service;
mod upload;
mod waits;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Server;

pub use door::{Callers, Inside};
pub use fault::{Fault, Method};
pub use judge::{Rule, Verdict, Violation};
pub use ledger::NotSeen;
pub use log_feed::{LogFeed, LogNews};
pub use log_view::{Keep, LogEnd, LogSeen, LogView};
pub use options::{Admission, Locking, MasterOptions, Submissions};
pub use record::{
    Beat, CallAnswer, CancelCall, Offer, Record, Registration, ReportCopy, TaskRecord, WorkerRecord,
};
pub use upload::{Upload, UploadEnd, UploadedFile};

use crate::proto::master_worker_server::MasterWorkerServer;
use crate::proto::{RegisterAck, Task};
use door::Door;
use fault::Faults;
use ledger::Ledger;
use service::Service;

/// Bytes of the largest message that is read: more than any that a worker could mean to send, so that `service` sees it and refuses
/// it as grpc-go does.
const READABLE_MESSAGE: usize = 64 << 20;

/// A running master. Clones are the same master; it ends with the last of them.
#[derive(Clone, Debug)]
pub struct DevMaster {
    core: Arc<Core>,
    background: Arc<Mutex<JoinSet<()>>>,
}

/// The state that the served side, the calling side and the handle share.
#[derive(Debug)]
struct Core {
    options: MasterOptions,
    admission: Mutex<Admission>,
    ledger: Ledger,
    faults: Faults,
    door: Door,
    global: AsyncMutex<()>,
    submissions: AsyncMutex<()>,
    uploads: AsyncMutex<()>,
}

impl Core {
    fn admits(&self, worker: &str) -> bool {
        match &*self
            .admission
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
        {
            Admission::Anyone => true,
            Admission::Listed(workers) => workers.contains(worker),
        }
    }

    async fn global_lock(&self) -> Option<AsyncMutexGuard<'_, ()>> {
        match self.options.locking {
            Locking::Global => Some(self.global.lock().await),
            Locking::None => None,
        }
    }
}

impl DevMaster {
    /// Listens at the address in the options, and serves.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(options: MasterOptions) -> io::Result<Self> {
        let (door, connections) = Door::open(options.listen).await?;
        let core = Arc::new(Core {
            admission: Mutex::new(options.admission.clone()),
            options,
            ledger: Ledger::new(),
            faults: Faults::new(),
            door,
            global: AsyncMutex::default(),
            submissions: AsyncMutex::default(),
            uploads: AsyncMutex::default(),
        });
        let service = Service {
            core: Arc::clone(&core),
        };
        let service = MasterWorkerServer::new(service).max_decoding_message_size(READABLE_MESSAGE);
        let server = Server::builder()
            .add_service(service)
            .serve_with_incoming(ReceiverStream::new(connections));
        let master = Self {
            core: Arc::clone(&core),
            background: Arc::default(),
        };
        master.spawn(async {
            // It ends with the master: its connections come from the master's own listener.
            let _ended = server.await;
        });
        master.spawn(core.poke_inactive_workers());
        Ok(master)
    }

    /// The address at which it listens.
    pub fn address(&self) -> SocketAddr {
        self.core.door.address()
    }

    /// Enters a worker, as an admin does before it may register.
    pub fn admit(&self, worker: &str) {
        let mut admission = self
            .core
            .admission
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Admission::Listed(workers) = &mut *admission {
            workers.insert(worker.to_owned());
        }
    }

    /// Reads everything that is recorded so far.
    pub fn look<T>(&self, look: impl FnOnce(&Record) -> T) -> T {
        self.core.ledger.read(look)
    }

    /// The task as the master has it now.
    pub fn task(&self, task: &str) -> Option<TaskRecord> {
        self.look(|record| record.task(task).cloned())
    }

    /// The judge's verdict on everything up to now.
    pub fn verdict(&self) -> Verdict {
        let limit = self.core.options.heartbeat_gap;
        let pings = *self.core.door.pings().borrow();
        self.look(|record| judge::judge(record, pings, limit, tokio::time::Instant::now()))
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut background = self
            .background
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while background.try_join_next().is_some() {}
        background.spawn(work);
    }
}

/// The calls that the master makes to its workers.
impl DevMaster {
    /// Queues a task: it is offered until a worker takes it. A `submitted_at` of 0 becomes now.
    pub fn submit(&self, task: Task) {
        let task = self.enter(task);
        self.spawn(Arc::clone(&self.core).keep_offering(task));
    }

    /// Offers a task to one worker, once.
    pub async fn offer(&self, worker: &str, task: Task) -> CallAnswer {
        let task = self.enter(task);
        self.core.offer(worker, task).await
    }

    /// Takes over a task that another master has given to this worker.
    pub fn inherit(&self, task: Task, worker: &str) {
        self.core
            .ledger
            .write(|record| record.inherited(task, worker));
    }

    fn enter(&self, mut task: Task) -> Task {
        if task.submitted_at == 0 {
            // An offer of a known task is the same offer, with the same time.
            let known = self.look(|record| {
                record
                    .task(&task.task_id)
                    .map(|known| known.task.submitted_at)
            });
            task.submitted_at = known.unwrap_or_else(unix_seconds);
        }
        self.core
            .ledger
            .write(|record| record.submitted(task.clone()));
        task
    }

    /// Cancels a task at the worker that has it; `None` when no worker was ever offered it.
    pub async fn cancel(&self, task: &str) -> Option<CancelCall> {
        let worker = self.worker_of(task)?;
        Some(self.core.cancel(&worker, task).await)
    }

    /// Cancels an id at a worker, whether or not the master knows the task.
    pub async fn cancel_at(&self, worker: &str, task: &str) -> CancelCall {
        self.core.cancel(worker, task).await
    }

    /// Sends MasterRegister to a worker's address, naming this master.
    ///
    /// # Errors
    /// The worker's answer, where it is an error.
    pub async fn call_worker(&self, worker_address: &str) -> Result<RegisterAck, Status> {
        let own = self.address().to_string();
        self.core.master_register(worker_address, &own).await
    }

    /// Opens a viewer on a task's log at the worker that has it, keeping every line.
    pub fn watch_log(&self, task: &str) -> LogView {
        self.watch_log_keeping(task, Keep::Lines)
    }

    /// Opens a viewer on a task's log at the worker that has it.
    pub fn watch_log_keeping(&self, task: &str, keep: Keep) -> LogView {
        let worker = self.worker_of(task).unwrap_or_default();
        self.watch_log_at(&worker, task, keep)
    }

    /// Opens a viewer on the log of any id at a worker.
    pub fn watch_log_at(&self, worker: &str, task: &str, keep: Keep) -> LogView {
        LogView::open(
            Arc::clone(&self.core),
            worker.to_owned(),
            task.to_owned(),
            keep,
        )
    }

    /// Forgets that a worker is registered, as a master with a lost database does: its heartbeats are refused.
    pub fn forget_worker(&self, worker: &str) {
        self.core.ledger.write(|record| record.forget(worker));
    }

    /// The worker that has taken the task, else the one it was meant for, else the only one there is.
    fn worker_of(&self, task: &str) -> Option<String> {
        self.look(|record| record.worker_of(task))
    }
}

/// Faults. What follows from them is not held against the worker.
impl DevMaster {
    /// Every call of `method` meets `fault` from now on.
    pub fn inject(&self, method: Method, fault: Fault) {
        self.core.faults.set(method, fault, None);
    }

    /// The next `times` calls of `method` meet `fault`.
    pub fn inject_times(&self, method: Method, fault: Fault, times: usize) {
        self.core.faults.set(method, fault, Some(times));
    }

    /// Calls of `method` are ordinary again; held ones go on.
    pub fn heal(&self, method: Method) {
        self.core.faults.lift(method);
    }

    /// Refuses connections from now on.
    pub async fn stop_listening(&self, inside: Inside) {
        self.core.door.shut(inside).await;
        self.doubt("the master stopped listening");
    }

    /// Cuts all connections, then accepts new ones that come to nothing.
    ///
    /// # Errors
    /// When the port cannot be bound again.
    pub async fn turn_away(&self, callers: Callers) -> io::Result<()> {
        self.doubt("the master turns its callers away");
        self.core.door.turn_away(callers).await
    }

    /// Listens and serves again, on the same port.
    ///
    /// # Errors
    /// When the port cannot be bound again.
    pub async fn listen_again(&self) -> io::Result<()> {
        self.core.door.reopen().await?;
        self.doubt("the master listens again");
        Ok(())
    }

    /// Cuts all connections; new ones are served.
    pub fn cut_connections(&self) {
        self.core.door.cut();
        self.doubt("the master cut its connections");
    }

    /// Tells the judge of something that puts deliveries in doubt and silences heartbeats: a worker killed by a test.
    pub fn doubt(&self, why: &str) {
        self.core.ledger.write(|record| record.mark(why));
    }

    /// How many connections were made so far, whatever became of them.
    pub fn connections(&self) -> u64 {
        *self.core.door.knocks().borrow()
    }
}

/// The time of day, read as an age: the clock's `now` is kept for code that tests must be able to pause.
fn unix_seconds() -> i64 {
    let age = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(age.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
