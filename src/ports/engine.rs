//! The container engine, as the actors call it. `engine` implements it over Docker.

use std::{
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use thiserror::Error;
use tokio::sync::mpsc;

use super::{engine_log::EngineLog, shelf::ImageShelf};
use crate::domain::{
    id::{Attempt, ContainerId, ContainerName, PayloadDigest, TaskId, WorkerId},
    log_line::Source,
    profile::Given,
    record::TaskRecord,
    spec::TaskSpec,
    storage::{Allowance, Written},
    task_settings::Terms,
    usage::Usage,
};

/// What the engine tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// Its id, the same for as long as the engine keeps its data: two workers of one name must not share an engine.
    pub id: String,
    /// Its version, such as `20.10.24`.
    pub version: String,
    /// The version of its HTTP interface, such as `1.41`.
    pub api_version: String,
    /// The folder in which it keeps its containers, on its own machine; empty where it does not say.
    pub root: String,
    /// Whether its containers see this machine's files: it is reached over a unix socket, and has the same kernel.
    pub local: bool,
    /// Whether its containers run on when it is stopped.
    pub live_restore: bool,
    /// The folder of its images and containers, where that lies on this machine.
    pub data_root: Option<PathBuf>,
}

/// What is to be found out of a worker and its engine together.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The worker's id.
    pub worker: WorkerId,
    /// The folder to be bound at `/output` in a container; `None`: none is.
    pub folder: Option<PathBuf>,
    /// A file in that folder, which is to be seen in the container.
    pub file: &'static str,
    /// Whether limits are to be set on the container.
    pub enforce_limits: bool,
}

/// What a trial has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrialResult {
    /// What the engine has read of the file, at most 1 KiB; `None`: it has seen none.
    pub seen: Option<Vec<u8>>,
    /// Whether the engine has a program for process 1 of containers.
    pub has_init: bool,
    /// Whether the files in which it keeps the output of a container can be read here, byte for byte.
    pub reads_log_files: bool,
    /// It holds a container's own layer to a size, as was tried.
    pub sizes_layers: bool,
    /// The networks of this machine that the containers of tasks are in; `None`: it is not known.
    pub networks: Option<Vec<IpNet>>,
    /// Why no task could be run, with what to do about it.
    pub lack: Option<String>,
    /// What is not as it should be, though tasks run.
    pub remarks: Vec<String>,
}

impl Default for TrialResult {
    fn default() -> Self {
        Self {
            seen: None,
            has_init: true,
            reads_log_files: false,
            sizes_layers: false,
            networks: None,
            lack: None,
            remarks: Vec::new(),
        }
    }
}

impl TrialResult {
    /// The result for an engine that could not be tried.
    #[must_use]
    pub fn untried(why: &str) -> Self {
        Self {
            remarks: vec![format!("the engine could not be tried out: {why}")],
            ..Self::default()
        }
    }
}

impl EngineInfo {
    /// Where containers are, in words that stay the same for as long as they do: two engines of one machine may share an id, and
    /// one that was given another folder has none of its containers. `None` for an engine without an id: it can't be told from
    /// another.
    #[must_use]
    pub fn place(&self) -> Option<String> {
        match (self.id.as_str(), self.root.as_str()) {
            ("", _) => None,
            (id, "") => Some(id.to_owned()),
            (id, root) => Some(format!("{id} at {root}")),
        }
    }
}

/// The name that a task's container has on the engine: known before it is created, and safe whatever the task's id is.
#[must_use]
pub fn container_name(worker: &str, task: &str, attempt: Attempt) -> ContainerName {
    let digest = Sha256::new()
        .chain_update(task)
        .chain_update(attempt.to_be_bytes())
        .finalize();
    let short: String = digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    ContainerName(format!("wn-{worker}-{short}"))
}

/// The worker whose container has that name; `None`: it is none that [`container_name`] gives.
#[must_use]
pub fn worker_of_name(name: &ContainerName) -> Option<&str> {
    let (worker, digest) = name.0.strip_prefix("wn-")?.rsplit_once('-')?;
    let is_digest = digest.len() == 16 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_digest.then_some(worker)
}

/// A checked image reference, in the engine's normal form (`docker.io/library/busybox:latest`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageRef(pub String);

