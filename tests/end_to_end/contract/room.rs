//! What is over, or can never begin, holds nothing: the next task is taken, whatever the master does with the results.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use prost::Message as _;
use tonic::transport::Channel;
use worker_node::dev_master::{Fault, Method};
use worker_node::domain::id::{PayloadDigest, ResultId, TaskId};
use worker_node::domain::outcome::{Failure, Outcome};
use worker_node::domain::record::{Change, Ending, Outputs, TaskRecord};
use worker_node::domain::spec::{TaskSpec, Wants};
use worker_node::journal::SqliteJournal;
use worker_node::ports::clock::SystemClock;
use worker_node::ports::engine::container_name;
use worker_node::ports::journal::JournalStore as _;
use worker_node::proto::master_worker_client::MasterWorkerClient;
use worker_node::proto::{Heartbeat, Task, TaskAck};

use crate::harness::Cluster;

#[tokio::test]
async fn a_task_that_can_never_begin_takes_nobodys_room_and_spoils_no_figure() {
    let cluster = Cluster::start_with(|setup| setup.arguments(["--max-tasks", "1"])).await;
    // Before that, offers are refused for the moment.
    cluster.worker.wait_log_line("Ready to receive").await;
    let passing = Fault::Refuse("a passing database error".to_owned());
    cluster.master.inject(Method::Report, passing);
    let mut impossible = Vec::new();
    for cpu in [99_999.0, 1e308, f64::NAN] {
        let task = Task {
            req_cpu: cpu,
            ..cluster.task("true")
        };
        let id = task.task_id.clone();
        let answer = cluster.master.offer(cluster.worker.id(), task).await;
        assert!(answer.is_success(), "{cpu}: {answer:?}");
        impossible.push(id);
    }

    let honest = Task {
        req_cpu: 0.5,
        ..cluster.task("true")
    };
    let id = honest.task_id.clone();
    let answer = cluster.master.offer(cluster.worker.id(), honest).await;
    assert!(answer.is_success(), "the room is taken: {answer:?}");

    let last = impossible[2].clone();
    let lists = |beat: &Heartbeat| beat.running_tasks.iter().any(|task| task.task_id == last);
    let beat = cluster.master.wait_heartbeat(cluster.worker.id(), lists);
    for task in beat.await.unwrap().heartbeat.running_tasks {
        let figures = [task.cpu_allocated, task.memory_allocated];
        let sane = figures.iter().all(|figure| (0.0..=0.5).contains(figure));
        assert!(sane, "{task:?}");
    }
    cluster.master.heal(Method::Report);
    for task in impossible {
        assert_eq!(cluster.report(&task).await.status, "failed");
    }
    assert_eq!(cluster.report(&id).await.status, "success");
    cluster.finish().await;
}

/// More than may wait at once.
const MANY: usize = 2_000;

#[tokio::test]
async fn impossible_offers_whose_results_nobody_takes_keep_out_no_honest_one() {
    let mut cluster = Cluster::start().await;
    // What the worker takes at all it takes once it knows the engine.
    let first = cluster.submit(cluster.task("true")).await;
    assert_eq!(cluster.report(&first).await.status, "success");

    let refused = fill_with_impossible(stranger(&cluster).await).await;
    assert!(refused.contains("can never begin here"), "{refused}");

    for _ in 0..2 {
        let honest = cluster.submit(cluster.task("echo honest")).await;
        let report = cluster.report(&honest).await;
        assert_eq!(report.status, "success", "{}", report.logs);
        cluster.engine.wait_nothing_left(cluster.worker.id()).await;
        cluster.kill_worker().await;
        cluster.restart_worker().await;
    }
    assert_eq!(cluster.worker.stop().await, Some(0));
}

