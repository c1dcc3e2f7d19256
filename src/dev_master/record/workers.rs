//! Workers in the record: registrations, heartbeats and the silence between them.

use std::time::Duration;

use tokio::time::Instant;

use super::{Beat, Record, Registration, WorkerRecord};
use crate::dev_master::judge::Rule;
use crate::proto::{Heartbeat, WorkerInfo};

/// How many heartbeats are kept per worker; older ones are only counted.
const KEPT_HEARTBEATS: usize = 4096;

impl Record {
    pub(in crate::dev_master) fn registered(&mut self, info: WorkerInfo) {
        let now = Instant::now();
        self.check_worker(&info);
        let worker = self.workers.entry(info.worker_id.clone()).or_default();
        worker.registered = true;
        worker.last_sign = Some(now);
        worker.registrations.push(Registration { at: now, info });
    }

    fn check_worker(&mut self, info: &WorkerInfo) {
        let id = &info.worker_id;
        if let Err(why) = worker_address(&info.worker_ip) {
            self.violate(
                Rule::WorkerAddress,
                format!("{id} registers worker_ip {:?}: {why}", info.worker_ip),
            );
        }
        let totals = [info.total_cpu, info.total_memory, info.total_storage];
        if totals
            .iter()
            .any(|total| !total.is_finite() || *total <= 0.0)
            || !(0.0..1e6).contains(&info.total_gpu)
        {
            self.violate(Rule::Figures, format!("{id} registers {info:?}"));
        }
    }

    /// Forgets that a worker is registered.
    pub(in crate::dev_master) fn forget(&mut self, worker: &str) {
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.registered = false;
        }
    }

    /// Notes a heartbeat that has come in, whatever becomes of it.
    pub(in crate::dev_master) fn heartbeat_arrived(
        &mut self,
        heartbeat: &Heartbeat,
        limit: Duration,
    ) {
        let id = &heartbeat.worker_id;
        let percentages = [
            heartbeat.cpu_usage,
            heartbeat.memory_usage,
            heartbeat.storage_usage,
            heartbeat.gpu_usage,
        ];
        if percentages
            .iter()
            .any(|figure| !(0.0..=100.0).contains(figure))
        {
            self.violate(
                Rule::Figures,
                format!("{id} sends {percentages:?} as percentages"),
            );
        }
        let now = Instant::now();
        let Some(worker) = self.workers.get_mut(id) else {
            return;
        };
        worker.beat_count += 1;
        let before = worker.last_sign.replace(now);
        let gap = before.map_or(Duration::ZERO, |before| now.duration_since(before));
        self.longest_gap = self.longest_gap.max(gap);
        if gap > limit {
            self.violate(
                Rule::HeartbeatGap,
                format!("{id} was silent for {:.1} s", gap.as_secs_f64()),
            );
        }
    }

    /// Takes a heartbeat; false where the worker is not registered.
    pub(in crate::dev_master) fn heartbeat_taken(&mut self, heartbeat: Heartbeat) -> bool {
        let Some(worker) = self.workers.get_mut(&heartbeat.worker_id) else {
            return false;
        };
        if !worker.registered {
            return false;
        }
        if worker.heartbeats.len() == KEPT_HEARTBEATS {
            worker.heartbeats.pop_front();
        }
        let at = Instant::now();
        worker.heartbeats.push_back(Beat { at, heartbeat });
        true
    }

    /// The workers whose last heartbeat is older than `limit`, and its age.
    pub(in crate::dev_master) fn silent_workers(
        &self,
        limit: Duration,
        now: Instant,
    ) -> Vec<(String, Duration)> {
        let silence = |worker: &WorkerRecord| worker.last_sign.map(|at| now.duration_since(at));
        self.workers
            .iter()
            .filter(|(_, worker)| worker.registered)
            .filter_map(|(id, worker)| Some((id.clone(), silence(worker)?)))
            .filter(|(_, silence)| *silence > limit)
            .collect()
    }

    /// The addresses of the workers whose last sign of life is so old that the master holds them for inactive.
    pub(in crate::dev_master) fn inactive_addresses(&self, limit: Duration) -> Vec<String> {
        let last = |worker: &WorkerRecord| {
            let beat = worker.heartbeats.back().map(|beat| beat.at);
            beat.max(
                worker
                    .registrations
                    .last()
                    .map(|registration| registration.at),
            )
        };
        let inactive = self
            .workers
            .iter()
            .filter(|(_, worker)| last(worker).is_some_and(|at| at.elapsed() > limit));
        inactive.filter_map(|(id, _)| self.address(id)).collect()
    }

    /// The address that the worker is reached at: the last one that was not empty.
    pub(in crate::dev_master) fn address(&self, worker: &str) -> Option<String> {
        let registrations = &self.workers.get(worker)?.registrations;
        let addresses = registrations
            .iter()
            .rev()
            .map(|registration| &registration.info.worker_ip);
        addresses
            .into_iter()
            .find(|address| !address.is_empty())
            .cloned()
    }
}

/// Checks a worker's address, which the master dials as it is.
fn worker_address(address: &str) -> Result<(), &'static str> {
    let (host, port) = address.rsplit_once(':').ok_or("it has no port")?;
    if host.is_empty() || host == "0.0.0.0" || host == "[::]" {
        return Err("it names no host");
    }
    match port.parse::<u16>() {
        Ok(0) => Err("port 0 cannot be dialled"),
        Ok(_) => Ok(()),
        Err(_) => Err("its port is no number"),
    }
}
