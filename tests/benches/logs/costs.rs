//! What a process has cost so far, as the kernel counts it.

use std::fs;
use std::path::Path;
use std::time::Duration;

/// The kernel counts in hundredths of a second for programs, on every platform that has Docker (`USER_HZ`).
const TICK_MS: u64 = 10;

/// Processor time of a process, of all its threads.
pub(crate) fn of(pid: impl std::fmt::Display) -> Duration {
    times(&format!("/proc/{pid}/stat"), [13, 14])
}

/// Processor time of the children of this process that have ended and were waited for.
pub(crate) fn of_ended_children() -> Duration {
    times("/proc/self/stat", [15, 16])
}

/// The engine's process, where this machine runs it and says so.
pub(crate) fn engine() -> Option<u32> {
    let pid = fs::read_to_string("/var/run/docker.pid").ok()?;
    let pid: u32 = pid.trim().parse().ok()?;
    Path::new("/proc")
        .join(pid.to_string())
        .exists()
        .then_some(pid)
}

/// Forgets the largest memory of a process so far.
pub(crate) fn forget_peak(pid: impl std::fmt::Display) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("it is ours and runs");
}

/// The largest resident memory since then, in MiB.
pub(crate) fn peak_mib(pid: impl std::fmt::Display) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.expect("the kernel tells it").trim();
    let kib: f64 = kib.trim_end_matches("kB").trim().parse().expect("a number");
    kib / 1024.0
}

/// The sum of two fields of a `stat` file, counted from 0 as in proc(5) less one.
fn times(path: &str, fields: [usize; 2]) -> Duration {
    let stat = fs::read_to_string(path).expect("it runs");
    // Before that stands the name of the program, with whatever is in it: fields 0 and 1.
    let (_, behind) = stat.rsplit_once(')').expect("a name");
    let values: Vec<_> = behind.split_whitespace().collect();
    let ticks: u64 = fields
        .iter()
        .map(|field| values[field - 2].parse::<u64>().expect("ticks"))
        .sum();
    Duration::from_millis(ticks * TICK_MS)
}
