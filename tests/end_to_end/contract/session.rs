//! RegisterWorker, MasterRegister and SendHeartbeat: hazards 4, 16, 17, 18 and 19.

use worker_node::dev_master::{DevMaster, Fault, Inside, Method};

use crate::harness::{Cluster, WorkerSetup, master_options};

#[tokio::test]
async fn hazard_04_heartbeats_have_their_own_deadline() {
    let cluster = Cluster::start().await;
    cluster.master.inject(Method::Report, Fault::Hold);
    cluster.master.inject(Method::Upload, Fault::Hold);
    let reporting = cluster.run("true").await;
    cluster.run("echo x > /output/file").await;
    cluster.master.wait_calls(Method::Report, 1).await.unwrap();
    cluster.master.wait_calls(Method::Upload, 1).await.unwrap();

    // Both are held: heartbeats must go on, also past one that is never answered.
    let before = cluster
        .master
        .look(|record| record.calls(Method::Heartbeat));
    cluster
        .master
        .inject_times(Method::Heartbeat, Fault::Ignore, 1);
    cluster
        .master
        .wait_calls(Method::Heartbeat, before + 3)
        .await
        .unwrap();
    cluster.master.heal(Method::Heartbeat);
    cluster.master.heal(Method::Upload);
    cluster.master.heal(Method::Report);

    assert_eq!(cluster.report(&reporting).await.status, "success");
    cluster.finish().await;
}

#[tokio::test]
async fn hazard_16_worker_ip_is_host_and_port() {
    let cluster = Cluster::start().await;
    let info = cluster
        .master
        .wait_registered(cluster.worker.id())
        .await
        .unwrap()
        .info;

    let (host, port) = info.worker_ip.rsplit_once(':').expect("host:port");
    assert_eq!(host, "127.0.0.1");
    assert_ne!(port.parse::<u16>().unwrap(), 0);
    assert!(
        cluster
            .master
            .call_worker(&info.worker_ip)
            .await
            .unwrap()
            .success,
        "nobody answers at {}",
        info.worker_ip
    );
    assert!(
        info.total_cpu >= 1.0 && info.total_memory > 0.1 && info.total_storage > 0.1,
        "{info:?}"
    );
    cluster.finish().await;
}

#[tokio::test]
async fn hazard_17_no_http2_pings() {
    let cluster = Cluster::start().await;
    let task = cluster.run("while :; do echo tick; sleep 1; done").await;
    let log = cluster.master.watch_log(&task);

    // Clients that ping do so within seconds of silence: two periods of heartbeats are silence enough.
    let before = cluster
        .master
        .look(|record| record.calls(Method::Heartbeat));
    cluster
        .master
        .wait_calls(Method::Heartbeat, before + 2)
        .await
        .unwrap();
    log.wait_line("tick").await.unwrap();
    cluster.master.cancel(&task).await.unwrap();
    cluster.report(&task).await;

    // The judge counts PING frames on every connection that it was reached by.
    cluster.finish().await;
}

#[tokio::test]
async fn hazard_18_a_new_master_address_takes_effect_at_once() {
    let cluster = Cluster::start().await;
    let worker = cluster.worker.id().to_owned();
    let task = cluster.task("exec sleep 600");
    let id = cluster.submit(task.clone()).await;
    cluster.engine.wait_task(&id, "start").await;
    let address = cluster
        .master
        .wait_registered(&worker)
        .await
        .unwrap()
        .info
        .worker_ip;
    let successor = DevMaster::start(master_options()).await.unwrap();
    successor.admit(&worker);
    successor.inherit(task, &worker);

    let told = successor.call_worker(&address).await.unwrap();
    let calls_to_the_old_one = calls(&cluster.master);
    successor.wait_registered(&worker).await.unwrap();
    successor
        .wait_heartbeat(&worker, |beat| {
            beat.running_tasks.iter().any(|task| task.task_id == id)
        })
        .await
        .unwrap();
    successor.cancel(&id).await.unwrap();
    let report = successor.wait_report(&id).await.unwrap();

    assert!(told.success);
    assert_eq!(report.status, "cancelled");
    assert_eq!(
        calls(&cluster.master),
        calls_to_the_old_one,
        "the old master was called after the move"
    );
    assert!(successor.verdict().is_complete(), "{}", successor.verdict());
    cluster.engine.wait_nothing_left(&worker).await;
    assert_eq!(cluster.worker.stop().await, Some(0));
}

fn calls(master: &DevMaster) -> usize {
    let methods = [
        Method::Register,
        Method::Heartbeat,
        Method::Report,
        Method::Upload,
    ];
    master.look(|record| methods.into_iter().map(|method| record.calls(method)).sum())
}

#[tokio::test]
async fn hazard_19_registers_again_after_not_registered_and_after_a_reconnect() {
    let cluster = Cluster::start().await;
    let worker = cluster.worker.id();
    cluster
        .master
        .wait_heartbeat(worker, |_| true)
        .await
        .unwrap();

    cluster.master.forget_worker(worker);
    cluster
        .master
        .wait_registrations(worker, 2)
        .await
        .expect("after 'not registered'");
    cluster.master.stop_listening(Inside::Cut).await;
    let away = "the master cannot be reached";
    cluster.worker.wait_log_line(away).await;
    cluster.master.listen_again().await.unwrap();
    cluster
        .master
        .wait_registrations(worker, 3)
        .await
        .expect("after a reconnect");
    let beats = cluster
        .master
        .look(|record| record.worker(worker).unwrap().beat_count);
    cluster
        .master
        .wait("a heartbeat after that", |record| {
            (record.worker(worker)?.beat_count > beats).then_some(())
        })
        .await
        .unwrap();

    cluster.finish().await;
}

#[tokio::test]
async fn a_worker_that_is_not_admitted_keeps_asking_and_says_what_to_type() {
    let master = DevMaster::start(master_options()).await.unwrap();
    let worker = WorkerSetup::new(&master).start();

    master.wait_calls(Method::Register, 2).await.unwrap();
    let hint = worker
        .wait_log_line(&format!("register {} 127.0.0.1:", worker.id()))
        .await;
    master.admit(worker.id());
    master.wait_registered(worker.id()).await.unwrap();

    let hints = worker
        .process()
        .lines()
        .iter()
        .filter(|line| line.contains("register test-worker"))
        .count();
    assert_eq!(hints, 1, "said once: {hint}");
    assert_eq!(worker.stop().await, Some(0));
}
