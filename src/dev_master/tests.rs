//! The master against a scripted worker over real gRPC: it must behave as the real one does, and its judge must find every
//! rule that the script breaks and no other.

mod scripted;

use std::time::Duration;

use tonic::Code;

use self::scripted::ScriptedWorker;
use super::*;
use crate::proto::{Heartbeat, Task, TaskAck, TaskResult, WorkerInfo};

const PATIENCE: Duration = Duration::from_secs(20);

fn options() -> MasterOptions {
    MasterOptions {
        offer_again: Duration::from_millis(20),
        late_write: Duration::from_millis(50),
        patience: PATIENCE,
        ..MasterOptions::pre_registered(["w1"])
    }
}

async fn started() -> (DevMaster, ScriptedWorker) {
    let master = DevMaster::start(options()).await.unwrap();
    let worker = ScriptedWorker::start("w1", &master).await;
    worker.register().await.unwrap();
    (master, worker)
}

fn task(id: &str) -> Task {
    Task {
        task_id: id.to_owned(),
        docker_image: "busybox".to_owned(),
        ..Task::default()
    }
}

fn result(id: &str, status: &str) -> TaskResult {
    TaskResult {
        task_id: id.to_owned(),
        worker_id: "w1".to_owned(),
        status: status.to_owned(),
        logs: "hello\n[worker-node] exit code 0".to_owned(),
        result_id: format!("result-of-{id}"),
        ..TaskResult::default()
    }
}

#[track_caller]
fn assert_only(master: &DevMaster, rules: &[Rule]) {
    let verdict = master.verdict();
    let broken: Vec<Rule> = verdict.violations.iter().map(|found| found.rule).collect();
    assert_eq!(broken, rules, "{verdict}");
}

#[tokio::test]
async fn a_worker_that_no_admin_entered_is_refused() {
    let master = DevMaster::start(MasterOptions::default()).await.unwrap();
    let worker = ScriptedWorker::start("w1", &master).await;

    let refused = worker.register().await.unwrap_err();
    master.admit("w1");
    worker.register().await.unwrap();

    assert_eq!(refused.code(), Code::Unknown);
    assert_eq!(
        refused.message(),
        "worker w1 not authorized - must be pre-registered by admin"
    );
}

#[tokio::test]
async fn heartbeats_of_a_forgotten_worker_are_refused() {
    let (master, worker) = started().await;
    worker.beat(Heartbeat::default()).await.unwrap();

    master.forget_worker("w1");
    let refused = worker.beat(Heartbeat::default()).await.unwrap_err();

    assert_eq!(refused.message(), "worker w1 not registered");
    master.wait_heartbeat("w1", |_| true).await.unwrap();
}

#[tokio::test]
async fn a_good_worker_is_found_clean() {
    let (master, worker) = started().await;
    master.submit(task("t1"));
    master.wait_accepted("t1").await.unwrap();

    let log = master.watch_log("t1");
    log.wait_line("hello").await.unwrap();
    worker.report(result("t1", "success")).await.unwrap();
    worker.end_logs("completed");

    assert_eq!(
        log.wait_end().await.unwrap().final_status(),
        Some("completed")
    );
    assert_eq!(master.wait_report("t1").await.unwrap().stored, "completed");
    assert!(master.verdict().is_complete(), "{}", master.verdict());
}

#[tokio::test]
async fn a_refused_task_is_offered_again_until_it_is_taken() {
    let (master, worker) = started().await;
    worker.refuse_offers(2);

    master.submit(task("t1"));
    master.wait_accepted("t1").await.unwrap();

    let offers = master.task("t1").unwrap().offers;
    let refusals: Vec<_> = offers.iter().map(|offer| offer.answer.refusal()).collect();
    assert_eq!(refusals, [Some("no room"), Some("no room"), None]);
    assert_only(&master, &[]);
}

#[tokio::test]
async fn an_offer_that_ends_as_an_error_fails_the_task() {
    let (master, worker) = started().await;
    worker.fail_offers();

    master.offer("w1", task("t1")).await;

    assert_eq!(master.task("t1").unwrap().status, "failed");
    assert_only(&master, &[Rule::OfferError]);
}

