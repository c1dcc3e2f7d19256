//! The tree of actors as a table for people. Pure: a moment in, a page out.

use super::{Crowd, columns, words};
use crate::ports::admin::{ActorKind, ActorState, ActorTree, ActorView};

const HEADINGS: [&str; COLUMNS] = [
    "NAME",
    "STATE",
    "UPTIME",
    "RESTARTS",
    "MAILBOX",
    "HANDLED",
    "LAST-MSG",
    "BUSY",
    "LAST-REASON",
];

const COLUMNS: usize = 9;

/// More tasks than this are counted, unless all are asked for.
const CROWD: usize = 20;

/// The longest name, and the longest reason, in bytes: what is longer is shown in full for one actor alone, and in JSON.
const NAME_LIMIT: usize = 64;
const REASON_LIMIT: usize = 120;

const NOTHING: &str = "-";

/// The tree of one worker.
pub(super) fn page(tree: &ActorTree, crowd: Crowd) -> String {
    let (subsystems, tasks): (Vec<_>, Vec<_>) = tree
        .actors
        .iter()
        .partition(|actor| actor.kind == ActorKind::Subsystem);
    let counted = crowd == Crowd::Counted && tasks.len() > CROWD;
    let shown = match counted {
        true => subsystems,
        false => [subsystems, tasks.clone()].concat(),
    };
    let mut table = vec![HEADINGS.map(str::to_owned), root(tree)];
    for (index, actor) in shown.iter().enumerate() {
        let last = index + 1 == shown.len() && !counted;
        table.push(row(actor, branch(last)));
    }
    let mut page = columns::aligned(&table);
    if counted {
        page.push_str(&format!("{}{}\n", branch(true), count(&tasks)));
    }
    page
}

fn branch(last: bool) -> &'static str {
    if last { "└─ " } else { "├─ " }
}

fn root(tree: &ActorTree) -> [String; COLUMNS] {
    let mut cells = [const { String::new() }; COLUMNS];
    cells[0] = format!("supervisor of {} (process {})", tree.worker, tree.process);
    cells
}

fn row(actor: &ActorView, branch: &str) -> [String; COLUMNS] {
    let or_nothing = |cell: Option<String>| cell.unwrap_or_else(|| NOTHING.to_owned());
    [
        format!("{branch}{}", words::foreign(&actor.name, NAME_LIMIT)),
        actor.state.to_string(),
        or_nothing(actor.uptime.map(words::time)),
        restarts(actor),
        actor.mailbox.to_string(),
        actor.handled.to_string(),
        or_nothing(actor.last_message.clone()),
        words::percent(actor.busy),
        or_nothing(
            actor
                .last_reason
                .as_deref()
                .map(|reason| words::foreign(reason, REASON_LIMIT)),
        ),
    ]
}

/// How often the actor was restarted, and how long ago the last time: `2 (7s ago)`.
pub(super) fn restarts(actor: &ActorView) -> String {
    match actor.last_restart {
        Some(age) => format!("{} ({} ago)", actor.restarts, words::time(age)),
        None => actor.restarts.to_string(),
    }
}

fn count(tasks: &[&ActorView]) -> String {
    use ActorState::{Backoff, Fatal, Running, Starting, Stopped, Stopping};
    let states = [Running, Starting, Backoff, Stopping, Stopped, Fatal];
    let counts: Vec<_> = states
        .into_iter()
        .filter_map(|state| {
            let number = tasks.iter().filter(|task| task.state == state).count();
            (number > 0).then(|| format!("{number} {state}"))
        })
        .collect();
    format!(
        "{} tasks: {} (--all shows each)",
        tasks.len(),
        counts.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::{super::specimen, *};

    fn tasks(number: usize) -> Vec<ActorView> {
        let task = |index| specimen::task(&format!("t{index:02}"));
        let mut actors = vec![specimen::subsystem("journal")];
        actors.extend((0..number).map(task));
        actors
    }

    #[test]
    fn everything_that_is_known_of_an_actor_stands_in_its_row() {
        let tree = specimen::worker(vec![
            specimen::subsystem("journal"),
            specimen::failed("registry"),
            specimen::task("a"),
        ]);

        assert_eq!(
            page(&tree, Crowd::Counted),
            "\
NAME         STATE    UPTIME  RESTARTS    MAILBOX  HANDLED  LAST-MSG  BUSY   LAST-REASON
supervisor of worker-1 (process 42)
├─ journal   RUNNING  3m2s    0           0        0        -         0.0%   -
├─ registry  BACKOFF  -       2 (7s ago)  4        120      Commit    12.5%  panicked at a.rs:1:2: oh\\n\\u{1b}[2J
└─ task(a)   RUNNING  3m2s    0           0        0        -         0.0%   -
"
        );
    }

    #[test]
    fn twenty_tasks_are_shown_and_more_are_counted() {
        let twenty = page(&specimen::worker(tasks(20)), Crowd::Counted);
        let mut more = tasks(21);
        more[3].state = ActorState::Backoff;
        let more = specimen::worker(more);
        let counted = page(&more, Crowd::Counted);

        assert_eq!(twenty.matches("task(").count(), 20);
        assert!(!counted.contains("task("), "{counted}");
        assert!(
            counted.ends_with("└─ 21 tasks: 20 RUNNING, 1 BACKOFF (--all shows each)\n"),
            "{counted}"
        );
        assert_eq!(counted.matches("└─").count(), 1, "one end: {counted}");
        assert_eq!(page(&more, Crowd::Shown).matches("task(").count(), 21);
    }

    #[test]
    fn a_tasks_name_can_neither_forge_a_row_nor_fill_the_screen() {
        let tree = specimen::worker(vec![
            specimen::task("a\njournal  RUNNING"),
            specimen::task(&"x".repeat(1_000)),
        ]);

        let page = page(&tree, Crowd::Counted);

        assert_eq!(page.lines().count(), 4, "{page}");
        assert!(page.lines().all(|line| line.chars().count() < 200));
    }
}
