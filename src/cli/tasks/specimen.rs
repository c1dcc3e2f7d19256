//! Tasks to show, for the tests of what shows them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Moment;
use crate::{
    domain::{
        id::{ContainerId, ContainerName, PayloadDigest, ResultId, TaskId},
        outcome::{Exit, Failure, Outcome},
        record::{Ending, OutputFile, Outputs, Phase, TaskRecord, Tombstone, Verdict},
        spec::{TaskSpec, Wants},
        task_settings::{TaskSettings, Variable},
        usage::Usage,
    },
    ports::{
        admin::TaskView,
        state::{LostRow, TaskStory},
    },
};

/// When all of these tasks were accepted, since 1970.
const ACCEPTED: Duration = Duration::from_secs(1_000);

fn at(millis: u64) -> SystemTime {
    UNIX_EPOCH + ACCEPTED + Duration::from_millis(millis)
}

fn asked() -> TaskSettings {
    TaskSettings {
        environment: [("TOKEN".into(), Variable::Text("hunter2".into()))].into(),
        network: Some("none".into()),
        ..TaskSettings::default()
    }
}

fn record(task: &str) -> TaskRecord {
    let spec = TaskSpec {
        id: TaskId::new(task).unwrap(),
        image: "alpine".into(),
        command: "echo \x1b[2J".into(),
        wants: Wants {
            cpu: 1.5,
            memory: 2.0,
            ..Wants::default()
        },
        user_id: "u".into(),
        task_name: String::new(),
        task_type: String::new(),
        sla_multiplier: 1.0,
        submitted_at: 0,
        asked: Some(Box::new(asked())),
    };
    let name = ContainerName(format!("wn-{task}"));
    let result = ResultId(format!("r-{task}"));
    TaskRecord::accepted(spec, PayloadDigest([0; 32]), result, name, at(0))
}

/// A task whose container runs since 1.5 s after the acceptance.
pub(super) fn running(task: &str) -> TaskStory {
    TaskStory::Kept {
        record: Box::new(TaskRecord {
            phase: Phase::Running,
            image: Some("r.example/alpine@sha256:1".into()),
            container: Some(ContainerId("c1".into())),
            ..record(task)
        }),
        times: vec![(Phase::Accepted, at(0)), (Phase::Running, at(1_500))],
    }
}

/// A task whose container's start was written down 1 s after the acceptance, and no more.
pub(super) fn starting(task: &str) -> TaskStory {
    TaskStory::Kept {
        record: Box::new(TaskRecord {
            phase: Phase::Starting,
            ..record(task)
        }),
        times: vec![(Phase::Accepted, at(0)), (Phase::Starting, at(1_000))],
    }
}

/// A task whose row is damaged.
pub(super) fn unreadable(task: &str) -> TaskStory {
    TaskStory::Unreadable(LostRow {
        task: task.to_owned(),
        why: "a phase that there is not".to_owned(),
    })
}

/// A task that has ended, and whose result the master does not take.
pub(super) fn parked(task: &str) -> TaskStory {
    let TaskStory::Kept {
        mut record,
        mut times,
    } = running(task)
    else {
        unreachable!("it is kept");
    };
    record.phase = Phase::Ended;
    record.parked = Some("no such task".into());
    record.report_attempts = 8;
    let file = OutputFile {
        path: "a/b".into(),
        source: b"a/b".to_vec(),
        size: 7,
    };
    record.ending = Some(Ending {
        outcome: Outcome::Failed(Failure::ExitCode(3)),
        exit: Some(Exit {
            code: 3,
            duration: Duration::from_secs(2),
            usage: Some(used()),
            ..Exit::default()
        }),
        outputs: Outputs {
            files: vec![file],
            skipped: vec!["left out: x".into()],
        },
        notes: Vec::new(),
    });
    times.push((Phase::Ended, at(10_000)));
    TaskStory::Kept { record, times }
}

/// A task that is done.
pub(super) fn done(task: &str) -> TaskStory {
    let TaskStory::Kept {
        mut record,
        mut times,
    } = parked(task)
    else {
        unreachable!("it is kept");
    };
    record.phase = Phase::Done;
    record.parked = None;
    if let Some(ending) = &mut record.ending {
        ending.outcome = Outcome::Succeeded;
        ending.exit = Some(Exit::default());
    }
    times.push((Phase::Done, at(40_000)));
    TaskStory::Kept { record, times }
}

/// A task whose retention is over.
pub(super) fn retired(task: &str) -> TaskStory {
    TaskStory::Retired {
        stone: Tombstone {
            task: TaskId::new(task).unwrap(),
            digest: PayloadDigest([0; 32]),
            result_id: ResultId(format!("r-{task}")),
            verdict: Verdict {
                outcome: Outcome::Cancelled,
                trailer: String::new(),
            },
        },
        at: at(40_000),
    }
}

/// The worker's view of a task.
pub(super) fn view(task: &str, stage: &str) -> TaskView {
    TaskView {
        task: task.into(),
        stage: stage.into(),
        cpu: 1.5,
        memory: 2.0,
        gpu: 0.0,
        used: None,
    }
}

/// What a container used until its end.
pub(super) fn used() -> Usage {
    Usage {
        cpu: Duration::from_millis(520),
        peak_memory: 5 << 20,
        ..Usage::default()
    }
}

/// A moment with these tasks, 42.5 s after their acceptance.
pub(super) fn moment(tasks: Vec<(TaskStory, Option<TaskView>)>) -> Moment {
    Moment {
        now: at(41_000) + Duration::from_millis(1_500),
        log: Vec::new(),
        is_live: true,
        tasks,
    }
}
