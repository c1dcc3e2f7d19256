//! What the worker's log says of what comes: true words, each once.

use worker_node::dev_master::{DevMaster, Fault, Inside, Method};
use worker_node::proto::{Task, TaskId};

use super::callers::client;
use crate::harness::{Cluster, EngineProxy, Process, WorkerSetup, master_options};

const READY: &str = "✓ Ready to receive tasks";
const OPEN_PORT: &str = "anyone who reaches";

fn said(process: &Process, text: &str) -> usize {
    let lines = process.lines();
    lines.iter().filter(|line| line.contains(text)).count()
}

/// The lines with these words came in that order, each once.
#[track_caller]
fn assert_order(process: &Process, words: &[&str]) {
    let lines = process.lines();
    let mut before = 0;
    for text in words {
        assert_eq!(said(process, text), 1, "{text}: {}", process.tail());
        let at = lines.iter().position(|line| line.contains(text));
        let at = at.expect("it is there once");
        assert!(before <= at, "{text}: {}", process.tail());
        before = at;
    }
}

/// What the log says of a task that is run now stands behind everything that was said before.
async fn let_the_log_come(cluster: &Cluster) {
    let task = cluster.submit(cluster.task("true")).await;
    let ended = format!("[Task {task}] ✓ Completed successfully");
    cluster.worker.wait_log_line(&ended).await;
}

#[tokio::test]
async fn an_offer_is_received_when_it_is_accepted_and_a_refused_one_is_told_once() {
    let cluster = Cluster::start().await;
    let registered = cluster.master.wait_registered(cluster.worker.id()).await;
    let totals = registered.expect("registered").info;
    let holder = Task {
        req_cpu: 0.5,
        req_memory: 0.25,
        ..cluster.task("sleep 600")
    };
    let holder_id = cluster.submit(holder).await;
    cluster.engine.wait_task(&holder_id, "start").await;
    let cores = Task {
        req_cpu: totals.total_cpu,
        ..cluster.task("true")
    };
    let memory = Task {
        req_memory: totals.total_memory,
        ..cluster.task("true")
    };
    let other = Task {
        task_id: holder_id.clone(),
        ..cluster.task("another command")
    };

    let mut client = client(&cluster).await;
    for _ in 0..3 {
        for task in [&cores, &memory, &other] {
            let answer = client.assign_task(task.clone()).await.unwrap().into_inner();
            assert!(!answer.success, "{}: {}", task.task_id, answer.message);
        }
    }
    let_the_log_come(&cluster).await;

    let process = cluster.worker.process();
    for (task, why) in [(&cores, "no room: cpu"), (&memory, "no room: memory")] {
        let id = &task.task_id;
        let refused = format!("Refused task assignment: {id}: {why}");
        assert_eq!(said(process, &refused), 1, "{}", process.tail());
        assert_eq!(said(process, &format!("Received task assignment: {id}")), 0);
    }
    let refused = format!("Refused task assignment: {holder_id}: another task with this id");
    let received = format!("Received task assignment: {holder_id}");
    assert_order(process, &[&received, &refused]);

    cluster.master.cancel(&holder_id).await.expect("an answer");
    assert_eq!(cluster.report(&holder_id).await.status, "cancelled");
    let cores = cluster.submit(cores).await;
    assert_eq!(cluster.report(&cores).await.status, "success");
    let refused = format!("Refused task assignment: {cores}");
    let received = format!("Received task assignment: {cores}");
    cluster.worker.wait_log_line(&received).await;
    assert_order(cluster.worker.process(), &[&refused, &received]);
    cluster.finish().await;
}

#[tokio::test]
async fn only_a_task_that_is_cancelled_is_said_to_be_and_once() {
    let cluster = Cluster::start().await;
    let over = cluster.submit(cluster.task("true")).await;
    assert_eq!(cluster.report(&over).await.status, "success");
    let running = cluster.run("sleep 600").await;

    let mut client = client(&cluster).await;
    for task in ["nope", &over, "no/such/name"] {
        let id = TaskId {
            task_id: task.to_owned(),
        };
        let answer = client.cancel_task(id).await.unwrap().into_inner();
        assert!(!answer.success, "{task}: {}", answer.message);
    }
    for _ in 0..2 {
        let cancel = cluster.master.cancel(&running).await.expect("an answer");
        assert!(cancel.answer.is_success(), "{cancel:?}");
    }
    assert_eq!(cluster.report(&running).await.status, "cancelled");
    let_the_log_come(&cluster).await;

    let process = cluster.worker.process();
    let cancelling = format!("Cancelling task: {running}");
    assert_order(process, &[&cancelling]);
    assert_eq!(said(process, "Cancelling task"), 1, "{}", process.tail());
    cluster.finish().await;
}