#[tokio::test]
async fn a_report_that_overtakes_the_write_is_overwritten() {
    let (master, worker) = started().await;
    let at_once = async {
        master
            .wait("the ack", |record| record.task("t1")?.accepted_at)
            .await
            .unwrap();
        worker.report(result("t1", "success")).await.unwrap();
    };

    tokio::join!(master.offer("w1", task("t1")), at_once);

    assert_eq!(master.task("t1").unwrap().status, "running");
    assert_only(&master, &[Rule::ReportBeforeSettle]);
}

#[tokio::test]
async fn a_report_of_an_unknown_task_is_refused_with_grpc_ok() {
    let (master, worker) = started().await;

    let ack = worker.report(result("nobody", "success")).await.unwrap();

    assert!(!ack.success);
    assert_only(&master, &[Rule::UnknownTask]);
}

#[tokio::test]
async fn the_first_report_after_a_cancel_is_stored_as_cancelled() {
    let (master, worker) = started().await;
    master.offer("w1", task("t1")).await;

    let cancel = master.cancel("t1").await.unwrap();
    worker.report(result("t1", "success")).await.unwrap();

    assert!(cancel.answer.is_success());
    assert_eq!(master.wait_report("t1").await.unwrap().stored, "cancelled");
    assert_only(&master, &[Rule::CancelIgnored]);
}

#[tokio::test]
async fn a_cancel_holds_heartbeats_until_it_is_answered() {
    let (master, worker) = started().await;
    master.offer("w1", task("t1")).await;
    let answer = worker.hold_cancels();

    let cancel = tokio::spawn({
        let master = master.clone();
        async move { master.cancel("t1").await }
    });
    worker.wait_cancel().await;
    let beat = tokio::spawn({
        let worker = worker.clone();
        async move { worker.beat(Heartbeat::default()).await }
    });
    master.wait_calls(Method::Heartbeat, 1).await.unwrap();
    let taken = master.look(|record| record.worker("w1").unwrap().heartbeats.len());
    answer
        .send(TaskAck {
            success: true,
            message: String::new(),
        })
        .unwrap();

    assert_eq!(taken, 0, "the heartbeat went through a held lock");
    beat.await.unwrap().unwrap();
    assert!(cancel.await.unwrap().unwrap().answer.is_success());
}

#[tokio::test]
async fn a_second_copy_without_a_doubt_is_found() {
    let (master, worker) = started().await;
    master.offer("w1", task("t1")).await;

    worker.report(result("t1", "success")).await.unwrap();
    worker.report(result("t1", "success")).await.unwrap();

    assert_only(&master, &[Rule::SecondReport]);
}

#[tokio::test]
async fn a_second_copy_after_a_dropped_reply_is_counted_and_allowed() {
    let (master, worker) = started().await;
    master.offer("w1", task("t1")).await;
    master.inject_times(Method::Report, Fault::DropReply, 1);

    worker.report(result("t1", "success")).await.unwrap_err();
    worker.report(result("t1", "success")).await.unwrap();

    assert_eq!(master.verdict().repeats.len(), 1);
    assert_only(&master, &[]);
}

#[tokio::test]
async fn a_second_outcome_is_found() {
    let (master, worker) = started().await;
    master.offer("w1", task("t1")).await;
    master.inject_times(Method::Report, Fault::DropReply, 1);

    worker.report(result("t1", "success")).await.unwrap_err();
    worker.report(result("t1", "failed")).await.unwrap();

    assert_only(&master, &[Rule::SecondOutcome]);
}

#[tokio::test]
async fn a_log_that_contradicts_the_report_is_found() {
    let (master, worker) = started().await;
    master.offer("w1", task("t1")).await;
    let log = master.watch_log("t1");

    worker.report(result("t1", "failed")).await.unwrap();
    worker.end_logs("completed");
    log.wait_end().await.unwrap();

    assert_only(&master, &[Rule::LogDisagrees]);
}

#[tokio::test]
async fn a_log_of_an_unknown_task_ends_as_an_error() {
    let (master, _worker) = started().await;

    let log = master.watch_log_at("w1", "nobody", Keep::Lines);

    let end = log.wait_end().await.unwrap().end;
    assert!(matches!(end, Some(LogEnd::Error(status)) if status.code() == Code::NotFound));
}

#[tokio::test]
async fn messages_over_the_limit_are_refused_as_a_go_server_does() {
    let (master, worker) = started().await;
    master.offer("w1", task("t1")).await;
    let large = |bytes: usize| {
        let trailer = "\n[worker-node] exit code 0";
        TaskResult {
            logs: "x".repeat(bytes - trailer.len()) + trailer,
            ..result("t1", "success")
        }
    };

    let refused = worker.report(large(4_194_304)).await.unwrap_err();
    worker.report(large(4_194_200)).await.unwrap();

    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_only(&master, &[Rule::MessageSize; 3]);
}

