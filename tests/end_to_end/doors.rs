//! The closed doors of the real binary: nothing configured and one warning, everything configured and a task run through it, keys
//! that change under a running stream, who changed what, and no secret anywhere.

mod secrets;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio_rustls::rustls::ClientConfig;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use worker_node::dev_master::DevMaster;
use worker_node::proto::master_worker_client::MasterWorkerClient;
use worker_node::proto::{MasterInfo, Task, TaskId, TaskLogRequest};

use crate::authority::{Authority, Signed, put};
use crate::dialled::shaken;
use crate::harness::{
    BUSYBOX, Cluster, Process, WorkerProcess, WorkerSetup, master_options, unique,
};

const WORKER: &str = "worker.example";

/// A worker behind all doors, and what opens them.
struct House {
    worker: WorkerProcess,
    address: String,
    token: String,
    authority: Authority,
    master_certificate: Signed,
    folder: TempDir,
    /// Speaks no TLS, so the token is sent to it in clear, as such a worker is told.
    master_of: DevMaster,
}

type Client = MasterWorkerClient<InterceptedService<Channel, Token>>;

#[derive(Clone)]
struct Token(Option<String>);

impl tonic::service::Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            let token = format!("Bearer {token}").parse().expect("letters");
            request.metadata_mut().insert("authorization", token);
        }
        Ok(request)
    }
}

impl House {
    async fn start() -> Self {
        Self::start_with(|setup| setup).await
    }

    async fn start_with(change: impl FnOnce(WorkerSetup) -> WorkerSetup) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::new();
        let ca = authority.write(folder.path());
        let (certificate, key) = authority.sign(&[WORKER]).write(folder.path());
        let token = unique("token");
        let file = put(folder.path(), "token", &token);
        let master = DevMaster::start(master_options()).await.expect("a port");
        let setup = change(WorkerSetup::new(&master)).variable("RUST_LOG", "trace");
        let setup = setup.arguments(["--tls-cert", &text(&certificate), "--tls-key", &text(&key)]);
        let setup = setup.arguments(["--tls-ca", &text(&ca), "--token-file", &text(&file)]);
        let setup = setup.arguments(["--token-in-clear", "--allow-master-name", "master.example"]);
        master.admit(setup.id());
        let worker = setup.start();
        let registered = master.wait_registered(worker.id()).await;
        let address = registered.expect("registered").info.worker_ip;
        worker.wait_log_line("Ready to receive tasks").await;
        Self {
            worker,
            address,
            token,
            master_certificate: authority.sign(&["master.example"]),
            authority,
            folder,
            master_of: master,
        }
    }

    fn client(&self, keys: Arc<ClientConfig>, token: Option<&str>) -> Client {
        let channel = crate::dialled::channel(&self.address, WORKER, keys);
        MasterWorkerClient::with_interceptor(channel, Token(token.map(str::to_owned)))
    }

    fn master(&self) -> Client {
        let keys = self.authority.calling(Some(&self.master_certificate));
        self.client(keys, Some(&self.token))
    }

    /// Waits until new connections are shown a certificate of this authority.
    async fn shows_one_of(&self, authority: &Authority) {
        let mut looks = tokio::time::interval(Duration::from_millis(20));
        let keys = authority.calling(None);
        while shaken(&self.address, WORKER, Arc::clone(&keys))
            .await
            .is_err()
        {
            looks.tick().await;
        }
    }

    async fn audited(&self) -> Vec<Value> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_worker-node"));
        command.args(["events", "--audit", "--json", "--state-dir"]);
        command.arg(self.worker.state_dir());
        let told = run(command).await;
        let lines = told.lines().map(serde_json::from_str);
        lines.collect::<Result<_, _>>().expect("JSON")
    }
}

