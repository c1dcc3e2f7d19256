//! The calls that the master makes to its workers: a new connection for every one, closed after it, one attempt, the
//! deadlines of the real master. Also the queue: a task that was refused is offered again until it is taken.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::Core;
use super::options::Submissions;
use super::record::{CallAnswer, CancelCall, Offer};
use crate::proto::master_worker_client::MasterWorkerClient;
use crate::proto::{MasterInfo, RegisterAck, Task, TaskAck, TaskId};

/// Bytes of the largest answer that is read: a message that grpc-go would refuse is seen, and can be told.
const READABLE_MESSAGE: usize = 64 << 20;

/// Opens a new connection, as the real master does for every call.
pub(super) async fn dial(
    address: &str,
    within: Duration,
) -> Result<MasterWorkerClient<Channel>, String> {
    let endpoint =
        Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
    let channel = endpoint
        .connect_timeout(within)
        .connect()
        .await
        .map_err(|error| format!("{error:?}"))?;
    Ok(MasterWorkerClient::new(channel).max_decoding_message_size(READABLE_MESSAGE))
}

fn with_deadline<T>(message: T, deadline: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(deadline);
    request
}

/// Ends a call at its deadline, also where the worker does not keep to it.
async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    let elapsed = |_| Err(Status::deadline_exceeded("context deadline exceeded"));
    tokio::time::timeout(deadline, call)
        .await
        .unwrap_or_else(elapsed)
        .map(tonic::Response::into_inner)
}

impl Core {
    /// Sends one AssignTask to the worker at its registered address, and does the master's own writes after a success.
    pub(super) async fn offer(self: &Arc<Self>, worker: &str, task: Task) -> CallAnswer {
        let id = task.task_id.clone();
        let _one_at_a_time = match self.options.submissions {
            Submissions::OneAtATime => Some(self.submissions.lock().await),
            Submissions::Parallel => None,
        };
        let at = Instant::now();
        self.ledger.write(|record| record.asked(&id, at));
        let answer = self.assign(worker, task).await;
        let offer = Offer {
            worker: worker.to_owned(),
            at,
            took: at.elapsed(),
            answer: answer.clone(),
        };
        self.ledger
            .write(|record| record.offered(&id, offer, self.options.answer_within));
        if answer.is_success() {
            tokio::time::sleep(self.options.late_write).await;
            self.ledger.write(|record| record.written(&id));
        }
        answer
    }

    async fn assign(&self, worker: &str, task: Task) -> CallAnswer {
        let deadline = self.options.assign_deadline;
        let mut client = match self.dial_worker(worker, deadline).await {
            Ok(client) => client,
            Err(why) => return CallAnswer::Unreachable(why),
        };
        let task = Task {
            target_worker_id: worker.to_owned(),
            ..task
        };
        into_answer(within(deadline, client.assign_task(with_deadline(task, deadline))).await)
    }

    /// Offers the task until a worker takes it or somebody cancels it.
    pub(super) async fn keep_offering(self: Arc<Self>, task: Task) {
        loop {
            let worker = self.choose_worker(&task).await;
            if self.offer(&worker, task.clone()).await.is_success() {
                return;
            }
            tokio::time::sleep(self.options.offer_again).await;
            let cancelled = |id: &str| {
                self.ledger
                    .read(|record| record.task(id)?.cancelled_at)
                    .is_some()
            };
            if cancelled(&task.task_id) {
                return;
            }
        }
    }

    /// The worker that the task asks for, else the first that is registered; waits for it without limit.
    async fn choose_worker(&self, task: &Task) -> String {
        let wanted = &task.target_worker_id;
        loop {
            let found =
                self.ledger
                    .until("a registered worker", Duration::from_secs(3600), |record| {
                        let mut registered = record
                            .workers
                            .iter()
                            .filter(|(_, worker)| worker.registered)
                            .map(|(id, _)| id);
                        registered
                            .find(|id| wanted.is_empty() || *id == wanted)
                            .cloned()
                    });
            if let Ok(worker) = found.await {
                return worker;
            }
        }
    }

    /// Sends CancelTask, with the global lock held until the worker answers.
    pub(super) async fn cancel(&self, worker: &str, id: &str) -> CancelCall {
        let deadline = self.options.cancel_deadline;
        let _global = self.global_lock().await;
        self.ledger.write(|record| record.cancel_sent(id));
        let at = Instant::now();
        let task = TaskId {
            task_id: id.to_owned(),
        };
        let answer = match self.dial_worker(worker, deadline).await {
            Ok(mut client) => into_answer(
                within(deadline, client.cancel_task(with_deadline(task, deadline))).await,
            ),
            Err(why) => CallAnswer::Unreachable(why),
        };
        let call = CancelCall {
            at,
            took: at.elapsed(),
            answer,
        };
        self.ledger
            .write(|record| record.cancel_answered(id, call.clone(), self.options.answer_within));
        call
    }

    /// Sends MasterRegister to a worker at this address, naming this master or another one.
    pub(super) async fn master_register(
        &self,
        worker_address: &str,
        master_address: &str,
    ) -> Result<RegisterAck, Status> {
        let deadline = self.options.register_deadline;
        let mut client = dial(worker_address, deadline)
            .await
            .map_err(Status::unavailable)?;
        let info = MasterInfo {
            master_id: self.options.master_id.clone(),
            master_address: master_address.to_owned(),
        };
        within(
            deadline,
            client.master_register(with_deadline(info, deadline)),
        )
        .await
    }

    /// Sends MasterRegister to every worker that has been silent for too long, for ever.
    pub(super) async fn poke_inactive_workers(self: Arc<Self>) {
        let address = self.door.address().to_string();
        let mut ticks = tokio::time::interval(self.options.poke_period);
        loop {
            ticks.tick().await;
            let limit = self.options.inactive_after;
            let inactive = self.ledger.read(|record| record.inactive_addresses(limit));
            for worker in inactive {
                // Most likely nobody is there; the worker is asked again at the next tick.
                let _unanswered = self.master_register(&worker, &address).await;
            }
        }
    }

    pub(super) async fn dial_worker(
        &self,
        worker: &str,
        within: Duration,
    ) -> Result<MasterWorkerClient<Channel>, String> {
        let address = self.ledger.read(|record| record.address(worker));
        let address = address.ok_or_else(|| format!("worker {worker} has never registered"))?;
        dial(&address, within).await
    }
}

fn into_answer(answer: Result<TaskAck, Status>) -> CallAnswer {
    match answer {
        Ok(ack) => CallAnswer::Ack(ack),
        Err(status) => CallAnswer::Error(status),
    }
}
