//! The master's door, closed: what the worker makes of its certificate, and what it shows of its own.

use std::{sync::Arc, time::Duration};

use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use worker_node::{
    domain::id::WorkerId,
    grpc::{
        client::GrpcMaster,
        keys::{Dial, KeyFiles, Keys, NamedFile},
    },
    ports::{
        clock::SystemClock,
        master::{Beat, Master, MasterAddress, MasterError},
    },
};

use crate::{
    authority::{Authority, Signed, put},
    fake_master::{Script, Seen, Sights, master},
};

/// Puts up a master behind a door that speaks TLS with these keys, on a name of this machine.
async fn by_tls(keys: Arc<ServerConfig>) -> (MasterAddress, Sights) {
    let (inside, sights) = master(Script::Accept).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(keys);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // Whoever does not come through is gone.
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let mut inside = TcpStream::connect(&inside.0).await.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut stream, &mut inside).await });
            }
        }
    });
    (MasterAddress(format!("localhost:{port}")), sights)
}

/// A worker that trusts `authority`, and has `own` to show.
fn worker(authority: &Authority, own: Option<&Signed>) -> (TempDir, GrpcMaster) {
    let folder = tempfile::tempdir().unwrap();
    authority.write(folder.path());
    let named = |flag, name: &str| NamedFile {
        flag,
        path: folder.path().join(name),
    };
    let identity = own.map(|own| {
        own.write(folder.path());
        (
            named("--tls-cert", "cert.pem"),
            named("--tls-key", "key.pem"),
        )
    });
    let files = KeyFiles {
        identity,
        authorities: Some(named("--tls-ca", "ca.pem")),
        dial: Dial::Tls,
        token: None,
    };
    let keys = Keys::open(files, Arc::new(SystemClock)).unwrap();
    (folder, GrpcMaster::with_keys(Arc::new(keys)))
}

async fn beat(worker: &GrpcMaster, master: &MasterAddress) -> Result<(), MasterError> {
    let beat = Beat {
        worker: WorkerId::new("w").unwrap(),
        cpu: 1.0,
        memory: 1.0,
        storage: 1.0,
        gpu: 0.0,
        running: Vec::new(),
    };
    worker.heartbeat(master, beat).await
}

#[track_caller]
fn assert_unreachable(told: Result<(), MasterError>, words: &str) {
    match told {
        Err(MasterError::Unreachable(told)) => assert!(told.contains(words), "{told}"),
        told => panic!("{told:?}"),
    }
}

#[tokio::test]
async fn a_master_is_called_by_its_name_and_shown_the_workers_certificate() {
    let authority = Authority::new();
    let (master, mut sights) = by_tls(authority.called(&authority.sign(&["localhost"]))).await;
    let own = authority.sign(&["worker.example"]);
    let (_folder, worker) = worker(&authority, Some(&own));

    beat(&worker, &master).await.unwrap();

    assert!(matches!(sights.recv().await, Some(Seen::Beat(_))));
}

#[tokio::test]
async fn nothing_is_said_to_a_master_that_is_not_who_it_should_be_and_the_reason_is_told() {
    let (authority, other) = (Authority::new(), Authority::new());
    let own = authority.sign(&["worker.example"]);
    let (_folder, worker) = worker(&authority, Some(&own));
    for (signed, words) in [
        (authority.sign(&["other.example"]), "not valid for name"),
        (other.sign(&["localhost"]), "UnknownIssuer"),
        (authority.sign_until(&["localhost"], 2000), "expired"),
    ] {
        let (master, mut sights) = by_tls(authority.called(&signed)).await;

        assert_unreachable(beat(&worker, &master).await, words);

        assert!(sights.try_recv().is_err(), "{words}");
    }
}

#[tokio::test]
async fn a_master_that_does_not_like_the_workers_certificate_is_quoted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (master, _sights) = by_tls(authority.called(&authority.sign(&["localhost"]))).await;
    let foreign = other.sign(&["worker.example"]);

    let (_folder, with_none) = worker(&authority, None);
    assert_unreachable(beat(&with_none, &master).await, "CertificateRequired");
    let (_folder, with_foreign) = worker(&authority, Some(&foreign));
    assert_unreachable(beat(&with_foreign, &master).await, "fatal alert");
}

#[tokio::test]
async fn a_master_that_speaks_no_tls_hears_nothing() {
    let authority = Authority::new();
    let (_folder, worker) = worker(&authority, None);
    let (address, mut sights) = master(Script::Accept).await;

    let told = beat(&worker, &address).await;

    assert!(matches!(told, Err(MasterError::Unreachable(_))), "{told:?}");
    assert!(sights.try_recv().is_err());
}

#[tokio::test]
async fn a_master_is_shown_the_token_that_is_in_the_file_at_that_moment() {
    let folder = tempfile::tempdir().unwrap();
    let file = put(folder.path(), "token", "first\n");
    let token = NamedFile {
        flag: "--token-file",
        path: file,
    };
    let open = || {
        let files = KeyFiles {
            token: Some((token.clone(), Duration::from_secs(600))),
            ..KeyFiles::default()
        };
        let keys = Keys::open(files, Arc::new(SystemClock)).unwrap();
        GrpcMaster::with_keys(Arc::new(keys))
    };
    let (address, mut sights) = master(Script::Accept).await;

    for shown in ["first", "second"] {
        put(folder.path(), "token", shown);
        beat(&open(), &address).await.unwrap();

        let expected = format!("Bearer {shown}");
        let seen = sights.recv().await;
        assert!(
            matches!(&seen, Some(Seen::Authorized(it)) if *it == expected),
            "{seen:?}"
        );
        assert!(matches!(sights.recv().await, Some(Seen::Beat(_))));
    }
}
