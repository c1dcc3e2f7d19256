//! The worker's door, closed in each of its ways: who comes in, who may do what, and what becomes of it while keys are changed.
//! Over real sockets, with certificates that are made in memory.

use std::{io, path::Path, sync::Arc, time::Duration};

use hyper::body::{Body as HttpBody, Bytes};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, interval},
};
use tokio_rustls::rustls::ClientConfig;
use tonic::{Code, Status, body::Body, client::GrpcService, codegen::StdError};
use worker_node::{
    domain::{callers::MasterNames, outcome::StatusWord},
    grpc::{
        keys::{Dial, KeyFiles, Keys, NamedFile},
        listener::{Doorkeeper, Limits},
    },
    ports::clock::SystemClock,
    proto::{self, master_worker_client::MasterWorkerClient},
};

use crate::{
    authority::{Authority, Signed, put},
    dialled::{channel, shaken},
    fakes::{Client, Node, fed_cursor, line, task},
};

/// For whom the worker's certificates are.
pub(crate) const WORKER: &str = "worker.example";

/// What is in an answer that came, of each method.
pub(crate) const METHODS: [&str; 4] = [
    "AssignTask",
    "CancelTask",
    "MasterRegister",
    "StreamTaskLogs",
];

/// A worker that shows a certificate and asks for one.
struct House {
    node: Node,
    keys: Arc<Keys>,
    authority: Authority,
    folder: TempDir,
}

impl House {
    async fn start(names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        authority.write(folder.path());
        authority.sign(&[WORKER]).write(folder.path());
        let keys = Keys::open(files(folder.path()), Arc::new(SystemClock)).unwrap();
        let keys = Arc::new(keys);
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let doorkeeper = Doorkeeper::of_an_open_door();
        let doorkeeper = doorkeeper.with_keys(Arc::clone(&keys), MasterNames::new(names));
        Self {
            node: Node::start_behind(doorkeeper, Limits::default()).await,
            keys,
            authority,
            folder,
        }
    }

    fn client(&self, own: Option<&Signed>) -> Client {
        client(&self.node, self.authority.calling(own))
    }

    /// Waits until new connections are shown another certificate than `before`.
    async fn shows_another_than(&self, before: &Signed, keys: Arc<ClientConfig>) {
        let mut looks = interval(Duration::from_millis(20));
        loop {
            looks.tick().await;
            let Ok(stream) = shaken(&self.node.address, WORKER, Arc::clone(&keys)).await else {
                continue;
            };
            let shown = stream.get_ref().1.peer_certificates().unwrap();
            if shown[0] != *before.der() {
                return;
            }
        }
    }
}

pub(crate) fn files(folder: &Path) -> KeyFiles {
    let named = |flag, name| NamedFile {
        flag,
        path: folder.join(name),
    };
    KeyFiles {
        identity: Some((
            named("--tls-cert", "cert.pem"),
            named("--tls-key", "key.pem"),
        )),
        authorities: Some(named("--tls-ca", "ca.pem")),
        dial: Dial::Clear,
        token: None,
    }
}

fn client(node: &Node, keys: Arc<ClientConfig>) -> Client {
    MasterWorkerClient::new(channel(&node.address, WORKER, keys))
}

/// What each method answers, in the order of [`METHODS`]: whether it was performed, or with which code it was not.
pub(crate) async fn answers<S>(
    client: &mut MasterWorkerClient<S>,
    node: &Node,
) -> Vec<Result<(), Code>>
where
    S: GrpcService<
            Body,
            Error: Into<StdError>,
            ResponseBody: HttpBody<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
        >,
{
    let (feed, cursor) = fed_cursor();
    feed.end(StatusWord::Success, "the end");
    node.worker.put_log("a", cursor);
    let id = || proto::TaskId {
        task_id: "a".into(),
    };
    let info = proto::MasterInfo {
        master_id: "m".into(),
        master_address: "10.0.0.9:1".into(),
    };
    let log = proto::TaskLogRequest {
        task_id: "a".into(),
        ..proto::TaskLogRequest::default()
    };
    let code = |status: Status| status.code();
    vec![
        client
            .assign_task(task("a", "x"))
            .await
            .map(drop)
            .map_err(code),
        client.cancel_task(id()).await.map(drop).map_err(code),
        client.master_register(info).await.map(drop).map_err(code),
        client.stream_task_logs(log).await.map(drop).map_err(code),
    ]
}

