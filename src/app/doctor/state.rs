//! Examines the state folder as a start would find it; changes nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, access},
    process::geteuid,
};

use super::super::{build, ownership, state::state_of};
use crate::{
    config::Config,
    domain::record::Snapshot,
    ports::{
        doctor::Finding,
        master::MasterAddress,
        state::{JournalFacts, LockFacts, StateFacts},
    },
};

/// The result of the look at a state folder.
pub(super) struct StateFolder {
    pub(super) findings: Vec<Finding>,
    /// Whether a worker has the folder, and the id of its process where that is written down.
    pub(super) holder: Option<Option<u32>>,
    /// The engine where the folder's containers are.
    pub(super) engine: Option<String>,
    journal: Option<Box<Snapshot>>,
}

impl StateFolder {
    pub(super) fn look(config: &Config) -> Self {
        let folder = &config.state.folder;
        let facts = match folder.exists() {
            true => state_of(folder),
            false => return Self::of_none(folder),
        };
        match facts {
            Ok(facts) => Self::of(config, facts),
            Err(error) => {
                let why = format!("{} cannot be read: {error}", folder.display());
                let advice = "run as the worker's user, or give another --state-dir";
                Self::with(Finding::fault(PART, why).remedy(advice))
            }
        }
    }

    fn of_none(folder: &Path) -> Self {
        let above = nearest(folder);
        let shown = folder.display();
        Self::with(match access(&above, Access::WRITE_OK | Access::EXEC_OK) {
            Ok(()) => Finding::fine(
                PART,
                format!("{shown} is not there yet: the start makes it"),
            ),
            Err(error) => Finding::fault(
                PART,
                format!("{shown} cannot be made in {}: {error}", above.display()),
            )
            .remedy("run as another user, or give another --state-dir"),
        })
    }

    fn of(config: &Config, facts: StateFacts) -> Self {
        let mut findings = vec![of_folder(&facts)];
        // A start asks the same: whose folder it is.
        if let Err(error) = ownership::read(&facts.folder, &config.cluster.worker) {
            findings.push(Finding::fault(PART, error.to_string()));
        }
        findings.extend(of_journal(&facts.journal));
        Self {
            findings,
            holder: match facts.lock {
                LockFacts::Free => None,
                LockFacts::Held(process) => Some(process),
            },
            engine: facts.owner.and_then(|owner| owner.engine),
            journal: match facts.journal {
                JournalFacts::Sound { content, .. } => Some(content),
                _ => None,
            },
        }
    }

    fn with(finding: Finding) -> Self {
        Self {
            findings: vec![finding],
            holder: None,
            engine: None,
            journal: None,
        }
    }

    /// The master that a start would call: the one that was announced, or the configured one.
    pub(super) fn master(&self, config: &Config) -> MasterAddress {
        match &self.journal {
            Some(journal) => build::master_address(config, journal),
            None => config.cluster.master.clone(),
        }
    }
}

const PART: &str = "state folder";

fn of_folder(facts: &StateFacts) -> Finding {
    let (folder, us) = (facts.folder.display(), geteuid().as_raw());
    if facts.access.user != us {
        let owner = facts.access.user;
        return Finding::fault(
            PART,
            format!("{folder} belongs to user {owner}, and this is user {us}"),
        )
        .remedy("run as its owner, or give another --state-dir");
    }
    let lock = match facts.lock {
        LockFacts::Free => "no worker has it".to_owned(),
        LockFacts::Held(Some(process)) => format!("the worker of process {process} has it"),
        LockFacts::Held(None) => "a worker has it".to_owned(),
    };
    Finding::fine(PART, format!("{folder}; {lock}"))
}

fn of_journal(journal: &JournalFacts) -> Option<Finding> {
    let state_check = "`worker-node state check` says more";
    Some(match journal {
        JournalFacts::Missing | JournalFacts::Sound { .. } => return None,
        JournalFacts::Newer { found, known } => Finding::fault(
            PART,
            format!("a newer version wrote the journal (format {found}, this one knows {known})"),
        )
        .remedy("start that version"),
        JournalFacts::Damaged(why) => Finding::warning(
            PART,
            format!("the journal is damaged: {why}; the next start sets it aside"),
        )
        .remedy(state_check),
        JournalFacts::Unreadable(why) => {
            Finding::fault(PART, format!("the journal cannot be read: {why}")).remedy(state_check)
        }
    })
}

/// The folder itself, or the nearest one above it that exists.
pub(super) fn nearest(folder: &Path) -> PathBuf {
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    let mut above = folder.ancestors();
    let there = above.find(|above| above.exists());
    there.map_or_else(|| PathBuf::from("."), Path::to_owned)
}
