//! `worker-node failpoints`: the list of the points at which this build can be made to fail, so that tests go through all of
//! them. Only in builds with the feature `failpoints`.

use std::io::{self, Write};

use crate::{exit::Exit, failpoint};

/// Prints one name a line.
#[must_use]
pub fn list() -> Exit {
    let mut lines = failpoint::NAMES.join("\n");
    lines.push('\n');
    match io::stdout().write_all(lines.as_bytes()) {
        Ok(()) => Exit::Clean,
        Err(_) => Exit::Unexpected,
    }
}
