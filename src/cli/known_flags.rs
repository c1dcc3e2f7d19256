//! Flags as the existing worker takes them: with one dash or two. clap would read `-id` as `-i -d`, so a flag that is known by its
//! whole name is given its second dash before clap sees it. A switch whose `true` or `false` stands behind a space, which clap
//! would read as a command, is given its `=`. Nothing else is touched, and nothing after `--`.

use std::{collections::HashSet, ffi::OsString};

use clap::{Arg, Command};

/// Gives the flags of `command` and of its subcommands their second dash, and switches their `=`.
pub(super) fn rewrite(
    argv: impl IntoIterator<Item = OsString>,
    mut command: Command,
) -> Vec<OsString> {
    // Without this, `help` and `version` are not among the flags yet.
    command.build();
    let mut known = Known::default();
    known.add(&command);
    let mut over = false;
    let mut rewritten: Vec<OsString> = Vec::new();
    for mut argument in argv {
        over = over || argument == "--";
        let last = rewritten.last_mut().filter(|_| !over);
        if let Some(switch) = last.filter(|last| known.is_switch(last) && is_word(&argument)) {
            switch.push("=");
            switch.push(argument);
            continue;
        }
        if !over && known.has_one_dash(&argument) {
            let mut dashed = OsString::from("-");
            dashed.push(argument);
            argument = dashed;
        }
        rewritten.push(argument);
    }
    rewritten
}

/// The names of all flags, without dashes.
#[derive(Default)]
struct Known {
    flags: HashSet<String>,
    /// The flags that are on or off.
    switches: HashSet<String>,
}

impl Known {
    fn add(&mut self, command: &Command) {
        for argument in command.get_arguments() {
            let names = argument.get_long_and_visible_aliases().unwrap_or_default();
            let names = names.into_iter().map(str::to_owned);
            if is_optional_word(argument) {
                self.switches.extend(names.clone());
            }
            self.flags.extend(names);
        }
        for below in command.get_subcommands() {
            self.add(below);
        }
    }

    fn is_switch(&self, argument: &OsString) -> bool {
        let name = argument.to_str().and_then(|flag| flag.strip_prefix("--"));
        name.is_some_and(|name| self.switches.contains(name))
    }

    fn has_one_dash(&self, argument: &OsString) -> bool {
        let bytes = argument.as_encoded_bytes();
        let name = bytes.split(|byte| *byte == b'=').next().unwrap_or(bytes);
        let name = std::str::from_utf8(name).ok();
        let name = name.and_then(|name| name.strip_prefix('-'));
        name.is_some_and(|name| self.flags.contains(name))
    }
}

/// A switch: its `true` or `false` may be left out, so clap takes the word only behind a `=`.
fn is_optional_word(argument: &Arg) -> bool {
    argument.is_require_equals_set()
}

fn is_word(argument: &OsString) -> bool {
    argument == "true" || argument == "false"
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::args::CommandLine;

    fn rewritten(argv: &str) -> String {
        let argv = argv.split(' ').map(OsString::from);
        rewrite(argv, CommandLine::command())
            .into_iter()
            .map(|argument| argument.into_string().unwrap())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn the_flags_of_the_existing_worker_get_their_second_dash() {
        assert_eq!(
            rewritten("w -id a -ip=b -master c:1 -port :0"),
            "w --id a --ip=b --master c:1 --port :0"
        );
    }

    #[test]
    fn every_flag_of_every_command_may_have_one_dash_or_two() {
        let mut command = CommandLine::command();
        command.build();
        let mut known = Known::default();
        known.add(&command);
        assert!(known.flags.len() > 30 && known.switches.len() >= 4);
        assert!(known.flags.contains("help") && known.flags.contains("watch"));

        for flag in &known.flags {
            let two = [format!("w --{flag} x"), format!("w --{flag}=x")];
            assert_eq!(rewritten(&format!("w -{flag} x")), two[0]);
            assert_eq!(rewritten(&format!("w -{flag}=x")), two[1]);
            for line in two {
                assert_eq!(rewritten(&line), line);
            }
        }
        for switch in &known.switches {
            let on = format!("w --{switch}=true");
            assert_eq!(rewritten(&format!("w -{switch} true")), on);
            assert_eq!(rewritten(&format!("w --{switch} true")), on);
        }
    }

    #[test]
    fn nothing_else_is_touched() {
        for argv in [
            "w --id a --port=1",
            "w -h -idx -v -p 1",
            "w --max-tasks -1",
            "w demo submit busybox -- ls -id -ip=1 -supervise true",
        ] {
            assert_eq!(rewritten(argv), argv);
        }
    }
}
