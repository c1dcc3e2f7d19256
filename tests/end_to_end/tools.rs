//! The tools of the end-to-end tests, tested: a tool that sees nothing would let every other test pass.

use std::collections::HashMap;
use std::process::Command;

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptions, CreateImageOptions, StartContainerOptions,
};
use futures_util::TryStreamExt as _;

use crate::harness::{self, Engine, Registry, TestImage, unique};

async fn create(engine: &Engine, image: &str, worker: &str, task: &str) -> String {
    let labels = [("worker-node.worker", worker), ("worker-node.task", task)];
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        labels: Some(HashMap::from(labels.map(owned))),
        ..ContainerCreateBody::default()
    };
    let created = engine
        .docker()
        .create_container(None::<CreateContainerOptions>, body)
        .await;
    created.expect("it can be created").id
}

async fn start(engine: &Engine, container: &str) {
    let started = engine
        .docker()
        .start_container(container, None::<StartContainerOptions>)
        .await;
    started.expect("it can be started");
}

#[tokio::test]
async fn every_start_of_a_task_is_counted() {
    let engine = Engine::connect().await;
    let (worker, task) = (unique("test-worker"), unique("task"));

    let container = create(&engine, "busybox", &worker, &task).await;
    start(&engine, &container).await;
    engine.wait_task(&task, "die").await;
    start(&engine, &container).await;

    assert_eq!(engine.starts(&task).await, 2);
    assert_eq!(
        engine.containers_of(&task).await,
        std::slice::from_ref(&container)
    );
    harness::remove_all_of(worker.clone()).await;
    engine.wait_nothing_left(&worker).await;
    assert!(engine.containers_of(&task).await.is_empty());
}

#[tokio::test]
async fn an_image_can_have_another_entrypoint() {
    let engine = Engine::connect().await;

    let image = TestImage::with_entrypoint(engine.docker(), &["/bin/echo"], &["hello"]).await;

    let found = engine.docker().inspect_image(&image.name).await.unwrap();
    let config = found.config.unwrap();
    assert_eq!(config.entrypoint.unwrap(), ["/bin/echo"]);
    assert_eq!(config.cmd.unwrap(), ["hello"]);
}

#[tokio::test]
async fn a_pull_through_a_gate_waits_until_it_opens() {
    let engine = Engine::connect().await;
    let registry = Registry::start().await;
    let name = registry.push_busybox(engine.docker()).await;
    let gate = registry.behind_gate().await;
    let reference = gate.reference(&name);
    let options = CreateImageOptions {
        from_image: Some(reference.clone()),
        ..CreateImageOptions::default()
    };
    let docker = engine.docker().clone();

    let pull = tokio::spawn(async move {
        docker
            .create_image(Some(options), None, None)
            .try_collect::<Vec<_>>()
            .await
    });
    gate.wait_knock().await;
    assert!(!pull.is_finished());
    gate.open();

    pull.await.unwrap().expect("the pull goes on");
    engine
        .docker()
        .inspect_image(&reference)
        .await
        .expect("it is there");
    harness::remove_image(engine.docker(), &reference).await;
}

#[tokio::test]
async fn a_process_tells_its_lines_and_its_end() {
    let script = "echo one >&2; echo two >&2; exit 7";
    let process = harness::Process::start("sh", Command::new("sh").arg("-c").arg(script));

    assert_eq!(process.wait_line("two").await, "two");
    assert_eq!(process.wait_exit().await.code(), Some(7));
    assert_eq!(process.lines(), ["one", "two"]);
}
