//! A worker's place on the engine for one test: an adapter, an id of its own, and the removal of everything at its end.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use bollard::{
    Docker,
    query_parameters::{ListContainersOptions, RemoveContainerOptions, RemoveImageOptions},
};
use bytes::Bytes;
use futures_util::StreamExt;
use worker_node::{
    domain::{
        id::{ContainerId, ContainerName, PayloadDigest, TaskId, WorkerId},
        log_line::Source,
        profile::Given,
        spec::{TaskSpec, Wants},
    },
    engine::{DockerEngine, EngineAddress, EngineOptions},
    ports::engine::{
        ContainerEngine, ContainerPlan, ContainerState, EngineError, ExitFacts, Frames, Image,
        SpecCodec,
    },
};

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// One test's place.
pub(crate) struct Bench {
    /// What is tested.
    pub(crate) engine: DockerEngine,
    /// The engine without the adapter, for arrangements.
    pub(crate) docker: Docker,
    /// Whose containers.
    pub(crate) worker: WorkerId,
    images: Mutex<Vec<String>>,
    plans: AtomicU32,
}

/// What a container wrote, per stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Where the engine of these tests is.
pub(crate) fn address() -> EngineAddress {
    match std::env::var("DOCKER_HOST") {
        Ok(host) => host.parse().unwrap(),
        Err(_) => EngineAddress::default(),
    }
}

/// An adapter for that address, without network namespaces, which cost more than all the rest of a container.
pub(crate) fn engine_at(address: &EngineAddress) -> DockerEngine {
    DockerEngine::connect(address, Arc::new(TextCodec), options())
}

pub(crate) fn options() -> EngineOptions {
    EngineOptions {
        network: Some("host".into()),
        ..EngineOptions::default()
    }
}

