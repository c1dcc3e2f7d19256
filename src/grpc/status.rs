//! The only place that chooses a gRPC status code, and the only one that reads meaning into a master's. Exhaustive on
//! purpose: a new kind of failure must visit it.
#![warn(clippy::wildcard_enum_match_arm)]

use std::{error::Error, time::Duration};

use thiserror::Error;
use tonic::{Code, Status};

use super::CALL_LIMIT;
use crate::{
    domain::text,
    ports::{admin::AdminError, master::MasterError, worker::LogsError},
};

/// Bytes of untrusted words that are passed on.
const WORDS_LIMIT: usize = 1024;

/// Why a call to this worker is answered with a gRPC error. Offers, cancels and moves never are.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum Denied {
    /// There is no log to read.
    #[error("{0}")]
    Logs(#[from] LogsError),
    /// The log is there, but reading it failed; the system's words.
    #[error("the log cannot be read: {0}")]
    Unreadable(String),
    /// The log's reader panicked.
    #[error("the log's reader failed, try again")]
    Panicked,
    /// The client asked for a source that there is not, or that does not come alone.
    #[error("a log has no source {0} of its own; ask for stdout (1), stderr (2), or both (0)")]
    NoSuchSource(i32),
    /// Too many logs are being opened at once.
    #[error("this worker is busy with other calls, try again")]
    Busy,
    /// Too many viewers look at once: this one made room for a new one.
    #[error("too many log streams are open on this worker; this one made room for a newer one")]
    Displaced,
    /// The worker is stopping.
    #[error("the worker is stopping")]
    Stopping,
    /// The method is one that the master serves.
    #[error("{0} is served by the master, not by a worker")]
    ServedByMaster(&'static str),
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        let code = match &denied {
            Denied::Logs(LogsError::UnknownTask) => Code::NotFound,
            Denied::Logs(LogsError::Unavailable) | Denied::Stopping => Code::Unavailable,
            Denied::Unreadable(_) | Denied::Panicked => Code::Internal,
            Denied::NoSuchSource(_) => Code::InvalidArgument,
            Denied::Busy | Denied::Displaced => Code::ResourceExhausted,
            Denied::ServedByMaster(_) => Code::Unimplemented,
        };
        Self::new(code, denied.to_string())
    }
}

/// Why a caller is refused before a byte of its request is read: an error for every method, since it is no master of ours. The
/// answer has neither the caller's own words nor what would have been right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Stranger {
    /// No token, or a wrong one.
    #[error(
        "this worker wants its token from callers, as the metadata 'authorization: Bearer TOKEN' (--token-file)"
    )]
    Token,
    /// No certificate, or one without a name of `--allow-master-name`.
    #[error(
        "the certificate has none of the names that may change something on this worker (--allow-master-name)"
    )]
    Name,
}

impl From<Stranger> for Status {
    fn from(stranger: Stranger) -> Self {
        let code = match stranger {
            Stranger::Token => Code::Unauthenticated,
            Stranger::Name => Code::PermissionDenied,
        };
        Self::new(code, stranger.to_string())
    }
}

/// Why a request is dropped before all of it has come in. One of two exceptions to 'never an error': nobody knows yet what it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum Cut {
    /// The request has more bytes than any call.
    #[error("the call is larger than {CALL_LIMIT} bytes")]
    TooLarge,
    /// The request's end does not come in time.
    #[error("the call did not come in within 10 s")]
    TooSlow,
    /// The request was the oldest of too many.
    #[error("too many unfinished calls are held by this worker, and this one is the oldest")]
    Crowd,
}

impl From<Cut> for Status {
    fn from(cut: Cut) -> Self {
        let code = match cut {
            Cut::TooLarge => Code::OutOfRange,
            Cut::TooSlow => Code::DeadlineExceeded,
            Cut::Crowd => Code::ResourceExhausted,
        };
        Self::new(code, cut.to_string())
    }
}

impl From<AdminError> for Status {
    fn from(error: AdminError) -> Self {
        let code = match &error {
            AdminError::UnknownActor(_) | AdminError::NotParked(_) | AdminError::UnknownTask(_) => {
                Code::NotFound
            }
            AdminError::Task(_) => Code::FailedPrecondition,
            AdminError::Stopping => Code::Aborted,
            AdminError::Unavailable => Code::Unavailable,
            AdminError::Denied(_) => Code::PermissionDenied,
            AdminError::NoWorker(_) | AdminError::Lost(_) => Code::Internal,
        };
        Self::new(code, text::escape(&error.to_string(), WORDS_LIMIT))
    }
}

/// The meaning of a worker's answer for its operator; the name that was asked for is the caller's to fill in.
pub(super) fn admin_error(status: &Status) -> AdminError {
    if let Some(error) = transport_error(status) {
        return AdminError::Lost(chain(error));
    }
    match status.code() {
        Code::NotFound => AdminError::UnknownActor(String::new()),
        Code::FailedPrecondition => AdminError::Task(String::new()),
        Code::Aborted => AdminError::Stopping,
        Code::Unavailable => AdminError::Unavailable,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => {
            let words = text::escape(status.message(), WORDS_LIMIT);
            AdminError::Lost(format!("{:?}: {words}", status.code()))
        }
    }
}