/// How often the worker was really asked for something that changes it.
pub(crate) fn changes(node: &Node) -> usize {
    node.worker.offers.lock().unwrap().len() + node.worker.moves.lock().unwrap().len()
}

#[tokio::test]
async fn nobody_comes_in_without_a_certificate_of_the_authority() {
    let house = House::start(&[]).await;
    let other = Authority::new();
    let good = house.authority.sign(&["master.example"]);
    let late = house.authority.sign_until(&["master.example"], 2000);
    let foreign = other.sign(&["master.example"]);

    for (who, own, comes_in) in [
        ("a certificate of the authority", Some(&good), true),
        ("none", None, false),
        ("one of another authority", Some(&foreign), false),
        ("one that has run out", Some(&late), false),
    ] {
        let before = changes(&house.node);
        let mut client = house.client(own);

        let answers = answers(&mut client, &house.node).await;

        for (method, answer) in METHODS.iter().zip(answers) {
            let expected = match comes_in {
                true => Ok(()),
                // A connection that never was.
                false => Err(Code::Unavailable),
            };
            let told = answer.map_err(|code| match code {
                Code::Unknown => Code::Unavailable,
                code => code,
            });
            assert_eq!(told, expected, "{method} with {who}");
        }
        let changed = changes(&house.node) - before;
        assert_eq!(changed, if comes_in { 2 } else { 0 }, "{who}");
    }
    let mut in_clear = house.node.client();
    for answer in answers(&mut in_clear, &house.node).await {
        assert!(answer.is_err());
    }
}

#[tokio::test]
async fn only_a_certificate_with_a_masters_name_changes_something_and_others_read() {
    let house = House::start(&["master.example"]).await;
    let master = house.authority.sign(&["x.example", "MASTER.example"]);
    let neighbour = house.authority.sign(&["neighbour.example"]);

    let masters = answers(&mut house.client(Some(&master)), &house.node).await;
    let before = changes(&house.node);
    let neighbours = answers(&mut house.client(Some(&neighbour)), &house.node).await;

    assert_eq!(masters, [Ok(()); 4]);
    let denied = Err(Code::PermissionDenied);
    assert_eq!(neighbours, [denied, denied, denied, Ok(())]);
    assert_eq!(
        changes(&house.node),
        before,
        "the worker was not even asked"
    );
}

#[tokio::test]
async fn keys_change_while_a_stream_runs_and_the_next_connection_has_the_new_ones() {
    let house = House::start(&[]).await;
    let (old_worker, old_master) = (
        house.authority.sign(&[WORKER]),
        house.authority.sign(&["m"]),
    );
    old_worker.write(house.folder.path());
    let (feed, cursor) = fed_cursor();
    house.node.worker.put_log("a", cursor);
    let request = proto::TaskLogRequest {
        task_id: "a".into(),
        follow: true,
        ..proto::TaskLogRequest::default()
    };
    let mut old = house.client(Some(&old_master));
    let mut log = old.stream_task_logs(request).await.unwrap().into_inner();
    feed.lines(vec![line(0, b"before")]);
    assert_eq!(log.message().await.unwrap().unwrap().content, "before");

    // Another authority altogether: nothing of before is good for a new connection.
    let new = Authority::new();
    let new_master = new.sign(&["m"]);
    new.write(house.folder.path());
    new.sign(&[WORKER]).write(house.folder.path());
    house.keys.read_again();
    house
        .shows_another_than(&old_worker, new.calling(Some(&new_master)))
        .await;

    feed.lines(vec![line(1, b"after")]);
    assert_eq!(log.message().await.unwrap().unwrap().content, "after");
    let id = || proto::TaskId {
        task_id: "b".into(),
    };
    assert!(
        old.cancel_task(id()).await.is_ok(),
        "over the connection of before"
    );
    let mut with_new = client(&house.node, new.calling(Some(&new_master)));
    assert!(with_new.cancel_task(id()).await.is_ok());
    let mut with_old = client(&house.node, new.calling(Some(&old_master)));
    assert!(with_old.cancel_task(id()).await.is_err());
    feed.end(StatusWord::Success, "the end");
    let last = log.message().await.unwrap().unwrap();
    assert!(last.is_complete);
}

