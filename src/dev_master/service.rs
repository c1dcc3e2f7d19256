//! The four methods that the master serves, and the faults that can be put on them. What a call does is in its `Call`
//! implementation; `answer` is the one way that every unary call goes. A call's effect runs in a task of its own, since the
//! real master finishes its work even when the caller has gone.

use std::future::{Future, pending};
use std::sync::Arc;

use prost::Message;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::Core;
use super::door::ConnectionSwitch;
use super::fault::{Fault, Method};
use super::judge::Rule;
use super::record::Record;
use super::upload::{UploadCheck, UploadEnd};
use crate::proto::master_worker_server::MasterWorker;
use crate::proto::{
    Ack, FileChunk, FileUploadAck, Heartbeat, HeartbeatAck, LogChunk, MasterInfo, RegisterAck,
    Task, TaskAck, TaskId, TaskLogRequest, TaskResult, WorkerInfo,
};

/// Bytes of the largest message that grpc-go takes by default.
pub(super) const LARGEST_MESSAGE: usize = 4_194_304;

/// A unary method that the master serves, by its request.
trait Call: Message + Send + Sized + 'static {
    type Answer: Send + 'static;
    const METHOD: Method;

    /// Notes the call at once, before any lock.
    fn arrived(&self, core: &Core, record: &mut Record);

    /// The answer success=false, with gRPC OK.
    fn refusal(message: String) -> Self::Answer;

    /// The method itself, under the global lock.
    fn handle(self, core: &Core, call: u64) -> Result<Self::Answer, Status>;
}

impl Call for WorkerInfo {
    type Answer = RegisterAck;
    const METHOD: Method = Method::Register;

    fn arrived(&self, _core: &Core, _record: &mut Record) {}

    fn refusal(message: String) -> RegisterAck {
        RegisterAck {
            success: false,
            message,
        }
    }

    fn handle(self, core: &Core, _call: u64) -> Result<RegisterAck, Status> {
        let id = &self.worker_id;
        if !core.admits(id) {
            return Err(Status::unknown(format!(
                "worker {id} not authorized - must be pre-registered by admin"
            )));
        }
        let message = format!("worker {id} registered");
        core.ledger.write(|record| record.registered(self));
        Ok(RegisterAck {
            success: true,
            message,
        })
    }
}

impl Call for Heartbeat {
    type Answer = HeartbeatAck;
    const METHOD: Method = Method::Heartbeat;

    fn arrived(&self, core: &Core, record: &mut Record) {
        record.heartbeat_arrived(self, core.options.heartbeat_gap);
    }

    fn refusal(_message: String) -> HeartbeatAck {
        HeartbeatAck { success: false }
    }

    fn handle(self, core: &Core, _call: u64) -> Result<HeartbeatAck, Status> {
        let id = self.worker_id.clone();
        if core.ledger.write(|record| record.heartbeat_taken(self)) {
            Ok(HeartbeatAck { success: true })
        } else {
            Err(Status::unknown(format!("worker {id} not registered")))
        }
    }
}

impl Call for TaskResult {
    type Answer = Ack;
    const METHOD: Method = Method::Report;

    fn arrived(&self, _core: &Core, record: &mut Record) {
        record.report_arrived(self);
    }

    fn refusal(message: String) -> Ack {
        Ack {
            success: false,
            message,
        }
    }

    fn handle(self, core: &Core, call: u64) -> Result<Ack, Status> {
        let unknown = format!("task {} not found", self.task_id);
        if core.ledger.write(|record| record.report_taken(call, self)) {
            Ok(Ack {
                success: true,
                message: "task completion recorded".to_owned(),
            })
        } else {
            Ok(Self::refusal(unknown))
        }
    }
}

/// The served side of a master.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) core: Arc<Core>,
}

impl Service {
    async fn answer<C: Call>(&self, request: Request<C>) -> Result<Response<C::Answer>, Status> {
        let switch = request.extensions().get::<ConnectionSwitch>().cloned();
        let message = request.into_inner();
        let call = self.core.ledger.write(|record| {
            message.arrived(&self.core, record);
            record.arrived(C::METHOD)
        });
        self.within_limit(C::METHOD, message.encoded_len())?;
        let effect = self.effect(call, message);
        let answer = match self.core.faults.take(C::METHOD) {
            Some(Fault::Refuse(message)) => C::refusal(message),
            fault => self.suffer(C::METHOD, fault, switch, effect).await?,
        };
        self.core.ledger.write(|record| record.answered(call));
        Ok(Response::new(answer))
    }

    /// The effect of a call, in a task of its own from its first poll on.
    fn effect<C: Call>(
        &self,
        call: u64,
        message: C,
    ) -> impl Future<Output = Result<C::Answer, Status>> + use<C> {
        let core = Arc::clone(&self.core);
        let work = async move {
            let _global = core.global_lock().await;
            message.handle(&core, call)
        };
        async { finished(tokio::spawn(work).await) }
    }

