//! Opens, binds and checks everything, while nothing runs yet. What fails here ends the start with a sentence and an exit code.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use log::{info, warn};
use rustix::process::geteuid;
use thiserror::Error;
use tokio::{net::TcpListener, sync::watch, time::timeout};

use super::{
    Fatal, FatalSender,
    audit::AuditBook,
    doors::Doors,
    lifecycle::Lifecycle,
    ownership::{self, EngineClaim, OwnershipError, SharedClaim},
    parts::Parts,
    reload::Dials,
};
use crate::{
    actors::{
        engine_watch::{ClaimEngine, Trier, Unclaimed},
        heartbeat::{Load, SampleLoad},
        janitor::Ages,
        journal::OpenJournal,
        log_router::Intake,
        session::{LEARNT_ADDRESS, LEARNT_UNDER},
        task::LostWithEngine,
    },
    config::{Config, DoorConfig, Limits, ListenAddress, MasterDial, MasterMoves},
    domain::{record::Snapshot, spec::NothingLeft},
    engine::{DockerEngine, EngineOptions},
    exit::Exit,
    grpc::{
        admin::Door,
        client::GrpcMaster,
        convert::TaskMessageCodec,
        keys::{Dial, KeyError, KeyFiles, Keys, NamedFile},
    },
    journal::SqliteJournal,
    metrics::{CountedJournal, CountedMaster, CountedSpools, Metrics},
    outputs::{OutputFolders, Quotas},
    ports::{
        clock::{Clock, SteadyClock, SystemClock},
        engine::ContainerEngine,
        holdings::Holdings,
        journal::{Household, JournalError, JournalStore},
        master::{Master, MasterAddress},
        outputs::OutputStore,
    },
    spool::{self, FileSpools},
    state_dir::{MAKE_ROOM, StateDir, StateDirError},
    telemetry::{
        machine::{MachineSampler, Room},
        operator,
    },
};

/// How long the start waits for the engine's first answer; without one the start goes on.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// Why the worker cannot start.
#[derive(Debug, Error)]
pub(super) enum StartError {
    /// The state folder cannot be used.
    #[error(transparent)]
    State(#[from] StateDirError),
    /// The state folder or the engine belongs to another worker, or the containers are on another engine.
    #[error(transparent)]
    Ownership(#[from] OwnershipError),
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(JournalError),
    /// The journal's disk is full.
    #[error("{0}; {MAKE_ROOM}")]
    Full(JournalError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address} ({flag}): {source}")]
    Listen {
        /// The flag that sets the address.
        flag: &'static str,
        /// The address as configured.
        address: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// The operator's socket cannot be made.
    #[error("the operator's socket in the state folder {folder} cannot be made: {source}")]
    Door {
        /// The state folder.
        folder: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A file with a certificate, key or token cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The engine's address cannot be parsed.
    #[error("the engine address (--engine) {0}")]
    Engine(String),
    /// What is kept for the system.
    #[error(transparent)]
    Reserve(#[from] NothingLeft),
    /// Any other error of the operating system.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl StartError {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::State(error) => error.exit(),
            Self::Ownership(error) => error.exit(),
            Self::Journal(JournalError::Newer { .. }) | Self::Reserve(_) => Exit::Configuration,
            Self::Full(_) => Exit::TryLater,
            Self::Listen { source, .. } => match source.kind() {
                io::ErrorKind::AddrInUse => Exit::TryLater,
                io::ErrorKind::PermissionDenied => Exit::Permission,
                _ => Exit::Usage,
            },
            Self::Engine(_) => Exit::Usage,
            Self::Keys(error) => match error.is_denied() {
                true => Exit::Permission,
                false => Exit::Configuration,
            },
            Self::Journal(_) | Self::Door { .. } | Self::Io(_) => Exit::Unexpected,
        }
    }
}

impl From<JournalError> for StartError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Full(_) => Self::Full(error),
            JournalError::Newer { .. } | JournalError::Damaged(_) | JournalError::Broken(_) => {
                Self::Journal(error)
            }
        }
    }
}

/// All parts, opened and ready to run.
pub(super) struct Built {
    pub(super) parts: Parts,
    pub(super) doors: Doors,
    /// The claim on the engine, released at the end of the process.
    pub(super) ownership: SharedClaim,
    pub(super) lifecycle: Lifecycle,
    /// Holds the lock on the state folder until the process ends.
    pub(super) _state: StateDir,
}

