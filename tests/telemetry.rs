//! The lines by which operators know the existing worker, as the log shows them. The logger is the process's: so this file has
//! one test.

use std::{
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use env_logger::Target;
use log::Level;
use worker_node::{
    domain::{
        id::{ContainerId, TaskId, WorkerId},
        outcome::{Exit, Failure, Outcome},
        spec::{MachineTotals, TaskSpec, Wants},
        usage::Usage,
    },
    ports::master::{MasterAddress, Registration},
    telemetry::{
        LogFormat, logger_into,
        operator::{self, End, Reported},
        voice::Outage,
    },
};

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .expect("no panic before")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn registration() -> Registration {
    Registration {
        worker: WorkerId::new("worker-1").expect("a name"),
        address: "10.0.0.7:50052".into(),
        totals: MachineTotals::default(),
    }
}

fn spec(task: &TaskId) -> TaskSpec {
    TaskSpec {
        id: task.clone(),
        image: "busybox\nERROR forged".into(),
        command: "true".into(),
        wants: Wants {
            cpu: 0.5,
            ..Wants::default()
        },
        user_id: String::new(),
        task_name: String::new(),
        task_type: String::new(),
        sla_multiplier: 1.0,
        submitted_at: 0,
        asked: None,
    }
}

fn speak_of_the_worker() {
    let (registration, master) = (registration(), MasterAddress("m:50051".into()));
    let (mut refused, mut engine) = (Outage::default(), Outage::default());
    operator::starting(&registration.worker, Path::new("/s"), &"unix:///x");
    operator::master_address(&master);
    operator::listening("127.0.0.1:50052".parse().expect("an address"));
    for _ in 0..2 {
        operator::registration_refused(&mut refused, &registration, "not authorized");
        operator::engine_away(&mut engine, "unix:///x", &"no socket");
    }
    for _ in 0..2 {
        operator::engine_back(&mut engine, "unix:///x", "20.10.24");
    }
    operator::registered(&master, &registration);
    operator::ready();
    operator::heartbeat_sent(Level::Info, 30.04, 45.2, 0);
    operator::heartbeat_sent(Level::Debug, 1.0, 1.0, 0);
}

fn speak_of_a_task() {
    let task = TaskId::new("task-1").expect("an id");
    let container = ContainerId("abc123def4567890".into());
    operator::task_received(&spec(&task));
    operator::task_starting(&task, 1);
    operator::task_creating(&task);
    operator::task_container_starting(&task, &container);
    operator::task_running(&task);
    operator::task_cancelling(&task);
    operator::task_refused(Level::Info, &task, "no room: cpu 1 asked, 0.5 free");
    operator::task_refused(Level::Debug, &task, "no room: cpu 1 asked, 0.3 free");
    operator::task_ended(&task, &Outcome::Succeeded);
    operator::task_reported(Level::Debug, &task);
    speak_of_its_end(&task);
}

fn speak_of_its_end(task: &TaskId) {
    let exit = Exit {
        code: 3,
        duration: Duration::from_millis(2_104),
        usage: Some(Usage {
            cpu: Duration::from_millis(520),
            peak_memory: 64 << 20,
            ..Usage::default()
        }),
        ..Exit::default()
    };
    let end = |outcome, exit| End {
        outcome,
        exit,
        image: "busybox",
    };
    let failed = Outcome::Failed(Failure::ExitCode(3));
    operator::task_over(task, end(&Outcome::Succeeded, None), Reported::Yes);
    operator::task_over(task, end(&Outcome::Cancelled, None), Reported::Yes);
    operator::task_over(task, end(&failed, Some(&exit)), Reported::NotYet);
    operator::task_reported(Level::Info, task);
}

/// Level and text of each line, in order.
const LINES: &[&str] = &[
    "INFO  operator: Starting worker node: worker-1 worker=worker-1 version=",
    "INFO  operator: Master address: m:50051 master=m:50051",
    "INFO  operator: ✓ gRPC server listening on 127.0.0.1:50052 address=127.0.0.1:50052",
    "WARN  operator: The master refuses this worker; its administrator must type: register worker-1 10.0.0.7:50052 ",
    "WARN  operator: Docker engine away: unix:///x; running tasks are left alone, new ones are refused for now \
     address=unix:///x reason=\"no socket\"",
    "INFO  operator: ✓ Docker engine back",
    "INFO  operator: ✓ Worker registered: worker-1 at 10.0.0.7:50052 ",
    "INFO  operator: ✓ Ready to receive tasks",
    "INFO  operator: Heartbeat sent: CPU=30.0%, Memory=45.2%, Tasks=0 cpu=30.04 memory=45.2 tasks=0",
    "INFO  operator: Received task assignment: task-1 (Image: busybox\\nERROR forged) task=task-1 \
     image=\"busybox\\nERROR forged\" cpu=0.5 memory_gib=0 storage_gib=0 gpu=0",
    "INFO  operator: Cancelling task: task-1 task=task-1",
    "INFO  operator: Refused task assignment: task-1: no room: cpu 1 asked, 0.5 free task=task-1 \
     reason=\"no room: cpu 1 asked, 0.5 free\"",
    "INFO  operator: [Task task-1] ✓ Completed successfully task=task-1 image=busybox reported=yes",
    "INFO  operator: [Task task-1] ✓ Cancelled task=task-1 image=busybox reported=yes",
    "INFO  operator: [Task task-1] ✗ Failed: exit code 3 task=task-1 exit_code=3 duration_s=2.1 cpu_s=0.52 peak_mib=64 image=busybox \
     reported=\"not yet\"",
    "INFO  operator: [Task task-1] ✓ Task result reported task=task-1",
];

#[test]
fn operators_find_the_lines_that_they_know_once_each() {
    let kept = Kept::default();
    let logger = logger_into(LogFormat::Text, None, Target::Pipe(Box::new(kept.clone())));
    log::set_boxed_logger(Box::new(logger)).expect("no logger before");
    log::set_max_level(log::LevelFilter::Trace);

    speak_of_the_worker();
    speak_of_a_task();
    log::info!(target: "h2::client", "chatter of a library");
    log::debug!("chatter of ours");

    let kept = kept.0.lock().expect("no panic before").clone();
    let text = String::from_utf8(kept).expect("UTF-8");
    let lines: Vec<_> = text
        .lines()
        .map(|line| &line["2026-11-23T18:29:22.929Z ".len()..])
        .collect();
    assert_eq!(lines.len(), LINES.len(), "{text}");
    for (line, expected) in lines.iter().zip(LINES) {
        assert!(line.starts_with(expected), "{line}\nis not\n{expected}");
    }
}
