//! The worker's configuration, checked and typed. Text comes in (`RunArgs`), a `Config` or all mistakes at once come out; nothing
//! is opened, resolved or started here. `app` takes it apart: no actor gets the whole of it.

mod address;
mod amount;
mod args;
mod check;
mod choice;
mod cluster;
mod container;
mod door;
mod file;
pub mod keys;
pub mod policy;
mod process;
pub mod profiles;
mod reserve;
mod settings;
mod surroundings;
mod upkeep;
mod written;

use std::{ffi::OsStr, path::PathBuf, time::Duration};

pub use self::{
    address::{EngineAddress, ListenAddress, Reach},
    args::RunArgs,
    check::{Mistake, Mistakes},
    choice::{Limits, MasterMoves, NewEngine, OnStop, PullPolicy, WhenAway, WhenSubsystemFails},
    container::ContainerConfig,
    door::{DoorConfig, MasterDial, TokenConfig, TokenWay},
    file::{ConfigFile, Places},
    settings::{Launch, Origin, Setting, Settings},
    surroundings::Surroundings,
    written::{Value, commented},
};
use self::{
    amount::{Range, read_size, read_time},
    check::Check,
};
use crate::{
    domain::{
        address::HostPort,
        id::WorkerId,
        image_rules::{ImageRules, Pattern},
        policy::Policy,
        profile::Profiles,
        shelf::Upkeep,
        spec::Reserve,
        task_settings::reading,
        text::escape,
    },
    ports::master::MasterAddress,
    telemetry::LogFormat,
};

/// Bytes of a foreign value that are shown.
const SHOWN: usize = 100;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const MIB: u64 = 1 << 20;
const TIB: u64 = 1 << 40;

/// The most tasks at once that may be set: no engine gets further with more containers.
const MAX_TASKS_LIMIT: usize = 10_000;

/// The most output files of one task that may be set: their names have a limit of their own (1 MiB of all), which as many short
/// ones come to.
const OUTPUT_FILES_LIMIT: usize = 100_000;

/// The most restarts within a period that may be set: the moments of that many are remembered for each subsystem.
const MAX_RESTARTS: u32 = 1_000;

/// The whole configuration of a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// This worker's place in the cluster.
    pub cluster: ClusterConfig,
    /// How tasks are run.
    pub tasks: TaskConfig,
    /// The state folder, and what is kept in it.
    pub state: StateConfig,
    /// How the process behaves.
    pub process: ProcessConfig,
}

/// A worker's place in the cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct ClusterConfig {
    /// The worker's id.
    pub worker: WorkerId,
    /// The address at which the master reaches it.
    pub reach: Reach,
    /// The address at which it listens.
    pub listen: ListenAddress,
    /// Whether clients at that address are told which methods there are (gRPC server reflection).
    pub reflection: bool,
    /// The address at which it answers over HTTP; `None`: it does not.
    pub http: Option<ListenAddress>,
    /// The address of its master, until a master says that it has moved.
    pub master: MasterAddress,
    /// Whether the worker follows a master that says so.
    pub master_moves: MasterMoves,
    /// Who may come in, and what callers have to show.
    pub door: DoorConfig,
    /// Least time between the answer to an offer and the report; `None`: measured from the heartbeats.
    pub settle_time: Option<Duration>,
    /// How long an upload may take; then it has failed.
    pub upload: UploadPatience,
    /// How long a report may take; then its answer is in doubt.
    pub report: ReportPatience,
}

/// How long an upload of output files may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadPatience {
    /// The longest time without progress.
    pub inactivity: Duration,
    /// The longest time in all.
    pub total: Duration,
}

/// How long a report may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportPatience {
    /// How long the answer may take.
    pub timeout: Duration,
    /// How long after a report without an answer it is sent again.
    pub doubt: Duration,
}

