//! The server of a process that is out of file descriptors. Alone in its process, since the limit is the process's.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails like the test itself"
)]

use std::{
    net::TcpStream,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use async_trait::async_trait;

use log::{LevelFilter, Log, Metadata, Record};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use worker_node::{
    domain::{id::TaskId, spec::Offer},
    grpc::listener::{Doorkeeper, Limits, Services, serve},
    ports::{
        master::MasterAddress,
        spool::{LogCursor, LogRange},
        worker::{AssignAnswer, CancelAnswer, LogsError, MoveError, Worker},
    },
    proto::{self, master_worker_client::MasterWorkerClient},
};

/// Says yes.
struct Willing;

#[async_trait]
impl Worker for Willing {
    async fn assign(&self, _: Offer) -> AssignAnswer {
        AssignAnswer::Accepted
    }

    async fn cancel(&self, _: TaskId) -> CancelAnswer {
        CancelAnswer::Accepted
    }

    async fn open_log(&self, _: TaskId, _: LogRange) -> Result<Box<dyn LogCursor>, LogsError> {
        Err(LogsError::UnknownTask)
    }

    async fn master_is_at(&self, _: Option<MasterAddress>) -> Result<(), MoveError> {
        Ok(())
    }
}

/// What the server logged.
struct Kept(Mutex<Vec<String>>);

static LOGGED: LazyLock<Kept> = LazyLock::new(|| Kept(Mutex::default()));

impl Log for Kept {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if record.target().starts_with("worker_node::grpc::listener") {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

fn logged() -> Vec<String> {
    LOGGED.0.lock().unwrap().clone()
}

/// Leaves the process room for `more` descriptors.
fn leave_room_for(more: u64) {
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64 - 1;
    let limit = Rlimit {
        current: Some(open + more),
        ..getrlimit(Resource::Nofile)
    };
    setrlimit(Resource::Nofile, limit).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_server_out_of_descriptors_waits_says_so_once_and_recovers() {
    log::set_logger(&*LOGGED).unwrap();
    log::set_max_level(LevelFilter::Info);
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(serve(
        listener,
        Services::of(Arc::new(Willing)),
        Limits::default(),
        Arc::new(Doorkeeper::of_an_open_door()),
        stop,
    ));
    leave_room_for(4);

    // The kernel takes them in; the server finds no descriptor to accept them with.
    let mut clients = Vec::new();
    while let Ok(client) = TcpStream::connect(address) {
        clients.push(client);
    }
    // The paused clock moves on only while the process rests: an accept loop that spins would never let this end.
    let resting = tokio::time::timeout(Duration::from_secs(2), std::future::pending::<()>());
    assert!(resting.await.is_err());

    assert_eq!(
        logged(),
        ["out of descriptors or memory for connections"],
        "with {} clients",
        clients.len()
    );
    drop(clients);
    leave_room_for(100);
    let id = proto::TaskId {
        task_id: "a".into(),
    };
    let mut client = MasterWorkerClient::connect(format!("http://{address}"))
        .await
        .unwrap();
    let ack = client.cancel_task(id).await.unwrap();
    assert!(ack.into_inner().success);
    assert_eq!(logged()[1..], ["accepting connections again"]);
}
