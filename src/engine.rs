//! The Docker engine behind the port [`ContainerEngine`]: the only place that knows bollard and the engine's HTTP interface.
//!
//! Owns how a plan becomes a container, which deadline each call has, and what the engine's answers mean. Actors talk to it through
//! the port. It holds no state but its address, which credential helper is being asked, and which socket was our own engine's:
//! every call opens its own connection, so that an engine that went away and came back is met again without anybody's help. It
//! deliberately retries nothing, limits no concurrency and decides nothing about tasks: what a call that was cut off has done is
//! its caller's question.

mod access;
mod accounts;
mod address;
mod binds;
mod call;
mod container;
mod credentials;
mod events;
mod examine;
mod facts;
mod failure;
mod given;
mod image;
mod labels;
mod log_file;
mod maker;
mod outputs;
mod own;
mod progress;
mod record;
mod reference;
mod run;
mod stop;
mod storage;
mod streams;
mod trial;
mod usage;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use tokio::sync::mpsc;

pub use self::{
    access::refusal,
    address::{AddressError, EngineAddress},
    examine::Examined,
    maker::Maker,
    own::OwnEngine,
};

use crate::{
    domain::{
        id::{ContainerId, WorkerId},
        privileges::{Privileges, Ulimit},
        shelf::Stored,
        storage::{Allowance, Written},
        usage::Usage,
    },
    ports::{
        engine::{
            CallWatch, ContainerEngine, ContainerFacts, ContainerPlan, EngineError, EngineInfo,
            Events, Force, Frames, Image, ImageRef, Listed, RememberedEnd, Signal, SpecCodec,
            TarStream, Trial, TrialResult,
        },
        engine_log::EngineLog,
        shelf::ImageShelf,
    },
};
use call::Line;
use credentials::Credentials;

/// Deadline of a question: info, inspect, list, events, stats.
const LOOK: Duration = Duration::from_secs(5);
/// Deadline of a registry's answer about one name. A task whose image is here waits this long for a silent registry.
const ASK_REGISTRY: Duration = Duration::from_secs(5);
/// Deadline of create, the empty output folder included.
const CREATE: Duration = Duration::from_secs(60);
/// Deadline of start, which takes seconds on a busy machine.
const START: Duration = Duration::from_secs(120);
/// Deadline of a signal.
const KILL: Duration = Duration::from_secs(10);
/// Deadline of remove, which deletes the container's files.
const REMOVE: Duration = Duration::from_secs(60);
/// Deadline of the size of a container's layer, which the engine adds up file by file.
const SIZE: Duration = Duration::from_secs(60);
/// Deadline for the beginning of a stream; the stream itself has none.
const OPEN: Duration = Duration::from_secs(10);

/// What every container of this worker gets, whatever its task says.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// At most that many processes and threads in a container.
    pub pids_limit: i64,
    /// The network mode, such as `none`, `host` or a network's name; `None` for the engine's default.
    pub network: Option<String>,
    /// The capabilities and further rights of its processes.
    pub privileges: Privileges,
    /// Limits of each of its processes; the engine's own figures hold for those that are not named. An engine that is not
    /// all-powerful on its machine can start nothing with more than it has itself.
    pub ulimits: Vec<Ulimit>,
    /// How much of a container's output the engine keeps; bytes, at least 4 MiB.
    pub log_size: u64,
    /// The folder of Docker's `config.json` with the registries' credentials; `None` for `DOCKER_CONFIG`, else `~/.docker`.
    pub docker_config: Option<PathBuf>,
    /// Signs the containers of this state folder; `None`: they are known by their names alone.
    pub maker: Option<Maker>,
    /// The engine that has our containers.
    pub own: OwnEngine,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            // Room for a wide build or a pool of threads, not for a fork bomb.
            pids_limit: 4_096,
            network: None,
            privileges: Privileges::default(),
            ulimits: vec![Ulimit::no_core()],
            log_size: 256 << 20,
            docker_config: None,
            maker: None,
            own: OwnEngine::default(),
        }
    }
}

/// The normal form of an image's name, without an engine.
///
/// # Errors
/// The text is no image's name; the error says which rule it breaks.
pub fn image_name(name: &str) -> Result<String, String> {
    reference::parse(name).map(|image| image.0)
}

/// A Docker engine at an address.
pub struct DockerEngine {
    line: Line,
    codec: Arc<dyn SpecCodec>,
    credentials: Credentials,
    options: EngineOptions,
    met: own::Met,
}

impl DockerEngine {
    /// Takes an address. Connects to nothing: an engine that is away shows at the first call, as `Away`.
    #[must_use]
    pub fn connect(
        address: &EngineAddress,
        codec: Arc<dyn SpecCodec>,
        options: EngineOptions,
    ) -> Self {
        Self {
            line: Line::to(address.clone()),
            codec,
            credentials: Credentials::in_folder(options.docker_config.clone()),
            options,
            met: own::Met::default(),
        }
    }

    /// The same engine; `watch` is told how each call that has a deadline went.
    #[must_use]
    pub fn watched(self, watch: CallWatch) -> Self {
        Self {
            line: self.line.watched(Some(watch)),
            ..self
        }
    }
}

#[async_trait]
impl ImageShelf for DockerEngine {
    async fn images(&self) -> Result<Vec<Stored>, EngineError> {
        self.line
            .within(LOOK, "image list", self.list_images())
            .await
    }

    async fn remove_image(&self, name_or_id: &str) -> Result<(), EngineError> {
        self.line
            .within(
                REMOVE,
                "image remove",
                self.of_our_own(self.let_go_of_image(name_or_id)),
            )
            .await
    }
}