#[tokio::test]
async fn a_heartbeat_that_has_not_room_for_all_tasks_lists_those_with_short_ids_and_says_so() {
    let mut cluster = Cluster::start().await;
    let honest = cluster.run("sleep 600").await;
    assert_eq!(cluster.worker.stop().await, Some(0));
    // The list has a million bytes.
    let long = (0..1_000).map(|number| format!("{number:0>1024}"));
    write_ended(&cluster, long);

    cluster.restart_worker().await;

    let line = cluster.worker.wait_log_line("list not all tasks").await;
    assert!(line.contains("WARN"), "{line}");
    let is_full = |beat: &Heartbeat| beat.encoded_len() > 900_000;
    let beat = cluster.master.wait_heartbeat(cluster.worker.id(), is_full);
    let beat = beat.await.unwrap().heartbeat;
    assert!(beat.running_tasks.iter().any(|task| task.task_id == honest));
    assert!(beat.encoded_len() < 1 << 20, "{} bytes", beat.encoded_len());
    cluster.master.cancel(&honest).await.expect("it is told");
    assert_eq!(cluster.report(&honest).await.status, "cancelled");
    assert_eq!(cluster.worker.stop().await, Some(0));
}

/// Writes tasks into the journal that have ended without ever beginning, and that the master does not know.
fn write_ended(cluster: &Cluster, ids: impl Iterator<Item = String>) {
    let ended = |id: String| {
        let id = TaskId::new(id).expect("no longer than an id may be");
        let why = Outcome::Failed(Failure::Impossible("it asks for too much".to_owned()));
        let ending = Ending {
            outcome: why,
            exit: None,
            outputs: Outputs::default(),
            notes: Vec::new(),
        };
        let name = container_name(cluster.worker.id(), id.as_str(), 1);
        let (digest, result) = (PayloadDigest([7; 32]), ResultId(id.to_string()));
        let record = TaskRecord::accepted(spec(id.clone()), digest, result, name, UNIX_EPOCH);
        vec![
            Change::Accept(Box::new(record)),
            Change::Ended {
                task: id,
                ending: Box::new(ending),
            },
        ]
    };
    let path = cluster.worker.state_dir().join("journal.db");
    let opened = SqliteJournal::open(&path, Arc::new(SystemClock)).expect("it is closed");
    let mut journal = opened.journal;
    let requests: Vec<_> = ids.map(ended).collect();
    let answers = journal.commit(&requests).expect("room");
    assert!(answers.iter().all(Result::is_ok));
}

fn spec(id: TaskId) -> TaskSpec {
    TaskSpec {
        id,
        image: "busybox".to_owned(),
        command: "true".to_owned(),
        wants: Wants {
            cpu: 99_999.0,
            ..Wants::default()
        },
        user_id: "ann".to_owned(),
        task_name: "job".to_owned(),
        task_type: String::new(),
        sla_multiplier: 1.0,
        submitted_at: 0,
        asked: None,
    }
}

/// Somebody whose tasks the master does not know, and so refuses the results of.
async fn stranger(cluster: &Cluster) -> MasterWorkerClient<Channel> {
    let registered = cluster.master.wait_registered(cluster.worker.id()).await;
    let address = registered.expect("registered").info.worker_ip;
    let connected = MasterWorkerClient::connect(format!("http://{address}")).await;
    connected.expect("the worker listens")
}

/// What an offer is refused for that was not judged in time.
const PASSING: [&str; 2] = ["in time", "is busy"];

/// Offers tasks that can never begin until one is refused by a judgement; why it was.
async fn fill_with_impossible(mut client: MasterWorkerClient<Channel>) -> String {
    for number in 0..MANY {
        let task = Task {
            task_id: format!("impossible-{number}"),
            docker_image: "busybox".to_owned(),
            req_cpu: [99_999.0, 1e308, f64::NAN][number % 3],
            ..Task::default()
        };
        let answer = client.assign_task(task).await.expect("never an error");
        let TaskAck { success, message } = answer.into_inner();
        if !success && !PASSING.iter().any(|words| message.contains(words)) {
            return message;
        }
    }
    panic!("{MANY} impossible tasks were taken, and none refused");
}