impl ImageRef {
    /// Whether its tag is the one that by custom stands for whatever is newest.
    #[must_use]
    pub fn is_latest(&self) -> bool {
        self.0.ends_with(":latest")
    }

    /// Its registry, such as `docker.io` or `host:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }
}

/// An image that the engine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The engine's id of it, which containers are created from.
    pub id: String,
    /// The registry's digest, where the image has one: for records and comparisons across engines.
    pub repo_digest: Option<String>,
}

impl Image {
    /// The image as results of tasks name it: its digest, the same for every engine, else its id.
    #[must_use]
    pub fn told(&self) -> String {
        self.repo_digest.as_ref().unwrap_or(&self.id).clone()
    }

    /// Whether the image has this digest (`sha256:...`) at its registry.
    #[must_use]
    pub fn has_digest(&self, digest: &str) -> bool {
        let own = self.repo_digest.as_deref();
        own.and_then(|own| own.rsplit('@').next()) == Some(digest)
    }
}

/// What a container is made from.
#[derive(Debug, Clone)]
pub struct ContainerPlan {
    /// The container's name, fixed beforehand.
    pub name: ContainerName,
    /// The worker's id.
    pub worker: WorkerId,
    /// The task with its limits and command.
    pub spec: TaskSpec,
    /// The digest of the offer.
    pub digest: PayloadDigest,
    /// The number of the task's container.
    pub attempt: Attempt,
    /// When the task was accepted.
    pub created: SystemTime,
    /// The image to run.
    pub image: Image,
    /// What the operator's profiles give to the task.
    pub given: Given,
    /// The folder to bind at `/output`; `None`: the adapter makes `/output` inside the container before it is started.
    pub output_folder: Option<PathBuf>,
    /// Whether limits are set on the container; else they are only reserved.
    pub enforce_limits: bool,
    /// Whether the engine's own program is process 1; else the container's is.
    pub init: bool,
    /// Whether the output goes into files that can be read byte for byte; else into those of the driver that every engine knows.
    pub local_log: bool,
    /// How large its own layer may become, in bytes, where the engine can hold it to that; `None`: as large as the disk lets it.
    pub layer_size: Option<u64>,
}

/// The state of a container; an unknown one is never taken for 'exited'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// Made; `started_at` of the engine is zero.
    Created,
    /// Running or paused.
    Running,
    /// Ended.
    Exited(ExitFacts),
}

/// What `inspect` tells of an ended container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitFacts {
    /// Exit code, 128 + n after signal n.
    pub code: i64,
    /// Whether the kernel killed something in it for want of memory.
    pub oom_killed: bool,
    /// When it started, by the engine's clock; `None` where it never did.
    pub started_at: Option<SystemTime>,
    /// When it ended, by the engine's clock. May lie before `started_at`, by less than a millisecond, for one that ended at once.
    pub finished_at: Option<SystemTime>,
}

/// What `inspect` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerFacts {
    /// The engine's id of the container.
    pub id: ContainerId,
    /// Its state.
    pub state: ContainerState,
    /// When it was started, by the engine's clock; `None` where it never was.
    pub started_at: Option<SystemTime>,
    /// What our labels say; `None`: it has none of ours.
    pub ours: Option<Ours>,
    /// How long it may run and how long it may take to stop, by our labels.
    pub terms: Terms,
    /// Whether a folder of the engine's machine is bound at its `/output`.
    pub output_is_bound: bool,
    /// The engine's own words about a start that failed, else empty.
    pub error: String,
}

/// What our labels on a container say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ours {
    /// The worker's id.
    pub worker: String,
    /// The task's id.
    pub task: String,
    /// The number of the task's container.
    pub attempt: Attempt,
    /// The digest of the offer, in hex.
    pub digest: String,
    /// How far these labels are to be believed.
    pub proof: Proof,
}

/// How far the labels on a container are to be believed: images hand them on to containers that others make of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// Not at all: its name is not the one that we would have given it, and it has no mark.
    None,
    /// It carries the mark, and another name: a copy of one that we made, or one that was renamed.
    Copy,
    /// Its name is the one that we would have given it, but it has no mark, and was made after this state folder began.
    Name,
    /// Its name is the one that we would have given it, and it is older than this state folder: the folder before was lost, or knew
    /// no marks.
    Age,
    /// It carries its name and the mark that only this state folder can make.
    Mark,
}

