//! A worker that does what a test tells it, right or wrong, over real gRPC.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::codegen::BoxStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use crate::dev_master::DevMaster;
use crate::proto::master_worker_client::MasterWorkerClient;
use crate::proto::master_worker_server::{MasterWorker, MasterWorkerServer};
use crate::proto::*;

#[derive(Clone)]
pub(super) struct ScriptedWorker {
    id: String,
    address: String,
    master: String,
    script: Arc<Script>,
}

struct Script {
    refusals: AtomicUsize,
    failing: AtomicBool,
    cancels: watch::Sender<usize>,
    held_cancel: Mutex<Option<oneshot::Receiver<TaskAck>>>,
    log_end: watch::Sender<Option<String>>,
}

impl ScriptedWorker {
    pub(super) async fn start(id: &str, master: &DevMaster) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let worker = Self {
            id: id.to_owned(),
            address: listener.local_addr().unwrap().to_string(),
            master: format!("http://{}", master.address()),
            script: Arc::new(Script {
                refusals: AtomicUsize::new(0),
                failing: AtomicBool::new(false),
                cancels: watch::Sender::new(0),
                held_cancel: Mutex::new(None),
                log_end: watch::Sender::new(None),
            }),
        };
        let service = MasterWorkerServer::new(worker.clone());
        tokio::spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener)),
        );
        worker
    }

    pub(super) fn info(&self) -> WorkerInfo {
        WorkerInfo {
            worker_id: self.id.clone(),
            worker_ip: self.address.clone(),
            total_cpu: 2.0,
            total_memory: 4.0,
            total_storage: 10.0,
            total_gpu: 0.0,
        }
    }

    pub(super) async fn register(&self) -> Result<RegisterAck, Status> {
        self.register_as(self.info()).await
    }

    pub(super) async fn register_as(&self, info: WorkerInfo) -> Result<RegisterAck, Status> {
        self.client()
            .await?
            .register_worker(info)
            .await
            .map(Response::into_inner)
    }

    pub(super) async fn beat(&self, beat: Heartbeat) -> Result<HeartbeatAck, Status> {
        let beat = Heartbeat {
            worker_id: self.id.clone(),
            ..beat
        };
        self.client()
            .await?
            .send_heartbeat(beat)
            .await
            .map(Response::into_inner)
    }

    pub(super) async fn report(&self, result: TaskResult) -> Result<Ack, Status> {
        self.client()
            .await?
            .report_task_completion(result)
            .await
            .map(Response::into_inner)
    }

    /// A connection that pings for as long as it is kept.
    pub(super) async fn connect_pinging(&self) -> Channel {
        let endpoint = Endpoint::from_shared(self.master.clone()).unwrap();
        let pinging = endpoint
            .http2_keep_alive_interval(Duration::from_millis(5))
            .keep_alive_while_idle(true);
        pinging.connect().await.unwrap()
    }

    pub(super) fn refuse_offers(&self, count: usize) {
        self.script.refusals.store(count, Ordering::SeqCst);
    }

    pub(super) fn fail_offers(&self) {
        self.script.failing.store(true, Ordering::SeqCst);
    }

    /// Holds the next cancel until its answer is sent here.
    pub(super) fn hold_cancels(&self) -> oneshot::Sender<TaskAck> {
        let (sender, receiver) = oneshot::channel();
        *self.script.held_cancel.lock().unwrap() = Some(receiver);
        sender
    }

    pub(super) async fn wait_cancel(&self) {
        self.script
            .cancels
            .subscribe()
            .wait_for(|count| *count > 0)
            .await
            .unwrap();
    }

    pub(super) fn end_logs(&self, status: &str) {
        self.script.log_end.send_replace(Some(status.to_owned()));
    }

    async fn client(&self) -> Result<MasterWorkerClient<Channel>, Status> {
        let connected = Endpoint::from_shared(self.master.clone())
            .unwrap()
            .connect()
            .await;
        connected
            .map(MasterWorkerClient::new)
            .map_err(|error| Status::unavailable(error.to_string()))
    }
}

#[tonic::async_trait]
impl MasterWorker for ScriptedWorker {
    type StreamTaskLogsStream = BoxStream<LogChunk>;

    async fn assign_task(&self, _: Request<Task>) -> Result<Response<TaskAck>, Status> {
        if self.script.failing.load(Ordering::SeqCst) {
            return Err(Status::internal("no"));
        }
        let took_one = |left: usize| left.checked_sub(1);
        let refused = self
            .script
            .refusals
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, took_one)
            .is_ok();
        let message = if refused { "no room" } else { "accepted" };
        Ok(Response::new(TaskAck {
            success: !refused,
            message: message.to_owned(),
        }))
    }

    async fn cancel_task(&self, _: Request<TaskId>) -> Result<Response<TaskAck>, Status> {
        self.script.cancels.send_modify(|count| *count += 1);
        let held = self.script.held_cancel.lock().unwrap().take();
        let at_once = TaskAck {
            success: true,
            message: String::new(),
        };
        let ack = match held {
            Some(answer) => answer.await.unwrap(),
            None => at_once,
        };
        Ok(Response::new(ack))
    }

    async fn stream_task_logs(
        &self,
        request: Request<TaskLogRequest>,
    ) -> Result<Response<BoxStream<LogChunk>>, Status> {
        let task_id = request.into_inner().task_id;
        if task_id == "nobody" {
            return Err(Status::not_found("no such task"));
        }
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        let mut end = self.script.log_end.subscribe();
        tokio::spawn(async move {
            let line = LogChunk {
                task_id,
                content: "hello".to_owned(),
                status: "running".to_owned(),
                ..LogChunk::default()
            };
            sender.send(Ok(line.clone())).await.unwrap();
            let status = end
                .wait_for(Option::is_some)
                .await
                .unwrap()
                .clone()
                .unwrap();
            let last = LogChunk {
                content: "[worker-node] exit code 0".to_owned(),
                is_complete: true,
                status,
                ..line
            };
            sender.send(Ok(last)).await.unwrap();
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn master_register(
        &self,
        _: Request<MasterInfo>,
    ) -> Result<Response<RegisterAck>, Status> {
        Ok(Response::new(RegisterAck {
            success: true,
            message: String::new(),
        }))
    }

    async fn register_worker(
        &self,
        _: Request<WorkerInfo>,
    ) -> Result<Response<RegisterAck>, Status> {
        Err(Status::unimplemented("served by the master"))
    }

    async fn send_heartbeat(
        &self,
        _: Request<Heartbeat>,
    ) -> Result<Response<HeartbeatAck>, Status> {
        Err(Status::unimplemented("served by the master"))
    }

    async fn report_task_completion(
        &self,
        _: Request<TaskResult>,
    ) -> Result<Response<Ack>, Status> {
        Err(Status::unimplemented("served by the master"))
    }

    async fn upload_task_files(
        &self,
        _: Request<Streaming<FileChunk>>,
    ) -> Result<Response<FileUploadAck>, Status> {
        Err(Status::unimplemented("served by the master"))
    }
}