/// How tasks are run.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskConfig {
    /// The engine that runs them.
    pub engine: EngineAddress,
    /// Whether that may be another engine than before.
    pub new_engine: NewEngine,
    /// How many tasks may be here at once.
    pub max_tasks: usize,
    /// What of the machine they are not given.
    pub reserve: Reserve,
    /// What becomes of the amounts that tasks ask for.
    pub limits: Limits,
    /// When their images are pulled.
    pub pull: PullPolicy,
    /// Which images they may have.
    pub images: ImageRules,
    /// The engine's name of the network that they get; `None`: the engine's own choice.
    pub network: Option<String>,
    /// What else every task's container gets.
    pub container: ContainerConfig,
    /// What tasks get beside that by the configuration file: the defaults, and profiles for some.
    pub profiles: Profiles,
    /// What the file says that tasks may ask for.
    pub policy: Policy,
    /// How long a task may take to end by itself after its stop signal; then it is killed.
    pub stop_grace: Duration,
    /// How many output files of a task are taken.
    pub output_files: usize,
    /// Bytes that a task's output files may have together.
    pub output_bytes: u64,
    /// Bytes of a container's output that the engine keeps.
    pub engine_log: u64,
    /// How long passing trouble is waited out before a task fails of it.
    pub patience: Duration,
}

/// The state folder, and what is kept in it.
#[derive(Debug, Clone, PartialEq)]
pub struct StateConfig {
    /// The folder's path.
    pub folder: PathBuf,
    /// How long a finished task's log and record are kept.
    pub retention: Duration,
    /// How long a container that no task knows is left alone.
    pub orphan_grace: Duration,
    /// Bytes of one task's log that are kept.
    pub spool_cap: u64,
    /// With fewer bytes free on the disk, new tasks are refused, and logs are left out.
    pub disk_low: u64,
    /// Bytes that all in the folder may have together; beyond them new tasks are refused.
    pub state_cap: u64,
    /// Which images that were pulled for tasks are removed again.
    pub image_upkeep: Upkeep,
}

/// How the process behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessConfig {
    /// What the process does when a subsystem fails.
    pub when_subsystem_fails: WhenSubsystemFails,
    /// How often and how soon a failed subsystem is restarted, if it is.
    pub restarts: RestartLimits,
    /// What the process does when engine or master are away at the start.
    pub when_away: WhenAway,
    /// What becomes of running tasks when the process is asked to stop.
    pub on_stop: OnStop,
    /// How its log looks.
    pub log_format: LogFormat,
}

/// How often and how soon a failed subsystem is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartLimits {
    /// Restarts of one subsystem within a period; the failure after them is final.
    pub intensity: u32,
    /// The length of the period.
    pub period: Duration,
    /// Delay before the second restart in a row; each later one waits twice as long.
    pub backoff: Duration,
    /// The longest delay before a restart.
    pub backoff_max: Duration,
}

impl TryFrom<(RunArgs, Surroundings)> for Config {
    type Error = Mistakes;

    fn try_from((args, surroundings): (RunArgs, Surroundings)) -> Result<Self, Mistakes> {
        Self::checked(&args, &surroundings, &Places::default())
    }
}

impl Config {
    /// The configuration, checked. A mistake is told by its place where the value is from a file.
    ///
    /// # Errors
    /// Every mistake.
    pub fn checked(
        args: &RunArgs,
        surroundings: &Surroundings,
        places: &Places,
    ) -> Result<Self, Mistakes> {
        let mut check = Check::knowing(places);
        let parts = (
            cluster::cluster(args, &mut check),
            tasks(args, surroundings, &mut check),
            state(args, surroundings, &mut check),
            process::process(args, &mut check),
        );
        let mistakes = check.into_mistakes();
        match parts {
            (Some(cluster), Some(tasks), Some(state), Some(process)) if mistakes.0.is_empty() => {
                Ok(Self {
                    cluster,
                    tasks,
                    state,
                    process,
                })
            }
            _ => Err(mistakes),
        }
    }
}

