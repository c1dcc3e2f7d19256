//! The configuration file: read within bounds, and taken apart into the words that the flags would have been given, each with its
//! line. What the words say is checked where the flags' are. Nothing of the file is trusted, not even that it is one.

mod policy;
mod profiles;
mod read;
mod taking;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
};

use clap::{Args, Command, FromArgMatches, builder::Resettable};

use super::{
    Config, RunArgs, SHOWN,
    check::{Check, Mistake, Mistakes},
    keys::{self, Key},
    settings::Settings,
    surroundings::Surroundings,
};
use crate::domain::{policy::Policy, profile::Profiles, text::escape};

/// A configuration file: what it sets, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConfigFile {
    /// Where it lies; none: there is no file.
    pub path: Option<PathBuf>,
    /// What it sets.
    pub(super) values: Vec<FileValue>,
    /// What it says that tasks get.
    profiles: Profiles,
    /// What it says that tasks may ask for, if anything.
    policy: Option<Policy>,
    /// What is wrong with it, in the order of its lines.
    faults: Vec<Mistake>,
}

/// What a file sets one key to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileValue {
    pub(super) key: Key,
    /// In the words of a command line.
    pub(super) texts: Vec<String>,
    /// Counted from 1.
    pub(super) line: usize,
}

/// Which flags have their value from a file, and the words that name the place: file, line and key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places(pub(super) BTreeMap<String, String>);

impl ConfigFile {
    /// The one that was asked for, else the machine's where there is one.
    ///
    /// # Errors
    /// It cannot be read, is too large, or may be written by others.
    pub fn find(given: Option<&OsStr>, surroundings: &Surroundings) -> Result<Self, Mistakes> {
        let path = match given {
            Some(given) => {
                let mut check = Check::default();
                let path = check.path(FLAG, given, "file");
                path.ok_or_else(|| check.into_mistakes())?
            }
            None => match &surroundings.config_file {
                Some(path) if read::is_there(path) => path.clone(),
                Some(_) | None => return Ok(Self::default()),
            },
        };
        Self::read(&path, surroundings)
    }

    /// This one.
    ///
    /// # Errors
    /// As above.
    pub fn read(path: &Path, surroundings: &Surroundings) -> Result<Self, Mistakes> {
        let text = read::bounded(path, surroundings.root).map_err(|why| {
            let shown = shown(path);
            let sentence = format!("the configuration file {shown} {why}");
            Mistakes(vec![Mistake::of_file(sentence)])
        })?;
        Ok(Self::of_text(path, &text))
    }

    /// What this text says.
    #[must_use]
    pub fn of_text(path: &Path, text: &str) -> Self {
        let taken = taking::take(text, &keys::all());
        let shown = shown(path);
        let faults = taken
            .faults
            .into_iter()
            .map(|fault| Mistake::of_file(format!("{shown}:{}: {}", fault.line, fault.complaint)));
        Self {
            path: Some(path.to_owned()),
            values: taken.values,
            profiles: taken.profiles,
            policy: taken.policy,
            faults: faults.collect(),
        }
    }

    /// What it says that tasks get.
    #[must_use]
    pub fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    /// What it says that tasks may ask for; `None`: nothing.
    #[must_use]
    pub fn policy(&self) -> Option<&Policy> {
        self.policy.as_ref()
    }

    /// Has a configuration say of tasks what stands here.
    pub fn say_of_tasks(&self, config: &mut Config) {
        config.tasks.profiles = self.profiles.clone();
        let policy = self.policy.clone().unwrap_or_default();
        let policy = policy.where_tasks_get(config.tasks.network.as_deref());
        let own = config.own_places(self.path.as_deref());
        config.tasks.policy = Policy { own, ..policy };
    }

    /// What is wrong with it by itself, whatever its values say.
    #[must_use]
    pub fn faults(&self) -> &[Mistake] {
        &self.faults
    }

    /// The command with what the file sets as its defaults, so that a flag and an environment variable win over it.
    #[must_use]
    pub fn set_defaults(&self, mut command: Command) -> Command {
        for value in &self.values {
            let id = value.key.id.as_str();
            if command.get_arguments().any(|arg| arg.get_id() == id) {
                let texts = value.texts.clone();
                command = command.mut_arg(id, |arg| arg.default_values(texts));
            }
        }
        let below: Vec<_> = command
            .get_subcommands()
            .map(|sub| sub.get_name().to_owned())
            .collect();
        for name in below {
            command = command.mut_subcommand(name, |sub| self.set_defaults(sub));
        }
        command
    }

    /// Everything that is wrong with it, as a start by it alone would find: without flags, and whatever the environment says.
    #[must_use]
    pub fn mistakes(&self, surroundings: &Surroundings) -> Mistakes {
        let mut command = RunArgs::augment_args(Command::new("worker-node"));
        for key in keys::all() {
            command = command.mut_arg(key.id, |arg| arg.env(Resettable::Reset));
        }
        let judged = self.judged(command, surroundings).err();
        let judged = judged.into_iter().flat_map(|mistakes| mistakes.0);
        Mistakes(self.faults.iter().cloned().chain(judged).collect())
    }

    fn judged(&self, command: Command, surroundings: &Surroundings) -> Result<Config, Mistakes> {
        let unread = |error: clap::Error| Mistakes(vec![Mistake::of_file(error.to_string())]);
        let matches = self
            .set_defaults(command)
            .try_get_matches_from(["worker-node"]);
        let matches = matches.map_err(unread)?;
        let args = RunArgs::from_arg_matches(&matches).map_err(unread)?;
        let places = Settings::of(&matches, self).places(self);
        let mut config = Config::checked(&args, surroundings, &places)?;
        self.say_of_tasks(&mut config);
        Ok(config)
    }

    /// How many keys it sets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether it sets nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// What names the place of this value.
    pub(super) fn place(&self, value: &FileValue) -> String {
        let path = self.path.as_deref().map(shown).unwrap_or_default();
        format!("{path}:{}: {}", value.line, value.key.name)
    }
}

/// The flag that names the file.
const FLAG: &str = "--config";

fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy(), SHOWN * 2)
}

#[cfg(test)]
mod tests;