#[tokio::test]
async fn a_held_call_goes_on_when_the_fault_is_lifted() {
    let (master, worker) = started().await;
    master.offer("w1", task("t1")).await;
    master.inject(Method::Report, Fault::Hold);

    let (ack, ()) = tokio::join!(worker.report(result("t1", "success")), async {
        master.wait_calls(Method::Report, 1).await.unwrap();
        assert!(master.task("t1").unwrap().reports.is_empty());
        master.heal(Method::Report);
    });

    assert!(ack.unwrap().success);
    assert_only(&master, &[]);
}

#[tokio::test]
async fn a_shut_door_opens_again_on_the_same_port() {
    let (master, worker) = started().await;

    master.stop_listening(Inside::Cut).await;
    let shut = worker.beat(Heartbeat::default()).await.unwrap_err();
    master.listen_again().await.unwrap();
    worker.beat(Heartbeat::default()).await.unwrap();

    assert_eq!(shut.code(), Code::Unavailable);
    assert_only(&master, &[]);
}

#[tokio::test]
async fn callers_that_are_turned_away_are_counted() {
    let (master, worker) = started().await;

    master.turn_away(Callers::HungUpOn).await.unwrap();
    let before = master.connections();
    let turned_away = worker.beat(Heartbeat::default()).await;
    master.wait_connections(before + 1).await.unwrap();
    master.listen_again().await.unwrap();
    worker.beat(Heartbeat::default()).await.unwrap();

    assert!(turned_away.is_err());
    assert_eq!(
        master.look(|record| record.worker("w1").unwrap().beat_count),
        1
    );
}

#[tokio::test]
async fn pings_of_a_worker_are_found() {
    let (master, worker) = started().await;

    let mut pings = master.core.door.pings();
    let _pinging = worker.connect_pinging().await;
    pings.wait_for(|count| *count > 0).await.unwrap();

    assert_only(&master, &[Rule::Pings]);
}

#[tokio::test]
async fn a_worker_without_a_port_is_found() {
    let master = DevMaster::start(options()).await.unwrap();
    let worker = ScriptedWorker::start("w1", &master).await;

    for address in ["10.0.0.1", ":50052", "0.0.0.0:50052", "host:0"] {
        let info = WorkerInfo {
            worker_ip: address.to_owned(),
            ..worker.info()
        };
        worker.register_as(info).await.unwrap();
    }

    assert_only(&master, &[Rule::WorkerAddress; 4]);
}

#[tokio::test]
async fn a_wait_in_vain_tells_what_was_seen() {
    let patience = Duration::from_millis(1);
    let master = DevMaster::start(MasterOptions {
        patience,
        ..options()
    })
    .await
    .unwrap();
    master.submit(task("t1"));

    let missed = master.wait_report("t1").await.unwrap_err();

    assert!(missed.to_string().contains("task t1: pending"), "{missed}");
}

#[tokio::test(start_paused = true)]
async fn silence_between_heartbeats_is_measured_and_excused_by_a_mark() {
    let mut record = Record::new();
    let info = WorkerInfo {
        worker_id: "w1".to_owned(),
        worker_ip: "h:1".to_owned(),
        total_cpu: 1.0,
        total_memory: 1.0,
        total_storage: 1.0,
        ..WorkerInfo::default()
    };
    let beat = Heartbeat {
        worker_id: "w1".to_owned(),
        ..Heartbeat::default()
    };
    let limit = Duration::from_secs(7);
    record.registered(info);

    tokio::time::advance(Duration::from_secs(6)).await;
    record.heartbeat_arrived(&beat, limit);
    assert!(record.violations.is_empty(), "six seconds are fine");

    record.mark("killed");
    tokio::time::advance(Duration::from_secs(60)).await;
    record.heartbeat_arrived(&beat, limit);
    assert!(record.violations.is_empty(), "a killed worker is silent");

    tokio::time::advance(Duration::from_secs(8)).await;
    let silent = judge::judge(&record, 0, limit, tokio::time::Instant::now());
    assert!(silent.broke(Rule::HeartbeatGap), "{silent}");
    record.heartbeat_arrived(&beat, limit);
    assert_eq!(record.violations.len(), 1);
}
