//! Which run of the engine this is: from one start of its process to the end. The engine's own word does not tell, and its address
//! may be somebody else's (systemd's socket, a proxy); but it locks one file of its data for as long as it lives, and the kernel
//! says which process holds that lock.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path, time::Duration};

use crate::ports::engine_log::EngineRun;

/// The file that the engine locks (moby, `volume/service/store.go`), below its root.
const LOCKED: &str = "volumes/metadata.db";

/// The kernel tells starts of processes in hundredths of a second (`USER_HZ`, the same on all of Linux' machines).
const TICK: Duration = Duration::from_millis(10);

/// The run of the engine that has its data in this folder; `None` where no process of this machine is seen to hold its lock.
pub(super) fn present_run(root: &Path) -> Option<EngineRun> {
    let locked = fs::metadata(root.join(LOCKED)).ok()?;
    let process = holder(&fs::read_to_string("/proc/locks").ok()?, locked.ino())?;
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let ticks = start_ticks(&stat)?;
    let age = uptime()
        .ok()?
        .saturating_sub(TICK * u32::try_from(ticks).ok()?);
    Some(EngineRun {
        id: (ticks << 24) | (process & 0xFF_FFFF) | 1 << 63,
        age: age + TICK,
    })
}

/// The process that holds `flock` on a file, from lines such as `13: FLOCK  ADVISORY  WRITE 10762 fe:00:778315 0 EOF`. The device
/// is not compared: some file systems tell another one there than in `stat`.
fn holder(locks: &str, inode: u64) -> Option<u64> {
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let is_flock = fields.next() == Some("FLOCK");
        let process = fields.nth(2)?.parse().ok()?;
        let file = fields.next()?.rsplit_once(':')?.1;
        (is_flock && file.parse() == Ok(inode)).then_some(process)
    })
}

/// When a process started, in ticks: the 22nd field of `/proc/PID/stat`. The second one, a name in brackets, may hold anything.
fn start_ticks(stat: &str) -> Option<u64> {
    let behind_name = stat.rsplit_once(") ")?.1;
    behind_name.split(' ').nth(19)?.parse().ok()
}

/// How long ago this machine was started, the time it slept included.
fn uptime() -> io::Result<Duration> {
    let text = fs::read_to_string("/proc/uptime")?;
    let seconds = text.split(' ').next().and_then(|text| text.parse().ok());
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| io::Error::other("no time in /proc/uptime"))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::fs::{FlockOperation, flock};

    use super::*;

    #[test]
    fn the_process_that_locks_the_engines_file_is_the_engine() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(present_run(root.path()), None);
        fs::create_dir(root.path().join("volumes")).unwrap();
        let file = File::create(root.path().join(LOCKED)).unwrap();
        assert_eq!(present_run(root.path()), None);

        flock(&file, FlockOperation::LockExclusive).unwrap();

        let run = present_run(root.path()).expect("this process");
        assert_eq!(run.id & 0xFF_FFFF, u64::from(std::process::id()));
        assert!(run.age > Duration::ZERO);
        let again = present_run(root.path()).expect("this process");
        assert_eq!(again.id, run.id);
        drop(file);
        assert_eq!(present_run(root.path()), None);
    }

    #[test]
    fn locks_of_other_kinds_and_files_are_nobodys() {
        let locks = "1: FLOCK  ADVISORY  WRITE 11 fe:00:42 0 EOF\n\
                     2: POSIX  ADVISORY  READ 12 fe:00:43 128 128\n\
                     2: -> FLOCK  ADVISORY  WRITE 13 fe:00:44 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 14 fe:00:43 0 EOF\n";

        assert_eq!(holder(locks, 43), Some(14));
        assert_eq!(holder(locks, 44), None);
        assert_eq!(holder("nonsense", 44), None);
    }

    #[test]
    fn a_process_may_have_any_name() {
        let fields: Vec<String> = (3..30).map(|field| field.to_string()).collect();
        let stat = format!("7 (a) b) S) {}", fields.join(" "));

        assert_eq!(start_ticks(&stat), Some(22));
    }
}
