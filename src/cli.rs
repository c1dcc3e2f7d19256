//! The command line: turns the process's arguments into a command, or into an answer (help, version, mistakes) and an exit code.
//! `main` performs what needs a worker's parts, which are not known here; the commands that ask a running worker or read its state
//! folder are performed here, over the ports that `main` hands in.

pub mod actors;
mod args;
mod ask;
pub mod bundle;
mod columns;
pub mod config;
pub mod cordon;
pub mod demo;
pub mod doctor;
pub mod events;
#[cfg(feature = "failpoints")]
pub mod failpoints;
pub mod images;
pub mod install;
mod invocation;
mod known_flags;
pub mod loglevel;
pub mod logs;
pub mod manual;
pub mod outbox;
mod page;
pub mod profiles;
mod reading;
pub mod reload;
pub mod state;
pub mod status;
pub mod tasks;
pub mod top;
mod variables;
pub mod version;
mod words;

use std::ffi::OsString;

use clap::CommandFactory;

use self::{args::CommandLine, version::VersionCommand};
pub use self::{args::DemoTask, invocation::Invocation};
use crate::{
    config::{self as settings, Launch, Surroundings},
    exit::Exit,
    telemetry,
};

/// What is printed in place of performing a command.
#[derive(Debug)]
enum Answer {
    /// clap's own text: help, version, or an error about words that it does not know.
    Words(clap::Error),
    /// Mistakes in values of flags, variables or the configuration file.
    Values(settings::Mistakes),
}

/// Parses the command line and hands the command to `perform`; before a worker runs, the log is set up.
pub fn run(
    argv: impl IntoIterator<Item = OsString>,
    perform: impl FnOnce(Invocation) -> Exit,
) -> Exit {
    let invocation = match parse(argv, Surroundings::of_this_process()) {
        Ok(invocation) => invocation,
        Err(answer) => return answer.give(),
    };
    if let Invocation::Run(launch) = &invocation {
        let config = &launch.config;
        if let Err(error) = telemetry::install(config.process.log_format) {
            eprintln!("error: {error}");
            return Exit::Unexpected;
        }
        let unknown = variables::unknown(std::env::vars_os().map(|(name, _)| name));
        for warning in config.warnings().into_iter().chain(unknown) {
            log::warn!("{warning}");
        }
    }
    let exit = perform(invocation);
    log::logger().flush();
    exit
}

fn parse(
    argv: impl IntoIterator<Item = OsString>,
    surroundings: Surroundings,
) -> Result<Invocation, Answer> {
    let argv = known_flags::rewrite(argv, CommandLine::command());
    if version::is_asked(&argv) {
        return Ok(Invocation::Version(VersionCommand { json: false }));
    }
    let (line, reading) = reading::read(&argv, surroundings)?;
    Invocation::of(line, reading)
}

/// For a reload: the configuration of this worker process, made again from its arguments and variables and from the file as it is
/// now.
///
/// # Errors
/// Each mistake, as a sentence.
pub fn reread() -> Result<Launch, Vec<String>> {
    match parse(std::env::args_os(), Surroundings::of_this_process()) {
        Ok(Invocation::Run(launch)) => Ok(*launch),
        Ok(_) => Err(vec!["this process is no worker".to_owned()]),
        Err(Answer::Words(error)) => Err(vec![error.to_string()]),
        Err(Answer::Values(mistakes)) => {
            let mistakes = mistakes.0.into_iter();
            Err(mistakes.map(|mistake| mistake.sentence).collect())
        }
    }
}

