//! `worker-node top`: what the tasks of the worker that runs here use of the machine. The worker looks at each container every few
//! seconds; what is shown is made by pure functions.

mod page;

use std::{cmp::Ordering, path::PathBuf, time::Duration};

use clap::ValueEnum;
use serde_json::{Value, json};

use super::{
    ask,
    page::{self as paper, Paper},
    words,
};
use crate::{
    domain::usage::Transfer,
    exit::Exit,
    ports::{
        admin::{Admin, AdminError, TaskView},
        status::Room,
    },
};

/// Time between two pages.
const PERIOD: Duration = Duration::from_secs(1);

/// The arguments of `worker-node top`, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopCommand {
    /// The worker's state folder.
    pub folder: PathBuf,
    pub(super) sort: Sort,
    pub(super) once: bool,
    pub(super) json: bool,
}

/// Which tasks come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Sort {
    /// Those that keep most cores busy.
    Cpu,
    /// Those that use most memory.
    Memory,
    /// By name.
    Task,
}

/// A worker's tasks at one moment.
struct Moment {
    worker: String,
    room: Room,
    tasks: Vec<TaskView>,
}

/// Prints the page: every second on a terminal, once where the output goes elsewhere.
pub fn perform(command: &TopCommand, admin: &dyn Admin) -> Exit {
    let runtime = match ask::runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    let mut paper = Paper::standard();
    let is_once = command.once || command.json || !paper.is_screen();
    loop {
        let moment = match runtime.block_on(asked(admin, command.sort)) {
            Ok(moment) => moment,
            Err(error) => return ask::unanswered(&error),
        };
        let put = match (command.json, is_once) {
            (true, _) => paper.put(&format!("{}\n", line(&moment))),
            (false, true) => paper.put(&page::page(&moment)),
            (false, false) => paper.turn(&page::page(&moment)),
        };
        if let Err(error) = put {
            return paper::unwritten(&error);
        }
        if is_once {
            return Exit::Clean;
        }
        runtime.block_on(tokio::time::sleep(PERIOD));
    }
}

async fn asked(admin: &dyn Admin, sort: Sort) -> Result<Moment, AdminError> {
    let status = admin.status().await?;
    let mut tasks = admin.tasks().await?;
    tasks.sort_by(|one, other| order(sort, one, other).then_with(|| one.task.cmp(&other.task)));
    Ok(Moment {
        worker: status.worker.to_string(),
        room: status.room,
        tasks,
    })
}

/// The larger first; tasks whose use is not known yet last.
fn order(sort: Sort, one: &TaskView, other: &TaskView) -> Ordering {
    let cores = |task: &TaskView| task.used.map_or(-1.0, |used| used.cores);
    let memory = |task: &TaskView| task.used.map(|used| used.usage.memory);
    match sort {
        Sort::Cpu => cores(other).total_cmp(&cores(one)),
        Sort::Memory => memory(other).cmp(&memory(one)),
        Sort::Task => Ordering::Equal,
    }
}

/// The moment for programs.
fn line(moment: &Moment) -> Value {
    let tasks = moment.tasks.iter().map(|task| {
        json!({
            "id": task.task,
            "stage": task.stage,
            "holds": { "cpu": task.cpu, "memory_gib": task.memory, "gpu": task.gpu },
            "used": task.used.map(|used| used_to_json(&used)),
        })
    });
    json!({
        "version": words::JSON_VERSION,
        "worker": moment.worker,
        "tasks": tasks.collect::<Vec<_>>(),
    })
}

/// What a container uses, in the form of every command's JSON.
pub(super) fn used_to_json(used: &crate::domain::usage::Use) -> Value {
    let mut told = words::usage(&used.usage);
    told["cores"] = json!(used.cores);
    told
}

/// Bytes in and out: `12 MiB / 3.4 KiB`.
fn both(transfer: &Transfer) -> String {
    format!(
        "{} / {}",
        words::bytes(transfer.into),
        words::bytes(transfer.out)
    )
}
