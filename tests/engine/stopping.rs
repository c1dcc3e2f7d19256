//! Being asked to end means all that runs in a container, and the container lives until it has.

use std::time::Duration;

use bollard::models::ContainerConfig;
use futures_util::StreamExt;
use worker_node::{
    domain::id::ContainerId,
    ports::engine::{ContainerEngine, ContainerPlan, Signal},
};

use crate::bench::{Bench, collect, in_time};

/// A program that takes its time to save what it has when it is asked to end.
const PROG: &str = "printf '%s\\n' '#!/bin/sh' \
    'trap \"sleep 1; echo state >/output/saved; exit 0\" TERM' \
    'echo up >&2; while :; do sleep 0.05; done' >/tmp/prog; chmod +x /tmp/prog; ";

async fn started(bench: &Bench, plan: &ContainerPlan) -> ContainerId {
    let id = bench.engine.create(plan).await.unwrap();
    let mut frames = bench.engine.attach(&id).await.unwrap();
    bench.engine.start(&id).await.unwrap();
    assert_eq!(in_time(frames.next()).await.unwrap().unwrap().bytes, "up\n");
    tokio::spawn(async move { while frames.next().await.is_some() {} });
    id
}

async fn has_saved(bench: &Bench, id: &ContainerId) -> bool {
    let stream = bench.engine.download_output(id).await.unwrap();
    let archive = collect(stream).await;
    let mut archive = tar::Archive::new(archive.as_slice());
    let mut entries = archive.entries().unwrap();
    entries.any(|entry| entry.unwrap().path().unwrap().ends_with("saved"))
}

#[tokio::test]
async fn whatever_runs_in_a_container_is_asked_to_end_and_waited_for() {
    let bench = Bench::new();
    for (command, init) in [
        ("cd /tmp && ./prog; echo done", true),
        ("/tmp/prog | cat", true),
        ("/tmp/prog & wait", true),
        ("(/tmp/prog &); sleep 600", true),
        ("setsid /tmp/prog; echo done", true),
        ("sh -c '/tmp/prog; echo inner'; echo done", true),
        ("cd /tmp && ./prog; echo done", false),
    ] {
        let mut plan = bench.plan(&format!("{PROG}{command}")).await;
        plan.init = init;
        let id = started(&bench, &plan).await;

        bench.engine.kill(&id, Signal::Term).await.unwrap();

        let code = in_time(bench.engine.wait(&id)).await.unwrap();
        assert_eq!(code, 143, "{command}");
        assert!(has_saved(&bench, &id).await, "{command}");
        bench
            .engine
            .remove(&id, worker_node::ports::engine::Force::Yes)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn an_image_is_stopped_by_the_signal_that_it_wants() {
    let bench = Bench::new();
    let mut plan = bench
        .plan("trap 'echo saved; exit 3' INT; trap 'echo wrong; exit 4' TERM; echo up; while :; do sleep 0.05; done")
        .await;
    plan.image = bench
        .configured(ContainerConfig {
            stop_signal: Some("SIGINT".into()),
            ..Default::default()
        })
        .await;
    let id = started(&bench, &plan).await;

    bench.engine.kill(&id, Signal::Term).await.unwrap();

    assert_eq!(in_time(bench.engine.wait(&id)).await.unwrap(), 3);
}

#[tokio::test]
async fn a_container_that_ends_by_itself_waits_for_nobody() {
    let bench = Bench::new();

    let plan = bench.plan("sleep 600 & exit 7").await;
    let (_, code, _) = tokio::time::timeout(Duration::from_secs(60), bench.run(&plan))
        .await
        .unwrap();

    assert_eq!(code, 7);
}