/// One line of a listing of this worker's containers.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// The engine's id of the container.
    pub id: ContainerId,
    /// What the container's labels say.
    pub ours: Ours,
    /// A record rebuilt from the labels, for a journal that was lost; `None` where the labels are damaged.
    pub record: Option<Box<TaskRecord>>,
    /// Whether it runs.
    pub running: bool,
}

/// Bytes of a container's output as they came, not yet split into lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The stream that they came by: stdout or stderr.
    pub source: Source,
    /// The bytes that came.
    pub bytes: Bytes,
    /// When it was written, where the engine tells: in its record of the output, to the millisecond.
    pub time: Option<SystemTime>,
}

/// A stream of a container's output. Its end never means that the container exited.
pub type Frames = Pin<Box<dyn Stream<Item = Result<Frame, EngineError>> + Send>>;

/// A stream of a tar archive.
pub type TarStream = Pin<Box<dyn Stream<Item = Result<Bytes, EngineError>> + Send>>;

/// A hint that something changed; the truth is a listing or an inspection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineEvent {
    /// The engine's id of the container.
    pub container: ContainerId,
    /// The engine's word: `start`, `die`, `kill`, `oom`, `destroy`, ...
    pub action: String,
    /// The signal's number, where the word is `kill`.
    pub signal: Option<i64>,
}

/// What an engine's events tell of a container's end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToldEnd {
    /// Signals that were sent to the container before its end, whoever sent them.
    pub signals: Vec<i64>,
    /// Whether something in it was killed for want of memory. This may be told after the end, and then [`ExitFacts::oom_killed`]
    /// stays unset (Docker 20.10: two of 60 such ends, up to 0.42 s late).
    pub out_of_memory: bool,
}

/// What the engine remembers of a container's end. Its memory is short: some hundred events, since its own start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RememberedEnd {
    /// The engine has seen the end.
    Seen(ToldEnd),
    /// The engine remembers everything since its own start, and the end is not among it.
    BeforeItsStart,
    /// The engine has seen too much since, so it cannot tell.
    Forgotten,
}

/// A stream of hints about containers.
pub type Events = Pin<Box<dyn Stream<Item = Result<EngineEvent, EngineError>> + Send>>;

/// A signal for a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Please end.
    Term,
    /// End now.
    Kill,
}

/// Why a call to the engine did not do what it was for; a variant per decision of the caller.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EngineError {
    /// The engine cannot be reached, or it broke off: what the call did is unknown.
    #[error("the engine is away: {0}")]
    Away(String),
    /// No answer within the call's deadline: what the call did is unknown.
    #[error("the engine did not answer in time: {0}")]
    Deadline(&'static str),
    /// No such container or image.
    #[error("{0}")]
    NotFound(String),
    /// The name is taken, or the container is not in a state for that.
    #[error("{0}")]
    Conflict(String),
    /// The registry wants other credentials.
    #[error("{0}")]
    Unauthorized(String),
    /// The request itself is wrong: the same again would fail again.
    #[error("{0}")]
    Invalid(String),
    /// The engine failed at it; it may work later.
    #[error("{0}")]
    Failed(String),
}

impl EngineError {
    /// Whether the same call may do better later: then it is waited out, for as long as patience says. The others are final,
    /// and their words are what the master is told.
    #[must_use]
    pub fn passes(&self) -> bool {
        match self {
            Self::Away(_) | Self::Deadline(_) | Self::Conflict(_) | Self::Failed(_) => true,
            Self::NotFound(_) | Self::Unauthorized(_) | Self::Invalid(_) => false,
        }
    }
}

