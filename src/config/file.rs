//! The configuration file: reads it within bounds, and takes it apart into the words that the flags would have been given, each
//! with its line. The words are checked where those of the flags are. Nothing about the file is trusted, not even that it is one.

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

/// A configuration file: the values that it sets, and the mistakes in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConfigFile {
    /// The path of the file; `None`: there is no file.
    pub path: Option<PathBuf>,
    /// The values that it sets for flags.
    pub(super) values: Vec<FileValue>,
    /// The settings that it gives to tasks: its defaults and profiles.
    profiles: Profiles,
    /// Its policy of what tasks may ask for; `None`: it has no `[policy]`.
    policy: Option<Policy>,
    /// The mistakes in its text, in the order of its lines.
    faults: Vec<Mistake>,
}

/// The value that a file sets one key to, and where it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileValue {
    pub(super) key: Key,
    /// The value in the words of a command line.
    pub(super) texts: Vec<String>,
    /// The line of the key, counted from 1.
    pub(super) line: usize,
}

/// The flags that have their value from a file; each with the text that names the place: file, line and key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places(pub(super) BTreeMap<String, String>);

impl ConfigFile {
    /// Reads the file that `--config` names, else the machine's configuration file, if there is one.
    ///
    /// # Errors
    /// The file cannot be read, is too large, or (for a worker that is root) can be written by others than root.
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

    /// Reads the file of this path.
    ///
    /// # Errors
    /// The same as those of [`Self::find`].
    pub fn read(path: &Path, surroundings: &Surroundings) -> Result<Self, Mistakes> {
        let text = read::bounded(path, surroundings.root).map_err(|why| {
            let shown = shown(path);
            let sentence = format!("the configuration file {shown} {why}");
            Mistakes(vec![Mistake::of_file(sentence)])
        })?;
        Ok(Self::of_text(path, &text))
    }

    /// The configuration file of this path with this text.
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

    /// The settings that the file gives to tasks: its defaults and profiles.
    #[must_use]
    pub fn profiles(&self) -> &Profiles {
        &self.profiles
    }

    /// The file's policy of what tasks may ask for; `None`: it has no `[policy]`.
    #[must_use]
    pub fn policy(&self) -> Option<&Policy> {
        self.policy.as_ref()
    }

    /// Puts the file's profiles and policy into a configuration. The worker's own places are added to the policy.
    pub fn say_of_tasks(&self, config: &mut Config) {
        config.tasks.profiles = self.profiles.clone();
        let policy = self.policy.clone().unwrap_or_default();
        let policy = policy.where_tasks_get(config.tasks.network.as_deref());
        let own = config.own_places(self.path.as_deref());
        config.tasks.policy = Policy { own, ..policy };
    }

    /// The mistakes in the file's text, profiles and policy; the values of flags are not checked for this (see [`Self::mistakes`]).
    #[must_use]
    pub fn faults(&self) -> &[Mistake] {
        &self.faults
    }

    /// The command with the file's values as defaults, so that a flag and an environment variable win over the file.
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

    /// All mistakes in the file that a start with it alone would find: without any flag or environment variable.
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

    /// How many flags the file sets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether the file sets no flag.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The place of a value in an error: file, line and key.
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
