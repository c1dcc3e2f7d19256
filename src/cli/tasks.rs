//! `worker-node tasks`: the tasks of a worker, or one of them in full. A task, its steps and its end are read from the journal in
//! the state folder, with or without a worker; a running one also says at which stage each task is. Pure functions make the text
//! (`table`, `one`, `json`).

mod json;
mod one;
mod table;

use std::{
    io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use tokio::runtime::Runtime;

use super::{
    args::TasksArgs,
    ask, columns,
    logs::{self, Log},
    page::{self, Paper},
    state::unread,
    words,
};
use crate::{
    domain::{
        id::TaskId,
        record::{Phase, TaskRecord},
    },
    exit::Exit,
    ports::{
        admin::{Admin, AdminError, TaskView},
        clock::{Clock, SystemClock},
        spool::{LogRange, Start},
        state::{LockFacts, TaskStory, Wanted},
    },
};

/// Time between two pages of `--watch`.
const PERIOD: Duration = Duration::from_secs(1);

/// The arguments of `worker-node tasks`, checked.
#[derive(Debug, PartialEq)]
pub struct TasksCommand {
    /// The worker's state folder.
    pub folder: PathBuf,
    wanted: Result<Wanted, String>,
    watch: bool,
    json: bool,
}

/// Reads what the journal knows of tasks, and whether a worker has it open.
pub type Stories<'a> = &'a dyn Fn(&Wanted) -> io::Result<(LockFacts, Vec<TaskStory>)>;

impl TasksCommand {
    pub(super) fn new(args: TasksArgs, folder: PathBuf) -> Self {
        let wanted = match args.task {
            Some(task) => TaskId::new(task.as_str())
                .map(Wanted::One)
                .map_err(|_| task),
            None if args.all => Ok(Wanted::All),
            None => Ok(Wanted::Unfinished),
        };
        Self {
            folder,
            wanted,
            watch: args.watch,
            json: args.json,
        }
    }
}

/// How many of one task's last log lines are shown, and how many bytes of each.
const LINES: u64 = 10;
const LINE: usize = 200;

/// Tasks at one moment.
struct Moment {
    now: SystemTime,
    /// The last lines of the one task's log; empty where more than one is shown.
    log: Vec<String>,
    /// Whether a worker runs on the state folder.
    is_live: bool,
    /// The tasks, the oldest first, each with the running worker's view of it, if that has the task.
    tasks: Vec<(TaskStory, Option<TaskView>)>,
}

/// Prints what was asked for.
pub fn perform(
    command: &TasksCommand,
    admin: &dyn Admin,
    stories: Stories<'_>,
    log: Log<'_>,
) -> Exit {
    let wanted = match &command.wanted {
        Ok(wanted) => wanted,
        Err(task) => return unknown(task),
    };
    let runtime = match ask::runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    let mut paper = Paper::standard();
    loop {
        // The journal first: it has the tasks without a worker too, and says whether there is one to be asked.
        let (lock, found) = match stories(wanted) {
            Ok(found) => found,
            Err(error) => return unread(&command.folder, &error),
        };
        if let Wanted::One(task) = wanted
            && found.is_empty()
        {
            return unknown(task.as_str());
        }
        let mut moment = moment(lock, found, live(&runtime, lock, admin));
        if let Wanted::One(task) = wanted {
            moment.log = last_lines(&runtime, task, log);
        }
        let page = match (wanted, command.json) {
            (Wanted::One(_), false) => one::page(&moment),
            (_, false) => table::page(&moment, *wanted == Wanted::All),
            (_, true) => json::line(&moment),
        };
        let put = match command.watch {
            true => paper.turn(&page),
            false => paper.put(&page),
        };
        if let Err(error) = put {
            return page::unwritten(&error);
        }
        if !command.watch {
            return Exit::Clean;
        }
        runtime.block_on(tokio::time::sleep(PERIOD));
    }
}

/// The tasks of the running worker. If it does not answer, a warning says so, and what is durable is shown all the same.
fn live(runtime: &Runtime, lock: LockFacts, admin: &dyn Admin) -> Option<Vec<TaskView>> {
    if lock == LockFacts::Free {
        return None;
    }
    match runtime.block_on(admin.tasks()) {
        Ok(tasks) => Some(tasks),
        Err(AdminError::NoWorker(_)) => None,
        Err(error) => {
            eprintln!("warning: {error}; what its journal says is shown");
            None
        }
    }
}

/// The last lines of a task's log. If it cannot be read, a line says so in their place.
fn last_lines(runtime: &Runtime, task: &TaskId, log: Log<'_>) -> Vec<String> {
    let range = LogRange {
        start: Start::LastLines(LINES),
        ..LogRange::default()
    };
    let lines = match log(task, range) {
        Ok(Some(cursor)) => runtime.block_on(logs::last_lines(cursor, LINE)),
        Ok(None) => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    lines.unwrap_or_else(|error| vec![format!("(the log cannot be read: {error})")])
}

fn moment(lock: LockFacts, found: Vec<TaskStory>, live: Option<Vec<TaskView>>) -> Moment {
    let live = live.unwrap_or_default();
    let view = |story: &TaskStory| live.iter().find(|view| view.task == id(story));
    Moment {
        now: SystemClock.now(),
        log: Vec::new(),
        is_live: lock != LockFacts::Free,
        tasks: found
            .into_iter()
            .map(|story| {
                let view = view(&story).cloned();
                (story, view)
            })
            .collect(),
    }
}

fn id(story: &TaskStory) -> &str {
    match story {
        TaskStory::Kept { record, .. } => record.spec.id.as_str(),
        TaskStory::Retired { stone, .. } => stone.task.as_str(),
        TaskStory::Unreadable(lost) => &lost.task,
    }
}

fn unknown(task: &str) -> Exit {
    let task = words::foreign(task, 1_024);
    eprintln!(
        "error: nothing is known of a task {task}: it was never accepted here, or its retention is long over; \
         `worker-node tasks --all` shows those that are known"
    );
    Exit::Usage
}

/// The state of a task, in plain words.
fn state(record: &TaskRecord, view: Option<&TaskView>, is_live: bool) -> String {
    if record.parked.is_some() {
        return "parked: the master does not take its result".to_owned();
    }
    let stage = view.map(|view| view.stage.as_str());
    let words = match (stage, record.phase) {
        (_, Phase::Done) => "done",
        (Some("accepted"), _) | (None, Phase::Accepted) => "accepted",
        (Some("pulling"), _) => "pulling its image",
        (Some("creating"), _) => "creating its container",
        (Some("starting"), _) => "starting",
        (Some("running"), _) => "running",
        (Some("stopping"), _) => "stopping",
        (Some("collecting"), _) => "collecting its output",
        (Some("uploading"), _) => "uploading its output",
        (Some("cleaning"), _) | (None, Phase::Delivered) => "cleaning up",
        (None, Phase::Starting) => match is_live {
            true => "starting",
            // Until half a second after its start, the journal does not say yet that a task runs.
            false => "left starting or running (no worker runs)",
        },
        (None, Phase::Running) => match is_live {
            true => "running",
            false => "left running (no worker runs)",
        },
        (Some("reporting"), _) | (None, Phase::Ended | Phase::Sealed) => {
            "waiting for the master to take its result"
        }
        (Some(other), _) => other,
    };
    words.to_owned()
}

/// What has become of a task's result.
fn delivery(record: &TaskRecord) -> String {
    match record.phase {
        Phase::Accepted | Phase::Starting | Phase::Running => "-".to_owned(),
        Phase::Ended | Phase::Sealed => match (&record.parked, record.report_attempts) {
            (Some(_), tries) => format!("parked after {tries} tries"),
            (None, 0) => "on its way".to_owned(),
            (None, tries) => format!("tried {tries} times"),
        },
        Phase::Delivered | Phase::Done => "delivered".to_owned(),
    }
}

#[cfg(test)]
mod specimen;
