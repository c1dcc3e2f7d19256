//! Whose the tasks of a state folder are: which worker's, and on which engine their containers live. Under another name, or beside
//! another engine, nothing is there of them, and that would be taken for their end: so neither may go on with them unasked.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use log::{error, info, warn};
use thiserror::Error;

use crate::{
    config::{Config, NewEngine},
    domain::{
        id::WorkerId,
        record::{Phase, Snapshot, TaskRecord},
    },
    engine::{Maker, OwnEngine},
    exit::Exit,
    journal::look::{self, Beside},
    ports::{
        engine::{EngineInfo, worker_of_name},
        state::JournalFacts,
    },
    state_dir::{EngineLock, EngineLockError, Identity},
};

/// Why this worker may not go on with what is in its state folder.
#[derive(Debug, Error)]
pub(super) enum OwnershipError {
    /// It is another worker's.
    #[error(
        "the state folder {folder} belongs to worker {owner} ({tasks}); start with -id {owner}, or give {worker} its own --state-dir"
    )]
    OtherWorker {
        /// Which.
        folder: PathBuf,
        /// Whose.
        owner: String,
        /// What is in it.
        tasks: Counted,
        /// Who we are.
        worker: WorkerId,
    },
    /// The containers of its tasks are on another engine.
    #[error(
        "the containers of worker {worker}{} are on the engine {owned}, and the one that answers is {found}; \
         start with the --engine or DOCKER_HOST of the first, or, where that one is gone for good, with --accept-new-engine: \
         the unfinished tasks are told as lost then",
        .tasks.map(|tasks| format!(" ({tasks})")).unwrap_or_default()
    )]
    OtherEngine {
        /// Who we are.
        worker: WorkerId,
        /// What was in the state folder at the start, while nothing has come since.
        tasks: Option<Counted>,
        /// The engine that has them.
        owned: String,
        /// The one that answers.
        found: String,
    },
    /// Another process works under this name.
    #[error(transparent)]
    Lock(#[from] EngineLockError),
    /// The kernel gave no secret.
    #[error("no secret can be made for the state folder: {0}")]
    Secret(#[from] std::io::Error),
}

impl OwnershipError {
    /// How the process ends with it.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::OtherWorker { .. } | Self::OtherEngine { .. } => Exit::Configuration,
            Self::Lock(error) => error.exit(),
            Self::Secret(_) => Exit::Unexpected,
        }
    }
}

/// How many tasks a journal has, and how many of them have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counted {
    all: usize,
    unfinished: usize,
}

impl Counted {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let is_unfinished = |record: &&TaskRecord| record.phase < Phase::Ended;
        Self {
            all: snapshot.tasks.len(),
            unfinished: snapshot.tasks.iter().filter(is_unfinished).count(),
        }
    }

    /// With so many more that are done.
    pub(super) fn and_finished(self, count: usize) -> Self {
        Self {
            all: self.all + count,
            ..self
        }
    }
}

impl std::fmt::Display for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let noun = if self.all == 1 { "task" } else { "tasks" };
        write!(
            f,
            "{} {noun}, {} of them unfinished",
            self.all, self.unfinished
        )
    }
}

/// Reads whose a state folder is, before anything in it is touched.
///
/// # Errors
/// It is another worker's.
pub(super) fn read(folder: &Path, worker: &WorkerId) -> Result<Option<Identity>, OwnershipError> {
    let identity = Identity::read(folder).unwrap_or_else(|error| {
        warn!(error:%; "whose the state folder is cannot be read; it is told by its tasks");
        None
    });
    match &identity {
        Some(identity) if identity.worker != worker.as_str() => Err(OwnershipError::OtherWorker {
            folder: folder.to_owned(),
            owner: identity.worker.clone(),
            tasks: counted_at(folder),
            worker: worker.clone(),
        }),
        _ => Ok(identity),
    }
}

/// Counts without touching anything.
fn counted_at(folder: &Path) -> Counted {
    match look::look(&folder.join("journal.db"), Beside::Nobody) {
        JournalFacts::Sound { content, .. } => Counted::of(&content),
        _ => Counted {
            all: 0,
            unfinished: 0,
        },
    }
}

/// Whose the folder is from now on: as it was, else as the names of its tasks' containers tell, else this worker's.
///
/// # Errors
/// Its tasks are another worker's.
pub(super) fn settle(
    read: Option<Identity>,
    folder: &Path,
    worker: &WorkerId,
    (snapshot, now): (&Snapshot, SystemTime),
) -> Result<Identity, OwnershipError> {
    if let Some(identity) = read {
        return Ok(identity);
    }
    let named = |record: &TaskRecord| worker_of_name(&record.container_name).map(str::to_owned);
    let owner = snapshot.tasks.iter().rev().find_map(named);
    if let Some(owner) = owner.filter(|owner| owner != worker.as_str()) {
        return Err(OwnershipError::OtherWorker {
            folder: folder.to_owned(),
            owner,
            tasks: Counted::of(snapshot),
            worker: worker.clone(),
        });
    }
    let identity = Identity::new(worker.as_str(), now)?;
    keep(&identity, folder);
    Ok(identity)
}