/// The engine that `run` would use, for a command that starts a worker.
///
/// # Errors
/// What was given is no engine's address.
pub fn engine_address(
    given: Option<&str>,
    surroundings: &Surroundings,
) -> Result<EngineAddress, Mistakes> {
    let mut check = Check::default();
    let address = engine(given, surroundings, &mut check);
    let mistakes = check.into_mistakes();
    match address {
        Some(address) if mistakes.0.is_empty() => Ok(address),
        Some(_) | None => Err(mistakes),
    }
}

impl Config {
    /// The address that the master is told once the listener is bound: always `host:port`.
    #[must_use]
    pub fn advertised(&self, bound_port: u16) -> String {
        self.cluster.reach.advertised(bound_port)
    }

    /// Settings that are allowed and yet probably not meant, one sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let cluster = &self.cluster;
        let mut warnings = Vec::new();
        if cluster.reach.is_loopback() && !cluster.master_is_here() {
            warnings.push(format!(
                "the master at {} is told to call this worker at '{}', which is the master's own machine; \
                 give --ip the address at which the master reaches this machine",
                cluster.master.0, cluster.reach.host
            ));
        }
        if cluster.listen.is_loopback() && !cluster.reach.is_loopback() {
            warnings.push(format!(
                "the master is told to call '{}', but --port listens on this machine's loopback address alone",
                cluster.reach.host
            ));
        }
        if let EngineAddress::Tcp(engine) = &self.tasks.engine
            && !crate::domain::address::is_loopback(&engine.host)
        {
            warnings.push(format!(
                "the engine at tcp://{engine} is spoken to in clear, passwords of registries included, and whoever reaches it is root there; \
                 use a unix socket or a tunnel"
            ));
        }
        if cluster.door.token.as_ref().map(|token| token.way) == Some(TokenWay::InClear) {
            warnings.push(
                "the token of --token-file is sent in clear (--token-in-clear): whoever sees the network between master and worker has it"
                    .to_owned(),
            );
        }
        warnings
    }
}

impl ClusterConfig {
    fn master_is_here(&self) -> bool {
        self.master
            .0
            .parse::<HostPort>()
            .is_ok_and(|master| crate::domain::address::is_loopback(&master.host))
    }
}

fn tasks(args: &RunArgs, surroundings: &Surroundings, check: &mut Check) -> Option<TaskConfig> {
    let engine = engine(args.engine.as_deref(), surroundings, check);
    let accept_new = check.switch("--accept-new-engine", &args.accept_new_engine);
    let max_tasks = check.value("--max-tasks", &args.max_tasks, |text| {
        read_count(text, MAX_TASKS_LIMIT)
    });
    let reserve = reserve::reserve(args, check);
    let limits = check.value("--limits", &args.limits, Limits::read);
    let pull = check.value("--pull", &args.pull, PullPolicy::read);
    let patterns = args.allow_images.iter();
    let patterns: Option<Vec<_>> = patterns
        .map(|pattern| check.value("--allow-image", pattern, Pattern::read))
        .collect();
    let require_digest = check.switch("--require-digest", &args.require_digest);
    let network = match &args.network {
        Some(network) => check
            .value("--network", network, reading::network)
            .map(Some),
        None => Some(None),
    };
    let container = container::container(args, check);
    let stop_grace = check.value("--stop-grace", &args.stop_grace, |text| {
        read_time(text, Range::new(Duration::ZERO, HOUR))
    });
    let output_files = check.value("--output-files", &args.output_files, |text| {
        read_count(text, OUTPUT_FILES_LIMIT)
    });
    let output_bytes = check.value("--output-bytes", &args.output_bytes, |text| {
        read_size(text, Range::new(0, TIB))
    });
    let engine_log = check.value("--engine-log", &args.engine_log, |text| {
        read_size(text, Range::new(4 << 20, TIB))
    });
    let patience_of_tasks = check.value("--patience", &args.patience, |text| {
        read_time(text, Range::new(Duration::ZERO, DAY))
    });
    // Nothing ends before this, so that all mistakes are told at once.
    Some(TaskConfig {
        engine: engine?,
        new_engine: if accept_new? {
            NewEngine::Accepted
        } else {
            NewEngine::Refused
        },
        max_tasks: max_tasks?,
        reserve: reserve?,
        limits: limits?,
        pull: pull?,
        images: ImageRules::new(patterns?, require_digest?),
        network: network?,
        container: container?,
        profiles: Profiles::default(),
        policy: Policy::default(),
        stop_grace: stop_grace?,
        output_files: output_files?,
        output_bytes: output_bytes?,
        engine_log: engine_log?,
        patience: patience_of_tasks?,
    })
}

