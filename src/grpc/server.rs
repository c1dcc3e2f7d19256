//! The four methods that a worker serves, over the trait `ports::worker::Worker`. `listener` puts it behind a socket.
//!
//! Each method converts, asks the worker, converts back. AssignTask, CancelTask and MasterRegister never answer with a gRPC
//! error: a master takes one for a failed task. So a panic, a hang or a crowd becomes success=false with the reason.
//! Nothing here is tied to a connection, and nothing is decided about tasks.

mod calls;
mod log_stream;
mod viewers;

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use self::{
    calls::Calls,
    log_stream::{ChunkStream, Follow, Form, LogStream},
    viewers::Viewers,
};
use super::{
    convert,
    listener::{Connection, Limits},
    status::Denied,
};
use crate::{
    domain::{callers::Caller, id::TaskId},
    ports::{
        audit::{Audit, Deed},
        master::MasterAddress,
        worker::{AssignAnswer, CancelAnswer, LogsError, Worker},
    },
    proto::{self, master_worker_server::MasterWorker},
};

/// How many viewers at once are given lines over 32 KiB whole, up to 1 MiB; others get them in parts. A viewer that has come to
/// such a line may cost some MiB for as long as it lives, since it need not take what it was sent.
const LONG_LINES: usize = 8;

/// Answers a master's calls.
pub(super) struct WorkerService {
    worker: Arc<dyn Worker>,
    audit: Arc<dyn Audit>,
    calls: Calls,
    viewers: Arc<Viewers>,
    /// Places for viewers that are given long lines whole.
    long_lines: Arc<Semaphore>,
    /// Fires when the worker stops: every log stream ends then, or the server never would.
    stop: CancellationToken,
}

impl WorkerService {
    /// Serves `worker` until `stop` fires.
    pub(super) fn new(
        worker: Arc<dyn Worker>,
        audit: Arc<dyn Audit>,
        limits: &Limits,
        stop: CancellationToken,
    ) -> Self {
        Self {
            worker,
            audit,
            calls: Calls::new(limits),
            viewers: Viewers::new(limits),
            long_lines: Arc::new(Semaphore::new(LONG_LINES)),
            stop,
        }
    }

    /// Ends the log streams whose peers take nothing for `patience`; never returns.
    pub(super) fn watch_viewers(
        &self,
        patience: Duration,
    ) -> impl Future<Output = Infallible> + use<> {
        Arc::clone(&self.viewers).watch(patience)
    }

    async fn assign(&self, task: proto::Task, caller: Caller) -> proto::TaskAck {
        let offer = match convert::offer(task) {
            Ok(offer) => offer,
            Err(error) => return convert::task_ack(false, format!("the task id {error}")),
        };
        let (worker, audit) = (Arc::clone(&self.worker), Arc::clone(&self.audit));
        let answer = self
            .calls
            .assign(async move {
                let task = offer.spec.id.clone();
                let answer = worker.assign(offer).await;
                if answer == AssignAnswer::Accepted {
                    audit.record(&caller, Deed::Assigned(task));
                }
                answer
            })
            .await;
        match answer {
            Ok(answer) => convert::assign_ack(answer),
            Err(unanswered) => convert::task_ack(false, unanswered.to_string()),
        }
    }

    async fn cancel(&self, id: String, caller: Caller) -> proto::TaskAck {
        let task = match TaskId::new(id) {
            Ok(task) => task,
            Err(error) => return convert::task_ack(false, format!("the task id {error}")),
        };
        let (worker, audit) = (Arc::clone(&self.worker), Arc::clone(&self.audit));
        let asked = task.clone();
        let answer = self
            .calls
            .cancel(async move {
                let answer = worker.cancel(asked.clone()).await;
                if answer == CancelAnswer::Accepted {
                    audit.record(&caller, Deed::Cancelled(asked));
                }
                answer
            })
            .await;
        match answer {
            Ok(answer) => convert::cancel_ack(&task, answer),
            Err(unanswered) => convert::task_ack(false, unanswered.to_string()),
        }
    }