/// Ends a test that waits for what never comes.
#[track_caller]
pub(crate) fn in_time<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let place = std::panic::Location::caller();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(output) => output,
            Err(_) => panic!("{place}: still nothing after {PATIENCE:?}"),
        }
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with_options(options())
    }

    pub(crate) fn with_options(options: EngineOptions) -> Self {
        let docker = Docker::connect_with_host(&address().to_string())
            .expect("these tests need a Docker engine: see the README");
        Self {
            engine: DockerEngine::connect(&address(), Arc::new(TextCodec), options),
            docker,
            worker: WorkerId::new(format!("test-{}", uuid::Uuid::now_v7())).unwrap(),
            images: Mutex::default(),
            plans: AtomicU32::new(1),
        }
    }

    /// A plan for a task of busybox, with a name of its own.
    pub(crate) async fn plan(&self, command: &str) -> ContainerPlan {
        let number = self.plans.fetch_add(1, Ordering::Relaxed);
        let reference = self.engine.parse_image("busybox:latest").unwrap();
        let found = self.engine.find_image(&reference).await.unwrap();
        ContainerPlan {
            name: ContainerName(format!("wn-{}-{number}", self.worker)),
            worker: self.worker.clone(),
            spec: spec(&format!("task-{number}"), command),
            digest: PayloadDigest([u8::try_from(number).unwrap(); 32]),
            attempt: 1,
            created: SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456),
            image: found.expect("these tests need the image busybox:latest on the engine"),
            given: Given::default(),
            output_folder: None,
            enforce_limits: true,
            init: true,
            layer_size: None,
            local_log: true,
        }
    }

    /// Creates a container that runs that command.
    pub(crate) async fn created(&self, command: &str) -> ContainerId {
        let plan = self.plan(command).await;
        self.engine.create(&plan).await.unwrap()
    }

    /// Creates, attaches, starts, waits: a whole life.
    pub(crate) async fn run(&self, plan: &ContainerPlan) -> (ContainerId, i64, Output) {
        let id = self.engine.create(plan).await.unwrap();
        let frames = self.engine.attach(&id).await.unwrap();
        self.engine.start(&id).await.unwrap();
        // At once: a container whose output nobody reads is blocked.
        let (code, output) = tokio::join!(in_time(self.engine.wait(&id)), in_time(read(frames)));
        (id, code.unwrap(), output)
    }

    /// A container that runs until it is killed, seen to have begun.
    pub(crate) async fn running(&self) -> ContainerId {
        let id = self.created("echo ready; exec sleep 1000").await;
        let mut frames = self.engine.attach(&id).await.unwrap();
        self.engine.start(&id).await.unwrap();
        let first = in_time(frames.next()).await.unwrap().unwrap();
        assert_eq!(first.bytes, "ready\n");
        id
    }

    /// How that container ended.
    pub(crate) async fn exit(&self, id: &ContainerId) -> ExitFacts {
        match self.engine.inspect(&id.0).await.unwrap().state {
            ContainerState::Exited(facts) => facts,
            other => panic!("{id} is {other:?}"),
        }
    }

    /// An image's name to be removed in the end.
    pub(crate) fn own_image(&self, name: &str) -> String {
        let full = format!("{name}-{}", self.worker);
        self.images.lock().unwrap().push(full.clone());
        full
    }

    /// Removes that image at the end too.
    pub(crate) fn remove_later(&self, image: &str) {
        self.images.lock().unwrap().push(image.to_owned());
    }

    async fn clean(docker: &Docker, label: String, images: Vec<String>) {
        let listing = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".to_owned(), vec![label])])),
            ..Default::default()
        };
        let force = RemoveContainerOptions {
            v: true,
            force: true,
            ..Default::default()
        };
        for found in docker
            .list_containers(Some(listing))
            .await
            .unwrap_or_default()
        {
            let id = found.id.unwrap_or_default();
            let _ = docker.remove_container(&id, Some(force.clone())).await;
        }
        for image in images {
            let _ = docker
                .remove_image(&image, None::<RemoveImageOptions>, None)
                .await;
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let docker = self.docker.clone();
        let label = format!("worker-node.worker={}", self.worker);
        let images = std::mem::take(&mut *self.images.lock().unwrap());
        // A runtime of its own: the test's is blocked here, or unwinding.
        let cleaning = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(Self::clean(&docker, label, images));
        });
        let _ = cleaning.join();
    }
}

/// Reads a stream of output to its end.
pub(crate) async fn read(mut frames: Frames) -> Output {
    let mut output = Output::default();
    while let Some(frame) = frames.next().await {
        let frame = frame.unwrap();
        match frame.source {
            Source::Stdout => output.stdout.extend(&frame.bytes),
            Source::Stderr => output.stderr.extend(&frame.bytes),
            Source::Worker => panic!("a container is not the worker"),
        }
    }
    output
}

/// Collects a stream of bytes.
pub(crate) async fn collect(
    mut pieces: impl futures_util::Stream<Item = Result<Bytes, EngineError>> + Unpin,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        bytes.extend(piece.unwrap());
    }
    bytes
}

pub(crate) fn spec(id: &str, command: &str) -> TaskSpec {
    TaskSpec {
        id: TaskId::new(id).unwrap(),
        image: "busybox".into(),
        command: command.into(),
        wants: Wants::default(),
        user_id: "user".into(),
        task_name: "a/b:c".into(),
        task_type: String::new(),
        sla_multiplier: 1.0,
        submitted_at: 17,
        asked: None,
    }
}

/// An image that is not there.
pub(crate) fn no_image() -> Image {
    Image {
        id: format!("sha256:{}", "0".repeat(64)),
        repo_digest: None,
    }
}

/// Keeps what the tests compare: the id and the command.
struct TextCodec;

impl SpecCodec for TextCodec {
    fn encode(&self, spec: &TaskSpec) -> String {
        format!("{}\n{}", spec.id.as_str(), spec.command)
    }

    fn decode(&self, label: &str) -> Option<TaskSpec> {
        let (id, command) = label.split_once('\n')?;
        Some(spec(id, command))
    }
}
