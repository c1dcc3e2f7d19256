//! The command line: from the words to a command that can be performed, or to an answer (help, version, mistakes) and an exit
//! code. Performing what needs a worker is `main`'s: what one is made of is not known here. The commands that ask about a
//! worker are performed here, over what they are given.

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
pub mod install;
mod known_flags;
pub mod loglevel;
pub mod logs;
pub mod manual;
pub mod outbox;
mod page;
mod reading;
pub mod reload;
pub mod state;
pub mod status;
pub mod tasks;
mod variables;
pub mod version;
mod words;

use std::{ffi::OsString, path::PathBuf};

use clap::CommandFactory;

pub use self::args::DemoTask;
use self::{
    actors::ActorsCommand,
    args::{BundleArgs, Command, CommandLine, DemoArgs, DemoCommand, FolderArgs, LogLevelArgs},
    bundle::BundleCommand,
    config::ConfigCommand,
    cordon::{Order, OrderCommand},
    doctor::DoctorCommand,
    events::EventsCommand,
    install::{InstallCommand, UninstallArgs, UninstallCommand},
    loglevel::LogLevelCommand,
    logs::LogsCommand,
    manual::ManualCommand,
    outbox::OutboxCommand,
    reading::Reading,
    reload::ReloadCommand,
    state::StateCommand,
    status::StatusCommand,
    tasks::TasksCommand,
    version::VersionCommand,
};
use crate::{
    config::{self as settings, Launch, Surroundings},
    exit::Exit,
    telemetry,
};

/// What was asked for, checked.
#[derive(Debug, PartialEq)]
pub enum Invocation {
    /// The worker itself.
    Run(Box<Launch>),
    /// A look at a configuration.
    Config(ConfigCommand),
    /// A master and a worker to try.
    Demo(demo::Settings),
    /// A look at everything that a worker needs.
    Doctor(DoctorCommand),
    /// A task for a demo that runs.
    DemoSubmit(DemoTask),
    /// The list of this build's failpoints.
    #[cfg(feature = "failpoints")]
    Failpoints,
    /// A look at the actors of a worker that runs, or an order to one.
    Actors(ActorsCommand),
    /// A file for whoever else has to look.
    Bundle(BundleCommand),
    /// The history of a worker's actors.
    Events(EventsCommand),
    /// Which lines a worker that runs shows of its own log.
    LogLevel(LogLevelCommand),
    /// A task's log.
    Logs(LogsCommand),
    /// The worker as a service.
    Install(InstallCommand),
    /// No service any more.
    Uninstall(UninstallCommand),
    /// What shells and `man` are told.
    Manual(ManualCommand),
    /// An order to a worker that runs.
    Order(OrderCommand),
    /// An order to the outbox of a worker that runs.
    Outbox(OutboxCommand),
    /// An order to read the configuration anew.
    Reload(ReloadCommand),
    /// A look at what lies in a state folder.
    State(StateCommand),
    /// The question whether a worker is well.
    Status(StatusCommand),
    /// A look at a worker's tasks.
    Tasks(TasksCommand),
    /// What this program is.
    Version(VersionCommand),
}

/// Why there is nothing to perform.
#[derive(Debug)]
enum Answer {
    /// clap's: help, version, or words that it does not know.
    Words(clap::Error),
    /// Values that are wrong.
    Values(settings::Mistakes),
}

