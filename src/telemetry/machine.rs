//! The machine's resources and how busy they are. One sampler lives as long as the process, beside the actors (`Arc<Mutex<_>>`):
//! processor use is the difference of two readings, and a fresh sampler would tell the average since boot. A sample takes well
//! under a millisecond, and never reads processes or networks.

use std::{
    io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::fs::StatVfs;
use sysinfo::{
    CpuRefreshKind, MINIMUM_CPU_UPDATE_INTERVAL, MemoryRefreshKind, RefreshKind, System,
};
use tokio::time::Instant;

use crate::domain::spec::{GIB, MachineTotals};

/// How busy the machine is; each figure from 0 to 100 percent.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MachineSample {
    /// Processor time in use, of all cores, since the last sample.
    pub cpu: f64,
    /// Memory in use, of the memory that this process can have.
    pub memory: f64,
    /// Space in use on the file system of the state folder, as `df` counts it.
    pub storage: f64,
    /// GPU time in use; always 0.
    pub gpu: f64,
}

/// Takes samples of the machine.
#[derive(Debug)]
pub struct MachineSampler {
    system: System,
    folder: PathBuf,
    primed: Instant,
}

impl MachineSampler {
    /// Takes the first reading, to which the next one is compared. `folder` is the state folder.
    ///
    /// # Errors
    /// The system does not tell its state (no `/proc`).
    pub fn new(folder: &Path) -> io::Result<Self> {
        let system = System::new_with_specifics(
            RefreshKind::nothing()
                .with_cpu(CpuRefreshKind::nothing().with_usage())
                .with_memory(MemoryRefreshKind::nothing().with_ram()),
        )
        .map_err(io::Error::other)?;
        Ok(Self {
            system,
            folder: folder.to_owned(),
            primed: Instant::now(),
        })
    }

    /// The machine's resources: the lesser of what it has and what this process is allowed.
    ///
    /// # Errors
    /// The state folder's file system does not answer.
    pub fn totals(&self) -> io::Result<MachineTotals> {
        let allowed = thread::available_parallelism().map_or(usize::MAX, Into::into);
        let cores = self.system.cpus().len().max(1).min(allowed);
        let space = Space::of(&self.folder)?;
        Ok(MachineTotals {
            cpu: float(cores as u64),
            memory: float(self.memory().total) / GIB,
            storage: float(space.total) / GIB,
            gpu: gpus(),
        })
    }

    /// Takes a sample. Where the file system does not answer, its figure is 0.
    pub fn sample(&mut self) -> MachineSample {
        self.system.refresh_cpu_usage();
        self.system
            .refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let memory = self.memory();
        MachineSample {
            cpu: self.cpu(),
            memory: percent(memory.used, memory.total),
            storage: Space::of(&self.folder).map_or(0.0, |space| space.used_percent()),
            gpu: 0.0,
        }
    }

    fn cpu(&self) -> f64 {
        let usage = if is_first_interval(self.primed.elapsed()) {
            // The sampler has a single reading yet, which would tell the average since boot. The load of the last minute is the
            // nearest figure.
            System::load_average().map_or(0.0, |load| load.one) * 100.0
                / float(self.system.cpus().len().max(1) as u64)
        } else {
            f64::from(self.system.global_cpu_usage())
        };
        clamp(usage)
    }

    /// Memory of the machine, or of this process's container where its limit is lower: in a container the machine's figures are
    /// the host's.
    fn memory(&self) -> Memory {
        let host = Memory {
            total: self.system.total_memory(),
            used: self.system.used_memory(),
        };
        match self.system.cgroup_limits() {
            Some(limits) => host.within(Memory {
                total: limits.total_memory,
                used: limits.rss,
            }),
            None => host,
        }
    }
}

/// What the file system of a folder has and can still take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes free for users other than root.
    pub bytes: u64,
    /// Bytes in all.
    pub size: u64,
    /// Inodes free; `None` where the file system has no bound on them.
    pub inodes: Option<u64>,
}

impl Room {
    /// Asks the folder's file system.
    ///
    /// # Errors
    /// The file system does not answer.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let stat = rustix::fs::statvfs(folder)?;
        Ok(Self {
            // Some file systems do not count inodes, and say 0 of 0.
            inodes: (stat.f_files > 0).then_some(stat.f_favail),
            size: stat.f_blocks.saturating_mul(stat.f_frsize),
            bytes: Space::from(stat).available,
        })
    }

    /// Percent of the bytes that are not free: rounded down, and 0 where the file system does not tell its size.
    #[must_use]
    pub fn used_percent(&self) -> u8 {
        let used = u128::from(self.size.saturating_sub(self.bytes));
        let percent = (used * 100).checked_div(u128::from(self.size));
        percent
            .and_then(|percent| u8::try_from(percent).ok())
            .unwrap_or(0)
    }
}

