//! The command line read together with the configuration file: once to learn which file is meant, and once more with that file's
//! values as the defaults, so that clap itself decides which value wins. A command that does not ask for the file never touches it.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use clap::{ArgMatches, CommandFactory, FromArgMatches, parser::ValueSource};

use super::{Answer, args::CommandLine};
use crate::config::{
    self, Config, ConfigFile, Launch, Mistake, Mistakes, Places, RunArgs, Settings, Surroundings,
};

/// What a command is made from, beside its own arguments.
#[derive(Debug)]
pub(super) struct Reading {
    /// The process's environment.
    pub(super) surroundings: Surroundings,
    /// The configuration file; empty where the command asks for none.
    file: ConfigFile,
    /// The values of the keys that the command knows, and where each is from.
    settings: Settings,
}

/// Parses the arguments, and reads the file that they ask for.
pub(super) fn read(
    argv: &[OsString],
    surroundings: Surroundings,
) -> Result<(CommandLine, Reading), Answer> {
    let command = CommandLine::command();
    let mut matches = command.try_get_matches_from(argv).map_err(Answer::Words)?;
    let file = file_of(innermost(&matches), &surroundings).map_err(Answer::Values)?;
    if !file.is_empty() {
        let command = file.set_defaults(CommandLine::command());
        matches = command.try_get_matches_from(argv).map_err(Answer::Words)?;
    }
    let settings = Settings::of(innermost(&matches), &file);
    let line = CommandLine::from_arg_matches(&matches).map_err(Answer::Words)?;
    let reading = Reading {
        surroundings,
        file,
        settings,
    };
    Ok((line, reading))
}

/// The matches of the innermost subcommand.
fn innermost(matches: &ArgMatches) -> &ArgMatches {
    match matches.subcommand() {
        Some((_, below)) => innermost(below),
        None => matches,
    }
}

fn file_of(matches: &ArgMatches, surroundings: &Surroundings) -> Result<ConfigFile, Mistakes> {
    match matches.try_get_one::<OsString>("config") {
        Ok(given) if needs_file(matches) => {
            let found = ConfigFile::find(given.map(OsString::as_os_str), surroundings);
            found.map_err(|mistakes| match is_worker(matches) {
                true => mistakes,
                false => with_way_out(mistakes.0),
            })
        }
        // The command has no `--config`, or needs no file.
        Ok(_) | Err(_) => Ok(ConfigFile::default()),
    }
}

/// A command that only asks about a worker, and is told its folder, needs no configuration: the file may be broken just then.
fn needs_file(matches: &ArgMatches) -> bool {
    let says_where = matches!(
        matches.value_source("state_dir"),
        Some(ValueSource::CommandLine | ValueSource::EnvVariable)
    );
    is_worker(matches) || !says_where
}

/// Whether the command takes the flags of a worker.
fn is_worker(matches: &ArgMatches) -> bool {
    matches.try_contains_id("id").is_ok()
}

/// Adds how to do without the file, for a command that only wants to know where a worker's state is.
fn with_way_out(mut mistakes: Vec<Mistake>) -> Mistakes {
    if let Some(last) = mistakes.last_mut() {
        last.sentence
            .push_str(" (to do without the file, give --state-dir)");
    }
    Mistakes(mistakes)
}

impl Reading {
    /// The worker's configuration, checked, with the defaults that were found filled in.
    pub(super) fn launch(&self, flags: &RunArgs) -> Result<Launch, Answer> {
        let config = self.config(flags)?;
        let settings = self.settings.clone().resolved(&config);
        Ok(Launch { config, settings })
    }

    fn config(&self, flags: &RunArgs) -> Result<Config, Answer> {
        let places = self.settings.places(&self.file);
        let judged = Config::checked(flags, &self.surroundings, &places);
        let mistakes: Vec<_> = self.file.faults().to_vec();
        match judged {
            Ok(mut config) if mistakes.is_empty() => {
                self.file.say_of_tasks(&mut config);
                Ok(config)
            }
            Ok(_) => Err(Answer::Values(Mistakes(mistakes))),
            Err(more) => Err(Answer::Values(Mistakes([mistakes, more.0].concat()))),
        }
    }

    /// The state folder of the worker that the command is about.
    pub(super) fn state_folder(&self, given: Option<&OsStr>) -> Result<PathBuf, Answer> {
        if !self.file.faults().is_empty() {
            return Err(Answer::Values(with_way_out(self.file.faults().to_vec())));
        }
        let places: Places = self.settings.places(&self.file);
        config::state_folder(given, &self.surroundings, &places).map_err(Answer::Values)
    }
}
