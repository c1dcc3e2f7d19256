//! What the worker tells its master, and what it makes of the answers.

use std::time::Duration;

use tokio::{io::AsyncWriteExt, net::TcpListener};
use tonic::Code;
use worker_node::{
    domain::{
        id::{ResultId, TaskId, WorkerId},
        outcome::StatusWord,
        spec::MachineTotals,
    },
    grpc::{SEND_LIMIT, client::GrpcMaster},
    ports::master::{Beat, Master, MasterAddress, MasterError, Registration, Report, RunningTask},
    proto,
};

use crate::fake_master::{
    Frames, Script, Seen, Sights, address_of, greet, master, read_a_request, recording_proxy,
};

const TIMEOUT: Duration = Duration::from_secs(60);

fn registration() -> Registration {
    Registration {
        worker: WorkerId::new("w-1").unwrap(),
        address: "10.0.0.1:50052".into(),
        totals: MachineTotals {
            cpu: 4.0,
            memory: 8.0,
            storage: 100.0,
            gpu: 1.0,
        },
    }
}

fn beat() -> Beat {
    Beat {
        worker: WorkerId::new("w-1").unwrap(),
        cpu: 50.0,
        memory: 250.0,
        storage: f64::NAN,
        gpu: -1.0,
        running: vec![RunningTask {
            task: TaskId::new("a").unwrap(),
            cpu: 0.5,
            memory: 1.0,
            gpu: 0.0,
            status: "pulling",
        }],
    }
}

fn report(logs: String) -> Report {
    Report {
        task: TaskId::new("a").unwrap(),
        worker: WorkerId::new("w-1").unwrap(),
        result_id: ResultId("r-1".into()),
        status: StatusWord::Success,
        logs,
        output_files: vec!["out/a".into()],
        usage: None,
        image: Some("docker.io/library/a@sha256:0".into()),
        timeout: TIMEOUT,
    }
}

async fn send_report(master: &MasterAddress) -> Result<(), MasterError> {
    GrpcMaster::default()
        .report(master, report("x".into()))
        .await
}

async fn reported(mut sights: Sights) -> proto::TaskResult {
    match sights.recv().await {
        Some(Seen::Reported(result)) => result,
        other => panic!("no report, but {other:?}"),
    }
}

#[tokio::test]
async fn a_registration_says_who_where_and_what() {
    let (address, mut sights) = master(Script::Accept).await;

    GrpcMaster::default()
        .register(&address, registration())
        .await
        .unwrap();

    let Some(Seen::Registered(info)) = sights.recv().await else {
        panic!("no registration");
    };
    assert_eq!(
        info,
        proto::WorkerInfo {
            worker_id: "w-1".into(),
            worker_ip: "10.0.0.1:50052".into(),
            total_cpu: 4.0,
            total_memory: 8.0,
            total_storage: 100.0,
            total_gpu: 1.0,
        }
    );
}

#[tokio::test]
async fn a_heartbeat_says_percentages_whatever_was_sampled() {
    let (address, mut sights) = master(Script::Accept).await;

    GrpcMaster::default()
        .heartbeat(&address, beat())
        .await
        .unwrap();

    let Some(Seen::Beat(beat)) = sights.recv().await else {
        panic!("no heartbeat");
    };
    assert_eq!(
        [
            beat.cpu_usage,
            beat.memory_usage,
            beat.storage_usage,
            beat.gpu_usage
        ],
        [50.0, 100.0, 0.0, 0.0]
    );
    assert_eq!(beat.running_tasks[0].status, "pulling");
    assert_eq!(beat.running_tasks[0].cpu_allocated, 0.5);
}

/// Fields that are missing stand for nothing: no word is needed for a yes, and a yes that is not said is none.
#[tokio::test]
async fn an_answer_that_lacks_its_words_is_a_yes_and_one_that_lacks_all_is_none() {
    for (script, is_yes) in [(Script::Accept, true), (Script::Refuse(""), false)] {
        let (address, _sights) = master(script).await;
        let client = GrpcMaster::default();

        let registered = client.register(&address, registration()).await;
        let beaten = client.heartbeat(&address, beat()).await;
        let reported = send_report(&address).await;

        assert_eq!(registered.is_ok(), is_yes, "{registered:?}");
        assert_eq!(beaten.is_ok(), is_yes, "{beaten:?}");
        assert_eq!(reported.is_ok(), is_yes, "{reported:?}");
    }
}

#[tokio::test]
async fn a_report_carries_its_result_id_and_no_deadline() {
    let (address, sights) = master(Script::Accept).await;

    send_report(&address).await.unwrap();

    let result = reported(sights).await;
    assert_eq!(
        (result.task_id.as_str(), result.worker_id.as_str()),
        ("a", "w-1")
    );
    assert_eq!(
        (result.status.as_str(), result.result_id.as_str()),
        ("success", "r-1")
    );
    assert_eq!(result.output_files, ["out/a"]);
}

#[tokio::test]
async fn a_log_that_is_too_long_loses_its_middle_and_keeps_its_trailer() {
    let (address, sights) = master(Script::Accept).await;
    let logs = format!("first\n{}\u{e9}last", "\u{e9}".repeat(3 * 1024 * 1024));

    GrpcMaster::default()
        .report(&address, report(logs))
        .await
        .unwrap();

    let result = reported(sights).await;
    assert!(prost::Message::encoded_len(&result) <= SEND_LIMIT);
    assert!(result.logs.len() > SEND_LIMIT - 1_024 * 1_024);
    assert!(result.logs.starts_with("first\n"));
    assert!(result.logs.contains("bytes left out here"));
    assert!(result.logs.ends_with("\u{e9}last"));
}

