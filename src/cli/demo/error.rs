//! Why a demo ends early or ends badly, in sentences that say what to do, and the exit code of each.

use std::{io, path::PathBuf, process::ExitStatus};

use thiserror::Error;

use crate::{dev_master::NotSeen, exit::Exit, ports::engine::EngineError};

/// Why the demo did not show what it is there to show.
#[derive(Debug, Error)]
pub(super) enum DemoError {
    /// No engine answers.
    #[error(
        "no container engine answers at {address}: {source}\n\
         Start Docker, or say where it is with --engine or DOCKER_HOST, and try again."
    )]
    NoEngine {
        /// The address that was tried.
        address: String,
        /// Why there was no answer.
        source: EngineError,
    },
    /// This user may not use the engine.
    #[error("{0}")]
    EngineForbidden(String),
    /// `--image` is no image's name.
    #[error("--image '{image}' is no image's name: {why}")]
    ImageName {
        /// The name as it was typed.
        image: String,
        /// The rule of image names that it breaks.
        why: String,
    },
    /// The image is not on this machine and could not be pulled.
    #[error(
        "the image {image} is not on this machine and could not be pulled: {why}\n\
         Check the name and the network, or give an image that is here (see `docker images`) with --image."
    )]
    NoImage {
        /// Its name in the engine's form.
        image: String,
        /// The registry's words, or that the pull showed no progress.
        why: String,
    },
    /// The system refused a file, a socket, a process or the like.
    #[error("{what}: {source}")]
    Machine {
        /// What was tried, as the beginning of a sentence.
        what: String,
        /// The system's words.
        source: io::Error,
    },
    /// Another demo with `--keep` runs: only one at a time takes tasks by hand.
    #[error(
        "another demo with --keep runs here; end it first, or give it a task: worker-node demo submit --image busybox -- echo hello"
    )]
    AlreadyKept,
    /// The worker's process ended while the demo needed it.
    #[error("the worker ended early ({0})")]
    WorkerEnded(ExitStatus),
    /// The worker's process did not end with success after SIGTERM.
    #[error("the worker was asked to stop and ended with: {0}")]
    WorkerStop(ExitStatus),
    /// An event that the demo waited for did not come.
    #[error(transparent)]
    NotSeen(#[from] NotSeen),
    /// Each difference from what was expected, as a sentence.
    #[error("not everything went as it should:\n{}", .0.join("\n"))]
    Unexpected(Vec<String>),
    /// How many containers the worker left behind; they have been removed since.
    #[error("the worker left {0} containers behind; they are removed now")]
    LeftBehind(usize),
    /// A signal ended the demo early.
    #[error("ended on request, before everything was shown")]
    Interrupted,
}

impl DemoError {
    /// The exit code of the process.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::NoEngine { .. } | Self::NoImage { .. } => Exit::DependencyAway,
            Self::EngineForbidden(_) => Exit::Permission,
            Self::ImageName { .. } => Exit::Usage,
            Self::AlreadyKept => Exit::TryLater,
            Self::Machine { .. }
            | Self::WorkerEnded(_)
            | Self::WorkerStop(_)
            | Self::NotSeen(_)
            | Self::Unexpected(_)
            | Self::LeftBehind(_)
            | Self::Interrupted => Exit::Unexpected,
        }
    }

    /// Wraps an error of the system; `what` was tried, as the beginning of a sentence.
    pub(super) fn machine(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Machine { what, source }
    }

    /// Wraps an error of the system about a file or folder.
    pub(super) fn path(what: &str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path: PathBuf = path.into();
        Self::machine(format!("{what} {}", path.display()))
    }
}
