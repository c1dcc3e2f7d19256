//! Whether standard error goes to systemd's journal, and the prefix `<3>` (syslog's priority) that tells it a line's level. The
//! journal removes the prefix, and `journalctl -p err` goes by it.

use std::{env, os::fd::AsFd};

use log::Level;
use rustix::fs::fstat;

/// The variable in which systemd names the stream that a service's output is joined to, as `device:inode`.
const STREAM: &str = "JOURNAL_STREAM";

/// Whether output to `descriptor` goes to the journal. The variable alone does not tell: a child process whose output goes
/// elsewhere inherits it.
pub(super) fn reads(descriptor: impl AsFd) -> bool {
    let stream = env::var(STREAM).unwrap_or_default();
    fstat(descriptor).is_ok_and(|found| names(&stream, found.st_dev, found.st_ino))
}

fn names(stream: &str, device: u64, inode: u64) -> bool {
    let Some((of_device, of_inode)) = stream.split_once(':') else {
        return false;
    };
    of_device.parse() == Ok(device) && of_inode.parse() == Ok(inode)
}

/// The prefix of a line for the journal.
pub(super) fn priority(level: Level) -> &'static str {
    match level {
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_what_the_variable_names_and_nothing_else() {
        assert!(names("8:12345", 8, 12_345));

        for other in ["8:12346", "9:12345", "8", "", ":", "8:12345:1", "a:b"] {
            assert!(!names(other, 8, 12_345), "{other}");
        }
    }

    #[test]
    fn the_journal_sorts_by_what_a_line_is_worth() {
        let levels = [Level::Error, Level::Warn, Level::Info, Level::Debug];
        assert_eq!(levels.map(priority), ["<3>", "<4>", "<6>", "<7>"]);
    }
}
