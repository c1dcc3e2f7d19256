//! From the parsed words of a command line to a command that can be performed.

use std::path::PathBuf;

use super::{
    Answer,
    actors::ActorsCommand,
    args::{
        BundleArgs, Command, CommandLine, DemoArgs, DemoCommand, DemoTask, FolderArgs, ImagesArgs,
        LogLevelArgs, ProfilesArgs, PullArgs, StatusArgs, TopArgs,
    },
    bundle::BundleCommand,
    config::ConfigCommand,
    cordon::{Order, OrderCommand},
    demo,
    doctor::DoctorCommand,
    events::EventsCommand,
    images::{ImagesCommand, PullCommand},
    install::{InstallCommand, UninstallArgs, UninstallCommand},
    loglevel::LogLevelCommand,
    logs::LogsCommand,
    manual::ManualCommand,
    outbox::OutboxCommand,
    profiles::ProfilesCommand,
    reading::Reading,
    reload::ReloadCommand,
    state::StateCommand,
    status::StatusCommand,
    tasks::TasksCommand,
    top::TopCommand,
    version::VersionCommand,
};
use crate::config::{self as settings, Launch};

/// A command, with its arguments checked.
#[derive(Debug, PartialEq)]
pub enum Invocation {
    /// The worker itself.
    Run(Box<Launch>),
    /// Shows, checks or prints a configuration.
    Config(ConfigCommand),
    /// Runs a demo: a master, a worker and a few tasks.
    Demo(demo::Settings),
    /// Looks at everything that a worker needs.
    Doctor(DoctorCommand),
    /// Gives a task to a demo that runs.
    DemoSubmit(DemoTask),
    /// Lists this build's failpoints.
    #[cfg(feature = "failpoints")]
    Failpoints,
    /// Shows the actors of a running worker, or restarts one.
    Actors(ActorsCommand),
    /// Packs what others need to see of a worker into one file.
    Bundle(BundleCommand),
    /// Shows the history of a worker's actors.
    Events(EventsCommand),
    /// Shows the images of a running worker.
    Images(ImagesCommand),
    /// Has a running worker pull an image.
    Pull(PullCommand),
    /// Shows or sets which lines a running worker's log has.
    LogLevel(LogLevelCommand),
    /// Shows a task's log.
    Logs(LogsCommand),
    /// Installs the worker as a service.
    Install(InstallCommand),
    /// Removes the service.
    Uninstall(UninstallCommand),
    /// Prints completions for a shell, or writes man pages.
    Manual(ManualCommand),
    /// Cordons, uncordons or drains a running worker, or cancels a task of it.
    Order(OrderCommand),
    /// Sends parked results again, or drops one.
    Outbox(OutboxCommand),
    /// Shows which settings a task would get from the profiles.
    Profiles(Box<ProfilesCommand>),
    /// Has a running worker read its configuration again.
    Reload(ReloadCommand),
    /// Checks or shows a state folder.
    State(StateCommand),
    /// Says whether a worker is well.
    Status(StatusCommand),
    /// Shows a worker's tasks.
    Tasks(TasksCommand),
    /// Shows what a worker's tasks use.
    Top(TopCommand),
    /// Says which program this is.
    Version(VersionCommand),
}

impl Invocation {
    pub(super) fn of(line: CommandLine, reading: Reading) -> Result<Self, Answer> {
        match line.command {
            None => reading.launch(&line.run.flags).map(run_worker),
            Some(Command::Run(args)) => reading.launch(&args.flags).map(run_worker),
            Some(Command::Config(args)) => ConfigCommand::new(args, reading).map(Self::Config),
            Some(Command::Doctor(args)) => DoctorCommand::new(&args, &reading).map(Self::Doctor),
            Some(Command::Demo(args)) => demonstrate(*args, &reading),
            #[cfg(feature = "failpoints")]
            Some(Command::Failpoints) => Ok(Self::Failpoints),
            Some(Command::Actors(args)) => {
                let folder = folder(&args.folder, &reading)?;
                Ok(Self::Actors(ActorsCommand::new(args, folder)))
            }
            Some(Command::Install(args)) => Ok(Self::Install(InstallCommand::new(args))),
            Some(Command::Uninstall(args)) => uninstall(args, &reading),
            Some(Command::Completions(args)) => Ok(Self::Manual(args.into())),
            Some(Command::Man(args)) => Ok(Self::Manual(args.into())),
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
                Ok(Self::Events(EventsCommand::new(args, folder)))
            }
            Some(Command::Images(args)) => images(&args, &reading),
            Some(Command::Pull(args)) => pull(args, &reading),
            Some(Command::LogLevel(args)) => log_level(args, &reading),
            Some(Command::Logs(args)) => {
                let folder = folder(&args.folder, &reading)?;
                Ok(Self::Logs(LogsCommand::new(args, folder)))
            }
            Some(Command::Outbox(args)) => {
                let folder = folder(&args.folder, &reading)?;
                Ok(Self::Outbox(OutboxCommand::new(args.order, folder)))
            }
            Some(Command::Profiles(args)) => profiles(args, &reading),
            Some(Command::Reload(args)) => {
                let folder = folder(&args, &reading)?;
                Ok(Self::Reload(ReloadCommand { folder }))
            }
            Some(Command::State(args)) => {
                let folder = folder(&args.folder, &reading)?;
                Ok(Self::State(StateCommand::new(&args.order, folder)))
            }
            Some(Command::Status(args)) => status(&args, &reading),
            Some(Command::Tasks(args)) => {
                let folder = folder(&args.folder, &reading)?;
                Ok(Self::Tasks(TasksCommand::new(args, folder)))
            }
            Some(Command::Top(args)) => top(&args, &reading),
            Some(Command::Version { json }) => Ok(Self::Version(VersionCommand { json })),
        }
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

fn images(args: &ImagesArgs, reading: &Reading) -> Result<Invocation, Answer> {
    Ok(Invocation::Images(ImagesCommand {
        folder: folder(&args.folder, reading)?,
        json: args.json,
    }))
}

fn pull(args: PullArgs, reading: &Reading) -> Result<Invocation, Answer> {
    Ok(Invocation::Pull(PullCommand {
        folder: folder(&args.folder, reading)?,
        image: args.image,
    }))
}

fn status(args: &StatusArgs, reading: &Reading) -> Result<Invocation, Answer> {
    Ok(Invocation::Status(StatusCommand {
        folder: folder(&args.folder, reading)?,
        json: args.json,
    }))
}

fn top(args: &TopArgs, reading: &Reading) -> Result<Invocation, Answer> {
    Ok(Invocation::Top(TopCommand {
        folder: folder(&args.folder, reading)?,
        sort: args.sort,
        once: args.once,
        json: args.json,
    }))
}

fn profiles(args: ProfilesArgs, reading: &Reading) -> Result<Invocation, Answer> {
    let command = ProfilesCommand::new(args, reading)?;
    Ok(Invocation::Profiles(Box::new(command)))
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
