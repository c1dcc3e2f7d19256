//! The figures of the process itself, by the names that every program gives them.

use std::sync::{Mutex, PoisonError, atomic::AtomicU64};

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Registry, Unit},
};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System};

use super::gauges::float;

type Number = Gauge<f64, AtomicU64>;

/// The gauges of the process. A figure that the system does not tell keeps its last value.
#[derive(Debug, Default)]
pub(super) struct Process {
    /// The reader of the system's figures; `None` before the first page, and where the system tells nothing.
    system: Mutex<Option<System>>,
    resident: Number,
    cpu: Counter<f64, AtomicU64>,
    descriptors: Number,
    most_descriptors: Number,
    started: Number,
}

impl Process {
    /// Registers the gauges; their names lack this program's prefix.
    pub(super) fn register(&self, registry: &mut Registry) {
        let mut add = |name, help, unit, gauge: &Number| {
            registry.register_with_unit(name, help, unit, gauge.clone());
        };
        add(
            "resident_memory",
            "Memory in use",
            Unit::Bytes,
            &self.resident,
        );
        add(
            "start_time",
            "When the process began, in Unix time",
            Unit::Seconds,
            &self.started,
        );
        registry.register_with_unit("cpu", "Time on the cores", Unit::Seconds, self.cpu.clone());
        registry.register("open_fds", "Descriptors in use", self.descriptors.clone());
        registry.register(
            "max_fds",
            "Descriptors that it may have",
            self.most_descriptors.clone(),
        );
    }

    pub(super) fn set(&self) {
        let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
        if system.is_none() {
            *system = System::new_with_specifics(RefreshKind::nothing()).ok();
        }
        let Some(system) = &mut *system else {
            return;
        };
        let own = Pid::from_u32(std::process::id());
        let kind = ProcessRefreshKind::nothing().with_memory().with_cpu();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[own]), false, kind);
        let Some(process) = system.process(own) else {
            return;
        };
        self.resident.set(float(process.memory()));
        self.started.set(float(process.start_time()));
        let cpu = float(process.accumulated_cpu_time()) / 1_000.0;
        self.cpu.inc_by((cpu - self.cpu.get()).max(0.0));
        let count = |number: Option<usize>| number.map(|number| float(number as u64));
        if let Some(open) = count(process.open_files()) {
            self.descriptors.set(open);
        }
        if let Some(most) = count(process.open_files_limit()) {
            self.most_descriptors.set(most);
        }
    }
}
