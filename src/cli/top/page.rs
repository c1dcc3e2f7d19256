//! The page of `worker-node top` for people. Pure: a moment in, a page out.

use super::{Moment, both};
use crate::{
    cli::{columns, words},
    ports::admin::TaskView,
};

const HEADINGS: [&str; COLUMNS] = [
    "TASK",
    "STATE",
    "CPU",
    "OF",
    "MEMORY",
    "OF",
    "PEAK",
    "CPU TIME",
    "DISK R / W",
    "NET RX / TX",
    "PIDS",
];

const COLUMNS: usize = 11;

/// Bytes of a task's id that are shown.
const SHOWN: usize = 48;

const NOTHING: &str = "-";

/// Bytes in a GiB.
const GIB: f64 = 1_073_741_824.0;

/// What the machine has and what is used of it, and a row for each task.
pub(super) fn page(moment: &Moment) -> String {
    let mut page = head(moment);
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    rows.extend(moment.tasks.iter().map(row));
    if !moment.tasks.is_empty() {
        page.push('\n');
        page.push_str(&columns::aligned(&rows));
    }
    page
}

fn head(moment: &Moment) -> String {
    let Moment {
        worker,
        room,
        tasks,
    } = moment;
    let sum = |of: fn(&TaskView) -> f64| tasks.iter().map(of).sum::<f64>();
    let busy = sum(|task| task.used.map_or(0.0, |used| used.cores));
    let used = tasks.iter().filter_map(|task| task.used);
    let memory = used.map(|used| used.usage.memory).sum();
    format!(
        "{}: {} of {} tasks; of {} cores {} are held and {busy:.2} busy; of {} GiB of memory {} are held and {} used\n",
        words::foreign(worker, SHOWN),
        tasks.len(),
        room.tasks,
        number(room.cpu),
        number(sum(|task| task.cpu)),
        number(room.memory),
        number(sum(|task| task.memory)),
        words::bytes(memory),
    )
}

fn row(task: &TaskView) -> [String; COLUMNS] {
    let bound = |amount: f64, shown: String| match amount > 0.0 {
        true => shown,
        false => NOTHING.to_owned(),
    };
    let mut row = [NOTHING; COLUMNS].map(str::to_owned);
    row[0] = words::foreign(&task.task, SHOWN);
    row[1] = words::foreign(&task.stage, SHOWN);
    row[3] = bound(task.cpu, number(task.cpu));
    row[5] = bound(task.memory, size(task.memory));
    if let Some(used) = &task.used {
        let usage = &used.usage;
        row[2] = format!("{:.2}", used.cores);
        row[4] = words::bytes(usage.memory);
        row[6] = words::bytes(usage.peak_memory);
        row[7] = format!("{:.1}s", usage.cpu.as_secs_f64());
        row[8] = both(&usage.disk);
        row[9] = usage
            .network
            .as_ref()
            .map_or_else(|| "the machine's".to_owned(), both);
        row[10] = usage.pids.to_string();
    }
    row
}

fn number(amount: f64) -> String {
    ((amount * 100.0).round() / 100.0).to_string()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "shown with one decimal; saturates"
)]
fn size(gib: f64) -> String {
    words::bytes((gib * GIB) as u64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        domain::usage::{Transfer, Usage, Use},
        ports::status::Room,
    };

    fn task(name: &str, used: Option<Use>) -> TaskView {
        TaskView {
            task: name.to_owned(),
            stage: "running".to_owned(),
            cpu: 1.5,
            memory: 2.0,
            gpu: 0.0,
            used,
        }
    }

    fn moment(tasks: Vec<TaskView>) -> Moment {
        Moment {
            worker: "w-1".to_owned(),
            room: Room {
                cpu: 8.0,
                memory: 15.5,
                gpu: 0.0,
                tasks: 256,
            },
            tasks,
        }
    }

    #[test]
    fn a_row_says_what_is_used_of_what_is_held() {
        let used = Use {
            cores: 0.524,
            usage: Usage {
                cpu: Duration::from_millis(61_240),
                memory: 300 << 20,
                peak_memory: 400 << 20,
                pids: 7,
                disk: Transfer {
                    into: 1_536,
                    out: 0,
                },
                network: None,
            },
        };
        let mut unbounded = task("b\x1b[2J", None);
        unbounded.memory = 0.0;

        assert_eq!(
            page(&moment(vec![task("a", Some(used)), unbounded])),
            "\
w-1: 2 of 256 tasks; of 8 cores 3 are held and 0.52 busy; of 15.5 GiB of memory 2 are held and 300.0 MiB used

TASK        STATE    CPU   OF   MEMORY     OF       PEAK       CPU TIME  DISK R / W     NET RX / TX    PIDS
a           running  0.52  1.5  300.0 MiB  2.0 GiB  400.0 MiB  61.2s     1.5 KiB / 0 B  the machine's  7
b\\u{1b}[2J  running  -     1.5  -          -        -          -         -              -              -
"
        );
    }

    #[test]
    fn no_tasks_are_no_table() {
        assert_eq!(page(&moment(Vec::new())).lines().count(), 1);
    }
}
