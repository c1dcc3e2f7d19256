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
         the tasks that have begun are told as lost then",
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

fn begun(snapshot: &Snapshot) -> Vec<ResultId> {
    let has_begun = |record: &&TaskRecord| (Phase::Starting..Phase::Ended).contains(&record.phase);
    let begun = snapshot.tasks.iter().filter(has_begun);
    begun.map(|record| record.result_id.clone()).collect()
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
    /// The results of those that had begun, and not ended, when the process did.
    begun: Vec<ResultId>,
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
    /// For a folder with these unfinished tasks, and so many that are finished.
    pub(super) fn new(
        config: &Config,
        folder: &Path,
        identity: Identity,
        (unfinished, finished): (&Snapshot, usize),
    ) -> Self {
        let own = OwnEngine::default();
        // What another one says before it is taken for ours is not believed.
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

    /// Whether the task with this result had begun on an engine that was given up: what the one that is used now does not know of
    /// it is no proof that it was never started.
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
mod tests;
