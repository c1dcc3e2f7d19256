//! Settings that are one of a few words.

use crate::{domain::privileges::Base, telemetry::LogFormat};

/// Whether the worker follows a master that says that it has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MasterMoves {
    /// It follows.
    Followed,
    /// It stays with the master that it was given.
    Refused,
    /// It stays, since TLS is on and still no caller has to show who it is.
    OfNobody,
}

/// What becomes of the amounts that a task asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limits {
    /// They are the limits of its container.
    Enforce,
    /// They are reserved for the task, which may use more.
    Reserve,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// When the engine does not have it; one with the tag `latest` or none also when its registry has another one by now.
    Auto,
    /// When the engine does not have it.
    Missing,
    /// Before every task.
    Always,
    /// Never: the engine must have it.
    Never,
}

/// What becomes of running tasks when the worker is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStop {
    /// They run on; the next start takes them up.
    Leave,
    /// New tasks are refused, and the worker ends when the last one has ended.
    Drain,
    /// They are sent their stop signal, and are killed after their grace period.
    Stop,
}

/// What the process does when a subsystem fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenSubsystemFails {
    /// It restarts the subsystem, within its budget.
    Restart,
    /// It ends in order, for those who leave restarting to a service manager.
    EndProcess,
}

/// What the worker does at its start when another engine than before answers, while tasks have not ended on the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewEngine {
    /// It takes the old engine for gone for good, and those tasks with it.
    Accepted,
    /// It takes that for a mistake and refuses to start.
    Refused,
}

/// What the process does when engine or master are away at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenAway {
    /// It says so once, and tries again for as long as it takes.
    KeepTrying,
    /// It ends.
    EndProcess,
}

impl Limits {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        one_of(
            text,
            &[("enforce", Self::Enforce), ("reserve", Self::Reserve)],
        )
    }
}

impl PullPolicy {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        one_of(
            text,
            &[
                ("auto", Self::Auto),
                ("missing", Self::Missing),
                ("always", Self::Always),
                ("never", Self::Never),
            ],
        )
    }
}

impl OnStop {
    pub(super) fn read(text: &str) -> Result<Self, String> {
        one_of(
            text,
            &[
                ("leave", Self::Leave),
                ("drain", Self::Drain),
                ("stop", Self::Stop),
            ],
        )
    }
}

/// The privileges to begin with, which are the domain's own type.
pub(super) fn read_privileges(text: &str) -> Result<Base, String> {
    one_of(
        text,
        &[("default", Base::Default), ("restricted", Base::Restricted)],
    )
}

/// The format of the log, which is telemetry's own type.
pub(super) fn read_log_format(text: &str) -> Result<LogFormat, String> {
    one_of(
        text,
        &[("text", LogFormat::Text), ("json", LogFormat::Json)],
    )
}

fn one_of<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    choices
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, choice)| *choice)
        .ok_or_else(|| {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            format!("is none of {}", words.join(", "))
        })
}