/// On a full disk the worker goes on without: what it makes meanwhile is known by its name at the next start.
fn keep(identity: &Identity, folder: &Path) {
    if let Err(error) = identity.write(folder) {
        warn!(error:%; "whose the state folder is cannot be written down");
    }
}

/// Sees to it that the engine that is used is the one with our containers, and that nobody else uses it under our name.
pub(super) struct EngineClaim {
    worker: WorkerId,
    folder: PathBuf,
    tasks: Counted,
    new_engine: NewEngine,
    own: OwnEngine,
    held: Mutex<Held>,
}

struct Held {
    identity: Identity,
    /// An engine has been taken in this process: its tasks may be anywhere in their lives on it.
    met: bool,
    locks: Vec<(String, EngineLock)>,
    /// The engine that was last said to be another one.
    told: Option<String>,
}

impl EngineClaim {
    pub(super) fn new(config: &Config, folder: &Path, identity: Identity, tasks: Counted) -> Self {
        let new_engine = config.tasks.new_engine;
        let own = OwnEngine::default();
        if new_engine == NewEngine::Refused {
            // What another one says before it is known as such is not believed either.
            own.set(identity.engine.clone());
        }
        Self {
            worker: config.cluster.worker.clone(),
            folder: folder.to_owned(),
            tasks,
            new_engine,
            own,
            held: Mutex::new(Held {
                identity,
                met: false,
                locks: Vec::new(),
                told: None,
            }),
        }
    }

    /// Marks containers as ours.
    pub(super) fn maker(&self) -> Maker {
        let held = self.held();
        Maker::new(held.identity.secret.0, held.identity.since)
    }

    /// Which engine it is, once it is known.
    pub(super) fn own(&self) -> OwnEngine {
        self.own.clone()
    }

    /// Takes an engine that answers for ours, if it is.
    ///
    /// # Errors
    /// It is another one, or another process has it under our name.
    pub(super) fn take(&self, info: &EngineInfo) -> Result<(), OwnershipError> {
        let mut held = self.held();
        let place = info.place();
        let another = match (&held.identity.engine, &place) {
            (Some(owned), Some(found)) if owned != found => Some((owned.clone(), found.clone())),
            _ => None,
        };
        if let Some((owned, found)) = &another
            && (held.met || self.tasks.unfinished > 0)
            && (held.met || self.new_engine == NewEngine::Refused)
        {
            return Err(OwnershipError::OtherEngine {
                worker: self.worker.clone(),
                tasks: (!held.met).then_some(self.tasks),
                owned: owned.clone(),
                found: found.clone(),
            });
        }
        self.lock(&mut held, &info.id)?;
        if place.is_some() && held.identity.engine != place {
            if let Some((owned, found)) = another {
                info!(engine = found, before = owned; "another engine is this worker's from now on");
            }
            held.identity.engine.clone_from(&place);
            keep(&held.identity, &self.folder);
        }
        self.own.set(place);
        held.met = true;
        held.told = None;
        Ok(())
    }

    fn lock(&self, held: &mut Held, engine: &str) -> Result<(), EngineLockError> {
        if !held.locks.iter().any(|(locked, _)| locked == engine) {
            let lock = EngineLock::take(engine, &self.worker, &self.folder)?;
            held.locks.push((engine.to_owned(), lock));
        }
        Ok(())
    }

    /// Tells the operator of an engine that is another one, once for each.
    pub(super) fn tell_once(&self, info: &EngineInfo, why: &OwnershipError) {
        let place = info.place();
        let mut held = self.held();
        if held.told != place {
            error!("{why}; until then its tasks are left alone, and new ones refused");
            held.told = place;
        }
    }

    /// Gives the engine back: the process is about to end.
    pub(super) fn release(&self) {
        self.held().locks.clear();
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shared by all that connect to the engine.
pub(super) type SharedClaim = Arc<EngineClaim>;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        config::{RunArgs, Surroundings},
        domain::{
            id::{ContainerName, PayloadDigest, ResultId, TaskId},
            spec::{TaskSpec, Wants},
        },
        ports::engine::container_name,
    };

    fn worker(id: &str) -> WorkerId {
        WorkerId::new(id).unwrap()
    }

    fn record(id: &str, worker: &str, phase: Phase) -> TaskRecord {
        let spec = TaskSpec {
            id: TaskId::new(id).unwrap(),
            image: "busybox".into(),
            command: "true".into(),
            wants: Wants::default(),
            user_id: String::new(),
            task_name: String::new(),
            task_type: String::new(),
            sla_multiplier: 1.0,
            submitted_at: 0,
        };
        let name: ContainerName = container_name(worker, id, 1);
        TaskRecord {
            phase,
            ..TaskRecord::accepted(
                spec,
                PayloadDigest([0; 32]),
                ResultId("r".into()),
                name,
                SystemTime::UNIX_EPOCH,
            )
        }
    }

