//! How a command asks a running worker: on an async runtime of its own, for as long as the question takes. The answer is printed;
//! why there is none is said in the same words and with the same exit codes by every command.

use std::future::Future;

use tokio::runtime::{Builder, Runtime};

use super::{
    page::{Paper, unwritten},
    words,
};
use crate::{exit::Exit, ports::admin::AdminError};

/// Bytes of an error that are shown.
const WHY: usize = 1_024;

/// Awaits the answer to one question, and prints it or why there is none.
pub(super) fn ask(question: impl Future<Output = Result<String, AdminError>>) -> Exit {
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    match runtime.block_on(question) {
        Ok(answer) => put(&answer),
        Err(error) => unanswered(&error),
    }
}

/// A runtime for commands that ask more than once. Says so on standard error where the system grants none.
///
/// # Errors
/// The exit code of the command.
pub(super) fn runtime() -> Result<Runtime, Exit> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| {
        eprintln!("error: this process cannot begin: {error}");
        Exit::Unexpected
    })
}

/// Prints what a command has to say.
pub(super) fn put(text: &str) -> Exit {
    match Paper::standard().put(text) {
        Ok(()) => Exit::Clean,
        Err(error) => unwritten(&error),
    }
}

/// Says why there is no answer, and returns the command's exit code.
pub(super) fn unanswered(error: &AdminError) -> Exit {
    complain(&error.to_string());
    exit_of(error)
}

/// Says what went wrong, on one line of standard error.
pub(super) fn complain(why: &str) {
    eprintln!("error: {}", words::foreign(why, WHY));
}

/// The exit code of a command that got no answer.
pub(super) fn exit_of(error: &AdminError) -> Exit {
    match error {
        AdminError::NoWorker(_) => Exit::NotRunning,
        AdminError::Denied(_) => Exit::Permission,
        AdminError::UnknownActor(_)
        | AdminError::NotParked(_)
        | AdminError::UnknownTask(_)
        | AdminError::Task(_) => Exit::Usage,
        AdminError::Stopping | AdminError::Unavailable => Exit::TryLater,
        AdminError::Lost(_) => Exit::Unexpected,
    }
}
