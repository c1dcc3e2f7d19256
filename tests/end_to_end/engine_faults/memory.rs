//! What an engine remembers of an end: one whose memory is full is told from one that began anew, or a task that ended by itself
//! while many things happened would pass for one that the engine stopped.

use std::sync::Arc;

use bollard::Docker;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptions, StartContainerOptions, TagImageOptions, WaitContainerOptions,
};
use futures_util::TryStreamExt as _;
use worker_node::domain::id::ContainerId;
use worker_node::engine::{DockerEngine, EngineOptions};
use worker_node::grpc::convert::TaskMessageCodec;
use worker_node::ports::engine::{ContainerEngine as _, RememberedEnd, ToldEnd};

use crate::harness::{BUSYBOX, OnStop, PrivateEngine};

/// More than an engine remembers.
const MANY: usize = 300;

/// One event.
async fn tag(docker: &Docker) {
    let options = TagImageOptions {
        repo: Some("worker-node-test/remembered".to_owned()),
        tag: Some("1".to_owned()),
    };
    let tagged = docker.tag_image(BUSYBOX, Some(options)).await;
    tagged.expect("one name more");
}

async fn tag_without_end(docker: &Docker) {
    loop {
        tag(docker).await;
    }
}

async fn ended(docker: &Docker) -> ContainerId {
    let body = ContainerCreateBody {
        image: Some(BUSYBOX.to_owned()),
        cmd: Some(vec!["true".to_owned()]),
        ..ContainerCreateBody::default()
    };
    let created = docker.create_container(None::<CreateContainerOptions>, body);
    let id = created.await.expect("busybox is there").id;
    let started = docker.start_container(&id, None::<StartContainerOptions>);
    started.await.expect("it starts");
    let ended = docker.wait_container(&id, None::<WaitContainerOptions>);
    ended.try_collect::<Vec<_>>().await.expect("it ends");
    ContainerId(id)
}

#[tokio::test]
async fn a_full_memory_is_never_taken_for_that_of_an_engine_that_began_anew() {
    let private = PrivateEngine::start(OnStop::Stop).await;
    let docker = private.docker();
    let address = private.address().parse().expect("an address");
    let codec = Arc::new(TaskMessageCodec);
    let engine = DockerEngine::connect(&address, codec, EngineOptions::default());
    let ended = ended(&docker).await;
    let remembered = || async { engine.remembered_end(&ended).await.expect("it answers") };
    assert_eq!(remembered().await, RememberedEnd::Seen(ToldEnd::default()));

    for _ in 0..MANY {
        tag(&docker).await;
    }
    // However much comes between its questions.
    let asked_again = async {
        for _ in 0..20 {
            assert_eq!(remembered().await, RememberedEnd::Forgotten);
        }
    };
    tokio::select! {
        () = asked_again => {}
        () = tag_without_end(&docker) => {}
        () = tag_without_end(&docker) => {}
        () = tag_without_end(&docker) => {}
    }

    private.shut_down().await;
    private.start_again().await;
    assert_eq!(remembered().await, RememberedEnd::BeforeItsStart);
}
