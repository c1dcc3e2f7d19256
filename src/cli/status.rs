//! `worker-node status`: whether a worker is well, on one screen. The worker is asked through its socket; results are counted in
//! the journal, with or without a worker. Pure functions make the text (`page`, `json`).

mod json;
mod page;
#[cfg(test)]
mod specimen;

use std::path::{Path, PathBuf};

use super::{ask, tasks::Stories, words};
use crate::{
    domain::record::Phase,
    exit::Exit,
    ports::{
        admin::{ActorState, ActorView, Admin, AdminError, TaskView},
        state::{TaskStory, Wanted},
        status::WorkerStatus,
    },
    telemetry::history::process::last_words,
};

/// Bytes of the line about the last worker that are shown.
const LAST_WORDS: usize = 1_024;

/// The arguments of `worker-node status`, checked.
#[derive(Debug, PartialEq, Eq)]
pub struct StatusCommand {
    /// The worker's state folder.
    pub folder: PathBuf,
    pub(super) json: bool,
}

/// A worker at one moment: its own answers, and the results in its journal.
struct Moment {
    status: WorkerStatus,
    tasks: Vec<TaskView>,
    actors: Vec<ActorView>,
    results: Results,
    /// Bytes that are free on the disk of the state folder; `None`: the system did not say.
    disk_free: Option<u64>,
}

/// How many tasks and results the journal has that are not delivered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Results {
    waiting: usize,
    parked: usize,
    /// Tasks that have not ended.
    unended: usize,
}

impl Results {
    fn of(stories: &[TaskStory]) -> Self {
        let mut results = Self::default();
        for story in stories {
            let TaskStory::Kept { record, .. } = story else {
                continue;
            };
            match (&record.parked, record.phase) {
                (Some(_), _) => results.parked += 1,
                (None, Phase::Ended | Phase::Sealed) => results.waiting += 1,
                (None, Phase::Accepted | Phase::Starting | Phase::Running) => results.unended += 1,
                (None, Phase::Delivered | Phase::Done) => {}
            }
        }
        results
    }
}

/// Prints what was asked for.
pub fn perform(command: &StatusCommand, admin: &dyn Admin, stories: Stories<'_>) -> Exit {
    let runtime = match ask::runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    let stories = stories(&Wanted::Unfinished).map_or_else(|_| Vec::new(), |(_, found)| found);
    let results = Results::of(&stories);
    let moment = match runtime.block_on(asked(admin, results, command)) {
        Ok(moment) => moment,
        Err(error) => return unanswered(&error, results, &command.folder),
    };
    let troubles = page::troubles(&moment);
    let text = match command.json {
        true => json::line(&moment, &troubles),
        false => page::page(&moment, &troubles, &command.folder),
    };
    match (ask::put(&text), troubles.is_empty()) {
        (Exit::Clean, false) => Exit::Unexpected,
        (exit, _) => exit,
    }
}

async fn asked(
    admin: &dyn Admin,
    results: Results,
    command: &StatusCommand,
) -> Result<Moment, AdminError> {
    let status = admin.status().await?;
    let tasks = admin.tasks().await?;
    let actors = admin.actors().await?.actors;
    let disk = rustix::fs::statvfs(&command.folder).ok();
    Ok(Moment {
        status,
        tasks,
        actors,
        results,
        disk_free: disk.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize)),
    })
}

/// Says why nobody answers, when the last worker was seen and why it ended, and what is left in the journal.
fn unanswered(error: &AdminError, results: Results, folder: &Path) -> Exit {
    let exit = ask::unanswered(error);
    if let (AdminError::NoWorker(_), Ok(Some(told))) = (error, last_words(folder)) {
        eprintln!("the last one {}", words::foreign(&told, LAST_WORDS));
    }
    let Results {
        waiting,
        parked,
        unended,
    } = results;
    if results != Results::default() {
        eprintln!(
            "its journal has {unended} tasks that have not ended, {waiting} results that wait for the master and {parked} that are \
             parked; `worker-node tasks` shows them, and `worker-node events` what happened last"
        );
    }
    exit
}

fn is_down(actor: &ActorView) -> bool {
    match actor.state {
        ActorState::Running | ActorState::Stopped => false,
        ActorState::Starting | ActorState::Backoff | ActorState::Stopping | ActorState::Fatal => {
            true
        }
    }
}
