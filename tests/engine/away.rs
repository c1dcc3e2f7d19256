//! Engines that are not there, do not answer, break off, or are far away.

use std::{
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixListener, UnixStream},
    sync::mpsc,
};
use worker_node::{
    domain::id::{ContainerId, WorkerId},
    engine::{DockerEngine, EngineAddress},
    ports::engine::{ContainerEngine, EngineError, Force, Signal},
};

use crate::bench::{Bench, address, engine_at, in_time};

/// The error of each call, where it has one.
async fn every_call(engine: &DockerEngine) -> Vec<(&'static str, Option<EngineError>)> {
    let id = ContainerId("ab".into());
    let worker = WorkerId::new("w").unwrap();
    let image = engine.parse_image("busybox").unwrap();
    let (progress, _listener) = mpsc::channel(10);
    vec![
        ("info", engine.info().await.err()),
        ("find_image", engine.find_image(&image).await.err()),
        ("pull", engine.pull(&image, progress).await.err()),
        ("attach", engine.attach(&id).await.err()),
        ("logs", engine.logs(&id, UNIX_EPOCH).await.err()),
        ("start", engine.start(&id).await.err()),
        ("wait", engine.wait(&id).await.err()),
        ("inspect", engine.inspect("ab").await.err()),
        ("was_started", engine.was_started(&id).await.err()),
        (
            "has_lived_since",
            engine.has_lived_since(UNIX_EPOCH).await.err(),
        ),
        ("kill", engine.kill(&id, Signal::Kill).await.err()),
        ("remove", engine.remove(&id, Force::No).await.err()),
        ("usage", engine.usage(&id).await.err()),
        ("download_output", engine.download_output(&id).await.err()),
        ("list", engine.list(&worker).await.err()),
        ("events", engine.events(&worker).await.err()),
    ]
}

async fn assert_away(engine: &DockerEngine) {
    for (call, error) in every_call(engine).await {
        assert!(
            matches!(error, Some(EngineError::Away(_))),
            "{call}: {error:?}"
        );
    }
}

fn socket(path: &Path) -> EngineAddress {
    EngineAddress::Unix(path.to_owned())
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_not_there_is_away_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let stale = folder.path().join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = nobody.local_addr().unwrap();
    drop(nobody);
    let begun = tokio::time::Instant::now();

    for address in [
        socket(&folder.path().join("missing.sock")),
        socket(&stale),
        EngineAddress::Tcp(port.to_string()),
    ] {
        assert_away(&engine_at(&address)).await;
    }

    assert_eq!(begun.elapsed(), Duration::ZERO, "no timer had to end");
}

#[tokio::test]
async fn an_engine_that_comes_is_met_without_a_new_adapter() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("late.sock");
    let engine = engine_at(&socket(&path));
    assert!(matches!(engine.info().await, Err(EngineError::Away(_))));

    let EngineAddress::Unix(real) = address() else {
        panic!("these tests need an engine at a socket");
    };
    std::os::unix::fs::symlink(real, &path).unwrap();

    assert!(engine.info().await.is_ok());
}

/// An engine that gives this answer to everything, and closes.
fn answering(path: &Path, answer: &'static str) -> DockerEngine {
    let listener = UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 16 * 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    engine_at(&socket(path))
}

#[tokio::test]
async fn an_engine_that_breaks_off_within_its_answer_is_away() {
    const CUT_HEADS: [&str; 3] = [
        "",
        "HTTP/1.1 204 No Con",
        "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 100\r\n\r\n{\"mess",
    ];
    const CUT_BODIES: [&str; 2] = [
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"Id\":",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{\"Id\":",
    ];
    let id = ContainerId("ab".into());

    for answer in CUT_HEADS.into_iter().chain(CUT_BODIES) {
        let folder = tempfile::tempdir().unwrap();
        let engine = answering(&folder.path().join("engine.sock"), answer);
        let mut outcomes = vec![
            ("info", in_time(engine.info()).await.err()),
            ("inspect", in_time(engine.inspect("ab")).await.err()),
            ("wait", in_time(engine.wait(&id)).await.err()),
        ];
        // A start whose success was told has no body to be cut off.
        if CUT_HEADS.contains(&answer) {
            outcomes.push(("start", in_time(engine.start(&id)).await.err()));
        }

        for (call, error) in outcomes {
            let away = matches!(error, Some(EngineError::Away(_)));
            assert!(away, "{answer:?} {call}: {error:?}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_a_failure_and_not_an_absence() {
    let folder = tempfile::tempdir().unwrap();
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let engine = answering(&folder.path().join("engine.sock"), answer);

    let outcome = in_time(engine.inspect("ab")).await;

    assert!(
        matches!(outcome, Err(EngineError::Failed(_))),
        "{outcome:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_engine_ends_every_call_at_its_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("silent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let holding = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let engine = engine_at(&socket(&path));
    let id = ContainerId("ab".into());
    let worker = WorkerId::new("w").unwrap();

    macro_rules! assert_deadline {
        ($seconds:literal, $call:expr) => {
            let begun = tokio::time::Instant::now();
            let error = $call.await.err();
            let call = stringify!($call);
            assert!(
                matches!(error, Some(EngineError::Deadline(_))),
                "{call}: {error:?}"
            );
            assert_eq!(begun.elapsed().as_secs(), $seconds, "{call}");
        };
    }
    assert_deadline!(5, engine.info());
    assert_deadline!(5, engine.list(&worker));
    assert_deadline!(5, engine.inspect("ab"));
    assert_deadline!(5, engine.was_started(&id));
    assert_deadline!(5, engine.has_lived_since(UNIX_EPOCH));
    assert_deadline!(5, engine.usage(&id));
    assert_deadline!(
        5,
        engine.find_image(&engine.parse_image("busybox").unwrap())
    );
    assert_deadline!(10, engine.attach(&id));
    assert_deadline!(10, engine.logs(&id, UNIX_EPOCH));
    assert_deadline!(10, engine.events(&worker));
    assert_deadline!(10, engine.kill(&id, Signal::Term));
    // It is asked who it is first.
    assert_deadline!(5, engine.remove(&id, Force::Yes));
    assert_deadline!(60, engine.download_output(&id));
    assert_deadline!(120, engine.start(&id));
    holding.abort();
}

#[tokio::test]
async fn a_pull_that_is_dropped_hangs_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let engine = engine_at(&socket(&path));
    let image = engine.parse_image("busybox").unwrap();
    let (progress, _receiver) = mpsc::channel(10);

    let mut asked = tokio::select! {
        outcome = engine.pull(&image, progress) => panic!("{outcome:?}"),
        asked = in_time(listener.accept()) => asked.unwrap().0,
    };

    let mut request = Vec::new();
    in_time(asked.read_to_end(&mut request)).await.unwrap();
}

#[tokio::test]
async fn an_engine_over_tcp_does_all_but_is_not_local() {
    let EngineAddress::Unix(real) = address() else {
        panic!("these tests need an engine at a socket");
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = UnixStream::connect(&real).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    let mut bench = Bench::new();
    bench.engine = engine_at(&format!("tcp://{port}").parse().unwrap());

    let (id, code, output) = bench.run(&bench.plan("echo far; exit 5").await).await;

    assert_eq!((code, output.stdout.as_slice()), (5, &b"far\n"[..]));
    assert!(bench.engine.download_output(&id).await.is_ok());
    assert!(!bench.engine.info().await.unwrap().local);
    serving.abort();
}
