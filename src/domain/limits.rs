//! What one task may bring along: every text and list from outside has its limit here, so that nobody's input decides how much
//! is kept, logged or sent. What is over a limit is cut before anything is done with it, and its task fails with the reason.

/// An image's name, in bytes. Registries take 255 for the path; a host, a port, a tag and a digest go with it.
pub const IMAGE: usize = 1_024;

/// A submitter's id, in bytes.
pub const USER: usize = 1_024;

/// A task's name and a task's type, in bytes each.
pub const NAME: usize = 1_024;

/// What is kept of a command that no kernel takes, in bytes: enough to know it by.
pub const CUT_COMMAND: usize = 1_024;

/// Variables that a task asks for.
pub const VARIABLES: usize = 256;

/// What all their values have, in bytes.
pub const VALUES: usize = 128 * 1_024;

/// Entries of any other list of what a task asks for.
pub const ASKED_ENTRIES: usize = 64;

/// Everything that a task asks for but the values of variables, in bytes of its message: with the other texts it goes into a label.
pub const ASKED: usize = 32 * 1_024;

/// Why a task failed, in bytes: engines and registries choose their own words.
pub const REASON: usize = 4_096;

/// A remark for the trailer, in bytes.
pub const NOTE: usize = 1_024;

/// How many remarks a trailer has.
pub const NOTES: usize = 64;

/// Paths that a report names, in bytes of all of them: the files themselves were uploaded, the list only names them.
pub const REPORTED_PATHS: usize = 128 * 1_024;

/// How many cancels and how many offers of ids that no task has are remembered: the oldest is forgotten first. They count for the
/// moments in which the worker does not know its tasks yet.
pub const UNKNOWN_IDS: usize = 1_000;
