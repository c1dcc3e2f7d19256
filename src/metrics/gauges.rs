//! The gauges: figures of the worker at the moment of a page.

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, UNIX_EPOCH},
};

use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{Label, process::Process};
use crate::ports::{
    admin::{ActorKind, ActorState, ActorView, TaskView},
    status::WorkerStatus,
};

/// Bytes in a GiB.
const GIB: f64 = (1_u64 << 30) as f64;

/// The worker at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The status, as its operator is told.
    pub status: WorkerStatus,
    /// The tasks that are not done.
    pub tasks: Vec<TaskView>,
    /// Its actors; empty: the supervisor does not answer.
    pub actors: Vec<ActorView>,
    /// Bytes free on the disk of the state folder; `None`: the system does not say.
    pub disk_free: Option<u64>,
}

type Number = Gauge<f64, AtomicU64>;
type Numbers<L> = Family<[L; 1], Number>;
type Named = (&'static str, String);

/// The gauges, each set anew for every page.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    up: Number,
    registered: Number,
    engine: Number,
    refusing: Number,
    uptime: Number,
    beat_age: Number,
    beat_took: Number,
    tasks: Numbers<Named>,
    room: Numbers<Label>,
    held: Numbers<Label>,
    memory_room: Number,
    memory_held: Number,
    places: Number,
    mailbox: Numbers<Named>,
    running: Numbers<Named>,
    disk_free: Number,
    certificate: Numbers<Label>,
    process: Process,
}

impl Gauges {
    pub(super) fn register(all: &mut Registry) -> Self {
        let this = Self::default();
        this.process
            .register(all.sub_registry_with_prefix("process"));
        let registry = all.sub_registry_with_prefix("worker_node");
        for (name, help, gauge) in [
            ("supervisor_up", "1: the supervisor answers", &this.up),
            (
                "master_registered",
                "1: the master has registered this worker",
                &this.registered,
            ),
            (
                "engine_up",
                "1: the container engine is there, and fit for tasks",
                &this.engine,
            ),
            (
                "refusing",
                "1: new tasks are refused although there may be room",
                &this.refusing,
            ),
            (
                "task_slots",
                "How many tasks may be here at once",
                &this.places,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
        this.register_amounts(registry);
        registry.register(
            "tasks",
            "Tasks that are not done, by state",
            this.tasks.clone(),
        );
        registry.register("allocatable", "What there is for tasks", this.room.clone());
        registry.register("reserved", "What tasks hold of it", this.held.clone());
        registry.register(
            "actor_mailbox",
            "Messages that wait for an answer",
            this.mailbox.clone(),
        );
        registry.register_with_unit(
            "certificate_expiry_timestamp",
            "When a certificate runs out, since the Unix epoch; missing where there is none",
            Unit::Seconds,
            this.certificate.clone(),
        );
        registry.register("actor_up", "1: the subsystem runs", this.running.clone());
        this
    }

    fn register_amounts(&self, registry: &mut Registry) {
        for (name, help, unit, gauge) in [
            (
                "uptime",
                "Since this process began",
                Unit::Seconds,
                &self.uptime,
            ),
            (
                "heartbeat_age",
                "Since the master last took a heartbeat",
                Unit::Seconds,
                &self.beat_age,
            ),
            (
                "heartbeat_round_trip",
                "From that one to its answer",
                Unit::Seconds,
                &self.beat_took,
            ),
            (
                "memory_allocatable",
                "Memory for tasks",
                Unit::Bytes,
                &self.memory_room,
            ),
            (
                "memory_reserved",
                "Memory that tasks hold",
                Unit::Bytes,
                &self.memory_held,
            ),
            (
                "disk_free",
                "Free on the disk of the state folder",
                Unit::Bytes,
                &self.disk_free,
            ),
        ] {
            registry.register_with_unit(name, help, unit, gauge.clone());
        }
    }

    pub(super) fn set(&self, reading: &Reading) {
        let status = &reading.status;
        self.up.set(bit(!reading.actors.is_empty()));
        self.registered
            .set(bit(status.master.registered_for.is_some()));
        let is_fit = status.engine.version.is_some() && status.engine.failure.is_none();
        self.engine.set(bit(is_fit));
        self.refusing.set(bit(status.refusing.is_some()));
        self.uptime.set(status.uptime.as_secs_f64());
        let seconds = |time: Option<Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64());
        self.beat_age.set(seconds(status.master.beat_ago));
        self.beat_took.set(seconds(status.master.beat_took));
        self.disk_free
            .set(reading.disk_free.map_or(f64::NAN, float));
        if let Some(until) = status.certificate_until {
            let since = until.duration_since(UNIX_EPOCH).unwrap_or_default();
            let own = self.certificate.get_or_create(&[("of", "worker")]);
            own.set(since.as_secs_f64());
        }
        self.set_room(reading);
        self.set_actors(&reading.actors);
        self.process.set();
    }

    fn set_room(&self, reading: &Reading) {
        let room = reading.status.room;
        let sum = |of: fn(&TaskView) -> f64| reading.tasks.iter().map(of).sum::<f64>();
        for (family, cpu, gpu) in [
            (&self.room, room.cpu, room.gpu),
            (&self.held, sum(|task| task.cpu), sum(|task| task.gpu)),
        ] {
            family.get_or_create(&[("resource", "cores")]).set(cpu);
            family.get_or_create(&[("resource", "gpus")]).set(gpu);
        }
        self.memory_room.set(room.memory * GIB);
        self.memory_held.set(sum(|task| task.memory) * GIB);
        self.places.set(float(room.tasks));
        for state in STATES {
            let label = [("state", state.to_owned())];
            self.tasks.get_or_create(&label).set(0.0);
        }
        for task in &reading.tasks {
            let label = [("state", task.stage.clone())];
            self.tasks.get_or_create(&label).inc_by(1.0);
        }
    }

    fn set_actors(&self, actors: &[ActorView]) {
        let subsystems = actors
            .iter()
            .filter(|actor| actor.kind == ActorKind::Subsystem);
        for actor in subsystems {
            let label = [("actor", actor.name.clone())];
            self.mailbox.get_or_create(&label).set(float(actor.mailbox));
            let is_up = actor.state == ActorState::Running;
            self.running.get_or_create(&label).set(bit(is_up));
        }
    }
}

/// The states that heartbeats have words for, so that a state that no task is in is 0 and not missing.
const STATES: [&str; 12] = [
    "accepted",
    "pulling",
    "creating",
    "starting",
    "running",
    "stopping",
    "collecting",
    "uploading",
    "reporting",
    "parked",
    "cleaning",
    "done",
];

fn bit(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people and plots")]
pub(super) fn float(number: u64) -> f64 {
    number as f64
}
