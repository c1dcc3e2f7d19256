//! Small masters: one over real gRPC that follows a script, and raw sockets for what no gRPC server does.

use std::{pin::Pin, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::interval,
};
use tokio_stream::{Stream, wrappers::TcpListenerStream};
use tonic::{Code, Request, Response, Status, Streaming};
use worker_node::{
    ports::master::MasterAddress,
    proto::{
        self, FileChunk, FileUploadAck,
        master_worker_server::{MasterWorker, MasterWorkerServer},
    },
};

/// What the master does with every call.
#[derive(Clone, Copy)]
pub(crate) enum Script {
    Accept,
    /// success=false with gRPC OK.
    Refuse(&'static str),
    Fail(Code, &'static str),
    Hang,
    /// Uploads: success=true after the first chunk.
    AcceptEarly,
    /// Uploads: a chunk each time that so many milliseconds have passed.
    AcceptSlowly(u64),
}

/// What the master saw, in order.
#[derive(Debug)]
pub(crate) enum Seen {
    Registered(proto::WorkerInfo),
    Beat(proto::Heartbeat),
    Reported(proto::TaskResult),
    Chunk(FileChunk),
    /// The upload's end, and whether it was a clean one.
    UploadEnded(bool),
    /// Some call said who makes it.
    Authorized(String),
    /// Some call carried a deadline.
    DeadlineOnTheWire,
}

pub(crate) type Sights = mpsc::UnboundedReceiver<Seen>;

struct FakeMaster {
    script: Script,
    seen: mpsc::UnboundedSender<Seen>,
}

/// Puts up a master, and says where.
pub(crate) async fn master(script: Script) -> (MasterAddress, Sights) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = address_of(&listener);
    let (seen, sights) = mpsc::unbounded_channel();
    let master = MasterWorkerServer::new(FakeMaster { script, seen });
    let serving = tonic::transport::Server::builder()
        .add_service(master)
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(serving);
    (address, sights)
}

pub(crate) fn address_of(listener: &TcpListener) -> MasterAddress {
    MasterAddress(listener.local_addr().unwrap().to_string())
}

impl FakeMaster {
    fn see<T>(&self, request: &Request<T>, seen: Seen) {
        if request.metadata().contains_key("grpc-timeout") {
            let _ = self.seen.send(Seen::DeadlineOnTheWire);
        }
        if let Some(shown) = request.metadata().get("authorization") {
            let shown = shown.to_str().unwrap().to_owned();
            let _ = self.seen.send(Seen::Authorized(shown));
        }
        let _ = self.seen.send(seen);
    }

    async fn answer<T>(&self, ack: impl FnOnce(bool, String) -> T) -> Result<Response<T>, Status> {
        match self.script {
            Script::Accept | Script::AcceptEarly | Script::AcceptSlowly(_) => {
                Ok(Response::new(ack(true, String::new())))
            }
            Script::Refuse(why) => Ok(Response::new(ack(false, why.into()))),
            Script::Fail(code, why) => Err(Status::new(code, why)),
            Script::Hang => std::future::pending().await,
        }
    }
}

#[tonic::async_trait]
impl MasterWorker for FakeMaster {
    async fn register_worker(
        &self,
        request: Request<proto::WorkerInfo>,
    ) -> Result<Response<proto::RegisterAck>, Status> {
        self.see(&request, Seen::Registered(request.get_ref().clone()));
        self.answer(|success, message| proto::RegisterAck { success, message })
            .await
    }

    async fn send_heartbeat(
        &self,
        request: Request<proto::Heartbeat>,
    ) -> Result<Response<proto::HeartbeatAck>, Status> {
        self.see(&request, Seen::Beat(request.get_ref().clone()));
        self.answer(|success, _| proto::HeartbeatAck { success })
            .await
    }

    async fn report_task_completion(
        &self,
        request: Request<proto::TaskResult>,
    ) -> Result<Response<proto::Ack>, Status> {
        self.see(&request, Seen::Reported(request.get_ref().clone()));
        self.answer(|success, message| proto::Ack { success, message })
            .await
    }

