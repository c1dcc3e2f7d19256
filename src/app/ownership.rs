//! Whose the tasks of a state folder are: which worker's, and on which engine their containers are. Under another id, or on
//! another engine, no container of theirs is found, which would look like their end. So another worker or engine is refused
//! unless the operator asks for it.

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
        id::{ResultId, WorkerId},
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

/// Why this worker may not use its state folder or its engine.
#[derive(Debug, Error)]
pub(super) enum OwnershipError {
    /// The state folder is another worker's.
    #[error(
        "the state folder {folder} belongs to worker {owner} ({tasks}); start with -id {owner}, or give {worker} its own --state-dir"
    )]
    OtherWorker {
        /// The state folder.
        folder: PathBuf,
        /// The worker that it belongs to.
        owner: String,
        /// The number of tasks in it.
        tasks: Counted,
        /// This worker.
        worker: WorkerId,
    },
    /// The containers of the folder's tasks are on another engine.
    #[error(
        "the containers of worker {worker}{} are on the engine {owned}, and the one that answers is {found}; \
         start with the --engine or DOCKER_HOST of the first, or, where that one is gone for good, with --accept-new-engine: \
         the tasks that have begun are told as lost then",
        .tasks.map(|tasks| format!(" ({tasks})")).unwrap_or_default()
    )]
    OtherEngine {
        /// This worker.
        worker: WorkerId,
        /// The tasks in the state folder at the start; `None` once the worker has used its engine, since more may have come.
        tasks: Option<Counted>,
        /// The engine where the containers are.
        owned: String,
        /// The engine that answers.
        found: String,
    },
    /// Another process runs under this id on this engine.
    #[error(transparent)]
    Lock(#[from] EngineLockError),
    /// The kernel has no random bytes for a secret.
    #[error("no secret can be made for the state folder: {0}")]
    Secret(#[from] std::io::Error),
}

impl OwnershipError {
    /// The exit code of a process that ends with this error.
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

    /// The same, with `count` finished tasks more.
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

fn begun(snapshot: &Snapshot) -> Vec<ResultId> {
    let has_begun = |record: &&TaskRecord| (Phase::Starting..Phase::Ended).contains(&record.phase);
    let begun = snapshot.tasks.iter().filter(has_begun);
    begun.map(|record| record.result_id.clone()).collect()
}

/// Reads whose a state folder is, before anything in it is changed. `None` where no identity can be read: then its tasks tell.
///
/// # Errors
/// The folder is another worker's.
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

/// Counts the tasks of a folder without changing anything in it; 0 where the journal cannot be read.
fn counted_at(folder: &Path) -> Counted {
    match look::look(&folder.join("journal.db"), Beside::Nobody) {
        JournalFacts::Sound { content, .. } => Counted::of(&content),
        _ => Counted {
            all: 0,
            unfinished: 0,
        },
    }
}

/// The identity of the folder from now on: the one that was read; else a new one for this worker, unless the names of its tasks'
/// containers tell of another.
///
/// # Errors
/// The folder's tasks are another worker's.
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

/// Writes the identity down. On a full disk the worker goes on without: its containers are known by their names at the next
/// start.
fn keep(identity: &Identity, folder: &Path) {
    if let Err(error) = identity.write(folder) {
        warn!(error:%; "whose the state folder is cannot be written down");
    }
}

/// Decides whether the engine that answers is the one with this worker's containers, and keeps other workers of this id off it.
pub(super) struct EngineClaim {
    worker: WorkerId,
    folder: PathBuf,
    tasks: Counted,
    /// Results of the tasks that had begun, and not ended, when this process started.
    begun: Vec<ResultId>,
    new_engine: NewEngine,
    own: OwnEngine,
    held: Mutex<Held>,
}

struct Held {
    identity: Identity,
    /// Whether an engine was taken in this process: tasks may have begun on it since.
    met: bool,
    locks: Vec<(String, EngineLock)>,
    /// The wrong engine that was logged last.
    told: Option<String>,
}

impl EngineClaim {
    /// A claim for a folder with these unfinished tasks and this number of finished ones.
    pub(super) fn new(
        config: &Config,
        folder: &Path,
        identity: Identity,
        (unfinished, finished): (&Snapshot, usize),
    ) -> Self {
        let own = OwnEngine::default();
        // So that what another engine tells before the first check is not taken for this worker's engine's.
        own.set(identity.engine.clone());
        Self {
            worker: config.cluster.worker.clone(),
            folder: folder.to_owned(),
            tasks: Counted::of(unfinished).and_finished(finished),
            begun: begun(unfinished),
            new_engine: config.tasks.new_engine,
            own,
            held: Mutex::new(Held {
                identity,
                met: false,
                locks: Vec::new(),
                told: None,
            }),
        }
    }

    /// Marks containers as made by this worker.
    pub(super) fn maker(&self) -> Maker {
        let held = self.held();
        Maker::new(held.identity.secret.0, held.identity.since)
    }

    /// Which engine is this worker's, once that is known.
    pub(super) fn own(&self) -> OwnEngine {
        self.own.clone()
    }

    /// Takes the engine that answers as this worker's, if it is, and locks it under this worker's id. Called at every connection.
    ///
    /// # Errors
    /// The engine is another one, or another process has locked it under this id.
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
                held.identity.lost.clone_from(&self.begun);
            }
            held.identity.engine.clone_from(&place);
            keep(&held.identity, &self.folder);
        }
        self.own.set(place);
        held.met = true;
        held.told = None;
        Ok(())
    }

    /// Whether the task with this result had begun on an engine that was given up. If the present engine does not know its
    /// container, that does not prove that the task was never started.
    pub(super) fn has_lost(&self, result: &ResultId) -> bool {
        self.held().identity.lost.contains(result)
    }

    fn lock(&self, held: &mut Held, engine: &str) -> Result<(), EngineLockError> {
        if !held.locks.iter().any(|(locked, _)| locked == engine) {
            let lock = EngineLock::take(engine, &self.worker, &self.folder)?;
            held.locks.push((engine.to_owned(), lock));
        }
        Ok(())
    }

    /// Logs that an engine is the wrong one, once for each.
    pub(super) fn tell_once(&self, info: &EngineInfo, why: &OwnershipError) {
        let place = info.place();
        let mut held = self.held();
        if held.told != place {
            error!("{why}; until then its tasks are left alone, and new ones refused");
            held.told = place;
        }
    }

    /// Releases the engine's lock, since the process is about to end.
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
mod tests;
