//! What a task's container is given, what heartbeats tell of it, and that its share of the machine is given back.

use bollard::models::{ContainerInspectResponse, HostConfig};
use worker_node::proto::{RunningTask, Task};

use crate::endings::log_of;
use crate::harness::Cluster;

async fn inspect(cluster: &Cluster, task: &str) -> ContainerInspectResponse {
    let containers = cluster.engine.containers_of(task).await;
    let [container] = containers.as_slice() else {
        panic!("{task} has {} containers", containers.len());
    };
    let found = cluster.engine.docker().inspect_container(container, None);
    found.await.expect("it runs")
}

async fn host_config(cluster: &Cluster, task: &str) -> HostConfig {
    inspect(cluster, task)
        .await
        .host_config
        .expect("a container's host part")
}

/// Waits for a heartbeat that tells of the task in this state.
async fn told(cluster: &Cluster, task: &str, status: &str) -> RunningTask {
    let is_it = |running: &&RunningTask| running.task_id == task && running.status == status;
    let beat = cluster
        .master
        .wait_heartbeat(cluster.worker.id(), |beat| {
            beat.running_tasks.iter().any(|running| is_it(&running))
        })
        .await
        .expect("a heartbeat with the task");
    let mut tasks = beat.heartbeat.running_tasks.iter();
    tasks.find(is_it).expect("just seen").clone()
}

#[tokio::test]
async fn limits_are_set_and_privileges_are_taken() {
    let cluster = Cluster::start().await;
    let task = Task {
        req_cpu: 0.5,
        req_memory: 0.25,
        ..cluster
            .task("grep -E 'NoNewPrivs|CapEff' /proc/self/status; cat /proc/1/comm; exec sleep 600")
    };
    let task = cluster.submit(task).await;
    cluster
        .master
        .watch_log(&task)
        .wait_line("docker-init")
        .await
        .expect("an init process is process 1");

    let host = host_config(&cluster, &task).await;

    assert_eq!(host.nano_cpus, Some(500_000_000));
    assert_eq!(host.memory, Some(256 << 20));
    assert_eq!(host.memory_swap, Some(256 << 20), "no swap beside it");
    assert!(
        host.pids_limit.is_some_and(|limit| limit > 0),
        "{:?}",
        host.pids_limit
    );
    assert_eq!(host.init, Some(true));
    assert_eq!(host.privileged, Some(false));
    assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
    assert!(
        !host
            .cap_add
            .unwrap()
            .iter()
            .any(|cap| cap.contains("SYS_ADMIN"))
    );
    assert_eq!(host.security_opt.unwrap(), ["no-new-privileges"]);
    cluster.master.cancel(&task).await.unwrap();
    let report = cluster.report(&task).await;
    let log = log_of(&report);
    assert!(log.contains("NoNewPrivs:\t1\n"), "{log}");
    assert!(!log.contains("CapEff:\t0000003fffffffff"), "{log}");
    cluster.finish().await;
}

#[tokio::test]
async fn labels_tell_whose_a_container_is() {
    let cluster = Cluster::start().await;
    let task = cluster.run("exec sleep 600").await;

    let found = inspect(&cluster, &task).await;
    let name = found.name.unwrap();
    let labels = found.config.unwrap().labels.unwrap();
    cluster.master.cancel(&task).await.unwrap();
    cluster.report(&task).await;

    assert_eq!(labels["worker-node.worker"], cluster.worker.id());
    assert_eq!(labels["worker-node.task"], task);
    assert_eq!(labels["worker-node.attempt"], "1");
    for filled in ["format", "digest", "created", "spec"] {
        let value = labels.get(&format!("worker-node.{filled}"));
        assert!(value.is_some_and(|value| !value.is_empty()), "{filled}");
    }
    assert!(
        name.starts_with(&format!("/wn-{}-", cluster.worker.id())),
        "{name}"
    );
    cluster.finish().await;
}

#[tokio::test]
async fn reserved_amounts_are_no_limits() {
    let cluster = Cluster::start_with(|setup| setup.arguments(["--limits", "reserve"])).await;
    let task = Task {
        req_cpu: 0.5,
        req_memory: 0.25,
        ..cluster.task("exec sleep 600")
    };
    let task = cluster.submit(task).await;
    cluster.engine.wait_task(&task, "start").await;

    let host = host_config(&cluster, &task).await;
    let held = told(&cluster, &task, "running").await;
    cluster.master.cancel(&task).await.unwrap();
    cluster.report(&task).await;

    assert_eq!((host.nano_cpus, host.memory), (Some(0), Some(0)));
    assert_eq!((held.cpu_allocated, held.memory_allocated), (0.5, 0.25));
    cluster.finish().await;
}

#[tokio::test]
async fn what_a_task_holds_is_told_and_given_back_at_its_end() {
    let cluster = Cluster::start().await;
    let info = cluster.master.wait_registered(cluster.worker.id()).await;
    let all = info.unwrap().info.total_cpu;
    let greedy = |command: &str| Task {
        req_cpu: all,
        req_memory: 0.25,
        ..cluster.task(command)
    };
    let first = cluster.submit(greedy("exec sleep 600")).await;
    let waiting = greedy("echo my turn");
    let second = waiting.task_id.clone();

    cluster.master.submit(waiting);
    let refused = cluster.master.wait_offers(&second, 1).await.unwrap();
    let held = told(&cluster, &first, "running").await;
    cluster.master.cancel(&first).await.unwrap();
    let report = cluster.report(&second).await;

    let reason = refused.answer.refusal().expect("there is no room");
    assert!(reason.contains("cpu"), "{reason:?}");
    assert_eq!(
        (
            held.cpu_allocated,
            held.memory_allocated,
            held.gpu_allocated
        ),
        (all, 0.25, 0.0)
    );
    assert_eq!(log_of(&report), "my turn\n");
    cluster.engine.wait_task(&second, "destroy").await;
    let (worker, end) = (cluster.worker.id().to_owned(), report.at);
    cluster
        .master
        .wait("a heartbeat without tasks", |record| {
            let mut beats = record.worker(&worker)?.heartbeats.iter();
            beats
                .find(|beat| beat.at > end && beat.heartbeat.running_tasks.is_empty())
                .map(|_| ())
        })
        .await
        .unwrap();
    cluster.finish().await;
}