async fn run(mut command: Command) -> String {
    let ended = tokio::task::spawn_blocking(move || command.output()).await;
    let output = ended.expect("no panic").expect("it starts");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

fn task(command: &str) -> Task {
    Task {
        task_id: unique("task"),
        docker_image: BUSYBOX.to_owned(),
        command: command.to_owned(),
        ..Task::default()
    }
}

fn id(task: &Task) -> TaskId {
    TaskId {
        task_id: task.task_id.clone(),
    }
}

#[tokio::test]
async fn with_nothing_configured_a_task_runs_and_exactly_one_warning_names_the_ways_to_close() {
    let cluster = Cluster::start().await;
    let task = cluster.submit(cluster.task("echo done")).await;
    assert_eq!(cluster.report(&task).await.status, "success");

    let lines = cluster.worker.process().lines();
    let warned: Vec<_> = lines
        .iter()
        .filter(|line| line.contains(" WARN "))
        .collect();

    assert_eq!(warned.len(), 1, "{warned:?}");
    for way in ["--allow-from", "--tls-cert", "--tls-ca", "--token-file"] {
        assert!(warned[0].contains(way), "{way}: {}", warned[0]);
    }
    cluster.finish().await;
}

#[tokio::test]
async fn a_task_runs_through_closed_doors_and_its_stream_outlives_new_keys() {
    let house = House::start().await;
    let mut master = house.master();
    let offered = task("echo first; while ! [ -e /tmp/go ]; do sleep 0.1; done");
    let ack = master
        .assign_task(offered.clone())
        .await
        .expect("an answer");
    assert!(ack.get_ref().success, "{ack:?}");
    let request = TaskLogRequest {
        task_id: offered.task_id.clone(),
        follow: true,
        ..TaskLogRequest::default()
    };
    let mut log = master
        .stream_task_logs(request)
        .await
        .expect("a log")
        .into_inner();
    while log
        .message()
        .await
        .expect("a line")
        .expect("no end")
        .content
        != "first"
    {}

    let new = Authority::new();
    let new_master = new.sign(&["master.example"]);
    new.write(house.folder.path());
    new.sign(&[WORKER]).write(house.folder.path());
    house.worker.process().signal(Signal::HUP);
    house.worker.wait_log_line("certificates read again").await;
    // That may have been a look at some of the files.
    house.shows_one_of(&new).await;

    // The stream of before tells of a cancel that came over a connection of after.
    let mut with_new = house.client(new.calling(Some(&new_master)), Some(&house.token));
    let ack = with_new.cancel_task(id(&offered)).await.expect("an answer");
    assert!(ack.get_ref().success, "{ack:?}");
    let last = loop {
        let chunk = log
            .message()
            .await
            .expect("a line")
            .expect("no end before the end");
        if chunk.is_complete {
            break chunk;
        }
    };
    assert_eq!(last.status, "cancelled");
    assert!(
        house.master().cancel_task(id(&offered)).await.is_err(),
        "with the old keys"
    );
}

#[tokio::test]
async fn who_changed_what_is_in_the_book_and_who_was_refused_is_not() {
    let house = House::start().await;
    let offered = task("true");
    let neighbour = house.authority.sign(&["neighbour.example"]);
    let keys = house.authority.calling(Some(&neighbour));
    let moved = MasterInfo {
        master_id: "m".to_owned(),
        master_address: "10.0.0.9:1".to_owned(),
    };

    let mut stranger = house.client(keys.clone(), None);
    let refused = stranger
        .master_register(moved.clone())
        .await
        .expect_err("no token");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut stranger = house.client(keys, Some(&house.token));
    let refused = stranger
        .master_register(moved)
        .await
        .expect_err("no master");
    assert_eq!(refused.code(), Code::PermissionDenied);
    house.worker.wait_log_line("was refused").await;
    let ack = house
        .master()
        .assign_task(offered.clone())
        .await
        .expect("an answer");
    assert!(ack.get_ref().success, "{ack:?}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker-node"));
    command.args(["actors", "restart", "janitor", "--state-dir"]);
    command.arg(house.worker.state_dir());
    run(command).await;

    // The book is written beside the calls.
    let book = loop {
        let book = house.audited().await;
        if book.len() >= 2 {
            break book;
        }
    };

    assert_eq!(book.len(), 2, "{book:?}");
    assert_eq!(book[0]["event"], "assign");
    assert_eq!(book[0]["actor"], format!("task({})", offered.task_id));
    assert_eq!(book[0]["certificate"][0], "master.example");
    let peer = book[0]["peer"].as_str().expect("an address");
    assert!(peer.starts_with("127.0.0.1:"), "{peer}");
    assert_eq!(book[1]["event"], "restart");
    assert_eq!(book[1]["user"], rustix::process::geteuid().as_raw());
}

#[tokio::test]
async fn a_start_that_cannot_close_its_doors_ends_with_78_and_says_what_to_type() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    let (certificate, key) = authority.sign(&[WORKER]).write(folder.path());
    let (certificate, key) = (text(&certificate), text(&key));
    let empty = text(&put(folder.path(), "empty", "\n"));
    let open = put(folder.path(), "open", "token");
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .expect("ours");
    let open = text(&open);

    for (words, told) in [
        (&["--tls-cert", &certificate][..], "give --tls-key FILE too"),
        (
            &["--token-file", &open],
            "--token-in-clear if that is meant",
        ),
        (
            &["--allow-master-name", "m"],
            "give --tls-cert FILE --tls-key FILE --tls-ca FILE too",
        ),
        (&["--token-file", &open, "--token-in-clear"], "chmod 600"),
        (
            &["--token-file", &empty, "--token-in-clear"],
            "is empty; put a token into it",
        ),
        (
            &["--tls-cert", &key, "--tls-key", &key],
            "holds no certificate in PEM",
        ),
        (
            &["--tls-cert", "/none", "--tls-key", &key],
            "'/none' cannot be read",
        ),
    ] {
        let state = tempfile::tempdir().expect("a folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_worker-node"));
        command.args(["-id", "closed", "-port", "127.0.0.1:0", "--state-dir"]);
        command.arg(state.path()).args(words);
        let process = Process::start("closed", &mut command);

        assert_eq!(process.wait_exit().await.code(), Some(78), "{words:?}");

        process.wait_line(told).await;
    }
}
