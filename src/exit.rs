//! The exit codes of the process, in one table. Whoever starts the worker decides by the code whether to start it again (the unit
//! file does not after 2, 77 and 78: a restart would only fail again).

use std::process::ExitCode;

/// Why the process ends; the number is its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Stopped on request, with nothing left undone.
    Clean = 0,
    /// An error for which this table has no other code.
    Unexpected = 1,
    /// The command line or the environment is wrong.
    Usage = 2,
    /// A command needs a running worker, and none runs in this state folder.
    NotRunning = 3,
    /// The engine or the master is away, and `--fail-fast` says not to wait for it. In `demo`: the engine or the image is
    /// missing.
    DependencyAway = 69,
    /// The stop took longer than its deadline.
    StopOverdue = 70,
    /// The worker failed, and a restart may help: the supervisor gave up, the state folder or the id is in use, the disk is full,
    /// the port is taken.
    TryLater = 75,
    /// The operating system denies access: to the state folder, the engine's socket, the port or a file.
    Permission = 77,
    /// The configuration cannot work, or the state was written by a newer version (and is left as it is).
    Configuration = 78,
}

impl Exit {
    /// The code as the shell sees it.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