/// Reads the command line and performs it, with the log set up.
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
    match line.command {
        None => reading.launch(&line.run.flags).map(run_worker),
        Some(Command::Run(args)) => reading.launch(&args.flags).map(run_worker),
        Some(Command::Config(args)) => ConfigCommand::new(args, reading).map(Invocation::Config),
        Some(Command::Doctor(args)) => DoctorCommand::new(&args, &reading).map(Invocation::Doctor),
        Some(Command::Demo(args)) => demonstrate(*args, &reading),
        #[cfg(feature = "failpoints")]
        Some(Command::Failpoints) => Ok(Invocation::Failpoints),
        Some(Command::Actors(args)) => {
            let folder = folder(&args.folder, &reading)?;
            Ok(Invocation::Actors(ActorsCommand::new(args, folder)))
        }
        Some(Command::Install(args)) => Ok(Invocation::Install(InstallCommand::new(args))),
        Some(Command::Uninstall(args)) => uninstall(args, &reading),
        Some(Command::Completions(args)) => Ok(Invocation::Manual(args.into())),
        Some(Command::Man(args)) => Ok(Invocation::Manual(args.into())),
        Some(Command::Bundle(args)) => bundle(args, &reading),
        Some(Command::Cordon(args)) => order(Order::Cordon, &args, &reading),
        Some(Command::Uncordon(args)) => order(Order::Uncordon, &args, &reading),
        Some(Command::Drain(args)) => {
            let (deadline, wait) = (args.deadline, args.wait);
            order(Order::Drain { deadline, wait }, &args.folder, &reading)
        }
        Some(Command::Cancel(args)) => {
            order(Order::Cancel { task: args.task }, &args.folder, &reading)
        }
        Some(Command::Events(args)) => {
            let folder = folder(&args.folder, &reading)?;
            Ok(Invocation::Events(EventsCommand::new(args, folder)))
        }
        Some(Command::LogLevel(args)) => log_level(args, &reading),
        Some(Command::Logs(args)) => {
            let folder = folder(&args.folder, &reading)?;
            Ok(Invocation::Logs(LogsCommand::new(args, folder)))
        }
        Some(Command::Outbox(args)) => {
            let folder = folder(&args.folder, &reading)?;
            Ok(Invocation::Outbox(OutboxCommand::new(args.order, folder)))
        }
        Some(Command::Reload(args)) => {
            let folder = folder(&args, &reading)?;
            Ok(Invocation::Reload(ReloadCommand { folder }))
        }
        Some(Command::State(args)) => {
            let folder = folder(&args.folder, &reading)?;
            Ok(Invocation::State(StateCommand::new(&args.order, folder)))
        }
        Some(Command::Status(args)) => {
            let folder = folder(&args.folder, &reading)?;
            let json = args.json;
            Ok(Invocation::Status(StatusCommand { folder, json }))
        }
        Some(Command::Tasks(args)) => {
            let folder = folder(&args.folder, &reading)?;
            Ok(Invocation::Tasks(TasksCommand::new(args, folder)))
        }
        Some(Command::Version { json }) => Ok(Invocation::Version(VersionCommand { json })),
    }
}

fn demonstrate(args: DemoArgs, reading: &Reading) -> Result<Invocation, Answer> {
    if let Some(DemoCommand::Submit(task)) = args.command {
        return Ok(Invocation::DemoSubmit(task));
    }
    let engine = settings::engine_address(args.engine.as_deref(), &reading.surroundings)
        .map_err(Answer::Values)?;
    Ok(Invocation::Demo(demo::Settings {
        image: args.image,
        engine,
        keep: args.keep,
        verbose: args.verbose,
    }))
}

fn uninstall(args: UninstallArgs, reading: &Reading) -> Result<Invocation, Answer> {
    let folder = folder(&args.folder, reading)?;
    Ok(Invocation::Uninstall(UninstallCommand::new(args, &folder)))
}

fn bundle(args: BundleArgs, reading: &Reading) -> Result<Invocation, Answer> {
    Ok(Invocation::Bundle(BundleCommand {
        folder: folder(&args.folder, reading)?,
        config: args.folder.config,
        file: args.file.into(),
    }))
}

fn log_level(args: LogLevelArgs, reading: &Reading) -> Result<Invocation, Answer> {
    let folder = folder(&args.folder, reading)?;
    let command = LogLevelCommand::new(args, folder).map_err(Answer::Words)?;
    Ok(Invocation::LogLevel(command))
}

fn order(order: Order, args: &FolderArgs, reading: &Reading) -> Result<Invocation, Answer> {
    let folder = folder(args, reading)?;
    Ok(Invocation::Order(OrderCommand { folder, order }))
}

fn folder(args: &FolderArgs, reading: &Reading) -> Result<PathBuf, Answer> {
    reading.state_folder(args.state_dir.as_deref())
}

fn run_worker(launch: Launch) -> Invocation {
    Invocation::Run(Box::new(launch))
}

/// The configuration of this process, a worker, made anew: the same words and variables over what the file says now.
///
/// # Errors
/// Everything that is wrong.
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
    use super::*;

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
