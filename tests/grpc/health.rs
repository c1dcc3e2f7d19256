//! What is served beside the master's methods at the same port: health checks, and reflection where it is switched on.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio_stream::once;
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use worker_node::{
    domain::callers::MasterNames,
    grpc::{
        keys::{KeyFiles, Keys, NamedFile},
        listener::{Doorkeeper, Limits, Services},
    },
    ports::clock::SystemClock,
    proto::health::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    },
};

use crate::{authority::put, fakes::Node};

const SERVICE: &str = "cluster.MasterWorker";

fn channel(node: &Node) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", node.address));
    endpoint.unwrap().connect_lazy()
}

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.into(),
    }
}

async fn check(node: &Node, service: &str) -> Result<ServingStatus, Status> {
    let mut client = HealthClient::new(channel(node));
    let answer = client.check(about(service)).await?;
    Ok(answer.into_inner().status())
}

#[tokio::test]
async fn the_service_is_healthy_while_the_worker_is_ready_and_the_process_always() {
    let is_ready = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&is_ready);
    let node = Node::start_with(Doorkeeper::of_an_open_door(), Limits::default(), |worker| {
        Services {
            is_ready: Arc::new(move || Box::pin(ready(told.load(Ordering::SeqCst)))),
            ..Services::of(worker)
        }
    })
    .await;

    assert_eq!(check(&node, SERVICE).await.unwrap(), ServingStatus::Serving);
    is_ready.store(false, Ordering::SeqCst);
    assert_eq!(
        check(&node, SERVICE).await.unwrap(),
        ServingStatus::NotServing
    );
    assert_eq!(check(&node, "").await.unwrap(), ServingStatus::Serving);
}

#[tokio::test]
async fn a_service_that_is_not_served_has_no_health_and_nobody_watches() {
    let node = Node::start(Limits::default()).await;

    let admins = check(&node, "worker.v1.Admin").await.unwrap_err();
    assert_eq!(admins.code(), Code::NotFound);
    assert!(admins.message().contains(SERVICE), "{admins}");
    let mut client = HealthClient::new(channel(&node));
    let watched = client.watch(about(SERVICE)).await.unwrap_err();
    assert_eq!(watched.code(), Code::Unimplemented);
}

#[tokio::test]
async fn where_a_token_is_wanted_health_is_told_to_those_who_show_it() {
    let folder = tempfile::tempdir().unwrap();
    let token = "0123456789abcdef0123456789abcdef";
    let file = NamedFile {
        flag: "--token-file",
        path: put(folder.path(), "token", token),
    };
    let files = KeyFiles {
        token: Some((file, std::time::Duration::from_secs(1))),
        ..KeyFiles::default()
    };
    let keys = Keys::open(files, Arc::new(SystemClock)).unwrap();
    let doorkeeper = Doorkeeper::of_an_open_door();
    let doorkeeper = doorkeeper.with_keys(Arc::new(keys), MasterNames::default());
    let node = Node::start_behind(doorkeeper, Limits::default()).await;

    let refused = check(&node, "").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);

    let mut request = Request::new(about(""));
    let shown = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", shown);
    let mut client = HealthClient::new(channel(&node));
    let answer = client.check(request).await.unwrap().into_inner();
    assert_eq!(answer.status(), ServingStatus::Serving);
}

/// Asks one question of reflection.
async fn reflected(node: &Node, question: MessageRequest) -> Result<MessageResponse, Status> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question),
    };
    let mut client = ServerReflectionClient::new(channel(node));
    let mut answers = client
        .server_reflection_info(once(request))
        .await?
        .into_inner();
    let answer = answers.message().await?.unwrap();
    Ok(answer.message_response.unwrap())
}

#[tokio::test]
async fn reflection_tells_the_masters_methods_and_not_the_operators() {
    let node = Node::start_with(Doorkeeper::of_an_open_door(), Limits::default(), |worker| {
        Services {
            reflection: true,
            ..Services::of(worker)
        }
    })
    .await;

    let listed = reflected(&node, MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(listed) = listed.unwrap() else {
        panic!("it is no list");
    };
    let mut names: Vec<_> = listed
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            SERVICE,
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection"
        ]
    );

    let method = MessageRequest::FileContainingSymbol(format!("{SERVICE}.AssignTask"));
    let MessageResponse::FileDescriptorResponse(file) = reflected(&node, method).await.unwrap()
    else {
        panic!("it is no file");
    };
    let described = String::from_utf8_lossy(&file.file_descriptor_proto[0]).into_owned();
    for name in ["cluster.proto", "AssignTask", "TaskAck"] {
        assert!(described.contains(name), "{name}");
    }
    let admin = MessageRequest::FileContainingSymbol("worker.v1.Admin".into());
    let unknown = reflected(&node, admin).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn without_its_flag_nothing_is_told_by_reflection() {
    let node = Node::start(Limits::default()).await;

    let refused = reflected(&node, MessageRequest::ListServices(String::new())).await;

    assert_eq!(refused.unwrap_err().code(), Code::Unimplemented);
}