fn read_count(text: &str, most: usize) -> Result<usize, String> {
    let number = text.parse::<usize>().ok();
    number
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| format!("is no number from 1 to {most}"))
}

fn engine(
    engine: Option<&str>,
    surroundings: &Surroundings,
    check: &mut Check,
) -> Option<EngineAddress> {
    let address = match (engine, surroundings.docker_host()) {
        (Some(engine), _) => check.value("--engine", engine, EngineAddress::read)?,
        (None, Some(host)) => check.value("DOCKER_HOST", host, EngineAddress::read)?,
        (None, None) => {
            if let Some(context) = surroundings.docker_context() {
                let context = escape(context, SHOWN);
                let sentence = format!(
                    "DOCKER_CONTEXT '{context}' is not supported: contexts are the docker command's own; \
                     give --engine the address that `docker context inspect {context}` shows"
                );
                check.unsupported("DOCKER_CONTEXT", sentence);
            }
            EngineAddress::default()
        }
    };
    if surroundings.docker_tls && matches!(address, EngineAddress::Tcp(_)) {
        let sentence = format!(
            "TLS to the engine is not supported (DOCKER_TLS_VERIFY is set, and the engine is {address}); \
             use its unix socket, or a tunnel to it, or unset DOCKER_TLS_VERIFY where {address} is plain TCP"
        );
        check.unsupported("DOCKER_TLS_VERIFY", sentence);
    }
    Some(address)
}

/// The path of the state folder alone, for the commands that ask about a worker.
///
/// # Errors
/// No folder is given or found, or the one that is given is no path.
pub fn state_folder(
    given: Option<&OsStr>,
    surroundings: &Surroundings,
    places: &Places,
) -> Result<PathBuf, Mistakes> {
    let mut check = Check::knowing(places);
    folder(given, surroundings, &mut check).ok_or_else(|| check.into_mistakes())
}

fn folder(
    given: Option<&OsStr>,
    surroundings: &Surroundings,
    check: &mut Check,
) -> Option<PathBuf> {
    match given {
        Some(folder) => check.path("--state-dir", folder, "folder"),
        None => surroundings.state_folder().or_else(|| {
            check.missing(
                "--state-dir",
                "is needed: neither XDG_STATE_HOME nor HOME names a folder",
            );
            None
        }),
    }
}

fn state(args: &RunArgs, surroundings: &Surroundings, check: &mut Check) -> Option<StateConfig> {
    let folder = folder(args.state_dir.as_deref(), surroundings, check);
    let retention = check.value("--retention", &args.retention, |text| {
        // With less than a minute, a viewer that comes right after the end would find nothing.
        read_time(text, Range::new(60 * SECOND, 365 * DAY))
    });
    let orphan_grace = check.value("--orphan-grace", &args.orphan_grace, |text| {
        read_time(text, Range::new(SECOND, DAY))
    });
    let spool_cap = check.value("--spool-cap", &args.spool_cap, |text| {
        read_size(text, Range::new(MIB, TIB))
    });
    let disk_low = check.value("--disk-low", &args.disk_low, |text| {
        read_size(text, Range::new(0, TIB))
    });
    let state_cap = check.value("--state-cap", &args.state_cap, |text| {
        read_size(text, Range::new(MIB, 1_024 * TIB))
    });
    Some(StateConfig {
        folder: folder?,
        retention: retention?,
        orphan_grace: orphan_grace?,
        spool_cap: spool_cap?,
        disk_low: disk_low?,
        state_cap: state_cap?,
        image_upkeep: upkeep::upkeep(args, check)?,
    })
}

#[cfg(test)]
mod tests;
