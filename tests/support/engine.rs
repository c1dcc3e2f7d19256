//! The real engine as a test sees it: what was started under which labels, what is left, and the cleaning up. It watches the
//! engine's events from the moment it connects, so that a start that nobody reported is counted too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bollard::Docker;
use bollard::errors::Error;
use bollard::exec::StartExecResults;
use bollard::models::{ContainerCreateBody, EventMessage, ExecConfig};
use bollard::query_parameters::{
    CreateContainerOptions, EventsOptions, ListContainersOptions, ListNetworksOptions,
    ListVolumesOptions, RemoveContainerOptions, RemoveVolumeOptions,
};
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{PATIENCE, unique};

/// On every container, network and volume of a worker.
pub(crate) const WORKER_LABEL: &str = "worker-node.worker";
/// On every container of a task.
pub(crate) const TASK_LABEL: &str = "worker-node.task";
/// The image that everything is tried with.
pub(crate) const BUSYBOX: &str = "busybox:latest";

/// Between two tries to follow the events of an engine that is away.
const RECONNECT: std::time::Duration = std::time::Duration::from_millis(50);

/// A connection to the engine, and everything that happens to containers from here on.
#[derive(Debug)]
pub(crate) struct Engine {
    docker: Docker,
    events: Arc<Mutex<Vec<ContainerEvent>>>,
    happened: watch::Receiver<()>,
    watching: JoinHandle<()>,
}

/// One thing that happened to a container.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ContainerEvent {
    /// When, in nanoseconds by the engine's clock.
    at: i64,
    /// The engine's word: create, start, die, destroy, ...
    pub(crate) action: String,
    /// The container's labels and the engine's own attributes.
    pub(crate) attributes: HashMap<String, String>,
}

impl Engine {
    /// Connects, or says how to get an engine.
    pub(crate) async fn connect() -> Self {
        Self::at(connected().await).await
    }

    /// The one behind this client, which may go away and come back.
    pub(crate) async fn at(docker: Docker) -> Self {
        let (ring, happened) = watch::channel(());
        let events = Arc::new(Mutex::new(Vec::new()));
        let watching = tokio::spawn(watch_events(docker.clone(), Arc::clone(&events), ring));
        let engine = Self {
            docker,
            events,
            happened,
            watching,
        };
        engine.catch_up().await;
        engine
    }

    pub(crate) fn docker(&self) -> &Docker {
        &self.docker
    }

    /// How often containers of this task were started.
    pub(crate) async fn starts(&self, task: &str) -> usize {
        self.count(task, "start").await
    }

    /// How often this has happened to containers of this task.
    pub(crate) async fn count(&self, task: &str, action: &str) -> usize {
        self.catch_up().await;
        let is_it =
            |event: &ContainerEvent| event.action == action && event.is_of(TASK_LABEL, task);
        self.look(|events| events.iter().filter(|event| is_it(event)).count())
    }

    /// How many containers of this worker ran at once at most, by the order in which the engine tells of starts and ends.
    pub(crate) async fn most_at_once(&self, worker: &str) -> usize {
        self.catch_up().await;
        self.look(|events| {
            let ours = events
                .iter()
                .filter(|event| event.is_of(WORKER_LABEL, worker));
            let mut running = 0_usize;
            ours.map(|event| {
                match event.action.as_str() {
                    "start" => running += 1,
                    "die" => running -= 1,
                    _ => {}
                }
                running
            })
            .max()
            .unwrap_or_default()
        })
    }

    /// Waits until a container of this task has seen this.
    pub(crate) async fn wait_task(&self, task: &str, action: &str) {
        let what = format!("{action} of a container of {task}");
        self.wait_event(&what, |event| {
            event.action == action && event.is_of(TASK_LABEL, task)
        })
        .await;
    }

    /// Names of the containers of this task, ended ones included.
    pub(crate) async fn containers_of(&self, task: &str) -> Vec<String> {
        containers(&self.docker, TASK_LABEL, task).await
    }

