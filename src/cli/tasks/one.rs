//! One task in full, for people: what it is, each step with its time, its container, its end and what became of its result. Pure.

use jiff::Timestamp;

use super::{Moment, state, table, words};
use crate::{
    cli::state::{outcome, word},
    config::profiles,
    domain::{
        record::{Phase, TaskRecord},
        usage::Use,
    },
    ports::{admin::TaskView, state::TaskStory},
};

/// Bytes that are shown: of an id, a name or an image; and of a command or a reason.
const NAME_LIMIT: usize = 1_024;
const TEXT_LIMIT: usize = 4_096;

/// How many output files are named; the others are counted.
const FILES: usize = 20;

/// The page about the one task of that moment.
pub(super) fn page(moment: &Moment) -> String {
    let mut page = String::new();
    for (story, view) in &moment.tasks {
        let facts = match story {
            TaskStory::Kept { record, times } => {
                let mut facts = kept(record, view.as_ref(), moment.is_live);
                let steps = times.iter();
                facts.extend(steps.map(|(phase, at)| (word(*phase), moment_of(*at))));
                facts
            }
            TaskStory::Retired { stone, at } => vec![
                ("task", words::foreign(stone.task.as_str(), NAME_LIMIT)),
                (
                    "state",
                    "retired: its log and its record are gone".to_owned(),
                ),
                (
                    "outcome",
                    words::foreign(&stone.verdict.outcome.to_string(), TEXT_LIMIT),
                ),
                ("result id", words::foreign(&stone.result_id.0, NAME_LIMIT)),
                ("retired", moment_of(*at)),
            ],
            TaskStory::Unreadable(lost) => vec![
                ("task", words::foreign(&lost.task, NAME_LIMIT)),
                ("state", "unreadable: its journal row is damaged".to_owned()),
                ("why", words::foreign(&lost.why, TEXT_LIMIT)),
            ],
        };
        for (name, value) in facts {
            page.push_str(&format!("{name:<12}{value}\n"));
        }
    }
    if !moment.log.is_empty() {
        page.push_str("log, its last lines (`worker-node logs` has all of them)\n");
    }
    for line in &moment.log {
        page.push_str(&format!("  {line}\n"));
    }
    page
}

fn kept(
    record: &TaskRecord,
    view: Option<&TaskView>,
    is_live: bool,
) -> Vec<(&'static str, String)> {
    let spec = &record.spec;
    let name = |text: &str| words::foreign(text, NAME_LIMIT);
    let mut facts = vec![
        ("task", name(spec.id.as_str())),
        ("state", state(record, view, is_live)),
        ("image", name(&spec.image)),
        (
            "image ran",
            record.image.as_deref().map(name).unwrap_or_default(),
        ),
        ("command", words::foreign(&spec.command, TEXT_LIMIT)),
        ("name", name(&spec.task_name)),
        ("user", name(&spec.user_id)),
        ("type", name(&spec.task_type)),
        ("asked for", asked_for(record)),
        ("settings", settings(record)),
        (
            "holds",
            view.map(table::holds)
                .filter(|held| held != "-")
                .unwrap_or_default(),
        ),
        (
            "uses",
            view.and_then(|view| view.used)
                .map(uses)
                .unwrap_or_default(),
        ),
        (
            "container",
            record
                .container
                .as_ref()
                .map(|id| format!("{} ({})", name(&id.0), name(&record.container_name.0)))
                .unwrap_or_default(),
        ),
        ("attempt", record.attempt.to_string()),
        (
            "cancel",
            match record.cancel_requested {
                true => "it was asked to end".to_owned(),
                false => String::new(),
            },
        ),
        (
            "outcome",
            outcome(record)
                .map(|outcome| words::foreign(&outcome, TEXT_LIMIT))
                .unwrap_or_default(),
        ),
    ];
    facts.extend(end(record));
    if record.phase >= Phase::Ended {
        facts.push(("delivery", delivery(record)));
    }
    facts.push(("result id", name(&record.result_id.0)));
    // A fact that the task has not is left out.
    facts.retain(|(_, value)| !value.is_empty());
    facts
}

/// What the container used when the worker last looked.
fn uses(Use { usage, cores }: Use) -> String {
    format!(
        "{cores:.2} cores, {} of memory; so far {:.2} s of CPU time, at most {} of memory",
        words::bytes(usage.memory),
        usage.cpu.as_secs_f64(),
        words::bytes(usage.peak_memory),
    )
}