impl Built {
    pub(super) async fn new(
        config: &Config,
        state: StateDir,
        fatal: FatalSender,
    ) -> Result<Self, StartError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Arc::<Metrics>::default();
        let keys = Arc::new(keys(config, &clock)?);
        let (lost, journal_lost) = watch::channel(0);
        let (open_journal, snapshot, household, ownership) = owned(config, &state, &clock, lost)?;
        let open_journal = counted(open_journal, &metrics);
        let engine = engine(config, &ownership, &metrics)?;
        // Before the listener is bound: until the engine is known to be this worker's, no master may reach it.
        first_look(engine.as_ref(), &ownership).await?;
        let listener = listen(&config.cluster.listen, "-port").await?;
        let bound = listener.local_addr()?;
        operator::listening(bound);
        warn_of_open_door(bound, &config.cluster.door);
        let sampler = MachineSampler::new(state.path())?;
        let totals = sampler.totals()?.less(&config.tasks.reserve)?;
        let spools = Arc::new(spools(config, &state, &clock)?);
        let outputs = Arc::new(outputs(config, &state)?);
        let (folder, own) = (state.path().to_owned(), state.path().to_owned());
        let parts = Parts {
            advertised: config.advertised(bound.port()),
            master_address: master_address(config, &snapshot),
            engine,
            claim: claim(&ownership, fatal),
            lost_with_engine: lost_with_engine(&ownership),
            trier: trier(config, &outputs),
            holdings: vec![
                Arc::clone(&spools) as Arc<dyn Holdings>,
                Arc::clone(&outputs) as Arc<dyn Holdings>,
            ],
            outputs,
            ages: Arc::new(Ages::of(&household, clock.now())),
            config: config.clone(),
            clock: Arc::clone(&clock),
            open_journal,
            journal_lost,
            master: master(&keys, &metrics),
            intake: Intake::start(),
            spools: Arc::new(CountedSpools::new(spools, Arc::clone(&metrics))),
            dials: Arc::new(Dials::of(config)),
            totals,
            cores: thread::available_parallelism().map_or(1, Into::into),
            load: sample(sampler),
            room: Arc::new(move |other| Room::of(other.unwrap_or(&folder))),
            own_space: Arc::new(move || crate::state_dir::bytes_of_files(&own)),
        };
        let http = http(config.cluster.http.as_ref()).await?;
        let doors = doors((listener, http), (keys, metrics), (&state, &clock))?;
        Ok(Self {
            parts,
            doors,
            ownership,
            lifecycle: Lifecycle::open(state.path(), clock)?,
            _state: state,
        })
    }
}

fn outputs(config: &Config, state: &StateDir) -> io::Result<OutputFolders> {
    let quotas = Quotas {
        files: config.tasks.output_files,
        bytes: config.tasks.output_bytes,
        ..Quotas::default()
    };
    OutputFolders::open(&state.path().join("outputs"), quotas)
}

fn doors(
    (listener, http): (TcpListener, Option<Arc<TcpListener>>),
    (keys, metrics): (Arc<Keys>, Arc<Metrics>),
    (state, clock): (&StateDir, &Arc<dyn Clock>),
) -> Result<Doors, StartError> {
    Ok(Doors {
        listener: Arc::new(listener),
        http,
        metrics,
        door: Arc::new(door(state)?),
        keys,
        audit: Arc::new(AuditBook::open(state.path(), Arc::clone(clock))?),
    })
}

fn trier(config: &Config, outputs: &Arc<OutputFolders>) -> Trier {
    let outputs = Arc::clone(outputs) as Arc<dyn OutputStore>;
    Trier {
        worker: config.cluster.worker.clone(),
        outputs: geteuid().is_root().then_some(outputs),
        enforce_limits: config.tasks.limits == Limits::Enforce,
    }
}

fn lost_with_engine(ownership: &SharedClaim) -> LostWithEngine {
    let ownership = Arc::clone(ownership);
    Arc::new(move |result| ownership.has_lost(result))
}

fn spools(
    config: &Config,
    state: &StateDir,
    clock: &Arc<dyn Clock>,
) -> Result<FileSpools, StartError> {
    let limits = spool::Limits {
        cap: config.state.spool_cap,
        least_free: config.state.disk_low,
    };
    let folder = state.folder("logs")?;
    Ok(FileSpools::open(&folder, limits, Arc::clone(clock))?)
}

