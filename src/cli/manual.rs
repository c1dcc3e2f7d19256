//! `worker-node completions` and `worker-node man`: completions for shells and man pages, made of the same words as `--help`. A
//! package lays them where the system looks for them.

use std::{fs, io, path::PathBuf};

use clap::{Args, CommandFactory, ValueHint};
use clap_complete::Shell;

use super::{args::CommandLine, ask};
use crate::exit::Exit;

/// The arguments of `completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// The arguments of `man`.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The folder to write them into; made where it is missing.
    #[arg(value_hint = ValueHint::DirPath)]
    folder: PathBuf,
}

/// Which manual to make.
#[derive(Debug, PartialEq, Eq)]
pub enum ManualCommand {
    /// A script for this shell.
    Completions(Shell),
    /// A page for each command, into this folder.
    Man(PathBuf),
}

impl From<CompletionsArgs> for ManualCommand {
    fn from(args: CompletionsArgs) -> Self {
        Self::Completions(args.shell)
    }
}

impl From<ManArgs> for ManualCommand {
    fn from(args: ManArgs) -> Self {
        Self::Man(args.folder)
    }
}

/// Prints or writes what was asked for.
pub fn perform(command: &ManualCommand) -> Exit {
    match command {
        ManualCommand::Completions(shell) => ask::put(&completions(*shell)),
        ManualCommand::Man(folder) => match write_pages(folder) {
            Ok(()) => Exit::Clean,
            Err(error) => {
                ask::complain(&format!(
                    "the pages cannot be written into {}: {error}; name a folder that is yours",
                    folder.display()
                ));
                match error.kind() {
                    io::ErrorKind::PermissionDenied => Exit::Permission,
                    _ => Exit::Unexpected,
                }
            }
        },
    }
}

fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    let mut command = CommandLine::command();
    clap_complete::generate(shell, &mut command, "worker-node", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

fn write_pages(folder: &PathBuf) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    clap_mangen::generate_to(CommandLine::command(), folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_that_says_what_it_is() {
        let folder = tempfile::tempdir().unwrap();

        let exit = perform(&ManualCommand::Man(folder.path().join("man1")));

        assert_eq!(exit, Exit::Clean);
        let page = |name: &str| fs::read_to_string(folder.path().join("man1").join(name)).unwrap();
        let first = page("worker-node.1");
        for command in CommandLine::command().get_subcommands() {
            let name = format!("worker-node-{}", command.get_name());
            assert!(page(&format!("{name}.1")).contains(".SH NAME\n"), "{name}");
            let named = name.replace('-', "\\-");
            assert!(first.contains(&named), "{name} is not named in the first");
        }
        assert!(page("worker-node-state-check.1").contains("\\-\\-state\\-dir"));
    }

    #[test]
    fn each_shell_is_told_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = completions(shell);

            for command in CommandLine::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {command}");
            }
            assert!(script.contains("max-tasks"), "{shell}");
        }
    }
}
