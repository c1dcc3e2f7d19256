//! Whether the lines go to systemd's journal, and how it is told what each is worth: `<3>` before it, as syslog counts. The journal
//! takes that away again, and goes by it: `journalctl -p err`.

use std::{env, os::fd::AsFd};

use log::Level;
use rustix::fs::fstat;

/// systemd says here what it has joined a service's output to: `device:inode`.
const STREAM: &str = "JOURNAL_STREAM";

/// Whether what is written here goes to the journal. The variable alone says nothing: whoever is started with its output somewhere
/// else inherits it.
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

/// What the journal is told of a line of this level.
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