    async fn follow_master(&self, address: &str, caller: Caller) -> Result<(), String> {
        let master = match address {
            "" => None,
            address => Some(
                MasterAddress::parse(address)
                    .map_err(|error| format!("the master's address {error}"))?,
            ),
        };
        let (worker, audit) = (Arc::clone(&self.worker), Arc::clone(&self.audit));
        let answer = self
            .calls
            .follow_master(async move {
                let address = master.as_ref().map(ToString::to_string);
                let answer = worker.master_is_at(master).await;
                if answer.is_ok() {
                    audit.record(&caller, Deed::Moved(address.unwrap_or_default()));
                }
                answer
            })
            .await;
        match answer {
            Ok(moved) => moved.map_err(|refused| refused.to_string()),
            Err(unanswered) => Err(unanswered.to_string()),
        }
    }

    async fn open_log(
        &self,
        request: proto::TaskLogRequest,
        connection: Option<&Connection>,
    ) -> Result<ChunkStream, Denied> {
        if self.stop.is_cancelled() {
            return Err(Denied::Stopping);
        }
        let range = convert::log::range(&request)?;
        let task = TaskId::new(request.task_id).map_err(|_| LogsError::UnknownTask)?;
        let (worker, asked) = (Arc::clone(&self.worker), task.clone());
        let cursor = self
            .calls
            .open_log(async move { worker.open_log(asked, range).await })
            .await??;
        let follow = if request.follow {
            Follow::ToTheEnd
        } else {
            Follow::No
        };
        let form = if request.batches {
            Form::Batches
        } else {
            Form::Lines(Arc::clone(&self.long_lines))
        };
        let log = LogStream::new(&task, cursor, follow, form, self.stop.clone());
        let chunks = log.into_chunks();
        Ok(self.viewers.enter(task, connection, chunks))
    }
}

/// The caller of a request.
fn caller_of<T>(request: &Request<T>) -> Caller {
    let connection = request.extensions().get::<Connection>();
    connection.map(Connection::caller).unwrap_or_default()
}

#[tonic::async_trait]
impl MasterWorker for WorkerService {
    type StreamTaskLogsStream = ChunkStream;

    async fn assign_task(
        &self,
        request: Request<proto::Task>,
    ) -> Result<Response<proto::TaskAck>, Status> {
        let caller = caller_of(&request);
        let ack = self.assign(request.into_inner(), caller).await;
        Ok(Response::new(ack))
    }

    async fn cancel_task(
        &self,
        request: Request<proto::TaskId>,
    ) -> Result<Response<proto::TaskAck>, Status> {
        let caller = caller_of(&request);
        let id = request.into_inner().task_id;
        Ok(Response::new(self.cancel(id, caller).await))
    }

    async fn master_register(
        &self,
        request: Request<proto::MasterInfo>,
    ) -> Result<Response<proto::RegisterAck>, Status> {
        let address = &request.get_ref().master_address;
        let answer = self.follow_master(address, caller_of(&request)).await;
        Ok(Response::new(match answer {
            Ok(()) => proto::RegisterAck {
                success: true,
                message: "registering".to_owned(),
            },
            Err(message) => proto::RegisterAck {
                success: false,
                message,
            },
        }))
    }

    async fn stream_task_logs(
        &self,
        request: Request<proto::TaskLogRequest>,
    ) -> Result<Response<ChunkStream>, Status> {
        let connection = request.extensions().get::<Connection>().cloned();
        let opening = self.open_log(request.into_inner(), connection.as_ref());
        let chunks = opening.await?;
        Ok(Response::new(chunks))
    }

    async fn register_worker(
        &self,
        _: Request<proto::WorkerInfo>,
    ) -> Result<Response<proto::RegisterAck>, Status> {
        Err(Denied::ServedByMaster("RegisterWorker").into())
    }

    async fn send_heartbeat(
        &self,
        _: Request<proto::Heartbeat>,
    ) -> Result<Response<proto::HeartbeatAck>, Status> {
        Err(Denied::ServedByMaster("SendHeartbeat").into())
    }

    async fn report_task_completion(
        &self,
        _: Request<proto::TaskResult>,
    ) -> Result<Response<proto::Ack>, Status> {
        Err(Denied::ServedByMaster("ReportTaskCompletion").into())
    }

    async fn upload_task_files(
        &self,
        _: Request<tonic::Streaming<proto::FileChunk>>,
    ) -> Result<Response<proto::FileUploadAck>, Status> {
        Err(Denied::ServedByMaster("UploadTaskFiles").into())
    }
}
