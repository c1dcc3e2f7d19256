//! The settings in force: each key with its value, in the words of a command line, and its origin. clap has decided by then: a flag
//! wins over its environment variable, that over the file, and the file over the default.

use std::path::PathBuf;

use clap::{ArgMatches, parser::ValueSource};

use super::{
    Config,
    file::{ConfigFile, Places},
    keys::{self, Key},
};

/// All keys of the configuration with their values and origins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// The configuration file that was read, if one was.
    pub file: Option<PathBuf>,
    /// The settings, in the order of the keys.
    pub all: Vec<Setting>,
}

/// A checked configuration, and the words that it was made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Launch {
    /// The configuration, checked and typed.
    pub config: Config,
    /// The words, key by key.
    pub settings: Settings,
}

/// One key as it is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The key.
    pub key: Key,
    /// The words of its value; empty where nothing is set. A path that is no UTF-8 text is here as near to it as text can be.
    pub texts: Vec<String>,
    /// What set the value.
    pub origin: Origin,
}

/// What set a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// The key's environment variable.
    Variable,
    /// The configuration file, at this line.
    File(usize),
    /// The default.
    Default,
}

impl Settings {
    /// The settings of a command that takes some or all flags of `run`, and whose defaults are the values of `file`.
    #[must_use]
    pub fn of(matches: &ArgMatches, file: &ConfigFile) -> Self {
        let known = |key: &Key| matches.try_contains_id(&key.id).is_ok();
        let keys = keys::all().into_iter().filter(known);
        let all = keys.map(|key| {
            let texts = matches.get_raw(&key.id).into_iter().flatten();
            Setting {
                texts: texts
                    .map(|text| text.to_string_lossy().into_owned())
                    .collect(),
                origin: origin(&key, matches, file),
                key,
            }
        });
        Self {
            all: all.collect(),
            file: file.path.clone(),
        }
    }

    /// The places of those settings that the file sets.
    #[must_use]
    pub fn places(&self, file: &ConfigFile) -> Places {
        let ours = self
            .all
            .iter()
            .filter(|setting| matches!(setting.origin, Origin::File(_)));
        let places = ours.filter_map(|setting| {
            let value = file.values.iter().find(|value| value.key == setting.key)?;
            Some((setting.key.flag.clone(), file.place(value)))
        });
        Places(places.collect())
    }

    /// How many settings are not defaults.
    #[must_use]
    pub fn set(&self) -> usize {
        let all = self.all.iter();
        all.filter(|setting| setting.origin != Origin::Default)
            .count()
    }

    /// The settings of `other` whose values differ from those here, however they are spelt.
    pub fn changed<'a>(&self, other: &'a Self) -> impl Iterator<Item = &'a Setting> {
        let pairs = self.all.iter().zip(&other.all);
        let changed = pairs.filter(|(one, other)| one.value() != other.value());
        changed.map(|(_, other)| other)
    }

    /// Replaces the setting of this key by that one.
    pub fn take(&mut self, setting: &Setting) {
        let ours = self.all.iter_mut();
        for ours in ours.filter(|ours| ours.key == setting.key) {
            *ours = setting.clone();
        }
    }

    /// The same settings; where nobody set the engine or the state folder, with the one that was found in the surroundings.
    #[must_use]
    pub fn resolved(mut self, config: &Config) -> Self {
        for setting in self
            .all
            .iter_mut()
            .filter(|setting| setting.texts.is_empty())
        {
            match setting.key.flag.as_str() {
                "--engine" => setting.texts.push(config.tasks.engine.to_string()),
                "--state-dir" => {
                    let folder = config.state.folder.to_string_lossy();
                    setting.texts.push(folder.into_owned());
                }
                _ => {}
            }
        }
        self
    }
}

fn origin(key: &Key, matches: &ArgMatches, file: &ConfigFile) -> Origin {
    match matches.value_source(&key.id) {
        Some(ValueSource::CommandLine) => Origin::Flag,
        Some(ValueSource::EnvVariable) => Origin::Variable,
        // An empty list has no source in clap.
        Some(_) | None => {
            let value = file.values.iter().find(|value| value.key == *key);
            value.map_or(Origin::Default, |value| Origin::File(value.line))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command};

    use super::{super::RunArgs, *};

    fn settings(flags: &[&str]) -> Settings {
        let command = RunArgs::augment_args(Command::new("w"));
        let words = std::iter::once(&"w").chain(flags);
        let matches = command.get_matches_from(words);
        Settings::of(&matches, &ConfigFile::default())
    }

    #[test]
    fn what_changed_is_named_however_it_is_spelt_and_once() {
        let mut before = settings(&["--max-tasks=7", "--supervise=yes", "--pull=never"]);
        let after = settings(&["--max-tasks=007", "--supervise=true", "--cap-add=A"]);

        let changed: Vec<_> = before.changed(&after).cloned().collect();

        let names: Vec<_> = changed.iter().map(|one| one.key.name.as_str()).collect();
        assert_eq!(names, ["pull", "cap_add"]);
        changed.iter().for_each(|setting| before.take(setting));
        assert_eq!(before.changed(&after).count(), 0);
    }
}
