//! Tasks as JSON, for programs: one object on one line, with a `version`. Nothing is cut. Pure.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Moment, id, words};
use crate::{
    cli::{
        state::{outcome, word},
        top,
    },
    domain::{
        outcome::Exit,
        record::{Phase, TaskRecord},
    },
    ports::{admin::TaskView, state::TaskStory},
};

/// All tasks of that moment.
pub(super) fn line(moment: &Moment) -> String {
    let tasks = moment.tasks.iter();
    let tasks: Vec<_> = tasks
        .map(|(story, view)| task(story, view.as_ref()))
        .collect();
    let page = json!({
        "version": words::JSON_VERSION,
        "worker_runs": moment.is_live,
        "tasks": tasks,
        "log": moment.log,
    });
    format!("{page}\n")
}

fn task(story: &TaskStory, view: Option<&TaskView>) -> Value {
    match story {
        TaskStory::Kept { record, times } => {
            let mut task = kept(record, view);
            task["times"] = times
                .iter()
                .map(|(phase, at)| (word(*phase).to_owned(), time(*at)))
                .collect::<Map<_, _>>()
                .into();
            task
        }
        TaskStory::Retired { stone, at } => json!({
            "id": id(story),
            "phase": "retired",
            "outcome": stone.verdict.outcome.to_string(),
            "result_id": stone.result_id.0,
            "times": { "retired": time(*at) },
        }),
        TaskStory::Unreadable(lost) => json!({
            "id": id(story),
            "phase": "unreadable",
            "why": lost.why,
            "times": {},
        }),
    }
}

fn kept(record: &TaskRecord, view: Option<&TaskView>) -> Value {
    let spec = &record.spec;
    let ending = record.ending.as_ref();
    let exit = ending.and_then(|ending| ending.exit.as_ref());
    json!({
        "id": spec.id.as_str(),
        "phase": word(record.phase),
        "stage": view.map(|view| &view.stage),
        "image": spec.image,
        "image_ran": record.image,
        "command": spec.command,
        "name": spec.task_name,
        "user": spec.user_id,
        "type": spec.task_type,
        "asked_for": {
            "cpu": spec.wants.cpu,
            "memory_gib": spec.wants.memory,
            "storage_gib": spec.wants.storage,
            "gpu": spec.wants.gpu,
        },
        "settings": spec.asked.as_deref().map(|asked| words::settings(&asked.clone().redacted())),
        "holds": view.map(|view| json!({
            "cpu": view.cpu,
            "memory_gib": view.memory,
            "gpu": view.gpu,
        })),
        "attempt": record.attempt,
        "container": record.container.as_ref().map(|id| &id.0),
        "container_name": record.container_name.0,
        "cancel_requested": record.cancel_requested,
        "outcome": outcome(record),
        "exit_code": exit.map(|exit| exit.code),
        "run_ms": exit.map(|exit| words::millis(exit.duration)),
        "peak_memory_bytes": exit.and_then(|exit| exit.usage).map(|usage| usage.peak_memory),
        "used": used(exit, view),
        "outputs": ending.map(|ending| ending.outputs.files.iter().map(|file| json!({
            "path": file.path,
            "bytes": file.size,
        })).collect::<Vec<_>>()),
        "delivered": record.phase >= Phase::Delivered,
        "uploaded": record.uploaded,
        "upload_attempts": record.upload_attempts,
        "report_attempts": record.report_attempts,
        "parked": record.parked,
        "result_id": record.result_id.0,
    })
}

/// What the container uses while it runs, or used until its end.
fn used(exit: Option<&Exit>, view: Option<&TaskView>) -> Option<Value> {
    let live = view.and_then(|view| view.used);
    let live = live.map(|used| top::used_to_json(&used));
    live.or_else(|| exit?.usage.as_ref().map(words::usage))
}

fn time(at: std::time::SystemTime) -> Value {
    Timestamp::try_from(at).map_or(Value::Null, |at| format!("{at:.3}").into())
}

#[cfg(test)]
mod tests {
    use super::{super::specimen, *};

    #[test]
    fn a_program_is_told_what_a_person_is() {
        let moment = specimen::moment(vec![
            (
                specimen::parked("b"),
                Some(specimen::view("b", "reporting")),
            ),
            (specimen::retired("d"), None),
            (specimen::unreadable("e"), None),
        ]);

        let told: Value = serde_json::from_str(&line(&moment)).unwrap();

        assert_eq!(told["version"], 1);
        let [parked, retired, unreadable] = told["tasks"].as_array().unwrap().as_slice() else {
            panic!("{told}");
        };
        assert_eq!(parked["stage"], "reporting");
        assert_eq!(parked["exit_code"], 3);
        assert_eq!(parked["image_ran"], "r.example/alpine@sha256:1");
        assert_eq!(parked["parked"], "no such task");
        assert_eq!(parked["settings"]["network"], "none");
        assert_eq!(parked["settings"]["environment.TOKEN"], "(left out)");
        assert_eq!(parked["times"]["running"], "1970-01-01T00:16:41.500Z");
        assert_eq!(parked["holds"]["memory_gib"], 2.0);
        assert_eq!(retired["phase"], "retired");
        assert_eq!(unreadable["why"], "a phase that there is not");
    }
}