impl Answer {
    /// Help goes to standard output, mistakes to standard error.
    fn give(self) -> Exit {
        match self {
            Self::Words(error) => {
                // Nobody is left to tell when the output is closed.
                let _ = error.print();
                if error.use_stderr() {
                    Exit::Usage
                } else {
                    Exit::Clean
                }
            }
            Self::Values(mistakes) => {
                eprint!("{mistakes}");
                if mistakes.are_of_configuration() {
                    return Exit::Configuration;
                }
                eprintln!("\nFor more information, try 'worker-node --help'.");
                Exit::Usage
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{cordon::Order, *};

    fn parsed(line: &str) -> Result<Invocation, Answer> {
        let surroundings = Surroundings {
            home: Some("/home/u".into()),
            ..Surroundings::default()
        };
        parse(line.split_whitespace().map(OsString::from), surroundings)
    }

    #[track_caller]
    fn config(line: &str) -> settings::Config {
        match parsed(line) {
            Ok(Invocation::Run(launch)) => launch.config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_words_fit_together() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn running_is_what_happens_without_a_command() {
        assert_eq!(config("worker-node -id a"), config("worker-node run -id a"));
    }

    #[test]
    fn the_existing_workers_flags_work_in_each_of_their_forms() {
        let expected = config("worker-node --id w2 --ip node-2 --master m:1 --port :2");

        for line in [
            "worker-node -id w2 -ip node-2 -master m:1 -port :2",
            "worker-node -id=w2 -ip=node-2 -master=m:1 -port=:2",
            "worker-node --id=w2 -ip node-2 --master m:1 -port=:2",
            "worker-node run -id w2 -ip node-2 -master m:1 -port :2",
        ] {
            assert_eq!(config(line), expected, "{line}");
        }
        assert_eq!(expected.advertised(2), "node-2:2");
    }

    #[test]
    fn the_last_of_two_equal_flags_wins() {
        assert_eq!(
            config("worker-node -id a -id b"),
            config("worker-node -id b")
        );
    }

    #[test]
    fn a_value_that_looks_like_a_flag_is_told_with_all_other_mistakes() {
        let Err(Answer::Values(mistakes)) = parsed("worker-node --max-tasks -1 --retention 0s")
        else {
            panic!("no mistakes");
        };
        assert_eq!(mistakes.0.len(), 2, "{mistakes}");
    }

    #[test]
    fn a_flag_may_have_one_dash_and_a_switch_its_word_behind_a_space() {
        for (line, same) in [
            ("w --supervise false", "w --supervise=false"),
            ("w --supervise true -id a", "w --supervise -id a"),
            ("w -id a --fail-fast false", "w -id a"),
            ("w -supervise -fail-fast", "w --supervise --fail-fast"),
            ("w -supervise false -id a", "w -id a"),
            (
                "w run -pin-master -retention=1h",
                "w --pin-master --retention 1h",
            ),
        ] {
            assert_eq!(config(line), config(same), "{line}");
        }
    }

    #[test]
    fn questions_are_asked_of_the_worker_of_a_state_folder() {
        for line in [
            "worker-node actors --state-dir /s",
            "worker-node actors restart --state-dir /s journal",
            "worker-node actors restart journal --state-dir /s",
        ] {
            let Ok(Invocation::Actors(command)) = parsed(line) else {
                panic!("{line}");
            };
            assert_eq!(command.folder, PathBuf::from("/s"), "{line}");
        }
        let Ok(Invocation::Events(command)) = parsed("worker-node events -f --since 10m") else {
            panic!("no events");
        };
        assert_eq!(
            command.folder,
            PathBuf::from("/home/u/.local/state/worker-node")
        );
    }

    #[test]
    fn a_state_folder_is_checked_or_shown() {
        for line in [
            "worker-node state check --state-dir /s",
            "worker-node state --state-dir /s dump --json",
        ] {
            let Ok(Invocation::State(command)) = parsed(line) else {
                panic!("{line}");
            };
            assert_eq!(command.folder, PathBuf::from("/s"), "{line}");
        }
        assert!(matches!(parsed("worker-node state"), Err(Answer::Words(_))));
    }

    #[test]
    fn the_outbox_of_a_state_folder_is_hurried() {
        let Ok(Invocation::Outbox(command)) = parsed("worker-node outbox retry --state-dir /s")
        else {
            panic!("no order");
        };
        assert_eq!(command.folder, PathBuf::from("/s"));
        assert!(parsed("worker-node outbox drop task-1 --state-dir /s").is_ok());
        assert!(matches!(
            parsed("worker-node outbox drop"),
            Err(Answer::Words(_))
        ));
        assert!(matches!(
            parsed("worker-node outbox"),
            Err(Answer::Words(_))
        ));
    }

    #[test]
    fn a_worker_is_taken_out_of_service_and_back() {
        for (line, expected) in [
            ("worker-node cordon", Order::Cordon),
            ("worker-node uncordon", Order::Uncordon),
            (
                "worker-node drain --wait --deadline 10m",
                Order::Drain {
                    deadline: Some(std::time::Duration::from_secs(600)),
                    wait: true,
                },
            ),
            (
                "worker-node cancel task-1",
                Order::Cancel {
                    task: "task-1".into(),
                },
            ),
        ] {
            let Ok(Invocation::Order(command)) = parsed(&format!("{line} --state-dir /s")) else {
                panic!("{line}");
            };
            assert_eq!(command.order, expected);
            assert_eq!(command.folder, PathBuf::from("/s"), "{line}");
        }
        assert!(matches!(
            parsed("worker-node cancel"),
            Err(Answer::Words(_))
        ));
    }

    #[test]
    fn an_order_and_a_question_do_not_mix() {
        for line in [
            "worker-node actors journal restart journal",
            "worker-node actors --json restart journal",
            "worker-node actors restart",
            "worker-node events --since soon",
        ] {
            assert!(matches!(parsed(line), Err(Answer::Words(_))), "{line}");
        }
    }

    #[test]
    fn a_demo_is_its_own_command() {
        let Ok(Invocation::Demo(settings)) = parsed("worker-node demo --keep --engine /run/d.sock")
        else {
            panic!("no demo");
        };

        assert_eq!(settings.image, "busybox");
        assert_eq!(settings.engine.to_string(), "unix:///run/d.sock");
        assert!(settings.keep && !settings.verbose);
        assert!(parsed("worker-node demo --engine ssh://a").is_err());
    }

    #[test]
    fn a_task_for_a_demo_may_have_words_that_look_like_flags() {
        for line in [
            "worker-node demo submit --image alpine -- ls -l",
            "worker-node demo submit --image alpine ls -l",
        ] {
            let Ok(Invocation::DemoSubmit(task)) = parsed(line) else {
                panic!("no task: {line}");
            };

            assert_eq!(task.image, "alpine");
            assert_eq!(task.command, ["ls", "-l"]);
        }
        assert!(matches!(
            parsed("worker-node demo submit"),
            Ok(Invocation::DemoSubmit(task)) if task.command.is_empty()
        ));
    }
}