#[tokio::test]
async fn ready_is_said_when_the_master_has_let_the_worker_in() {
    let master = DevMaster::start(master_options()).await.expect("a master");
    let worker = WorkerSetup::new(&master).start();
    let refused = "its administrator must type: register";
    worker.wait_log_line(refused).await;

    master.admit(worker.id());
    worker.wait_log_line(READY).await;

    assert_order(worker.process(), &[refused, READY]);
    // On a busy machine a heartbeat may be lost, and it registers again.
    let lines = worker.process().lines();
    let first = |text: &str| lines.iter().position(|line| line.contains(text));
    let registered = first("✓ Worker registered");
    assert!(
        first(refused) < registered && registered < first(READY),
        "{lines:?}"
    );
    assert_eq!(worker.stop().await, Some(0));
}

#[tokio::test]
async fn ready_is_said_when_the_engine_is_there() {
    let proxy = EngineProxy::away();
    let engine = proxy.address();
    let cluster = Cluster::start_with(|setup| setup.arguments(["--engine", &engine])).await;
    let (away, back) = ("Docker engine away", "✓ Docker engine back");
    cluster.worker.wait_log_line(away).await;

    proxy.come();
    cluster.worker.wait_log_line(READY).await;

    assert_order(cluster.worker.process(), &[away, back, READY]);
    cluster.finish().await;
}

#[tokio::test]
async fn ready_is_never_said_while_the_disk_is_full() {
    let cluster = Cluster::start_with(|setup| setup.arguments(["--state-cap", "1MiB"])).await;
    let why = "new tasks are refused: the state folder is full";
    cluster.worker.wait_log_line(why).await;

    let mut client = client(&cluster).await;
    // On a machine that is busy an offer may be refused before it is judged.
    loop {
        let answer = client.assign_task(cluster.task("true")).await.unwrap();
        let answer = answer.into_inner();
        assert!(!answer.success, "{answer:?}");
        if answer.message.contains("is full") {
            break;
        }
        let passing = ["is busy", "is starting", "in time"];
        assert!(
            passing.iter().any(|words| answer.message.contains(words)),
            "{answer:?}"
        );
    }
    assert_eq!(cluster.worker.stop().await, Some(0));
    let process = cluster.worker.process();
    assert_eq!(said(process, READY), 0, "{}", process.tail());
}

#[tokio::test]
async fn a_port_that_others_reach_is_warned_of_and_one_of_this_machine_alone_is_not() {
    for (port, warnings) in [
        ("127.0.0.1:0", 0),
        ("[::1]:0", 0),
        (":0", 1),
        ("0.0.0.0:0", 1),
    ] {
        let master = DevMaster::start(master_options()).await.expect("a master");
        let setup = WorkerSetup::new(&master).arguments(["-port", port]);
        master.admit(setup.id());
        let worker = setup.start();
        worker.wait_log_line("gRPC server listening on").await;
        worker.wait_log_line("✓ Worker registered").await;

        let process = worker.process();
        assert_eq!(
            said(process, OPEN_PORT),
            warnings,
            "{port}: {}",
            process.tail()
        );
        assert_eq!(worker.stop().await, Some(0));
    }
}

#[tokio::test]
async fn a_master_that_is_away_is_said_once_and_once_that_it_is_back() {
    let cluster = Cluster::start().await;
    cluster.master.stop_listening(Inside::Cut).await;
    let (away, back) = ("Master away: ", "✓ Master back after ");
    cluster.worker.wait_log_line(away).await;

    cluster.master.listen_again().await.expect("the same port");
    cluster.worker.wait_log_line(back).await;
    let_the_log_come(&cluster).await;

    assert_order(cluster.worker.process(), &[away, back]);
    cluster.finish().await;
}

#[tokio::test]
async fn results_that_wait_are_said_once_and_once_that_they_are_taken_again() {
    let cluster = Cluster::start().await;
    cluster.master.inject(Method::Report, Fault::DropCall);
    let task = cluster.submit(cluster.task("true")).await;
    let tried = cluster.master.wait_calls(Method::Report, 3).await;
    tried.expect("it is tried again");

    cluster.master.heal(Method::Report);
    assert_eq!(cluster.report(&task).await.status, "success");
    let_the_log_come(&cluster).await;

    let (wait, flow) = ("Results wait: ", "✓ The master takes results again after ");
    assert_order(cluster.worker.process(), &[wait, flow]);
    cluster.finish().await;
}

#[tokio::test]
async fn a_container_that_runs_on_over_a_restart_is_said_to_be_found_again() {
    let mut cluster = Cluster::start().await;
    let task = cluster.run("sleep 600").await;
    cluster.kill_worker().await;
    cluster.restart_worker().await;

    let found = format!("[Task {task}] Found its container again");
    cluster.worker.wait_log_line(&found).await;
    cluster.master.cancel(&task).await.expect("an answer");
    assert_eq!(cluster.report(&task).await.status, "cancelled");
    let_the_log_come(&cluster).await;

    let process = cluster.worker.process();
    assert_order(process, &[&found]);
    let received = format!("Received task assignment: {task}");
    assert_eq!(said(process, &received), 0, "by the worker before");
    cluster.finish().await;
}
