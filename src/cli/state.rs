//! `worker-node state`: what lies in a state folder, for an operator who wonders. Changes nothing; `main` hands in what was read.
//! `check` says whether it is sound, `dump` shows what is in the journal.

mod check;
mod dump;
mod json;

use std::{
    io,
    path::{Path, PathBuf},
};

pub(in crate::cli) use self::dump::{outcome, word};
use super::{
    args::StateOrder,
    page::{self, Paper},
    words,
};
use crate::{exit::Exit, ports::state::StateFacts};

/// The arguments of `worker-node state`, checked.
#[derive(Debug, PartialEq)]
pub struct StateCommand {
    /// The state folder.
    pub folder: PathBuf,
    question: Question,
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    Check,
    Dump,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

impl StateCommand {
    pub(super) fn new(order: &StateOrder, folder: PathBuf) -> Self {
        let (question, json) = match *order {
            StateOrder::Check { json } => (Question::Check, json),
            StateOrder::Dump { json } => (Question::Dump, json),
        };
        Self {
            folder,
            question,
            format: match json {
                true => Format::Json,
                false => Format::Text,
            },
        }
    }
}

/// Prints what was asked for.
pub fn perform(command: &StateCommand, facts: io::Result<StateFacts>) -> Exit {
    let facts = match facts {
        Ok(facts) => facts,
        Err(error) => return unread(&command.folder, &error),
    };
    if facts.is_untouched() {
        let folder = words::foreign(&command.folder.to_string_lossy(), 1_024);
        eprintln!("error: no worker has run here: {folder}; give the --state-dir of a worker");
        return Exit::NotRunning;
    }
    let findings = check::findings(&facts);
    let text = match (command.question, command.format) {
        (Question::Check, Format::Text) => check::text(&facts, &findings),
        (Question::Check, Format::Json) => json::check(&facts, &findings),
        (Question::Dump, Format::Text) => dump::text(&facts),
        (Question::Dump, Format::Json) => json::dump(&facts),
    };
    if let Err(error) = Paper::standard().put(&text) {
        return page::unwritten(&error);
    }
    let is_sound = match command.question {
        Question::Check => !findings.iter().any(check::Finding::is_trouble),
        Question::Dump => facts.journal.content().is_some(),
    };
    match is_sound {
        true => Exit::Clean,
        false => Exit::Unexpected,
    }
}

/// The exit code of a command that could not read the state folder; says why.
pub(super) fn unread(folder: &Path, error: &io::Error) -> Exit {
    let folder = words::foreign(&folder.to_string_lossy(), 1_024);
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
            eprintln!("error: there is no state folder {folder}; give the --state-dir of a worker");
            Exit::NotRunning
        }
        io::ErrorKind::PermissionDenied => {
            eprintln!(
                "error: the state folder {folder} is another user's; run this as the worker's user"
            );
            Exit::Permission
        }
        _ => {
            eprintln!("error: the state folder {folder} cannot be read: {error}");
            Exit::Unexpected
        }
    }
}