    /// Makes a file in a container, though a worker may just be sending TERM to all that runs in it, and though the container may end
    /// over that file before it is said to be made.
    pub(crate) async fn touch_in(&self, container: &str, path: &str) {
        let command = ["sh", "-c", "trap '' TERM; touch $0 && echo made", path];
        let made = async {
            let mut said = self.run_in(container, &command).await;
            while !said.contains("made") {
                match self.try_run_in(container, &command).await {
                    Ok(again) => said = again,
                    Err(error) if is_over(&error) => return,
                    Err(error) => panic!("{path} in {container}: {error}"),
                }
            }
        };
        let within = tokio::time::timeout(PATIENCE, made).await;
        within.unwrap_or_else(|_| panic!("{path} cannot be made in {container}"));
    }

    /// Runs a command in a container to its end, and tells what it said.
    pub(crate) async fn run_in(&self, container: &str, command: &[&str]) -> String {
        self.try_run_in(container, command).await.expect("it runs")
    }

    async fn try_run_in(&self, container: &str, command: &[&str]) -> Result<String, Error> {
        let command = command.iter().map(|word| (*word).to_owned());
        let config = ExecConfig {
            cmd: Some(command.collect()),
            attach_stdout: Some(true),
            ..ExecConfig::default()
        };
        let exec = self.docker.create_exec(container, config).await?.id;
        let mut said = String::new();
        if let StartExecResults::Attached { mut output, .. } =
            self.docker.start_exec(&exec, None).await?
        {
            while let Some(Ok(more)) = output.next().await {
                said += &more.to_string();
            }
        }
        Ok(said)
    }

    /// Waits until nothing of this worker is left, and fails with what is.
    pub(crate) async fn wait_nothing_left(&self, worker: &str) {
        let mut happened = self.happened.clone();
        let empty = async {
            while !leftovers(&self.docker, worker).await.is_empty() {
                happened.changed().await.expect("the engine's events go on");
            }
        };
        if tokio::time::timeout(PATIENCE, empty).await.is_err() {
            panic!(
                "left behind by {worker}: {:?}",
                leftovers(&self.docker, worker).await
            );
        }
    }

