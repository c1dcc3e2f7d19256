//! The fake disk, which survives the worker: a journal that follows the model of the real one (a property test compares those
//! two), logs, and output folders. It can be full.

mod folders;
mod logs;

use std::{
    collections::BTreeMap,
    io, mem,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustix::io::Errno;

use self::logs::MemorySpool;
pub(super) use self::{folders::Folders, logs::Spools};
use super::{
    scene::Planted,
    world::{Due, Shared, State},
};
use crate::{
    domain::{
        id::TaskId,
        record::{Change, Phase, Snapshot, TaskRecord},
    },
    journal::model::Model,
    ports::{
        clock::{Clock, SteadyClock},
        journal::{Household, JournalError, JournalReader, JournalStore, Known, Refused},
    },
};

/// The name of the file that a task leaves in its output folder.
pub(super) const OUTPUT: &str = "result.txt";

/// Commits that fit into the journal's reserve on a full disk.
const RESERVE: u32 = 200;

/// How long after trouble commits that waited may still be late.
const RECOVERS: Duration = Duration::from_secs(5);

/// How much later a disk that acknowledges too early writes, in milliseconds.
const LATER: std::ops::Range<u64> = 20..2_000;

/// The fake disk.
pub(super) struct Disk {
    pub(super) journal: Model,
    /// Since when each parked result is parked.
    parked: BTreeMap<TaskId, SystemTime>,
    pub(super) is_full: bool,
    /// When the disk was last full, or did not answer.
    pub(super) was_full: Option<Duration>,
    reserve: u32,
    room: u32,
    spools: BTreeMap<TaskId, Arc<MemorySpool>>,
    outputs: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    planted: Planted,
    /// Commits that were acknowledged and are not written.
    unwritten: Vec<Vec<Change>>,
}

impl Disk {
    pub(super) fn new(planted: Planted) -> Self {
        Self {
            journal: Model::default(),
            parked: BTreeMap::new(),
            is_full: false,
            was_full: None,
            reserve: RESERVE,
            room: 0,
            spools: BTreeMap::new(),
            outputs: BTreeMap::new(),
            planted,
            unwritten: Vec::new(),
        }
    }

    pub(super) fn record(&self, task: &TaskId) -> Option<&TaskRecord> {
        let mut tasks = self.journal.0.tasks.iter();
        tasks.find(|record| record.spec.id == *task)
    }

    /// Whether the journal has the task, if only as a tombstone.
    pub(super) fn knows(&self, task: &TaskId) -> bool {
        let mut stones = self.journal.0.tombstones.iter();
        self.record(task).is_some() || stones.any(|stone| stone.task == *task)
    }

    /// Whether commits asked for at that time are written at once: the disk has room and answers, and has done so for a while.
    pub(super) fn takes_commits(&self, asked: Duration) -> bool {
        let was_full = self.was_full.is_some_and(|at| at + RECOVERS > asked);
        !self.is_full && !was_full
    }

    /// The records of tasks that are not done.
    pub(super) fn unfinished(&self) -> impl Iterator<Item = &TaskRecord> {
        let tasks = self.journal.0.tasks.iter();
        tasks.filter(|record| record.phase != Phase::Done)
    }

    /// The worker is dead: what it had not written is lost.
    pub(super) fn is_cut_off(&mut self) {
        self.unwritten.clear();
    }

    pub(super) fn comes_to_it(&mut self) {
        for request in mem::take(&mut self.unwritten) {
            let _ = self.journal.request(&request);
        }
    }

    pub(super) fn put(&mut self, task: &TaskId, name: &str, bytes: Vec<u8>) {
        let folder = self.outputs.entry(task.as_str().to_owned()).or_default();
        folder.insert(name.to_owned(), bytes);
    }

    pub(super) fn read(&self, folder: &Path, file: &str) -> Option<Vec<u8>> {
        let task = folder.file_name()?.to_str()?;
        self.outputs.get(task)?.get(file).cloned()
    }

    /// The output folders that exist.
    pub(super) fn folders(&self) -> Vec<&String> {
        self.outputs.keys().collect()
    }

    fn commit(
        &mut self,
        requests: &[Vec<Change>],
    ) -> Result<Vec<Result<(), Refused>>, JournalError> {
        if self.is_full {
            if self.room == 0 {
                return Err(JournalError::Full("no space".into()));
            }
            self.room -= 1;
        }
        let kept = requests.iter().map(|request| self.kept(request));
        let kept: Vec<_> = kept.collect();
        if self.planted == Planted::AckBeforeCommit {
            let mut dreamt = self.journal.clone();
            for request in &self.unwritten {
                let _ = dreamt.request(request);
            }
            let answers = kept.iter().map(|request| dreamt.request(request)).collect();
            self.unwritten.extend(kept);
            return Ok(answers);
        }
        Ok(kept
            .iter()
            .map(|request| self.journal.request(request))
            .collect())
    }

    fn kept(&self, request: &[Change]) -> Vec<Change> {
        let forgets = |change: &&Change| {
            self.planted == Planted::CancelForgotten && matches!(change, Change::CancelRequested(_))
        };
        request
            .iter()
            .filter(|change| !forgets(change))
            .cloned()
            .collect()
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            tasks: self.unfinished().cloned().collect(),
            tombstones: Vec::new(),
            ..self.journal.0.clone()
        }
    }

    pub(super) fn household(&self) -> Household {
        let mut household = Household::default();
        for record in &self.journal.0.tasks {
            let task = record.spec.id.clone();
            match (record.phase, record.done_at) {
                (Phase::Done, Some(at)) => household.finished.push((task, at)),
                _ => {
                    household.containers.extend(record.container.clone());
                    household.unfinished.insert(task);
                }
            }
        }
        household.parked = self.parked.clone().into_iter().collect();
        household
    }

    fn room_for_a_log(&self) -> io::Result<()> {
        match self.is_full {
            true => Err(Errno::NOSPC.into()),
            false => Ok(()),
        }
    }
}