/// A listener that is told how each call to an engine went: its name, how long it took, and its error, if it failed.
pub type CallWatch = Arc<dyn Fn(&'static str, Duration, Option<&EngineError>) + Send + Sync>;

/// A container engine. Every call but `attach`, `follow`, `wait`, `events`, `pull`, `storage` and the streams has a deadline of its own.
#[async_trait]
pub trait ContainerEngine: ImageShelf {
    /// Asks whether the engine is there, and which one it is.
    ///
    /// # Errors
    /// It is away.
    async fn info(&self) -> Result<EngineInfo, EngineError>;

    /// The address of the engine, for people.
    fn address(&self) -> String;

    /// Finds out what an engine and a worker can do together, by a container that is made just as those of tasks are, and is
    /// never started. Leaves nothing behind.
    ///
    /// # Errors
    /// An error of the engine; what it lacks for tasks is none.
    async fn try_out(&self, trial: &Trial) -> Result<TrialResult, EngineError>;

    /// Checks an image reference as the user wrote it, without the engine.
    ///
    /// # Errors
    /// The rule of the grammar that the reference breaks.
    fn parse_image(&self, name: &str) -> Result<ImageRef, String>;

    /// Looks for an image on this machine.
    ///
    /// # Errors
    /// An error of the engine.
    async fn find_image(&self, image: &ImageRef) -> Result<Option<Image>, EngineError>;

    /// Asks the registry, by way of the engine, which image has that name by now: its digest, `sha256:...`. Nothing is pulled.
    ///
    /// # Errors
    /// As of [`ContainerEngine::pull`].
    async fn registry_digest(&self, image: &ImageRef) -> Result<String, EngineError>;

    /// Pulls an image once; progress as lines for people. Dropping the future hangs up, which ends the pull, though an engine
    /// that still waits for the registry's first answer may do so to its end. No deadline: the caller watches the progress,
    /// each line or silent step (`None`) of which counts as a sign of life.
    ///
    /// # Errors
    /// `NotFound`, `Unauthorized`, `Invalid` are permanent.
    async fn pull(
        &self,
        image: &ImageRef,
        progress: mpsc::Sender<Option<String>>,
    ) -> Result<Image, EngineError>;

    /// Creates a container under the plan's name.
    ///
    /// # Errors
    /// `Conflict`: the name is taken.
    async fn create(&self, plan: &ContainerPlan) -> Result<ContainerId, EngineError>;

    /// Opens the stream of a container's output, from before its start on, byte-exact. Must be read on, or the container blocks.
    ///
    /// # Errors
    /// An error of the engine.
    async fn attach(&self, container: &ContainerId) -> Result<Frames, EngineError>;

    /// Opens the engine's own files of a container's output, where it has its data at `root` on this machine; `None` where they
    /// cannot be read, or have another form.
    ///
    /// # Errors
    /// An error of the engine.
    async fn open_log(
        &self,
        container: &ContainerId,
        root: &Path,
    ) -> Result<Option<Box<dyn EngineLog>>, EngineError>;

    /// Reads what the engine itself keeps of a container's output, its record, from what was written at `since` on (to the
    /// millisecond, and that included) to its present end.
    ///
    /// # Errors
    /// An error of the engine.
    async fn logs(&self, container: &ContainerId, since: SystemTime)
    -> Result<Frames, EngineError>;

    /// As [`ContainerEngine::logs`], and on as the record grows. The stream ends with the container, and may lack the last of the
    /// record then.
    ///
    /// # Errors
    /// An error of the engine; those of the opening come with the stream.
    async fn follow(
        &self,
        container: &ContainerId,
        since: SystemTime,
    ) -> Result<Frames, EngineError>;

    /// When the last entry of the container's record was written; `None` where it has none.
    ///
    /// # Errors
    /// An error of the engine.
    async fn last_written(
        &self,
        container: &ContainerId,
    ) -> Result<Option<SystemTime>, EngineError>;

    /// The time by the engine's own clock.
    ///
    /// # Errors
    /// An error of the engine.
    async fn time(&self) -> Result<SystemTime, EngineError>;

    /// Starts a container. Not idempotent: a second start after its exit runs it again.
    ///
    /// # Errors
    /// `Away` and `Deadline`: unknown whether the container runs.
    async fn start(&self, container: &ContainerId) -> Result<(), EngineError>;

    /// Waits for the end of a started container, and returns its exit code; at once for an ended one.
    ///
    /// # Errors
    /// An error of the engine.
    async fn wait(&self, container: &ContainerId) -> Result<i64, EngineError>;

    /// Looks at a container by id or name.
    ///
    /// # Errors
    /// `NotFound`: there is no such container.
    async fn inspect(&self, id_or_name: &str) -> Result<ContainerFacts, EngineError>;

    /// Whether the engine remembers a start of that container.
    ///
    /// # Errors
    /// An error of the engine.
    async fn was_started(&self, container: &ContainerId) -> Result<bool, EngineError>;

    /// Whether the engine remembers an event from before that time, by its own clock: then it has lived since.
    ///
    /// # Errors
    /// An error of the engine.
    async fn has_lived_since(&self, time: SystemTime) -> Result<bool, EngineError>;

    /// What the engine remembers of a container's end.
    ///
    /// # Errors
    /// An error of the engine.
    async fn remembered_end(&self, container: &ContainerId) -> Result<RememberedEnd, EngineError>;

    /// Sends a signal: KILL to the container, TERM to all that runs in it. In place of TERM an image may want another one.
    ///
    /// # Errors
    /// `Conflict`: the container does not run.
    async fn kill(&self, container: &ContainerId, signal: Signal) -> Result<(), EngineError>;

    /// Removes a container with its anonymous volumes; a missing one is fine. A running one only by force.
    ///
    /// # Errors
    /// An error of the engine.
    async fn remove(&self, container: &ContainerId, force: Force) -> Result<(), EngineError>;

    /// What a container uses; `None` where it does not run.
    ///
    /// # Errors
    /// An error of the engine.
    async fn usage(&self, container: &ContainerId) -> Result<Option<Usage>, EngineError>;

    /// What a container has written that goes with it, and to `/output`. Counted where the engine has its data at `root` on this
    /// machine, and until it is more than the allowance; else as the engine tells. No deadline: the more there is the longer it takes.
    ///
    /// # Errors
    /// The engine's, and those of the disk.
    async fn storage(
        &self,
        container: &ContainerId,
        root: Option<&Path>,
        allowance: &Allowance,
    ) -> Result<Written, EngineError>;

    /// Everything below `/output` of a container as a tar archive. Its paths begin with `output/`; links are entries and are
    /// not followed, `/output` itself included.
    ///
    /// # Errors
    /// `NotFound`: there is no such folder.
    async fn download_output(&self, container: &ContainerId) -> Result<TarStream, EngineError>;

    /// All containers with this worker's label, whatever their state.
    ///
    /// # Errors
    /// An error of the engine.
    async fn list(&self, worker: &WorkerId) -> Result<Vec<Listed>, EngineError>;

    /// Hints about this worker's containers from now on.
    ///
    /// # Errors
    /// An error of the engine.
    async fn events(&self, worker: &WorkerId) -> Result<Events, EngineError>;
}

/// Whether a running container may be removed too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// A running container is a `Conflict`.
    No,
    /// A running container is killed first.
    Yes,
}