    /// Has `effect` happen as the fault wants it.
    async fn suffer<A: Send + 'static>(
        &self,
        method: Method,
        fault: Option<Fault>,
        switch: Option<ConnectionSwitch>,
        effect: impl Future<Output = Result<A, Status>> + Send + 'static,
    ) -> Result<A, Status> {
        let cut = || switch.iter().for_each(ConnectionSwitch::cut);
        match fault {
            None => effect.await,
            // Both callers deal with this one themselves: only they know the type of a refusal.
            Some(Fault::Refuse(message)) => Err(Status::internal(message)),
            Some(Fault::Fail(code, message)) => Err(Status::new(code, message)),
            Some(Fault::Ignore) => pending().await,
            Some(Fault::NeverAnswer) => {
                effect.await?;
                pending().await
            }
            Some(Fault::AnswerLate(delay)) => {
                let answer = effect.await;
                tokio::time::sleep(delay).await;
                answer
            }
            Some(Fault::Hold) => {
                let core = Arc::clone(&self.core);
                // In a task of its own: the call takes effect once the fault is lifted, even if the caller has gone by then.
                let held = async move {
                    core.faults.until_lifted(method).await;
                    effect.await
                };
                finished(tokio::spawn(held).await)
            }
            Some(Fault::DropReply) => {
                effect.await?;
                cut();
                pending().await
            }
            Some(Fault::DropCall) => {
                cut();
                pending().await
            }
        }
    }

    fn within_limit(&self, method: Method, size: usize) -> Result<(), Status> {
        if size <= LARGEST_MESSAGE {
            return Ok(());
        }
        let sentence = format!("a {method:?} call of {size} bytes was refused");
        self.core
            .ledger
            .write(|record| record.violate(Rule::MessageSize, sentence));
        let text = format!("grpc: received message larger than max ({size} vs. {LARGEST_MESSAGE})");
        Err(Status::resource_exhausted(text))
    }
}

/// Unwraps the task that a call's effect ran in.
fn finished<A>(joined: Result<Result<A, Status>, tokio::task::JoinError>) -> Result<A, Status> {
    joined.unwrap_or_else(|error| Err(Status::internal(error.to_string())))
}

/// Reads one upload to its end: one at a time for the whole cluster.
async fn receive(
    core: Arc<Core>,
    mut stream: Streaming<FileChunk>,
) -> Result<FileUploadAck, Status> {
    let _one_at_a_time = core.uploads.lock().await;
    let mut check = UploadCheck::default();
    let end = loop {
        match stream.message().await {
            Ok(Some(chunk)) => check.chunk(chunk),
            Ok(None) => break UploadEnd::Complete,
            Err(status) => break UploadEnd::Broken(status.to_string()),
        }
    };
    let (upload, findings) = check.finish(end);
    let files_received = i32::try_from(upload.files.len()).unwrap_or(i32::MAX);
    core.ledger.write(|record| {
        for (rule, sentence) in findings {
            record.violate(rule, format!("{}: {sentence}", upload.task_id));
        }
        if !upload.task_id.is_empty() {
            record.uploaded(upload);
        }
    });
    Ok(FileUploadAck {
        success: true,
        message: "files received".to_owned(),
        files_received,
    })
}

#[tonic::async_trait]
impl MasterWorker for Service {
    type StreamTaskLogsStream = BoxStream<LogChunk>;

    async fn register_worker(
        &self,
        request: Request<WorkerInfo>,
    ) -> Result<Response<RegisterAck>, Status> {
        self.answer(request).await
    }

    async fn send_heartbeat(
        &self,
        request: Request<Heartbeat>,
    ) -> Result<Response<HeartbeatAck>, Status> {
        self.answer(request).await
    }

    async fn report_task_completion(
        &self,
        request: Request<TaskResult>,
    ) -> Result<Response<Ack>, Status> {
        self.answer(request).await
    }

    async fn upload_task_files(
        &self,
        request: Request<Streaming<FileChunk>>,
    ) -> Result<Response<FileUploadAck>, Status> {
        let switch = request.extensions().get::<ConnectionSwitch>().cloned();
        let stream = request.into_inner();
        let call = self
            .core
            .ledger
            .write(|record| record.arrived(Method::Upload));
        let core = Arc::clone(&self.core);
        let effect = async { finished(tokio::spawn(receive(core, stream)).await) };
        let answer = match self.core.faults.take(Method::Upload) {
            Some(Fault::Refuse(message)) => effect.await.map(|ack| FileUploadAck {
                success: false,
                message,
                ..ack
            }),
            fault => self.suffer(Method::Upload, fault, switch, effect).await,
        }?;
        self.core.ledger.write(|record| record.answered(call));
        Ok(Response::new(answer))
    }

    async fn master_register(
        &self,
        _: Request<MasterInfo>,
    ) -> Result<Response<RegisterAck>, Status> {
        Err(Status::unimplemented("MasterRegister is served by workers"))
    }

    async fn assign_task(&self, _: Request<Task>) -> Result<Response<TaskAck>, Status> {
        Err(Status::unimplemented("AssignTask is served by workers"))
    }

    async fn cancel_task(&self, _: Request<TaskId>) -> Result<Response<TaskAck>, Status> {
        Err(Status::unimplemented("CancelTask is served by workers"))
    }

    async fn stream_task_logs(
        &self,
        _: Request<TaskLogRequest>,
    ) -> Result<Response<BoxStream<LogChunk>>, Status> {
        Err(Status::unimplemented("StreamTaskLogs is served by workers"))
    }
}