#[tokio::test]
async fn a_refusal_comes_with_grpcs_ok_and_is_seen_all_the_same() {
    let (address, _sights) = master(Script::Refuse("no such task")).await;

    assert_eq!(
        send_report(&address).await,
        Err(MasterError::Refused("no such task".into()))
    );
    assert_eq!(
        GrpcMaster::default()
            .register(&address, registration())
            .await,
        Err(MasterError::Refused("no such task".into()))
    );
    assert!(matches!(
        GrpcMaster::default().heartbeat(&address, beat()).await,
        Err(MasterError::Refused(_))
    ));
}

#[tokio::test]
async fn a_master_that_does_not_know_the_worker_says_so_by_text() {
    for words in [
        "worker w-1 not registered",
        "worker w-1 not authorized - must be pre-registered by admin",
    ] {
        let (address, _sights) = master(Script::Fail(Code::Unknown, words)).await;

        assert_eq!(
            GrpcMaster::default().heartbeat(&address, beat()).await,
            Err(MasterError::NotRegistered(words.into()))
        );
    }
}

#[tokio::test]
async fn codes_of_the_master_are_told_apart() {
    for (code, error) in [
        (
            Code::ResourceExhausted,
            MasterError::Unacceptable("x".into()),
        ),
        (Code::OutOfRange, MasterError::Unacceptable("x".into())),
        (Code::InvalidArgument, MasterError::Unacceptable("x".into())),
        (Code::Unavailable, MasterError::Lost("x".into())),
        (Code::DeadlineExceeded, MasterError::Deadline(TIMEOUT)),
        (Code::Unknown, MasterError::Refused("x".into())),
        (Code::Internal, MasterError::Refused("Internal: x".into())),
    ] {
        let (address, _sights) = master(Script::Fail(code, "x")).await;

        assert_eq!(send_report(&address).await, Err(error));
    }
}

#[tokio::test]
async fn a_port_with_nobody_behind_is_never_a_doubt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = address_of(&listener);
    drop(listener);

    let error = send_report(&address).await.unwrap_err();

    assert!(matches!(error, MasterError::Unreachable(_)), "{error:?}");
}

#[tokio::test]
async fn a_proxy_in_front_of_nobody_is_never_a_doubt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = address_of(&listener);
    tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });

    let error = send_report(&address).await.unwrap_err();

    assert!(matches!(error, MasterError::Unreachable(_)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_listener_whose_program_hangs_is_never_a_doubt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let started = tokio::time::Instant::now();

    let error = send_report(&address_of(&listener)).await.unwrap_err();

    assert!(matches!(error, MasterError::Unreachable(_)), "{error:?}");
    assert_eq!(started.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn a_connection_that_ends_after_the_request_is_a_doubt() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = address_of(&listener);
    tokio::spawn(async move { drop(read_a_request(&listener).await) });

    let error = send_report(&address).await.unwrap_err();

    assert!(matches!(error, MasterError::Lost(_)), "{error:?}");
}

#[tokio::test]
async fn a_connection_that_ends_after_the_greeting_is_no_refusal() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = address_of(&listener);
    tokio::spawn(async move {
        loop {
            drop(greet(&listener).await);
        }
    });

    for _ in 0..20 {
        // Whether the request had left by then is the network's to say.
        let error = send_report(&address).await.unwrap_err();

        assert!(
            matches!(error, MasterError::Unreachable(_) | MasterError::Lost(_)),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_goaway_or_a_reset_after_the_request_is_a_doubt() {
    // GOAWAY: last stream 0, no error. RST_STREAM of stream 1: internal error, and 'too calm'.
    let goaway = vec![0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let reset = vec![0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    let calm = vec![0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 11];
    for frame in [goaway, reset, calm] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = address_of(&listener);
        let said = frame.clone();
        let serving = tokio::spawn(async move {
            let mut stream = read_a_request(&listener).await;
            stream.write_all(&said).await.unwrap();
            stream
        });

        let error = send_report(&address).await.unwrap_err();

        assert!(
            matches!(error, MasterError::Lost(_)),
            "{frame:?}: {error:?}"
        );
        drop(serving);
    }
}

#[tokio::test(start_paused = true)]
async fn each_call_has_its_own_deadline() {
    let (address, _sights) = master(Script::Hang).await;

    assert_eq!(
        GrpcMaster::default().heartbeat(&address, beat()).await,
        Err(MasterError::Deadline(Duration::from_secs(4)))
    );
    assert_eq!(
        GrpcMaster::default()
            .register(&address, registration())
            .await,
        Err(MasterError::Deadline(Duration::from_secs(10)))
    );
    assert_eq!(
        send_report(&address).await,
        Err(MasterError::Deadline(TIMEOUT))
    );
}

#[tokio::test]
async fn a_heartbeat_does_not_wait_behind_a_report_that_hangs() {
    let (hanging, mut sights) = master(Script::Hang).await;
    let reporting = tokio::spawn(async move { send_report(&hanging).await });
    assert!(matches!(sights.recv().await, Some(Seen::Reported(_))));
    let (address, _sights) = master(Script::Accept).await;

    GrpcMaster::default()
        .heartbeat(&address, beat())
        .await
        .unwrap();

    assert!(!reporting.is_finished());
    reporting.abort();
}

#[tokio::test]
async fn a_call_is_one_connection_without_pings_that_is_closed_after_it() {
    let (address, _sights) = master(Script::Accept).await;
    let (proxy, mut said) = recording_proxy(address).await;

    send_report(&proxy).await.unwrap();
    GrpcMaster::default()
        .heartbeat(&proxy, beat())
        .await
        .unwrap();

    for _ in 0..2 {
        // The proxy tells when the client has closed.
        let frames = Frames::parse(&said.recv().await.unwrap());
        assert_eq!((frames.headers, frames.pings), (1, 0));
        assert!(frames.data > 0);
    }
}
