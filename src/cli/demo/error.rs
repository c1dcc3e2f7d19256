//! Why a demo ends early or ends badly, in sentences that say what to do, and the exit code of each.

use std::{io, path::PathBuf, process::ExitStatus};

use thiserror::Error;

use crate::{dev_master::NotSeen, exit::Exit, ports::engine::EngineError};

/// Why the demo did not show what it is there to show.
#[derive(Debug, Error)]
pub(super) enum DemoError {
    /// Nobody there to run containers.
    #[error(
        "no container engine answers at {address}: {source}\n\
         Start Docker, or say where it is with --engine or DOCKER_HOST, and try again."
    )]
    NoEngine {
        /// Where it was looked for.
        address: String,
        /// The engine's side.
        source: EngineError,
    },
    /// This user may not use the engine.
    #[error("{0}")]
    EngineForbidden(String),
    /// The name of the image is none.
    #[error("--image '{image}' is no image's name: {why}")]
    ImageName {
        /// As typed.
        image: String,
        /// What the grammar says.
        why: String,
    },
    /// It is not here, and could not be fetched.
    #[error(
        "the image {image} is not on this machine and could not be pulled: {why}\n\
         Check the name and the network, or give an image that is here (see `docker images`) with --image."
    )]
    NoImage {
        /// In the engine's form.
        image: String,
        /// The registry's words, or what was missed.
        why: String,
    },
    /// Something of this machine could not be had.
    #[error("{what}: {source}")]
    Machine {
        /// What was tried, as the beginning of a sentence.
        what: String,
        /// The system's words.
        source: io::Error,
    },
    /// Only one demo at a time is there for tasks by hand.
    #[error(
        "another demo with --keep runs here; end it first, or give it a task: worker-node demo submit --image busybox -- echo hello"
    )]
    AlreadyKept,
    /// The worker's process is gone.
    #[error("the worker ended early ({0})")]
    WorkerEnded(ExitStatus),
    /// It did not end well when it was asked to.
    #[error("the worker was asked to stop and ended with: {0}")]
    WorkerStop(ExitStatus),
    /// Something never happened.
    #[error(transparent)]
    NotSeen(#[from] NotSeen),
    /// What was seen is not what was to be seen.
    #[error("not everything went as it should:\n{}", .0.join("\n"))]
    Unexpected(Vec<String>),
    /// Containers that should be gone; they have been removed since.
    #[error("the worker left {0} containers behind; they are removed now")]
    LeftBehind(usize),
    /// A person or a program asked for an end before the end.
    #[error("ended on request, before everything was shown")]
    Interrupted,
}

impl DemoError {
    /// How the process ends with it.
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

    /// Turns the system's words into ours.
    pub(super) fn machine(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Machine { what, source }
    }

    /// Something about a file or folder.
    pub(super) fn path(what: &str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path: PathBuf = path.into();
        Self::machine(format!("{what} {}", path.display()))
    }
}