/// The connection handed the request back: not a byte of it has left.
#[derive(Debug, Error)]
#[error("the connection ended before the request was sent: {0}")]
pub(super) struct NeverSent(pub(super) String);

/// Reads a failed call to the master. A status that the master itself sent has no source; whatever the transport made up
/// has one, and then the request may have arrived.
pub(super) fn master_error(status: &Status, timeout: Duration) -> MasterError {
    let words = text::escape(status.message(), WORDS_LIMIT);
    match transport_error(status) {
        Some(error) if error.is::<NeverSent>() => {
            return MasterError::Unreachable(error.to_string());
        }
        Some(error) => return MasterError::Lost(chain(error)),
        None => {}
    }
    match status.code() {
        Code::Unknown => refusal(words),
        Code::ResourceExhausted | Code::OutOfRange | Code::InvalidArgument => {
            MasterError::Unacceptable(words)
        }
        // Whoever says so (a proxy, a stopping server, a cancelled handler) does not say how far the call has come.
        Code::Unavailable | Code::Cancelled => MasterError::Lost(words),
        Code::DeadlineExceeded => MasterError::Deadline(timeout),
        Code::Ok
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unimplemented
        | Code::Internal
        | Code::DataLoss
        | Code::Unauthenticated => MasterError::Refused(format!("{:?}: {words}", status.code())),
    }
}

/// Reads a refusal in the master's words. The text decides, since the master has no code for it.
pub(super) fn refusal(words: impl AsRef<str>) -> MasterError {
    let words = text::escape(words.as_ref(), WORDS_LIMIT);
    if words.contains("not registered") || words.contains("not authorized") {
        MasterError::NotRegistered(words)
    } else {
        MasterError::Refused(words)
    }
}

fn transport_error(status: &Status) -> Option<&(dyn Error + 'static)> {
    status.source()
}

/// An error with its causes: the outermost one often says 'http2 error' and no more.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        cause = error.source();
    }
    text::escape(&words, WORDS_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(4);

    fn read(code: Code, words: &str) -> MasterError {
        master_error(&Status::new(code, words), TIMEOUT)
    }

    #[test]
    fn a_master_that_does_not_know_the_worker_is_understood() {
        let forgotten = "worker w-1 not registered".to_owned();
        let refused = "worker w-1 not authorized - must be pre-registered by admin".to_owned();

        assert_eq!(
            read(Code::Unknown, &forgotten),
            MasterError::NotRegistered(forgotten)
        );
        assert_eq!(
            read(Code::Unknown, &refused),
            MasterError::NotRegistered(refused)
        );
        assert_eq!(
            read(Code::Unknown, "database is down"),
            MasterError::Refused("database is down".into())
        );
    }

    #[test]
    fn a_message_that_can_never_pass_is_told_from_a_refusal() {
        for code in [
            Code::ResourceExhausted,
            Code::OutOfRange,
            Code::InvalidArgument,
        ] {
            assert!(matches!(read(code, "x"), MasterError::Unacceptable(_)));
        }
        for code in [Code::Internal, Code::Unimplemented, Code::PermissionDenied] {
            assert!(matches!(read(code, "x"), MasterError::Refused(_)));
        }
    }

    #[test]
    fn a_status_that_does_not_say_how_far_the_call_came_is_a_doubt() {
        assert!(matches!(read(Code::Unavailable, "x"), MasterError::Lost(_)));
        assert!(matches!(read(Code::Cancelled, "x"), MasterError::Lost(_)));
        assert_eq!(
            read(Code::DeadlineExceeded, "x"),
            MasterError::Deadline(TIMEOUT)
        );
    }

    #[test]
    fn a_transport_error_is_a_doubt_whatever_code_it_was_given() {
        let never_sent = Status::from_error(Box::new(NeverSent("closed".into())));
        let broken = Status::from_error(Box::new(std::io::Error::other("reset")));

        assert!(matches!(
            master_error(&never_sent, TIMEOUT),
            MasterError::Unreachable(_)
        ));
        assert_eq!(
            master_error(&broken, TIMEOUT),
            MasterError::Lost("reset".into())
        );
    }

    #[test]
    fn an_operator_hears_what_the_worker_said() {
        let told = |error: AdminError| admin_error(&error.into());
        let name = String::new;

        for error in [
            AdminError::UnknownActor(name()),
            AdminError::Task(name()),
            AdminError::Stopping,
            AdminError::Unavailable,
        ] {
            assert_eq!(told(error.clone()), error);
        }
        let broken = Status::from_error(Box::new(std::io::Error::other("reset")));
        assert_eq!(admin_error(&broken), AdminError::Lost("reset".into()));
    }

    #[test]
    fn the_masters_words_cannot_forge_a_log_line() {
        assert_eq!(
            read(Code::Internal, "a\nERROR forged"),
            MasterError::Refused("Internal: a\\nERROR forged".into())
        );
    }
}
