//! `worker-node loglevel`: which lines the log of a running worker shows, and how to have it show others for a while.

use std::path::PathBuf;

use clap::{CommandFactory, error::ErrorKind};

use super::{
    args::{CommandLine, LogLevelArgs},
    ask, words,
};
use crate::{
    exit::Exit,
    ports::admin::{Admin, LogLevel, LogOrder},
};

/// The argument that takes an order back.
const RESET: &str = "reset";

/// Bytes of a filter that are shown.
const SHOWN: usize = 64 * 1_024;

/// The arguments of `worker-node loglevel`, checked.
#[derive(Debug, PartialEq, Eq)]
pub struct LogLevelCommand {
    /// The worker's state folder.
    pub folder: PathBuf,
    order: LogOrder,
}

impl LogLevelCommand {
    pub(super) fn new(args: LogLevelArgs, folder: PathBuf) -> Result<Self, clap::Error> {
        let order = match (args.level, args.lasts) {
            (None, _) => LogOrder::Show,
            (Some(word), None) if word == RESET => LogOrder::Reset,
            (Some(word), Some(_)) if word == RESET => {
                let why = "'reset' is at once: it goes without --for";
                return Err(CommandLine::command().error(ErrorKind::ArgumentConflict, why));
            }
            (Some(said), lasts) => LogOrder::Set { said, lasts },
        };
        Ok(Self { folder, order })
    }
}

/// Gives the order to the worker behind `admin`, and prints the filter that is in force then.
pub fn perform(command: &LogLevelCommand, admin: &dyn Admin) -> Exit {
    let runtime = match ask::runtime() {
        Ok(runtime) => runtime,
        Err(exit) => return exit,
    };
    match runtime.block_on(admin.log_level(command.order.clone())) {
        Ok(level) if level.faults.is_empty() => ask::put(&told(&level)),
        Ok(level) => {
            level.faults.iter().for_each(|fault| ask::complain(fault));
            eprintln!("nothing was changed");
            Exit::Usage
        }
        Err(error) => ask::unanswered(&error),
    }
}

fn told(level: &LogLevel) -> String {
    let in_force = words::foreign(&level.in_force, SHOWN);
    let Some(then) = &level.then else {
        return format!("{in_force}\n");
    };
    let until = match level.left {
        Some(left) => format!("for {} more", words::time(left)),
        None => "until 'worker-node loglevel reset', or its next start".to_owned(),
    };
    let then = words::foreign(then, SHOWN);
    format!("{in_force}\n{until}; then {then}\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_shown_is_told_with_its_end() {
        let first = LogLevel {
            in_force: "warn".into(),
            ..LogLevel::default()
        };
        let added = LogLevel {
            in_force: "debug".into(),
            then: Some("warn".into()),
            ..LogLevel::default()
        };
        let for_a_while = LogLevel {
            left: Some(Duration::from_secs(599)),
            ..added.clone()
        };

        assert_eq!(told(&first), "warn\n");
        assert!(told(&added).ends_with("reset', or its next start; then warn\n"));
        assert_eq!(told(&for_a_while), "debug\nfor 9m59s more; then warn\n");
    }
}
