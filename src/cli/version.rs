//! `worker-node version`, and `--version --verbose`: which program this is: version, commit, features, wire contract.

use std::{ffi::OsString, fmt::Write as _};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{ask, words};
use crate::{exit::Exit, telemetry::program};

/// The contract with the master, whose digest tells whether two programs speak the same.
const CONTRACT: &[u8] = include_bytes!("../../proto/cluster.proto");

/// The arguments of `worker-node version`, checked.
#[derive(Debug, PartialEq, Eq)]
pub struct VersionCommand {
    pub(super) json: bool,
}

/// The facts about this program, in the order of the text.
#[derive(Debug, Serialize)]
struct Facts {
    /// The version of the JSON that all commands print.
    version: u32,
    program: &'static str,
    commit: &'static str,
    date: String,
    features: Vec<&'static str>,
    wire_contract: String,
    journal_format: i64,
}

/// Whether `argv` is `--version --verbose`: clap prints the version at the first word and ignores the second.
pub(super) fn is_asked(argv: &[OsString]) -> bool {
    let has = |names: [&str; 2]| {
        argv.iter()
            .skip(1)
            .any(|word| names.iter().any(|name| word == name))
    };
    argv.len() == 3 && has(["--version", "-V"]) && has(["--verbose", "-v"])
}

/// Prints the facts. `journal_format` is the one that this program writes.
pub fn perform(command: &VersionCommand, journal_format: i64) -> Exit {
    let facts = facts(journal_format);
    ask::put(&match command.json {
        true => json(&facts),
        false => text(&facts),
    })
}

fn facts(journal_format: i64) -> Facts {
    let failpoints = cfg!(feature = "failpoints").then_some("failpoints");
    Facts {
        version: words::JSON_VERSION,
        program: program::VERSION,
        commit: program::COMMIT,
        date: program::date(),
        features: failpoints.into_iter().collect(),
        wire_contract: contract(),
        journal_format,
    }
}

/// A digest of the contract: two programs with the same speak the same. Comments count too, but nobody changes those alone.
fn contract() -> String {
    let mut name = String::from("cluster.proto sha256:");
    for byte in Sha256::digest(CONTRACT).iter().take(6) {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

fn text(facts: &Facts) -> String {
    let features = match facts.features.is_empty() {
        true => "none".to_owned(),
        false => facts.features.join(", "),
    };
    format!(
        "worker-node {}\n\
         commit          {}\n\
         date            {}\n\
         features        {features}\n\
         wire contract   {}\n\
         journal format  {}\n\
         JSON version    {}\n",
        facts.program,
        facts.commit,
        facts.date,
        facts.wire_contract,
        facts.journal_format,
        facts.version,
    )
}

fn json(facts: &Facts) -> String {
    let mut line = serde_json::to_string(facts).expect("texts and numbers have a form in JSON");
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_wanted_whole_where_both_flags_stand() {
        let asked = |line: &str| {
            let argv: Vec<_> = line.split(' ').map(OsString::from).collect();
            is_asked(&argv)
        };

        assert!(asked("w --version --verbose") && asked("w --verbose -V"));
        for other in ["w --version", "w --verbose", "w --version --verbose run"] {
            assert!(!asked(other), "{other}");
        }
    }

    #[test]
    fn all_that_is_known_of_the_program_is_told_in_both_forms() {
        let facts = facts(7);

        let (text, json) = (text(&facts), json(&facts));

        assert!(text.starts_with("worker-node 0."), "{text}");
        assert!(text.contains("\njournal format  7\n"), "{text}");
        assert!(
            text.contains("\nwire contract   cluster.proto sha256:"),
            "{text}"
        );
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["journal_format"], 7);
        assert_eq!(json["version"], words::JSON_VERSION);
    }
}
