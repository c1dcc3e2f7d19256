//! AssignTask: hazards 13, 14, 15 and 21, and what a command means.

use worker_node::dev_master::{CallAnswer, DevMaster};
use worker_node::proto::Task;

use crate::harness::{Cluster, Registry, TestImage, WorkerSetup, master_options};

#[tokio::test]
async fn hazard_13_a_duplicate_offer_replays_and_runs_nothing_twice() {
    let cluster = Cluster::start().await;
    let task = Task {
        submitted_at: 1_700_000_000,
        ..cluster.task("echo ran; sleep 1")
    };
    let id = cluster.submit(task.clone()).await;
    cluster.engine.wait_task(&id, "start").await;

    let while_it_runs = cluster
        .master
        .offer(cluster.worker.id(), task.clone())
        .await;
    let first = cluster.report(&id).await;
    cluster.engine.wait_task(&id, "destroy").await;
    let after_its_end = cluster.master.offer(cluster.worker.id(), task).await;
    let replay = cluster.master.wait_reports(&id, 2).await.unwrap();

    assert!(while_it_runs.is_success(), "{while_it_runs:?}");
    assert!(after_its_end.is_success(), "{after_its_end:?}");
    assert_eq!(
        (&replay.result_id, &replay.status, &replay.logs),
        (&first.result_id, &first.status, &first.logs)
    );
    assert_eq!(cluster.engine.starts(&id).await, 1, "it ran twice");
    let verdict = cluster.finish().await.verdict();
    assert_eq!(verdict.repeats.len(), 1, "{verdict}");
}

#[tokio::test]
async fn hazard_14_same_id_with_another_payload_is_refused() {
    let cluster = Cluster::start().await;
    let task = cluster.task("echo first; sleep 1");
    let id = cluster.submit(task.clone()).await;
    let other = Task {
        command: "echo second".to_owned(),
        ..task
    };

    let while_it_runs = cluster
        .master
        .offer(cluster.worker.id(), other.clone())
        .await;
    let report = cluster.report(&id).await;
    let after_its_end = cluster.master.offer(cluster.worker.id(), other).await;

    assert!(while_it_runs.refusal().is_some(), "{while_it_runs:?}");
    assert!(after_its_end.refusal().is_some(), "{after_its_end:?}");
    assert!(report.logs.starts_with("first\n"), "{:?}", report.logs);
    assert_eq!(cluster.engine.starts(&id).await, 1);
    cluster.finish().await;
}

#[tokio::test]
async fn hazard_15_permanent_errors_are_accepted_and_then_failed() {
    let cluster = Cluster::start().await;
    // Before that, offers are refused for the moment.
    cluster.worker.wait_log_line("Ready to receive").await;
    let registry = Registry::start().await;

    for (task, reason) in permanent_errors(&cluster, &registry) {
        let id = task.task_id.clone();
        let answer = cluster.master.offer(cluster.worker.id(), task).await;
        assert!(
            answer.is_success(),
            "{reason}: a refusal would be offered again for ever: {answer:?}"
        );

        let report = cluster.report(&id).await;
        assert_eq!(report.status, "failed", "{reason}");
        let logs = report.logs.to_lowercase();
        assert!(logs.contains(reason), "{reason} is not named in {logs:?}");
        assert_eq!(cluster.engine.starts(&id).await, 0, "{reason}");
    }
    cluster.finish().await;
}

/// Tasks that this machine can never run, and the word that their logs must say why with.
fn permanent_errors(cluster: &Cluster, registry: &Registry) -> Vec<(Task, &'static str)> {
    let good = || cluster.task("true");
    let image = |image: &str| Task {
        docker_image: image.to_owned(),
        ..good()
    };
    vec![
        (image("Not A Name"), "image"),
        (image(&registry.reference("nobody-pushed-this")), "image"),
        (
            Task {
                task_id: format!("../../{}", good().task_id),
                ..good()
            },
            "id",
        ),
        (
            Task {
                req_cpu: 10_000.0,
                ..good()
            },
            "cpu",
        ),
        (
            Task {
                req_memory: 1e6,
                ..good()
            },
            "memory",
        ),
        (
            Task {
                req_gpu: 1000.0,
                ..good()
            },
            "gpu",
        ),
        (
            Task {
                command: "x".repeat(200_000),
                ..good()
            },
            "command",
        ),
    ]
}