#[async_trait]
impl ContainerEngine for DockerEngine {
    async fn info(&self) -> Result<EngineInfo, EngineError> {
        let info = self.line.within(LOOK, "info", self.read_info()).await;
        match info {
            Err(EngineError::Away(why)) => Err(EngineError::Away(
                access::refusal(&self.line.address).await.unwrap_or(why),
            )),
            info => info,
        }
    }

    fn address(&self) -> String {
        self.line.address.to_string()
    }

    async fn try_out(&self, trial: &Trial) -> Result<TrialResult, EngineError> {
        self.line
            .within(CREATE, "trial", self.run_trial(trial))
            .await
    }

    fn parse_image(&self, name: &str) -> Result<ImageRef, String> {
        reference::parse(name)
    }

    async fn find_image(&self, image: &ImageRef) -> Result<Option<Image>, EngineError> {
        self.line
            .within(LOOK, "image inspect", self.look_for_image(image))
            .await
    }

    async fn registry_digest(&self, image: &ImageRef) -> Result<String, EngineError> {
        self.line
            .within(
                ASK_REGISTRY,
                "distribution inspect",
                self.ask_registry(image),
            )
            .await
    }

    async fn pull(
        &self,
        image: &ImageRef,
        progress: mpsc::Sender<Option<String>>,
    ) -> Result<Image, EngineError> {
        self.pull_image(image, &progress).await
    }

    async fn create(&self, plan: &ContainerPlan) -> Result<ContainerId, EngineError> {
        self.assure_own().await?;
        self.line
            .within(
                CREATE,
                "create",
                self.of_our_own(self.create_container(plan)),
            )
            .await
    }

    async fn attach(&self, container: &ContainerId) -> Result<Frames, EngineError> {
        self.line
            .within(OPEN, "attach", self.of_our_own(self.open_attach(container)))
            .await
    }

    async fn logs(
        &self,
        container: &ContainerId,
        since: SystemTime,
    ) -> Result<Frames, EngineError> {
        self.line
            .within(
                OPEN,
                "logs",
                self.of_our_own(self.open_logs(container, since)),
            )
            .await
    }

    async fn follow(
        &self,
        container: &ContainerId,
        since: SystemTime,
    ) -> Result<Frames, EngineError> {
        self.follow_logs(container, since)
    }

    async fn last_written(
        &self,
        container: &ContainerId,
    ) -> Result<Option<SystemTime>, EngineError> {
        self.line
            .within(
                OPEN,
                "logs",
                self.of_our_own(self.read_last_time(container)),
            )
            .await
    }

    async fn time(&self) -> Result<SystemTime, EngineError> {
        self.line.within(LOOK, "info", self.engine_time()).await
    }

    async fn open_log(
        &self,
        container: &ContainerId,
        root: &Path,
    ) -> Result<Option<Box<dyn EngineLog>>, EngineError> {
        self.line
            .within(LOOK, "inspect", self.open_log_file(container, root))
            .await
    }

    async fn start(&self, container: &ContainerId) -> Result<(), EngineError> {
        self.line
            .within(
                START,
                "start",
                self.of_our_own(self.start_container(container)),
            )
            .await
    }

    async fn wait(&self, container: &ContainerId) -> Result<i64, EngineError> {
        self.of_our_own(self.wait_for_end(container)).await
    }

    async fn inspect(&self, id_or_name: &str) -> Result<ContainerFacts, EngineError> {
        self.line
            .within(
                LOOK,
                "inspect",
                self.of_our_own(self.inspect_container(id_or_name)),
            )
            .await
    }

    async fn was_started(&self, container: &ContainerId) -> Result<bool, EngineError> {
        self.assure_own().await?;
        self.line
            .within(LOOK, "events", self.remembers_start(container))
            .await
    }

    async fn has_lived_since(&self, time: SystemTime) -> Result<bool, EngineError> {
        self.assure_own().await?;
        self.line
            .within(LOOK, "events", self.remembers_before(time))
            .await
    }

    async fn remembered_end(&self, container: &ContainerId) -> Result<RememberedEnd, EngineError> {
        self.assure_own().await?;
        self.line
            .within(LOOK, "events", self.remembers_end(container))
            .await
    }

    async fn kill(&self, container: &ContainerId, signal: Signal) -> Result<(), EngineError> {
        self.line
            .within(
                KILL,
                "kill",
                self.of_our_own(self.send_signal(container, signal)),
            )
            .await
    }

    async fn remove(&self, container: &ContainerId, force: Force) -> Result<(), EngineError> {
        self.assure_own().await?;
        self.line
            .within(REMOVE, "remove", self.remove_container(container, force))
            .await
    }

    async fn usage(&self, container: &ContainerId) -> Result<Option<Usage>, EngineError> {
        self.line
            .within(LOOK, "stats", self.read_usage(container))
            .await
    }

    async fn storage(
        &self,
        container: &ContainerId,
        root: Option<&Path>,
        allowance: &Allowance,
    ) -> Result<Written, EngineError> {
        self.read_storage(container, root, allowance).await
    }

    async fn download_output(&self, container: &ContainerId) -> Result<TarStream, EngineError> {
        self.line
            .within(
                CREATE,
                "archive",
                self.of_our_own(self.open_output(container)),
            )
            .await
    }

    async fn list(&self, worker: &WorkerId) -> Result<Vec<Listed>, EngineError> {
        self.line
            .within(LOOK, "list", self.list_containers(worker))
            .await
    }

    async fn events(&self, worker: &WorkerId) -> Result<Events, EngineError> {
        self.line
            .within(OPEN, "events", self.open_events(worker))
            .await
    }
}