    async fn upload_task_files(
        &self,
        request: Request<Streaming<FileChunk>>,
    ) -> Result<Response<FileUploadAck>, Status> {
        if let Script::Hang = self.script {
            return std::future::pending().await;
        }
        let mut chunks = request.into_inner();
        let mut pace = match self.script {
            Script::AcceptSlowly(millis) => Some(interval(Duration::from_millis(millis))),
            _ => None,
        };
        let mut files_received = 0;
        let clean = loop {
            if let Some(pace) = &mut pace {
                pace.tick().await;
            }
            match chunks.message().await {
                Ok(Some(chunk)) => {
                    files_received += i32::from(chunk.is_last_chunk);
                    let _ = self.seen.send(Seen::Chunk(chunk));
                }
                Ok(None) => break true,
                Err(_) => break false,
            }
            if let Script::AcceptEarly = self.script {
                break true;
            }
        };
        let _ = self.seen.send(Seen::UploadEnded(clean));
        self.answer(|success, message| FileUploadAck {
            success,
            message,
            files_received,
        })
        .await
    }

    async fn master_register(
        &self,
        _: Request<proto::MasterInfo>,
    ) -> Result<Response<proto::RegisterAck>, Status> {
        unreachable!("served by workers")
    }

    async fn assign_task(
        &self,
        _: Request<proto::Task>,
    ) -> Result<Response<proto::TaskAck>, Status> {
        unreachable!("served by workers")
    }

    async fn cancel_task(
        &self,
        _: Request<proto::TaskId>,
    ) -> Result<Response<proto::TaskAck>, Status> {
        unreachable!("served by workers")
    }

    type StreamTaskLogsStream = Pin<Box<dyn Stream<Item = Result<proto::LogChunk, Status>> + Send>>;

    async fn stream_task_logs(
        &self,
        _: Request<proto::TaskLogRequest>,
    ) -> Result<Response<Self::StreamTaskLogsStream>, Status> {
        unreachable!("served by workers")
    }
}

/// The frames that a client sent, by type.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Frames {
    pub(crate) headers: usize,
    pub(crate) data: usize,
    pub(crate) pings: usize,
}

impl Frames {
    /// Reads what a client sends, its preface included.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let mut frames = Self::default();
        let mut rest = bytes.get(24..).unwrap_or_default();
        while let [a, b, c, kind, flags, _, _, _, _, ..] = *rest {
            match (kind, flags & 1) {
                (0, _) => frames.data += 1,
                (1, _) => frames.headers += 1,
                // An answer to the master's own ping is none.
                (6, 0) => frames.pings += 1,
                _ => {}
            }
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            rest = rest.get(9 + length..).unwrap_or_default();
        }
        frames
    }
}

/// Accepts one client on a raw socket and greets it as an HTTP/2 server does.
pub(crate) async fn greet(listener: &TcpListener) -> TcpStream {
    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(SETTINGS).await.unwrap();
    stream
}

/// Greets one client and reads until a whole request head is there.
pub(crate) async fn read_a_request(listener: &TcpListener) -> TcpStream {
    let mut stream = greet(listener).await;
    let mut said = Vec::new();
    while Frames::parse(&said).headers == 0 {
        let read = stream.read_buf(&mut said).await.unwrap();
        assert!(read > 0, "the client went away before its request");
    }
    stream
}

/// Stands between a client and a master, and keeps what the client says.
pub(crate) async fn recording_proxy(
    master: MasterAddress,
) -> (MasterAddress, mpsc::UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = address_of(&listener);
    let (tell, said) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let master = TcpStream::connect(&master.0).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_master, mut to_master) = master.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_master, &mut to_client).await });
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut said = Vec::new();
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
                    said.extend_from_slice(&buffer[..read]);
                    if to_master.write_all(&buffer[..read]).await.is_err() {
                        break;
                    }
                }
                let _ = tell.send(said);
            });
        }
    });
    (address, said)
}
