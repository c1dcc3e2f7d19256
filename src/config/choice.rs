//! Settings that are one of a few words.

use crate::{domain::privileges::Base, telemetry::LogFormat};

/// Whether a master may say that it has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MasterMoves {
    /// It may.
    Followed,
    /// The worker stays with the one that it was given.
    Refused,
    /// The same, since the doors are closed by TLS and still nobody has to show who he is.
    OfNobody,
}

/// What becomes of the amounts that a task asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limits {
    /// They are limits of its container.
    Enforce,
    /// They are set aside for it, and it may use more.
    Reserve,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// When it is not there; one with the tag `latest` or none also when its registry has another one by now.
    Auto,
    /// When it is not there.
    Missing,
    /// Before every task.
    Always,
    /// Not at all: it must be there.
    Never,
}

/// What becomes of running tasks when the worker is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStop {
    /// They run on; the next start takes them up.
    Leave,
    /// No new ones, and the worker ends when the last one has.
    Drain,
    /// They are asked to end, and made to after their grace.
    Stop,
}

/// What a failed subsystem means for the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenSubsystemFails {
    /// The subsystem is restarted, within its budget.
    Restart,
    /// The process ends in order, for people who leave restarting to somebody else.
    EndProcess,
}

/// What another engine than before means at the start, while tasks have not ended on that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewEngine {
    /// That one is gone for good, and those tasks with it.
    Accepted,
    /// A mistake.
    Refused,
}

/// What an engine or a master that is away at the start means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenAway {
    /// Said once, and tried again for as long as it takes.
    KeepTrying,
    /// The process ends.
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

/// Where privileges begin is the domain's own type.
pub(super) fn read_privileges(text: &str) -> Result<Base, String> {
    one_of(
        text,
        &[("default", Base::Default), ("restricted", Base::Restricted)],
    )
}

/// The look of the log is telemetry's own type.
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