#[tokio::test]
async fn a_result_that_nobody_takes_holds_no_place_and_can_be_let_go_of() {
    let quick = [
        "--max-tasks",
        "1",
        "--report-timeout",
        "500ms",
        "--report-doubt",
        "500ms",
    ];
    let cluster = Cluster::start_with(|setup| setup.arguments(quick)).await;
    cluster.master.inject(Method::Report, Fault::Ignore);
    let first = cluster.submit(cluster.task("true")).await;
    // Its container is gone, although the master has not taken its result.
    cluster.engine.wait_task(&first, "destroy").await;
    let second = cluster.submit(cluster.task("true")).await;
    for task in [&first, &second] {
        let parked = format!("[Task {task}] ✗ Task result could not be delivered");
        cluster.worker.wait_log_line(&parked).await;
    }

    assert!(drop_result(&cluster, &first).await, "it is parked");
    let given_up = format!("[Task {first}] ✗ Task result was never taken");
    cluster.worker.wait_log_line(&given_up).await;
    assert!(!drop_result(&cluster, &first).await, "it is not any more");

    cluster.master.heal(Method::Report);
    let retry = order(&cluster, &["outbox", "retry"]).await;
    assert!(retry, "the other one is sent again");
    assert_eq!(cluster.report(&second).await.status, "success");
    cluster.engine.wait_nothing_left(cluster.worker.id()).await;
    assert_eq!(cluster.worker.stop().await, Some(0));
}

/// Nobody has to let go of it by hand: after its retention it goes the way of those that were taken.
#[tokio::test]
async fn a_result_that_nobody_takes_is_given_up_when_its_retention_is_over() {
    let quick = [
        "--retention",
        "1h",
        "--orphan-grace",
        "1s",
        "--report-timeout",
        "500ms",
        "--report-doubt",
        "500ms",
    ];
    let mut cluster = Cluster::start_with(|setup| setup.arguments(quick)).await;
    cluster.master.inject(Method::Report, Fault::Ignore);
    let [old, young] = ["old", "young"].map(|text| format!("echo {text} > /output/x"));
    let old = cluster.submit(cluster.task(&old)).await;
    let young = cluster.submit(cluster.task(&young)).await;
    let is_parked = |task: &str| format!("[Task {task}] ✗ Task result could not be delivered");
    for task in [&old, &young] {
        cluster.worker.wait_log_line(&is_parked(task)).await;
    }
    assert_eq!(cluster.worker.stop().await, Some(0));
    park_earlier(&cluster, &old, Duration::from_secs(3_700));

    cluster.restart_worker().await;
    let given_up = format!("[Task {old}] ✗ Task result was never taken by the master");
    let line = cluster.worker.wait_log_line(&given_up).await;

    assert!(line.contains("ERROR"), "{line}");
    assert!(line.contains("(its retention is over)"), "{line}");
    assert!(!drop_result(&cluster, &old).await, "it is gone");
    cluster.worker.wait_log_line(&is_parked(&young)).await;
    cluster.master.heal(Method::Report);
    let retry = order(&cluster, &["outbox", "retry"]).await;
    assert!(retry, "the other one is sent again");
    assert_eq!(cluster.report(&young).await.status, "success");
    cluster.engine.wait_nothing_left(cluster.worker.id()).await;
    cluster.wait_no_outputs().await;
    assert_eq!(cluster.worker.stop().await, Some(0));
}

/// As if its result had been parked that much earlier.
fn park_earlier(cluster: &Cluster, task: &str, time: Duration) {
    let journal = cluster.worker.state_dir().join("journal.db");
    let journal = rusqlite::Connection::open(journal).expect("a database");
    let earlier = "UPDATE outbox SET parked_at = parked_at - ?2 WHERE task = ?1 AND parked_at > 0";
    let nanos = i64::try_from(time.as_nanos()).expect("no centuries");
    let changed = journal.execute(earlier, rusqlite::params![task, nanos]);
    assert_eq!(changed.expect("it can be written"), 1, "it is parked");
}

async fn drop_result(cluster: &Cluster, task: &str) -> bool {
    order(cluster, &["outbox", "drop", task]).await
}

/// Whether the worker obeyed.
async fn order(cluster: &Cluster, words: &[&str]) -> bool {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker-node"));
    command
        .args(words)
        .arg("--state-dir")
        .arg(cluster.worker.state_dir());
    let status = tokio::task::spawn_blocking(move || command.status());
    let status = status.await.expect("it does not panic");
    status.expect("it can be started").success()
}