/// Turns a task into the text of a label and back, so that a lost journal loses no upload, limit or timeout.
pub trait SpecCodec: Send + Sync {
    /// Writes the whole Task message in base64, without secrets; without the command where it would be over 64 KiB.
    fn encode(&self, spec: &TaskSpec) -> String;
    /// Reads such a label; `None` for damaged text.
    fn decode(&self, label: &str) -> Option<TaskSpec>;
}

/// A task's id in a listing, for callers that need the domain's type.
impl Ours {
    /// The id, where it is one.
    #[must_use]
    pub fn task_id(&self) -> Option<TaskId> {
        TaskId::new(self.task.clone()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_worker() {
        for worker in ["w", "worker-1", "a-0123456789abcdef"] {
            let name = container_name(worker, "../task", 1);
            assert_eq!(worker_of_name(&name), Some(worker));
            assert_ne!(name, container_name(worker, "../task", 2));
        }
        for other in ["", "wn-w", "wn-w-0123", "my-w-0123456789abcdef"] {
            assert_eq!(
                worker_of_name(&ContainerName(other.into())),
                None,
                "{other}"
            );
        }
    }

    #[test]
    fn an_engine_is_told_by_its_id_and_its_folder() {
        let info = |id: &str, root: &str| EngineInfo {
            id: id.into(),
            version: String::new(),
            api_version: String::new(),
            root: root.into(),
            data_root: None,
            local: true,
            live_restore: false,
        };

        assert_eq!(info("", "/r").place(), None);
        assert_ne!(info("A", "/r").place(), info("A", "/s").place());
        assert_ne!(info("A", "/r").place(), info("B", "/r").place());
    }
}