fn asked_for(record: &TaskRecord) -> String {
    let wants = &record.spec.wants;
    let amount = |amount: f64, unit: &str| match amount {
        0.0 => format!("any number of {unit}"),
        amount => format!("{amount} {unit}"),
    };
    format!(
        "{}, {} of memory, {} of storage, {} GPUs",
        amount(wants.cpu, "cores"),
        amount(wants.memory, "GiB"),
        amount(wants.storage, "GiB"),
        wants.gpu
    )
}

/// What else it asks for: no value of a variable.
fn settings(record: &TaskRecord) -> String {
    let asked = record.spec.asked.as_deref().cloned();
    let told = profiles::told(&asked.unwrap_or_default().redacted());
    let pairs = told.iter().map(|(key, value)| format!("{key} = {value}"));
    words::foreign(&pairs.collect::<Vec<_>>().join(", "), TEXT_LIMIT)
}

/// How the task's container ended, and the files that it left.
fn end(record: &TaskRecord) -> Vec<(&'static str, String)> {
    let Some(ending) = &record.ending else {
        return Vec::new();
    };
    let mut facts = Vec::new();
    if let Some(exit) = &ending.exit {
        let mut words = format!("code {} after {}", exit.code, words::time(exit.duration));
        if let Some(usage) = &exit.usage {
            words.push_str(&format!(
                ", {:.2} s of CPU time, at most {} of memory",
                usage.cpu.as_secs_f64(),
                words::bytes(usage.peak_memory)
            ));
        }
        if exit.oom_killed {
            words.push_str(", something in it ran out of memory");
        }
        facts.push(("exit", words));
    }
    let files = &ending.outputs.files;
    for file in files.iter().take(FILES) {
        let path = words::foreign(&file.path, NAME_LIMIT);
        facts.push(("output", format!("{path} ({} bytes)", file.size)));
    }
    if files.len() > FILES {
        let more = files.len() - FILES;
        facts.push(("output", format!("and {more} more files")));
    }
    let remarks = ending.outputs.skipped.iter().chain(&ending.notes);
    facts.extend(remarks.map(|remark| ("remark", words::foreign(remark, TEXT_LIMIT))));
    facts
}

fn delivery(record: &TaskRecord) -> String {
    let mut words = super::delivery(record);
    if let Some(reason) = &record.parked {
        let reason = words::foreign(reason, TEXT_LIMIT);
        words.push_str(&format!(
            ": {reason}; `worker-node outbox retry` sends it again now"
        ));
    }
    let uploads = match (record.uploaded, record.upload_attempts) {
        (true, 0) => String::new(),
        (true, failed) => format!("; its upload failed {failed} times before"),
        (false, failed) => format!("; its output is not uploaded yet ({failed} tries failed)"),
    };
    words + &uploads
}

/// A time in UTC, to the millisecond.
fn moment_of(at: std::time::SystemTime) -> String {
    Timestamp::try_from(at).map_or_else(|_| "?".to_owned(), |at| format!("{at:.3}"))
}

#[cfg(test)]
mod tests {
    use super::{super::specimen, *};

    #[test]
    fn one_task_is_told_from_its_offer_to_the_delivery_of_its_result() {
        let mut moment = specimen::moment(vec![(specimen::parked("b"), None)]);
        moment.log = vec!["a line".into()];

        assert_eq!(
            page(&moment),
            "\
task        b
state       parked: the master does not take its result
image       alpine
image ran   r.example/alpine@sha256:1
command     echo \\u{1b}[2J
user        u
asked for   1.5 cores, 2 GiB of memory, any number of GiB of storage, 0 GPUs
settings    environment.TOKEN = \"(left out)\", network = \"none\"
container   c1 (wn-b)
attempt     1
outcome     failed: exit code 3
exit        code 3 after 2s, 0.52 s of CPU time, at most 5.0 MiB of memory
output      a/b (7 bytes)
remark      left out: x
delivery    parked after 8 tries: no such task; `worker-node outbox retry` sends it again now; its output is not uploaded yet (0 tries failed)
result id   r-b
accepted    1970-01-01T00:16:40.000Z
running     1970-01-01T00:16:41.500Z
ended       1970-01-01T00:16:50.000Z
log, its last lines (`worker-node logs` has all of them)
  a line
"
        );
    }

    #[test]
    fn of_a_retired_task_there_is_its_outcome() {
        let page = page(&specimen::moment(vec![(specimen::retired("d"), None)]));

        assert!(page.contains("retired: its log"), "{page}");
        assert!(page.contains("outcome     cancelled"), "{page}");
    }

    #[test]
    fn of_a_damaged_row_it_is_said_why_it_cannot_be_understood() {
        let page = page(&specimen::moment(vec![(specimen::unreadable("e"), None)]));

        assert_eq!(
            page,
            "\
task        e
state       unreadable: its journal row is damaged
why         a phase that there is not
"
        );
    }
}