/// The journal's port.
#[derive(Clone)]
pub(super) struct Journal {
    world: Shared,
    /// A steady clock like the real journal's: setting the worker's clock does not change it.
    clock: SteadyClock,
}

impl Journal {
    pub(super) fn new(world: &Shared) -> Self {
        Self {
            world: world.clone(),
            clock: SteadyClock::started_by(&**world),
        }
    }
}

impl JournalStore for Journal {
    fn reader(&self) -> Result<Box<dyn JournalReader>, JournalError> {
        Ok(Box::new(self.clone()))
    }

    fn find(&mut self, task: &TaskId) -> Result<Option<Known>, JournalError> {
        let state = self.world.lock();
        if let Some(record) = state.disk.record(task) {
            return Ok(Some(Known::Record(Box::new(record.clone()))));
        }
        let mut stones = state.disk.journal.0.tombstones.iter();
        let stone = stones.find(|stone| stone.task == *task);
        Ok(stone.cloned().map(Known::Retired))
    }

    fn commit(
        &mut self,
        requests: &[Vec<Change>],
    ) -> Result<Vec<Result<(), Refused>>, JournalError> {
        let now = self.clock.now();
        self.world.change(|state| {
            let dead = || JournalError::Broken("the worker is dead".into());
            if state.dead {
                return Err(dead());
            }
            let dies = state.dies_here();
            if dies && state.random.bool() {
                state.die();
                return Err(dead());
            }
            let answers = state.disk.commit(requests);
            for (request, answer) in requests.iter().zip(answers.iter().flatten()) {
                let words: Vec<_> = request.iter().map(word).collect();
                state.note(format!("journal: {} {answer:?}", words.join(", ")));
                if answer.is_ok() {
                    state.written(request, now);
                }
            }
            if state.disk.planted == Planted::AckBeforeCommit {
                state.within(LATER, Due::Commits);
            }
            if dies {
                state.die();
            }
            answers
        })
    }

    fn make_room(&mut self) {
        let disk = &mut self.world.lock().disk;
        disk.room += mem::take(&mut disk.reserve);
    }

    fn tend(&mut self) -> Result<(), JournalError> {
        let disk = &mut self.world.lock().disk;
        if !disk.is_full {
            disk.reserve = RESERVE;
        }
        Ok(())
    }
}

impl State {
    /// An error if the worker is dead: then it writes nothing.
    fn writes(&self) -> io::Result<()> {
        match self.dead {
            true => Err(Errno::IO.into()),
            false => Ok(()),
        }
    }

    fn written(&mut self, request: &[Change], now: SystemTime) {
        for change in request {
            match change {
                Change::Redeliver(task) => self.cluster.wants_again(task),
                Change::Parked { task, reason } => {
                    self.disk.parked.remove(task);
                    if reason.is_some() {
                        self.disk.parked.insert(task.clone(), now);
                    }
                }
                Change::Delivered(task) => drop(self.disk.parked.remove(task)),
                _ => {}
            }
        }
    }
}

impl JournalReader for Journal {
    fn unfinished(&mut self) -> Result<Snapshot, JournalError> {
        Ok(self.world.lock().disk.snapshot())
    }

    fn household(&mut self) -> Result<Household, JournalError> {
        Ok(self.world.lock().disk.household())
    }
}

/// A change in few words, for the trace.
fn word(change: &Change) -> String {
    match change {
        Change::Accept(record) => format!("Accept {}", record.spec.id),
        Change::Withdraw(task) => format!("Withdraw {task}"),
        Change::Answered(task) => format!("Answered {task}"),
        Change::CancelRequested(task) => format!("CancelRequested {task}"),
        Change::Starting { task, attempt, .. } => format!("Starting {task} {attempt}"),
        Change::Running { task, container } => format!("Running {task} {container}"),
        Change::Ended { task, ending } => format!("Ended {task}: {}", ending.outcome),
        Change::UploadFailed(task) => format!("UploadFailed {task}"),
        Change::Uploaded { task, .. } => format!("Uploaded {task}"),
        Change::Sealed { task, verdict } => format!("Sealed {task}: {}", verdict.outcome),
        Change::ReportFailed(task) => format!("ReportFailed {task}"),
        Change::Parked { task, reason } => format!("Parked {task}: {reason:?}"),
        Change::Delivered(task) => format!("Delivered {task}"),
        Change::Redeliver(task) => format!("Redeliver {task}"),
        Change::Redelivered(task) => format!("Redelivered {task}"),
        Change::Done { task, .. } => format!("Done {task}"),
        Change::Retire(task) => format!("Retire {task}"),
        Change::ImagePulled { reference, .. } => format!("ImagePulled {reference}"),
        Change::ImageRemoved(id) => format!("ImageRemoved {id}"),
        Change::Set { key, .. } => format!("Set {key}"),
    }
}
