//! Variables of the environment that look like ours and set nothing: a misspelled one would be ignored in silence.

use std::ffi::OsString;

use clap::CommandFactory;

use super::args::CommandLine;
use crate::domain::text::escape;

/// The prefix of this program's variables.
const OURS: &str = "WORKER_NODE_";
/// Variables that this program's own tests read.
const OTHERS: [&str; 1] = ["WORKER_NODE_FULL"];

/// A warning for each of these names that begins like ours and sets nothing.
pub(super) fn unknown(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let command = CommandLine::command();
    let known: Vec<_> = command
        .get_arguments()
        .filter_map(clap::Arg::get_env)
        .collect();
    let ours = names.filter_map(|name| name.into_string().ok());
    let ours = ours.filter(|name| name.starts_with(OURS) && !OTHERS.contains(&name.as_str()));
    ours.filter(|name| !known.contains(&name.as_ref()))
        .map(|name| {
            format!(
                "the variable {} sets nothing; --help has the names of all that do",
                escape(&name, 100)
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_sets_nothing_is_told() {
        let names = [
            "WORKER_NODE_MASTR",
            "WORKER_NODE_MASTER",
            "PATH",
            "WORKER_NODE_FULL",
        ];

        let told = unknown(names.into_iter().map(OsString::from));

        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].contains("WORKER_NODE_MASTR sets nothing"),
            "{told:?}"
        );
    }
}