/// Number of GPUs that can be given to tasks.
fn gpus() -> f64 {
    0.0
}

/// Whether the next reading comes too soon after the first: sysinfo ignores it then.
fn is_first_interval(since_primed: Duration) -> bool {
    since_primed < MINIMUM_CPU_UPDATE_INTERVAL
}

/// Memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Memory {
    total: u64,
    used: u64,
}

impl Memory {
    /// The limit, if it is lower; a limit of 0 or beyond the machine's memory is none.
    fn within(self, limit: Self) -> Self {
        if limit.total > 0 && limit.total < self.total {
            limit
        } else {
            self
        }
    }
}

/// Space of a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Space {
    total: u64,
    used: u64,
    available: u64,
}

impl Space {
    fn of(folder: &Path) -> io::Result<Self> {
        Ok(Self::from(rustix::fs::statvfs(folder)?))
    }

    /// Percent of the space in use as `df` counts it: the share kept back for root counts as neither used nor free.
    fn used_percent(&self) -> f64 {
        percent(self.used, self.used.saturating_add(self.available))
    }
}

impl From<StatVfs> for Space {
    fn from(stat: StatVfs) -> Self {
        let block = stat.f_frsize;
        Self {
            total: stat.f_blocks.saturating_mul(block),
            used: stat
                .f_blocks
                .saturating_sub(stat.f_bfree)
                .saturating_mul(block),
            available: stat.f_bavail.saturating_mul(block),
        }
    }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    clamp(float(part) * 100.0 / float(whole))
}

/// Brings a percentage into 0 to 100; NaN becomes 0.
fn clamp(percent: f64) -> f64 {
    if percent.is_nan() {
        0.0
    } else {
        percent.clamp(0.0, 100.0)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes for display: exact below 8 PiB"
)]
fn float(amount: u64) -> f64 {
    amount as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_something_of_everything_but_gpus() {
        let totals = MachineSampler::new(Path::new("/"))
            .unwrap()
            .totals()
            .unwrap();

        assert!(totals.cpu >= 1.0, "{totals:?}");
        assert!(totals.memory > 0.01, "{totals:?}");
        assert!(totals.storage > 0.01, "{totals:?}");
        assert_eq!(totals.gpu, 0.0);
    }

    #[test]
    fn a_sample_is_in_percent() {
        let mut sampler = MachineSampler::new(Path::new("/")).unwrap();

        for _ in 0..3 {
            let sample = sampler.sample();
            for share in [sample.cpu, sample.memory, sample.storage, sample.gpu] {
                assert!((0.0..=100.0).contains(&share), "{sample:?}");
            }
            assert!(sample.memory > 0.0, "{sample:?}");
        }
    }

    #[test]
    fn a_folder_that_is_gone_costs_only_its_own_figure() {
        let mut sampler = MachineSampler::new(Path::new("/no/such/folder")).unwrap();

        assert!(sampler.totals().is_err());
        let sample = sampler.sample();
        assert_eq!(sample.storage, 0.0);
        assert!(sample.memory > 0.0);
    }

    #[test]
    fn a_reading_right_after_the_first_is_not_taken_from_it() {
        assert!(is_first_interval(Duration::ZERO));
        assert!(!is_first_interval(Duration::from_millis(200)));
    }

    #[test]
    fn the_narrower_limit_counts() {
        let host = Memory {
            total: 100,
            used: 50,
        };

        assert_eq!(host.within(Memory { total: 10, used: 9 }).total, 10);
        assert_eq!(
            host.within(Memory {
                total: u64::MAX,
                used: 9
            }),
            host
        );
        assert_eq!(host.within(Memory { total: 0, used: 0 }), host);
    }

    #[test]
    fn shares_stay_within_bounds() {
        assert_eq!(percent(1, 0), 0.0);
        assert_eq!(percent(200, 100), 100.0);
        assert_eq!(clamp(f64::NAN), 0.0);
        let space = Space {
            total: 100,
            used: 45,
            available: 45,
        };
        assert_eq!(space.used_percent(), 50.0);
    }
}