    fn snapshot(worker: &str, phases: &[Phase]) -> Snapshot {
        let tasks = phases.iter().enumerate();
        let tasks = tasks.map(|(n, phase)| record(&format!("t{n}"), worker, *phase));
        Snapshot {
            tasks: tasks.collect(),
            ..Snapshot::default()
        }
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000)
    }

    fn engine(place: &str) -> EngineInfo {
        EngineInfo {
            id: place.into(),
            version: String::new(),
            api_version: String::new(),
            root: String::new(),
            data_root: None,
            local: true,
            live_restore: false,
        }
    }

    fn claim(folder: &Path, engine: Option<&str>, phases: &[Phase], flags: &[&str]) -> EngineClaim {
        use clap::Parser as _;
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: RunArgs,
        }
        let id = format!("test-{:x}", fastrand::u64(..));
        let line = ["w", "--id", &id].into_iter().chain(flags.iter().copied());
        let line = Line::parse_from(line);
        let surroundings = Surroundings {
            home: Some("/home/u".into()),
            ..Surroundings::default()
        };
        let config = Config::try_from((line.args, surroundings)).unwrap();
        let mut identity = Identity::new(&id, now()).unwrap();
        identity.engine = engine.map(str::to_owned);
        identity.write(folder).unwrap();
        EngineClaim::new(
            &config,
            folder,
            identity,
            Counted::of(&snapshot(&id, phases)),
        )
    }

    fn written(folder: &Path) -> Option<String> {
        Identity::read(folder).unwrap().unwrap().engine
    }

    #[test]
    fn a_state_folder_of_another_worker_is_refused_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let first = settle(
            None,
            folder.path(),
            &worker("ux-n1"),
            (&Snapshot::default(), now()),
        );
        assert_eq!(read(folder.path(), &worker("ux-n1")).unwrap(), first.ok());

        for other in ["ux-n2", "worker-1", "ux-n1.1"] {
            let error = read(folder.path(), &worker(other)).unwrap_err();
            assert_eq!(error.exit(), Exit::Configuration);
            let said = error.to_string();
            assert!(
                said.contains("belongs to worker ux-n1 (0 tasks, 0 of them unfinished)"),
                "{said}"
            );
            assert!(said.contains("start with -id ux-n1, or give"), "{said}");
        }
    }

    #[test]
    fn a_journal_of_before_tells_its_worker_by_the_names_of_its_containers() {
        let folder = tempfile::tempdir().unwrap();
        let before = snapshot("ux-n1", &[Phase::Done, Phase::Running, Phase::Accepted]);

        let error = settle(None, folder.path(), &worker("ux-n2"), (&before, now())).unwrap_err();

        let said = error.to_string();
        assert!(
            said.contains("worker ux-n1 (3 tasks, 2 of them unfinished)"),
            "{said}"
        );
        assert_eq!(
            Identity::read(folder.path()).unwrap(),
            None,
            "nothing was touched"
        );
        let own = settle(None, folder.path(), &worker("ux-n1"), (&before, now())).unwrap();
        assert_eq!(own.worker, "ux-n1");
    }

    #[test]
    fn another_engine_is_refused_while_tasks_have_not_ended_on_the_first() {
        let folder = tempfile::tempdir().unwrap();
        for unfinished in [Phase::Accepted, Phase::Starting, Phase::Running] {
            let claim = claim(folder.path(), Some("A"), &[Phase::Done, unfinished], &[]);

            let error = claim.take(&engine("B")).unwrap_err();

            assert_eq!(error.exit(), Exit::Configuration);
            let said = error.to_string();
            assert!(
                said.contains("engine A") && said.contains("answers is B"),
                "{said}"
            );
            assert!(said.contains("--accept-new-engine"), "{said}");
            assert_eq!(written(folder.path()).as_deref(), Some("A"));
            claim.take(&engine("A")).unwrap();
        }
    }

    #[test]
    fn another_engine_is_taken_over_where_nothing_runs_or_where_it_is_said_to_be_new() {
        let folder = tempfile::tempdir().unwrap();
        for (phases, flags) in [
            (&[Phase::Ended, Phase::Done][..], &[][..]),
            (&[], &[]),
            (&[Phase::Running], &["--accept-new-engine"]),
        ] {
            let claim = claim(folder.path(), Some("A"), phases, flags);
            claim.take(&engine("B")).unwrap();
            assert_eq!(written(folder.path()).as_deref(), Some("B"));

            // Once it is in use, its tasks are on it: no other one comes in its place unasked.
            claim.take(&engine("B")).unwrap();
            let said = claim.take(&engine("A")).unwrap_err().to_string();
            assert!(
                said.contains(" are on the engine B") && !said.contains("("),
                "{said}"
            );
            assert_eq!(written(folder.path()).as_deref(), Some("B"));
        }
    }

    #[test]
    fn an_engine_that_does_not_say_who_it_is_is_taken_and_not_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let nameless = claim(folder.path(), None, &[Phase::Running], &[]);
        nameless.take(&engine("")).unwrap();
        assert_eq!(written(folder.path()), None);
        nameless.take(&engine("A")).unwrap();
        assert_eq!(written(folder.path()).as_deref(), Some("A"));
    }
}
