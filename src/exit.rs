//! How the process ends: the one table of exit codes. Whoever starts the worker decides by them whether to start it again
//! (not after 2 and 78: the same again would fail again).

use std::process::ExitCode;

/// Why the process ends; the number is its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Stopped on request, with nothing left undone.
    Clean = 0,
    /// An error that has no row of its own.
    Unexpected = 1,
    /// The command line or the environment is wrong.
    Usage = 2,
    /// A question about a worker that does not run.
    NotRunning = 3,
    /// The engine or the master is away, and `--fail-fast` says not to wait for it; for `demo`, what it stands on.
    DependencyAway = 69,
    /// The stop took longer than its deadline.
    StopOverdue = 70,
    /// It may work later: the supervisor gave up, the state folder or the id is in use, its disk is full, the port is taken.
    TryLater = 75,
    /// The operating system does not allow it.
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
