//! The worker's server around a finished log, and tonic's alone.

use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{Stream, stream};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, server};
use tonic::{Request, Response, Status, Streaming};
use worker_node::domain::{id::TaskId, log_line::Source, outcome::StatusWord, spec::Offer};
use worker_node::grpc::listener::{Doorkeeper, Limits, Services, serve};
use worker_node::ports::clock::SystemClock;
use worker_node::ports::master::MasterAddress;
use worker_node::ports::spool::{LogCursor, LogEnd, LogRange, Piece, Spool, SpoolStore as _};
use worker_node::ports::worker::{AssignAnswer, CancelAnswer, LogsError, MoveError, Worker};
use worker_node::proto;
use worker_node::proto::master_worker_client::MasterWorkerClient;
use worker_node::proto::master_worker_server::{MasterWorker, MasterWorkerServer};
use worker_node::spool;

/// Whose log it is.
pub(crate) const TASK: &str = "task-1764200000";

pub(crate) type Client = MasterWorkerClient<Channel>;

/// Both servers, for as long as the runtime lives.
pub(crate) struct Server {
    pub(crate) spool: Arc<dyn Spool>,
    /// Where tonic alone listens.
    pub(crate) bare: String,
    address: String,
    _folder: TempDir,
}

impl Server {
    /// Makes a log of so many lines and serves it.
    pub(crate) async fn start(lines: u64, length: u64) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let spool = finished(&folder, lines, length).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let worker = Arc::new(OneLog(Arc::clone(&spool)));
        tokio::spawn(serve(
            Arc::new(listener),
            Services::of(worker),
            Limits::default(),
            Arc::new(Doorkeeper::of_an_open_door()),
            CancellationToken::new(),
        ));
        Self {
            spool,
            bare: bare(lines, length).await,
            address,
            _folder: folder,
        }
    }

    pub(crate) async fn client(&self) -> Client {
        let client = Client::connect(self.address.clone()).await;
        client.expect("the server listens")
    }
}

/// Written as a container's flood is: 64 KiB at a time.
async fn finished(folder: &TempDir, lines: u64, length: u64) -> Arc<dyn Spool> {
    let limits = spool::Limits::default();
    let spools = spool::FileSpools::open(folder.path(), limits, Arc::new(SystemClock));
    let task = TaskId::new(TASK).expect("a name");
    let spool = spools
        .and_then(|spools| spools.open(&task))
        .expect("a spool");
    let width = usize::try_from(length - 1).expect("small");
    let mut text = Vec::new();
    for line in 0..lines {
        text.extend(format!("{line:>width$}\n").into_bytes());
        if text.len() >= 64 * 1024 || line + 1 == lines {
            let piece = Piece {
                source: Source::Stdout,
                bytes: std::mem::take(&mut text).into(),
                time: None,
            };
            spool.append(vec![piece]).await.expect("room on the disk");
        }
    }
    let end = LogEnd {
        word: StatusWord::Success,
        trailer: "[worker-node] completed".into(),
    };
    spool.close(end).await.expect("room on the disk");
    spool
}

/// A worker that has one log and nothing else.
struct OneLog(Arc<dyn Spool>);

#[async_trait]
impl Worker for OneLog {
    async fn assign(&self, _: Offer) -> AssignAnswer {
        AssignAnswer::Refused("only its log is served".into())
    }

    async fn cancel(&self, _: TaskId) -> CancelAnswer {
        CancelAnswer::NotFound
    }

    async fn open_log(&self, _: TaskId, range: LogRange) -> Result<Box<dyn LogCursor>, LogsError> {
        Ok(self.0.cursor_from(range))
    }

    async fn master_is_at(&self, _: Option<MasterAddress>) -> Result<(), MoveError> {
        Ok(())
    }
}

/// Puts tonic up alone, and tells where.
async fn bare(lines: u64, length: u64) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let service = MasterWorkerServer::new(Bare { lines, length });
    let incoming = TcpListenerStream::new(listener);
    let router = server::Server::builder().add_service(service);
    tokio::spawn(router.serve_with_incoming(incoming));
    address
}

struct Bare {
    lines: u64,
    length: u64,
}

type Chunks = Pin<Box<dyn Stream<Item = Result<proto::LogChunk, Status>> + Send>>;

fn not_served<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("only a log is served"))
}

#[tonic::async_trait]
impl MasterWorker for Bare {
    type StreamTaskLogsStream = Chunks;

    async fn stream_task_logs(
        &self,
        _: Request<proto::TaskLogRequest>,
    ) -> Result<Response<Chunks>, Status> {
        let chunk = proto::LogChunk {
            task_id: TASK.into(),
            content: "x".repeat(usize::try_from(self.length - 1).expect("small")),
            timestamp: "2026-11-24T04:58:50.663123Z".into(),
            status: "running".into(),
            ..proto::LogChunk::default()
        };
        let chunks = (0..self.lines).map(move |_| Ok(chunk.clone()));
        Ok(Response::new(Box::pin(stream::iter(chunks))))
    }

    async fn assign_task(
        &self,
        _: Request<proto::Task>,
    ) -> Result<Response<proto::TaskAck>, Status> {
        not_served()
    }

    async fn cancel_task(
        &self,
        _: Request<proto::TaskId>,
    ) -> Result<Response<proto::TaskAck>, Status> {
        not_served()
    }

    async fn master_register(
        &self,
        _: Request<proto::MasterInfo>,
    ) -> Result<Response<proto::RegisterAck>, Status> {
        not_served()
    }

    async fn register_worker(
        &self,
        _: Request<proto::WorkerInfo>,
    ) -> Result<Response<proto::RegisterAck>, Status> {
        not_served()
    }

    async fn send_heartbeat(
        &self,
        _: Request<proto::Heartbeat>,
    ) -> Result<Response<proto::HeartbeatAck>, Status> {
        not_served()
    }

    async fn report_task_completion(
        &self,
        _: Request<proto::TaskResult>,
    ) -> Result<Response<proto::Ack>, Status> {
        not_served()
    }

    async fn upload_task_files(
        &self,
        _: Request<Streaming<proto::FileChunk>>,
    ) -> Result<Response<proto::FileUploadAck>, Status> {
        not_served()
    }
}
