//! What a task's container is given, what heartbeats tell of it, and that its share of the machine is given back.

use bollard::models::{ContainerInspectResponse, HostConfig, ResourcesUlimits};
use worker_node::proto::{RunningTask, Task};

use super::endings::log_of;
use crate::harness::Cluster;

async fn inspect(cluster: &Cluster, task: &str) -> ContainerInspectResponse {
    let containers = cluster.engine.containers_of(task).await;
    let [container] = containers.as_slice() else {
        panic!("{task} has {} containers", containers.len());
    };
    let found = cluster.engine.docker().inspect_container(container, None);
    found.await.expect("it runs")
}

pub(crate) async fn host_config(cluster: &Cluster, task: &str) -> HostConfig {
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
async fn a_task_gets_its_limits_and_no_privilege_that_no_task_needs() {
    let cluster = Cluster::start().await;
    let task = Task {
        req_cpu: 0.5,
        req_memory: 0.25,
        ..cluster.task(
            "grep -E 'NoNewPrivs|CapEff' /proc/self/status; df -k /dev/shm | sed -n 's/^shm  *//p'; \
             cat /proc/1/comm; exec sleep 600",
        )
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
    assert_eq!(host.pids_limit, Some(4_096));
    assert_eq!(host.init, Some(true));
    assert_eq!(host.privileged, Some(false));
    assert_eq!(capabilities(host.cap_drop), ["NET_RAW", "MKNOD"]);
    assert_eq!(capabilities(host.cap_add), [""; 0]);
    assert_eq!(host.security_opt.unwrap_or_default(), Vec::<String>::new());
    assert_eq!(limits(host.ulimits), [("core".into(), 0, 0)]);
    cluster.master.cancel(&task).await.unwrap();
    let report = cluster.report(&task).await;
    let log = log_of(&report);
    assert!(log.contains("NoNewPrivs:\t0\n"), "{log}");
    assert!(!log.contains("CapEff:\t0000003fffffffff"), "{log}");
    assert!(
        log.contains("\n131072 "),
        "half of its memory is shared: {log}"
    );
    cluster.finish().await;
}

#[tokio::test]
async fn what_an_operator_says_of_containers_holds_in_them() {
    let said = [
        "--privileges=restricted",
        "--cap-add=SYS_PTRACE",
        "--task-pids=77",
        "--ulimit=nofile=1234:2345",
        "--ulimit=core=-1",
    ];
    let cluster = Cluster::start_with(|setup| setup.arguments(said)).await;
    let task = cluster
        .run("ulimit -n; ulimit -c; echo shown; exec sleep 600")
        .await;
    let log = cluster.master.watch_log(&task);
    log.wait_line("shown").await.unwrap();

    let host = host_config(&cluster, &task).await;

    assert_eq!(host.pids_limit, Some(77));
    assert_eq!(capabilities(host.cap_drop), ["ALL"]);
    assert!(capabilities(host.cap_add).contains(&"SYS_PTRACE".to_owned()));
    assert_eq!(host.security_opt.unwrap(), ["no-new-privileges"]);
    let expected = [("nofile".into(), 1_234, 2_345), ("core".into(), -1, -1)];
    assert_eq!(limits(host.ulimits), expected);
    cluster.master.cancel(&task).await.unwrap();
    let report = cluster.report(&task).await;
    assert_eq!(log_of(&report), "1234\nunlimited\nshown\n");
    cluster.finish().await;
}

/// Without the prefix that newer engines give them.
fn capabilities(names: Option<Vec<String>>) -> Vec<String> {
    let names = names.unwrap_or_default().into_iter();
    names
        .map(|name| name.trim_start_matches("CAP_").to_owned())
        .collect()
}

/// Their names, what holds and to what it may be raised.
fn limits(limits: Option<Vec<ResourcesUlimits>>) -> Vec<(String, i64, i64)> {
    let limits = limits.unwrap_or_default().into_iter();
    let figures = limits.map(|limit| Some((limit.name?, limit.soft?, limit.hard?)));
    let figures: Option<_> = figures.collect();
    figures.expect("each has its figures")
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