    /// Returns once every event up to now has been seen: it makes one and waits for it.
    async fn catch_up(&self) {
        let name = unique("worker-node-test-mark");
        let body = ContainerCreateBody {
            image: Some(BUSYBOX.to_owned()),
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptions {
            name: Some(name.clone()),
            ..CreateContainerOptions::default()
        };
        self.docker
            .create_container(Some(options), body)
            .await
            .expect("a container can be created");
        remove_container(&self.docker, &name).await;
        self.wait_event("a mark", |event| {
            event.action == "destroy" && event.is_of("name", &name)
        })
        .await;
    }

    async fn wait_event(&self, what: &str, wanted: impl Fn(&ContainerEvent) -> bool) {
        let mut happened = self.happened.clone();
        let search = async {
            while !self.look(|events| events.iter().any(&wanted)) {
                happened.changed().await.expect("the engine's events go on");
            }
        };
        if tokio::time::timeout(PATIENCE, search).await.is_err() {
            panic!("the engine never told of {what}");
        }
    }

    fn look<T>(&self, look: impl FnOnce(&[ContainerEvent]) -> T) -> T {
        look(&self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl ContainerEvent {
    fn is_of(&self, label: &str, value: &str) -> bool {
        self.attributes
            .get(label)
            .is_some_and(|found| found == value)
    }
}

/// A connection that answers, or a failed test that says how to get one.
pub(crate) async fn connected() -> Docker {
    let how = "no Docker engine answers; run: tests/with-docker cargo test";
    let docker = Docker::connect_with_defaults().unwrap_or_else(|error| panic!("{how} ({error})"));
    if let Err(error) = docker.ping().await {
        panic!("{how} ({error})");
    }
    docker
}

async fn watch_events(
    docker: Docker,
    events: Arc<Mutex<Vec<ContainerEvent>>>,
    ring: watch::Sender<()>,
) {
    // An age, since the engine wants the Unix time and a test has no other use for that clock.
    let now = std::time::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default()
        .as_secs();
    let options = EventsOptions {
        since: Some(now.to_string()),
        filters: Some(filter("type", "container")),
        ..EventsOptions::default()
    };
    let mut looks = tokio::time::interval(RECONNECT);
    loop {
        // A private engine may be killed: what its successor remembers is seen next.
        looks.tick().await;
        let mut stream = std::pin::pin!(docker.events(Some(options.clone())));
        while let Some(Ok(event)) = stream.next().await {
            let Some(event) = container_event(event) else {
                continue;
            };
            let mut events = events.lock().unwrap_or_else(PoisonError::into_inner);
            if !events.contains(&event) {
                events.push(event);
                ring.send_replace(());
            }
        }
    }
}

fn container_event(event: EventMessage) -> Option<ContainerEvent> {
    let attributes = event.actor?.attributes?;
    Some(ContainerEvent {
        action: event.action?,
        attributes,
        at: event.time_nano?,
    })
}

fn filter(key: &str, value: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([(key.to_owned(), vec![value.to_owned()])])
}

async fn containers(docker: &Docker, label: &str, value: &str) -> Vec<String> {
    let options = ListContainersOptions {
        all: true,
        filters: Some(filter("label", &format!("{label}={value}"))),
        ..ListContainersOptions::default()
    };
    let found = docker
        .list_containers(Some(options))
        .await
        .expect("containers can be listed");
    found
        .into_iter()
        .filter_map(|container| container.id)
        .collect()
}

/// Everything with the label of this worker.
async fn leftovers(docker: &Docker, worker: &str) -> Vec<String> {
    let mut left: Vec<String> = containers(docker, WORKER_LABEL, worker).await;
    left.extend(networks(docker, worker).await);
    left.extend(volumes(docker, worker).await);
    left
}

async fn networks(docker: &Docker, worker: &str) -> Vec<String> {
    let options = ListNetworksOptions {
        filters: Some(filter("label", &format!("{WORKER_LABEL}={worker}"))),
    };
    let found = docker
        .list_networks(Some(options))
        .await
        .expect("networks can be listed");
    found.into_iter().filter_map(|network| network.id).collect()
}

async fn volumes(docker: &Docker, worker: &str) -> Vec<String> {
    let options = ListVolumesOptions {
        filters: Some(filter("label", &format!("{WORKER_LABEL}={worker}"))),
    };
    let found = docker
        .list_volumes(Some(options))
        .await
        .expect("volumes can be listed");
    found
        .volumes
        .unwrap_or_default()
        .into_iter()
        .map(|volume| volume.name)
        .collect()
}

/// Removes everything with the label of this worker, as well as it can.
pub(crate) async fn remove_all_of(worker: String) {
    let docker = connected().await;
    for container in containers(&docker, WORKER_LABEL, &worker).await {
        remove_container(&docker, &container).await;
    }
    for network in networks(&docker, &worker).await {
        let _already_gone = docker.remove_network(&network).await;
    }
    for volume in volumes(&docker, &worker).await {
        let _already_gone = docker
            .remove_volume(&volume, None::<RemoveVolumeOptions>)
            .await;
    }
}

pub(crate) async fn remove_container(docker: &Docker, name: &str) {
    let options = RemoveContainerOptions {
        force: true,
        v: true,
        ..RemoveContainerOptions::default()
    };
    let _already_gone = docker.remove_container(name, Some(options)).await;
}

/// The container has ended, or is gone. One that ends between the engine's look at it and the command's start is told as the
/// engine's own failure.
fn is_over(error: &Error) -> bool {
    match error {
        Error::DockerResponseServerError {
            status_code: 404 | 409,
            ..
        } => true,
        Error::DockerResponseServerError { message, .. } => message.contains("is not running"),
        _ => false,
    }
}