#[tokio::test]
async fn hazard_21_every_refusal_is_success_false_while_there_is_no_room() {
    let cluster = Cluster::start_with(|setup| setup.arguments(["--max-tasks", "1"])).await;
    let first = cluster.run("exec sleep 600").await;
    let waiting = cluster.task("echo my turn");
    let second = waiting.task_id.clone();

    cluster.master.submit(waiting);
    let refused = cluster.master.wait_offers(&second, 2).await.unwrap();
    cluster.master.cancel(&first).await.unwrap();

    assert!(refused.answer.refusal().is_some(), "{refused:?}");
    assert!(
        cluster.report(&second).await.logs.starts_with("my turn\n"),
        "it gets its turn"
    );
    cluster.finish().await;
}

#[tokio::test]
async fn hazard_21_every_refusal_is_success_false_while_draining() {
    let cluster = Cluster::start_with(|setup| setup.arguments(["--on-stop", "drain"])).await;
    let running = cluster
        .run("trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done")
        .await;
    cluster
        .master
        .watch_log(&running)
        .wait_line("up")
        .await
        .unwrap();
    cluster.worker.signal_stop();

    let refused = first_refusal(&cluster).await;
    cluster.master.cancel(&running).await.unwrap();

    assert!(refused.refusal().is_some(), "{refused:?}");
    assert_eq!(cluster.report(&running).await.status, "cancelled");
    assert_eq!(
        cluster.worker.process().wait_exit().await.code(),
        Some(0),
        "it ends when the last task is done"
    );
    let verdict = cluster.master.verdict();
    assert!(verdict.is_complete(), "{verdict}");
}

/// Offers new tasks until one is not accepted: the signal arrives when it arrives.
async fn first_refusal(cluster: &Cluster) -> CallAnswer {
    loop {
        let answer = cluster
            .master
            .offer(cluster.worker.id(), cluster.task("true"))
            .await;
        if !answer.is_success() {
            return answer;
        }
    }
}

#[tokio::test]
async fn hazard_21_every_refusal_is_success_false_without_an_engine() {
    let master = DevMaster::start(master_options()).await.unwrap();
    let setup = WorkerSetup::new(&master).arguments(["--engine", "unix:///nowhere/docker.sock"]);
    master.admit(setup.id());
    let worker = setup.start();
    master
        .wait_registered(worker.id())
        .await
        .expect("it registers without an engine");

    let task = Task {
        task_id: "t1".to_owned(),
        docker_image: "busybox".to_owned(),
        ..Task::default()
    };
    let answer = master.offer(worker.id(), task).await;

    assert!(answer.refusal().is_some(), "{answer:?}");
    assert!(master.verdict().is_clean(), "{}", master.verdict());
    assert_eq!(worker.stop().await, Some(0));
}

#[tokio::test]
async fn a_command_runs_by_the_shell_of_an_image_with_an_entrypoint() {
    let cluster = Cluster::start().await;
    let image = TestImage::with_entrypoint(
        cluster.engine.docker(),
        &["/bin/echo", "the entrypoint says"],
        &["hello"],
    )
    .await;
    let with = |command: &str| Task {
        docker_image: image.name.clone(),
        ..cluster.task(command)
    };

    let commanded = cluster.submit(with("echo $((20 + 22))")).await;
    let default = cluster.submit(with("")).await;

    assert!(cluster.report(&commanded).await.logs.starts_with("42\n"));
    assert!(
        cluster
            .report(&default)
            .await
            .logs
            .starts_with("the entrypoint says hello\n")
    );
    cluster.finish().await;
}

#[tokio::test]
async fn an_image_that_is_missing_is_pulled() {
    let cluster = Cluster::start().await;
    let registry = Registry::start().await;
    let name = registry.push_busybox(cluster.engine.docker()).await;
    let image = registry.reference(&name);

    let task = cluster
        .submit(Task {
            docker_image: image.clone(),
            ..cluster.task("echo pulled")
        })
        .await;

    assert!(cluster.report(&task).await.logs.contains("pulled\n"));
    let docker = cluster.engine.docker().clone();
    cluster.finish().await;
    crate::harness::remove_image(&docker, &image).await;
}
