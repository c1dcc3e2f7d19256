//! The keys of the configuration file: one for each flag of `run`, taken from clap's own tree, so that no flag can lack its key. A
//! key is the flag's name with underscores; its section is the flag's heading in `--help`, in lower case and with underscores.

use clap::{Arg, Args, Command};

use super::RunArgs;

/// The flags whose values a running worker takes from the file at a reload; all others count from its next start on.
pub const RELOADED: [&str; 8] = [
    "--max-tasks",
    "--allow-image",
    "--require-digest",
    "--retention",
    "--state-cap",
    "--image-max-age",
    "--image-gc-high",
    "--image-gc-low",
];

/// One key of the configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The section of the file that the key stands in.
    pub section: String,
    /// The key's name in that section.
    pub name: String,
    /// The key's flag, with its dashes.
    pub flag: String,
    /// The flag's environment variable.
    pub variable: String,
    /// The kind of its value.
    pub kind: Kind,
    /// The flag's help, in one line.
    pub help: String,
    /// The placeholder of the flag's value in `--help`, shown in the sample where there is no default.
    pub placeholder: String,
    /// The flag's default, in the words of a command line; empty where it depends on the surroundings, or there is none.
    pub default: Vec<String>,
    /// clap's id of the flag.
    pub(super) id: String,
}

/// The kind of a key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Switch,
    /// A whole number.
    Number,
    /// Text; a bare number is taken too, as for ports or cores.
    Text,
    /// A list of texts, which may be empty.
    List,
}

impl Key {
    /// Whether a running worker takes the key from the file at a reload.
    #[must_use]
    pub fn is_reloaded(&self) -> bool {
        RELOADED.contains(&self.flag.as_str())
    }

    fn of(arg: &Arg) -> Option<Self> {
        let name = arg.get_long()?;
        let placeholder = arg.get_value_names().unwrap_or_default();
        Some(Self {
            section: spelt(arg.get_help_heading()?),
            name: spelt(name),
            flag: format!("--{name}"),
            variable: arg.get_env()?.to_str()?.to_owned(),
            kind: kind(arg),
            help: arg.get_help()?.to_string(),
            placeholder: placeholder.first()?.to_string(),
            default: arg
                .get_default_values()
                .iter()
                .map(|value| value.to_string_lossy().into_owned())
                .collect(),
            id: arg.get_id().to_string(),
        })
    }
}

fn spelt(words: &str) -> String {
    words.to_lowercase().replace([' ', '-'], "_")
}

fn kind(arg: &Arg) -> Kind {
    let counts = arg
        .get_value_names()
        .is_some_and(|names| names.iter().any(|name| name == "N"));
    if arg.is_require_equals_set() {
        Kind::Switch
    } else if arg.get_value_delimiter().is_some() {
        Kind::List
    } else if counts {
        Kind::Number
    } else {
        Kind::Text
    }
}

/// All keys in the order of `--help`, section by section.
#[must_use]
pub fn all() -> Vec<Key> {
    let command = RunArgs::augment_args(Command::new("run"));
    let mut keys: Vec<Key> = command.get_arguments().filter_map(Key::of).collect();
    let sections = sections(&keys);
    keys.sort_by_key(|key| sections.iter().position(|section| *section == key.section));
    keys
}

/// The sections of these keys in their order, each once.
#[must_use]
pub fn sections(keys: &[Key]) -> Vec<String> {
    let mut sections: Vec<String> = Vec::new();
    for key in keys {
        if !sections.contains(&key.section) {
            sections.push(key.section.clone());
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_has_a_key_and_no_two_have_the_same() {
        let command = RunArgs::augment_args(Command::new("run"));
        let flags: Vec<_> = command.get_arguments().filter_map(Arg::get_long).collect();
        let keys = all();

        assert_eq!(keys.len(), flags.len());
        assert_eq!(keys.len(), command.get_arguments().count());
        for (at, key) in keys.iter().enumerate() {
            assert!(flags.contains(&key.flag.trim_start_matches("--")));
            let twins = keys[..at].iter().filter(|twin| twin.name == key.name);
            assert_eq!(
                twins.count(),
                0,
                "{} is said by its section alone",
                key.name
            );
        }
        let sections = sections(&keys);
        assert_eq!(
            sections,
            ["cluster", "closed_doors", "tasks", "state", "process"]
        );
    }

    #[test]
    fn what_a_running_worker_takes_are_keys() {
        let keys = all();

        let reloaded: Vec<_> = keys.iter().filter(|key| key.is_reloaded()).collect();

        assert_eq!(reloaded.len(), RELOADED.len());
    }
}
