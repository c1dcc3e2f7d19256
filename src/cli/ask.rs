//! How a command asks something that takes its time: by a runtime of its own, for as long as it lasts. What a worker answers is
//! printed; why it does not is said in the same words and by the same exit codes, whichever command asked.

use std::future::Future;

use tokio::runtime::{Builder, Runtime};

use super::{
    page::{Paper, unwritten},
    words,
};
use crate::{exit::Exit, ports::admin::AdminError};

/// What is shown of why there is no answer, in bytes.
const WHY: usize = 1_024;

/// Asks one thing, and prints the answer.
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

/// For commands that ask more than once. Where there can be none, that is said.
///
/// # Errors
/// How the command ends.
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

/// Says why there is no answer, and how the command ends for it.
pub(super) fn unanswered(error: &AdminError) -> Exit {
    complain(&error.to_string());
    exit_of(error)
}

/// Says what went wrong, on one line.
pub(super) fn complain(why: &str) {
    eprintln!("error: {}", words::foreign(why, WHY));
}

/// How a command ends that has no answer.
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