#[tokio::test]
async fn files_that_cannot_be_used_change_nothing() {
    let house = House::start(&[]).await;
    let master = house.authority.sign(&["m"]);
    let new = Authority::new();
    let id = || proto::TaskId {
        task_id: "b".into(),
    };

    // The certificate of one pair, the key of another; then no certificate at all.
    put(house.folder.path(), "key.pem", "none");
    house.keys.read_again();
    new.sign(&[WORKER]).write(house.folder.path());
    put(house.folder.path(), "cert.pem", "");
    house.keys.read_again();

    let mut client = house.client(Some(&master));
    assert!(client.cancel_task(id()).await.is_ok());
}

#[tokio::test]
async fn a_start_with_files_that_cannot_be_used_says_which_and_why_and_repeats_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let ours = authority.sign(&[WORKER]);
    let secret = ours.secret();
    let told = |break_it: &dyn Fn()| {
        authority.write(folder.path());
        ours.write(folder.path());
        break_it();
        let opened = Keys::open(files(folder.path()), Arc::new(SystemClock));
        let told = opened.err().expect("it cannot be used").to_string();
        assert!(!told.contains(&secret), "{told}");
        told
    };

    let missing = told(&|| std::fs::remove_file(folder.path().join("cert.pem")).unwrap());
    assert!(missing.contains("--tls-cert"), "{missing}");
    let torn = told(&|| {
        let torn = format!("-----BEGIN PRIVATE KEY-----\n{secret}");
        put(folder.path(), "key.pem", &torn);
    });
    assert!(
        torn.contains("--tls-key") && torn.contains("holds no private key"),
        "{torn}"
    );
    let other = told(&|| {
        authority.sign(&[WORKER]).write(folder.path());
        put(folder.path(), "cert.pem", &ours.text());
    });
    assert!(other.contains("is not for the key of --tls-key"), "{other}");
    let empty = told(&|| {
        put(folder.path(), "ca.pem", "");
    });
    assert!(
        empty.contains("--tls-ca") && empty.contains("no certificate in PEM"),
        "{empty}"
    );
}

#[tokio::test(start_paused = true)]
async fn half_a_handshake_is_cut_off_at_the_deadline_of_the_first_bytes() {
    let house = House::start(&[]).await;
    // A TLS record of 512 bytes, of which 11 come.
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for said in [&b""[..], hello] {
        let started = Instant::now();
        let mut stream = TcpStream::connect(&house.node.address).await.unwrap();
        stream.write_all(said).await.unwrap();

        let mut buffer = [0; 64];
        while let Ok(1..) = stream.read(&mut buffer).await {}

        assert_eq!(started.elapsed().as_secs(), 5, "after {said:?}");
    }
}

#[tokio::test]
async fn handshakes_that_stand_still_keep_nobody_else_waiting() {
    let house = House::start(&[]).await;
    let master = house.authority.sign(&["m"]);
    let mut silent = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(&house.node.address).await.unwrap();
        stream.write_all(b"\x16\x03\x01\x02\x00").await.unwrap();
        silent.push(stream);
    }

    let mut client = house.client(Some(&master));
    let id = proto::TaskId {
        task_id: "a".into(),
    };

    assert!(client.cancel_task(id).await.unwrap().into_inner().success);
}

#[tokio::test]
async fn a_handshake_that_fails_is_answered_with_what_was_wrong() {
    let house = House::start(&[]).await;
    let keys = house.authority.calling(None);
    let said = async {
        let mut stream = shaken(&house.node.address, WORKER, keys).await?;
        // In TLS 1.3 the caller's part is judged after the handshake looks done to him.
        stream.read_u8().await
    };

    let refused: io::Error = said.await.unwrap_err();

    assert!(
        refused.to_string().contains("CertificateRequired"),
        "{refused}"
    );
}