/// Opens the journal to see that it can be used, and reads what the start needs. The actor's first incarnation takes over this
/// very connection; later ones open the journal again.
fn journal(
    state: &StateDir,
    clock: &Arc<dyn Clock>,
    lost: watch::Sender<u64>,
) -> Result<(OpenJournal, Snapshot, Household), StartError> {
    let path = state.path().join("journal.db");
    let clock: Arc<dyn Clock> = Arc::new(SteadyClock::started_by(clock.as_ref()));
    let opened = SqliteJournal::open(&path, Arc::clone(&clock))?;
    if let Some(aside) = &opened.set_aside {
        warn!(
            set_aside:% = aside.display();
            "the journal was damaged and has been set aside; tasks are rebuilt from their containers' labels"
        );
    }
    let journal = opened.journal;
    let mut reader = journal.reader()?;
    let (snapshot, household) = (reader.unfinished()?, reader.household()?);
    let (unfinished, finished) = (snapshot.tasks.len(), household.finished.len());
    info!(unfinished, finished; "journal opened");
    let first = Mutex::new(Some(journal));
    let open: OpenJournal = Arc::new(move || {
        let taken = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let journal = match taken {
            Some(journal) => journal,
            None => reopened(&path, &clock, &lost)?,
        };
        Ok(Box::new(journal) as Box<dyn JournalStore>)
    });
    Ok((open, snapshot, household))
}

/// Opens the journal for a later incarnation of its actor. If the file was damaged or removed while in use, `lost` rings for
/// those who can write missing records again.
fn reopened(
    path: &Path,
    clock: &Arc<dyn Clock>,
    lost: &watch::Sender<u64>,
) -> Result<SqliteJournal, JournalError> {
    let opened = SqliteJournal::open(path, Arc::clone(clock))?;
    if opened.set_aside.is_some() || opened.is_new {
        warn!(
            set_aside:? = opened.set_aside;
            "the journal was lost while it was in use; the tasks that are here are written down anew"
        );
        lost.send_modify(|times| *times += 1);
    }
    Ok(opened.journal)
}

/// The same journal, wrapped so that its writes are counted.
fn counted(open: OpenJournal, metrics: &Arc<Metrics>) -> OpenJournal {
    let (metrics, steps) = (Arc::clone(metrics), Arc::default());
    Arc::new(move || {
        let (metrics, steps) = (Arc::clone(&metrics), Arc::clone(&steps));
        Ok(Box::new(CountedJournal::new(open()?, metrics, steps)))
    })
}

/// The listener of the HTTP door; `None` without `--http`.
async fn http(address: Option<&ListenAddress>) -> Result<Option<Arc<TcpListener>>, StartError> {
    let Some(address) = address else {
        return Ok(None);
    };
    let listener = listen(address, "--http").await?;
    operator::answering_http(listener.local_addr()?);
    Ok(Some(Arc::new(listener)))
}

fn master(keys: &Arc<Keys>, metrics: &Arc<Metrics>) -> Arc<dyn Master> {
    let master = GrpcMaster::with_keys(Arc::clone(keys));
    Arc::new(CountedMaster::new(master, Arc::clone(metrics)))
}

fn warn_of_open_door(bound: SocketAddr, door: &DoorConfig) {
    if !bound.ip().is_loopback() && door.is_open() {
        operator::open_port(bound, &door.allow_from);
    }
}

/// Reads the certificates, keys and tokens that the configuration names.
pub(super) fn keys(config: &Config, clock: &Arc<dyn Clock>) -> Result<Keys, KeyError> {
    let door = &config.cluster.door;
    let named = |flag, path: &Path| NamedFile {
        flag,
        path: path.to_owned(),
    };
    let files = KeyFiles {
        identity: door.identity.as_ref().map(|(certificate, key)| {
            let certificate = named("--tls-cert", certificate);
            (certificate, named("--tls-key", key))
        }),
        authorities: door
            .authorities
            .as_ref()
            .map(|authorities| named("--tls-ca", authorities)),
        dial: match door.dial {
            MasterDial::Clear => Dial::Clear,
            MasterDial::Tls => Dial::Tls,
        },
        token: door
            .token
            .as_ref()
            .map(|token| (named("--token-file", &token.file), token.overlap)),
    };
    Keys::open(files, Arc::clone(clock))
}

/// Binds the first of the configured addresses that can be bound.
pub(super) async fn listen(
    address: &ListenAddress,
    flag: &'static str,
) -> Result<TcpListener, StartError> {
    let mut last = io::Error::other("no address");
    for candidate in address.candidates() {
        match TcpListener::bind(candidate).await {
            Ok(listener) => return Ok(listener),
            Err(error) => last = explain(candidate, flag, error),
        }
        if last.kind() == io::ErrorKind::AddrInUse {
            break;
        }
    }
    Err(StartError::Listen {
        flag,
        address: address.to_string(),
        source: last,
    })
}

/// Makes the operator's socket. The state folder is locked, so an old socket in it is no other worker's.
fn door(state: &StateDir) -> Result<Door, StartError> {
    Door::open(state.path()).map_err(|source| StartError::Door {
        folder: state.path().to_owned(),
        source,
    })
}

