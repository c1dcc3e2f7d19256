//! Tasks as a table for people. Pure: a moment in, a page out.

use super::{Moment, columns, delivery, id, state, words};
use crate::{
    cli::state::outcome,
    ports::{admin::TaskView, state::TaskStory},
};

const HEADINGS: [&str; COLUMNS] = [
    "TASK", "IMAGE", "STATE", "SINCE", "HOLDS", "EXIT", "OUTCOME", "RESULT",
];

const COLUMNS: usize = 8;

/// Bytes of foreign text that are shown; the page about one task, and JSON, show all of it.
const SHOWN: usize = 48;

const NOTHING: &str = "-";

/// The table of the tasks, the oldest first.
pub(super) fn page(moment: &Moment, all: bool) -> String {
    if moment.tasks.is_empty() {
        return match all {
            true => "no task is known here\n",
            false => "no tasks; --all shows those that are done\n",
        }
        .to_owned();
    }
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    let tasks = moment.tasks.iter();
    rows.extend(tasks.map(|(story, view)| row(story, view.as_ref(), moment)));
    columns::aligned(&rows)
}

fn row(story: &TaskStory, view: Option<&TaskView>, moment: &Moment) -> [String; COLUMNS] {
    let name = words::foreign(id(story), SHOWN);
    let since = |at| words::time(moment.now.duration_since(at).unwrap_or_default());
    match story {
        TaskStory::Kept { record, times } => [
            name,
            words::foreign(&record.spec.image, SHOWN),
            state(record, view, moment.is_live),
            times
                .last()
                .map_or_else(|| NOTHING.to_owned(), |(_, at)| since(*at)),
            view.map_or_else(|| NOTHING.to_owned(), holds),
            record
                .ending
                .as_ref()
                .and_then(|ending| ending.exit.as_ref())
                .map_or_else(|| NOTHING.to_owned(), |exit| exit.code.to_string()),
            outcome(record).map_or_else(
                || NOTHING.to_owned(),
                |outcome| words::foreign(&outcome, SHOWN),
            ),
            delivery(record),
        ],
        TaskStory::Retired { stone, at } => [
            name,
            NOTHING.to_owned(),
            "retired".to_owned(),
            since(*at),
            NOTHING.to_owned(),
            NOTHING.to_owned(),
            words::foreign(&stone.verdict.outcome.to_string(), SHOWN),
            "delivered".to_owned(),
        ],
        TaskStory::Unreadable(_) => {
            let mut row = [NOTHING; COLUMNS].map(str::to_owned);
            row[0] = name;
            row[2] = "unreadable: its journal row is damaged".to_owned();
            row
        }
    }
}

/// What a task holds: `1.5 cores, 2 GiB, 1 GPU`.
pub(super) fn holds(view: &TaskView) -> String {
    let amounts = [(view.cpu, "cores"), (view.memory, "GiB"), (view.gpu, "GPU")];
    let held: Vec<_> = amounts
        .into_iter()
        .filter(|(amount, _)| *amount > 0.0)
        .map(|(amount, unit)| format!("{} {unit}", (amount * 100.0).round() / 100.0))
        .collect();
    match held.is_empty() {
        true => NOTHING.to_owned(),
        false => held.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::specimen, *};

    #[test]
    fn everything_that_is_known_of_a_task_stands_in_its_row() {
        let moment = specimen::moment(vec![
            (specimen::running("a"), Some(specimen::view("a", "running"))),
            (
                specimen::parked("b"),
                Some(specimen::view("b", "reporting")),
            ),
            (specimen::done("c\n\x1b[2J"), None),
            (specimen::unreadable("d"), None),
        ]);

        assert_eq!(
            page(&moment, true),
            "\
TASK          IMAGE   STATE                                        SINCE  HOLDS             EXIT  OUTCOME              RESULT
a             alpine  running                                      41s    1.5 cores, 2 GiB  -     -                    -
b             alpine  parked: the master does not take its result  32s    1.5 cores, 2 GiB  3     failed: exit code 3  parked after 8 tries
c\\n\\u{1b}[2J  alpine  done                                         2s     -                 0     succeeded            delivered
d             -       unreadable: its journal row is damaged       -      -                 -     -                    -
"
        );
    }

    #[test]
    fn a_container_without_a_worker_is_said_to_run_on() {
        for (story, words) in [
            (specimen::running("a"), "left running (no worker runs)"),
            (
                specimen::starting("a"),
                "left starting or running (no worker runs)",
            ),
        ] {
            let mut moment = specimen::moment(vec![(story, None)]);
            moment.is_live = false;

            let page = page(&moment, false);

            assert!(page.contains(words), "{page}");
        }
    }

    #[test]
    fn nothing_is_said_in_words() {
        let moment = specimen::moment(Vec::new());

        assert_eq!(page(&moment, true), "no task is known here\n");
        assert!(page(&moment, false).contains("--all"));
    }

    #[test]
    fn a_holding_of_nothing_is_a_dash() {
        let mut view = specimen::view("a", "reporting");
        (view.cpu, view.memory) = (0.0, 0.0);
        assert_eq!(holds(&view), "-");
        view.gpu = 1.0;
        assert_eq!(holds(&view), "1 GPU");
    }
}
