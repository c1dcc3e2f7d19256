//! What the engine knows of containers when nobody else does: listings, events, starts, memory.

use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use bollard::{
    models::ContainerCreateBody,
    query_parameters::{CreateContainerOptions, RemoveContainerOptions},
};
use futures_util::StreamExt;
use worker_node::{
    domain::{
        id::{ContainerId, WorkerId},
        record::Phase,
    },
    ports::engine::{ContainerEngine, Force, Signal},
};

use crate::bench::{Bench, in_time};

impl Bench {
    /// The same container as that one, as a create leaves it that was cut off between its two calls.
    pub(crate) async fn replaced_without_folder(
        &self,
        whole: &ContainerId,
        name: &str,
    ) -> ContainerId {
        let inspected = self.docker.inspect_container(&whole.0, None).await.unwrap();
        let config = inspected.config.unwrap();
        let options = None::<RemoveContainerOptions>;
        self.docker
            .remove_container(&whole.0, options)
            .await
            .unwrap();
        let body = ContainerCreateBody {
            image: config.image,
            entrypoint: config.entrypoint,
            cmd: config.cmd,
            labels: config.labels,
            ..Default::default()
        };
        let options = CreateContainerOptions {
            name: Some(name.to_owned()),
            ..Default::default()
        };
        let made = self
            .docker
            .create_container(Some(options), body)
            .await
            .unwrap();
        ContainerId(made.id)
    }
}

#[tokio::test]
async fn a_listing_tells_every_container_of_this_worker_and_no_other() {
    let bench = Bench::new();
    let other = Bench::new();
    let created = bench.created("true").await;
    let running = bench.running().await;
    let (exited, ..) = bench.run(&bench.plan("true").await).await;
    other.created("true").await;

    let listed = bench.engine.list(&bench.worker).await.unwrap();

    let seen: BTreeSet<_> = listed
        .iter()
        .map(|line| (&line.id.0, line.running))
        .collect();
    let expected = [(&created.0, false), (&running.0, true), (&exited.0, false)];
    assert_eq!(seen, BTreeSet::from(expected));
    let nobody = WorkerId::new(format!("{}x", bench.worker)).unwrap();
    assert_eq!(bench.engine.list(&nobody).await.unwrap(), []);
}

#[tokio::test]
async fn a_record_comes_back_whole_from_the_labels() {
    let bench = Bench::new();
    let mut plan = bench.plan("echo \"a\nb\"").await;
    plan.attempt = 3;
    let id = bench.engine.create(&plan).await.unwrap();

    let listed = bench.engine.list(&bench.worker).await.unwrap();
    let again = bench.engine.list(&bench.worker).await.unwrap();

    assert_eq!(listed, again, "the result's id included");
    let record = listed[0].record.as_ref().unwrap();
    assert_eq!(record.spec, plan.spec);
    assert_eq!(record.digest, plan.digest);
    assert_eq!(record.attempt, 3);
    assert_eq!(record.accepted_at, plan.created);
    assert_eq!(record.container_name, plan.name);
    assert_eq!(record.container, Some(id.clone()));
    assert_eq!(record.phase, Phase::Starting);
    let inspected = bench.engine.inspect(&id.0).await.unwrap().ours.unwrap();
    assert_eq!(inspected, listed[0].ours);
    assert_eq!(inspected.digest, plan.digest.to_string());
    assert_eq!(inspected.task_id(), Some(plan.spec.id));
}

#[tokio::test]
async fn a_foreign_container_is_nobodys() {
    let bench = Bench::new();
    let plan = bench.plan("true").await;
    let name = plan.name.0.clone();
    let body = ContainerCreateBody {
        image: Some(plan.image.id),
        ..Default::default()
    };
    let options = CreateContainerOptions {
        name: Some(name.clone()),
        ..Default::default()
    };
    let made = bench
        .docker
        .create_container(Some(options), body)
        .await
        .unwrap();

    let seen = bench.engine.inspect(&name).await;
    let removed = bench.engine.remove(&ContainerId(made.id), Force::Yes).await;

    assert_eq!(seen.unwrap().ours, None);
    assert_eq!(removed, Ok(()));
}

#[tokio::test]
async fn a_start_is_remembered_and_a_missing_one_is_not_made_up() {
    let bench = Bench::new();
    let created = bench.created("true").await;
    let running = bench.running().await;
    let (exited, ..) = bench.run(&bench.plan("exit 3").await).await;

    assert_eq!(bench.engine.was_started(&created).await, Ok(false));
    assert_eq!(bench.engine.was_started(&running).await, Ok(true));
    assert_eq!(bench.engine.was_started(&exited).await, Ok(true));
    let now = bench.engine.time().await.unwrap();
    let long_ago = UNIX_EPOCH + Duration::from_secs(1);
    assert_eq!(bench.engine.has_lived_since(now).await, Ok(true));
    assert_eq!(bench.engine.has_lived_since(long_ago).await, Ok(false));
}

#[tokio::test]
async fn events_of_this_worker_arrive_in_order_from_the_call_on() {
    let bench = Bench::new();
    let other = Bench::new();
    let mut events = bench.engine.events(&bench.worker).await.unwrap();
    other.run(&other.plan("true").await).await;

    // Not read before all is over: nothing is missed between the call and the first reading.
    let (id, ..) = bench.run(&bench.plan("exit 3").await).await;
    bench.engine.remove(&id, Force::No).await.unwrap();

    let mut actions = Vec::new();
    while actions.last().is_none_or(|last| last != "destroy") {
        let event = in_time(events.next()).await.unwrap().unwrap();
        assert_eq!(event.container, id);
        actions.push(event.action);
    }
    actions.retain(|action| ["create", "start", "die", "destroy"].contains(&action.as_str()));
    assert_eq!(actions, ["create", "start", "die", "destroy"]);
}

#[tokio::test]
async fn what_a_container_uses_is_told_while_it_runs() {
    let bench = Bench::new();
    let id = bench.running().await;

    let usage = bench.engine.usage(&id).await.unwrap().expect("it runs");

    assert!(usage.peak_memory > 10_000, "{usage:?}");
    assert!(usage.peak_memory >= usage.memory, "{usage:?}");
    assert!(usage.cpu > Duration::ZERO && usage.pids > 0, "{usage:?}");
    bench.engine.kill(&id, Signal::Kill).await.unwrap();
    in_time(bench.engine.wait(&id)).await.unwrap();
    assert_eq!(bench.engine.usage(&id).await, Ok(None));
}