/// What to do about the engine's socket, if this user may not use it; otherwise `None`.
pub(super) async fn engine_refusal(config: &Config) -> Option<String> {
    let address = config.tasks.engine.to_string().parse().ok()?;
    crate::engine::refusal(&address).await
}

fn explain(address: SocketAddr, flag: &str, error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::AddrInUse {
        let text = format!(
            "port {} is in use by another process; stop that one, or give another {flag}",
            address.port()
        );
        return io::Error::new(io::ErrorKind::AddrInUse, text);
    }
    error
}

/// The master to begin with: the address that a master announced, if the `-master` value is still the one under which it did, and
/// moves are followed; else the configured one.
pub(super) fn master_address(config: &Config, snapshot: &Snapshot) -> MasterAddress {
    let setting = |name: &str| {
        snapshot
            .settings
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    };
    let configured = &config.cluster.master;
    match (setting(LEARNT_ADDRESS), setting(LEARNT_UNDER)) {
        (Some(learnt), Some(under))
            if under == configured.0 && config.cluster.master_moves == MasterMoves::Followed =>
        {
            match MasterAddress::parse(learnt) {
                Ok(address) => {
                    if address != *configured {
                        operator::master_moved(configured, &address);
                    }
                    address
                }
                Err(_) => configured.clone(),
            }
        }
        _ => configured.clone(),
    }
}

fn engine(
    config: &Config,
    ownership: &EngineClaim,
    metrics: &Arc<Metrics>,
) -> Result<Arc<dyn ContainerEngine>, StartError> {
    let address = config
        .tasks
        .engine
        .to_string()
        .parse()
        .map_err(|error| StartError::Engine(format!("{error}")))?;
    let container = &config.tasks.container;
    let options = EngineOptions {
        pids_limit: container.pids.into(),
        privileges: container.privileges.clone(),
        ulimits: container.ulimits.clone(),
        network: config.tasks.network.clone(),
        maker: Some(ownership.maker()),
        own: ownership.own(),
        log_size: config.tasks.engine_log,
        ..EngineOptions::default()
    };
    let engine = DockerEngine::connect(&address, Arc::new(TaskMessageCodec), options);
    Ok(Arc::new(engine.watched(metrics.engine_watch())))
}

/// Opens the journal once the state folder is known to be this worker's, and makes the claim that decides which engine is.
fn owned(
    config: &Config,
    state: &StateDir,
    clock: &Arc<dyn Clock>,
    lost: watch::Sender<u64>,
) -> Result<(OpenJournal, Snapshot, Household, SharedClaim), StartError> {
    let worker = &config.cluster.worker;
    let identity = ownership::read(state.path(), worker)?;
    let (open_journal, snapshot, household) = journal(state, clock, lost)?;
    let known = (&snapshot, clock.now());
    let identity = ownership::settle(identity, state.path(), worker, known)?;
    let tasks = (&snapshot, household.finished.len());
    let claim = EngineClaim::new(config, state.path(), identity, tasks);
    Ok((open_journal, snapshot, household, Arc::new(claim)))
}

/// Claims an engine that answers at the start before anything runs, so that a wrong one ends the start. One that does not answer
/// is claimed later.
async fn first_look(
    engine: &dyn ContainerEngine,
    ownership: &EngineClaim,
) -> Result<(), OwnershipError> {
    match timeout(FIRST_LOOK, engine.info()).await {
        Ok(Ok(info)) => ownership.take(&info),
        Ok(Err(_)) | Err(_) => Ok(()),
    }
}

/// The claim for later connections: if another worker has this id on the engine, the process ends; another engine counts as this
/// worker's engine being away.
fn claim(ownership: &SharedClaim, fatal: FatalSender) -> ClaimEngine {
    let ownership = Arc::clone(ownership);
    Arc::new(move |info| match ownership.take(info) {
        Ok(()) => Ok(()),
        Err(error @ OwnershipError::OtherEngine { .. }) => {
            ownership.tell_once(info, &error);
            Err(Unclaimed::Another(error.to_string()))
        }
        Err(error) => {
            let _ = fatal.send(Fatal {
                exit: error.exit(),
                message: error.to_string(),
            });
            Err(Unclaimed::Taken)
        }
    })
}

fn sample(sampler: MachineSampler) -> SampleLoad {
    let sampler = Mutex::new(sampler);
    Arc::new(move || {
        let sample = sampler
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .sample();
        Load {
            cpu: sample.cpu,
            memory: sample.memory,
            storage: sample.storage,
            gpu: sample.gpu,
        }
    })
}
