//! Names of things: newtypes, so that one kind of name is never taken for another. A task's id comes from outside and is
//! never used as a path or a container's name: those are made from its digest by whoever needs them.

use std::fmt;

use thiserror::Error;

use super::text::truncate;

/// The longest task id that is taken in at all, in bytes. Longer ones are refused at the door: they could not be echoed in
/// logs and messages.
pub const TASK_ID_LIMIT: usize = 1_024;

/// The longest safe name, in bytes.
const SAFE_NAME_LIMIT: usize = 128;

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NameError {
    /// The text is empty.
    #[error("is empty")]
    Empty,
    /// The text is over this limit, in bytes.
    #[error("is longer than {0} bytes")]
    TooLong(usize),
    /// A character outside letters, digits, `_`, `.` and `-`, or a first one that is not a letter or digit.
    #[error("must start with a letter or digit and hold only letters, digits, '_', '.' and '-'")]
    Characters,
}

/// Checks that `name` is safe in container labels, file names and log lines: `[A-Za-z0-9][A-Za-z0-9_.-]{0,127}`.
///
/// # Errors
/// What is wrong with it, as the end of a sentence that starts with the name's own name.
pub fn check_safe_name(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > SAFE_NAME_LIMIT {
        return Err(NameError::TooLong(SAFE_NAME_LIMIT));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    let allowed = |byte: u8| plain(byte) || matches!(byte, b'_' | b'.' | b'-');
    if plain(name.as_bytes()[0]) && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(NameError::Characters)
    }
}

/// A task's id as the master gave it: any text of 1 to [`TASK_ID_LIMIT`] bytes, safe name or not, since a task with a bad id
/// is accepted and then reported as failed under that very id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(String);

impl TaskId {
    /// Takes an id in.
    ///
    /// # Errors
    /// Empty or over the limit: such a task cannot even be reported.
    pub fn new(id: impl Into<String>) -> Result<Self, NameError> {
        let id = id.into();
        if id.is_empty() {
            Err(NameError::Empty)
        } else if id.len() > TASK_ID_LIMIT {
            Err(NameError::TooLong(TASK_ID_LIMIT))
        } else {
            Ok(Self(id))
        }
    }

    /// The id as the master wrote it. Untrusted: escape it before printing, never use it as a path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskId {
    /// For people: escapes control characters and cuts what no safe name has, so that an id can neither forge a log line nor
    /// flood the log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = truncate(&self.0, SAFE_NAME_LIMIT);
        let more = if cut.len() < self.0.len() { "..." } else { "" };
        write!(f, "{}{more}", cut.escape_debug())
    }
}

/// This worker's id: a safe name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(String);

impl WorkerId {
    /// Checks and takes an id.
    ///
    /// # Errors
    /// It is no safe name.
    pub fn new(id: impl Into<String>) -> Result<Self, NameError> {
        let id = id.into();
        check_safe_name(&id)?;
        Ok(Self(id))
    }

    /// The id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the engine calls a container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(pub String);

impl fmt::Display for ContainerId {
    /// The first 12 characters, as the engine's own client shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.get(..12).unwrap_or(&self.0))
    }
}

/// A container's name, fixed before it is created, so that creating it is idempotent: `wn-<worker>-<digest of task and attempt>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ContainerName(pub String);

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Number of a task's container: 1, and one more each time that it is created anew after the one before was proven never to have
/// started.
pub type Attempt = u32;

/// The id of one result, the same on every repeat of its report: TaskResult field 100.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ResultId(pub String);

/// SHA-256 over those fields of an offer that make it the same task.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PayloadDigest(pub [u8; 32]);

impl fmt::Display for PayloadDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for PayloadDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PayloadDigest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_id_may_be_no_safe_name_but_not_empty_or_endless() {
        assert!(TaskId::new("../../x").is_ok());
        assert_eq!(TaskId::new(""), Err(NameError::Empty));
        assert_eq!(
            TaskId::new("x".repeat(TASK_ID_LIMIT + 1)),
            Err(NameError::TooLong(TASK_ID_LIMIT))
        );
    }

    #[test]
    fn a_printed_task_id_cannot_break_a_log_line() {
        let id = TaskId::new("a\nERROR forged\x1b[2J").unwrap();

        assert_eq!(id.to_string(), "a\\nERROR forged\\u{1b}[2J");
    }

    #[test]
    fn safe_names_are_plain() {
        for good in ["w", "worker-1", "A.b_c-9"] {
            assert_eq!(check_safe_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", "-x", "a/b", "a b", "é", "../../x", "a\0"] {
            assert!(check_safe_name(bad).is_err(), "{bad:?}");
        }
    }
}
