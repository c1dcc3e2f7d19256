//! The commands that can be typed, and the help that goes with them. What `run` is told is `config`'s.

mod examples;

use std::{ffi::OsString, time::Duration};

use clap::{Args, Parser, Subcommand};

use self::examples::{
    ACTORS_EXAMPLES, BUNDLE_EXAMPLES, COMPLETIONS_EXAMPLES, CONFIG_EXAMPLES, DEMO_EXAMPLES,
    DOCTOR_EXAMPLES, DRAIN_EXAMPLES, EVENTS_EXAMPLES, EXAMPLES, IMAGES_EXAMPLES, INSTALL_EXAMPLES,
    LOGLEVEL_EXAMPLES, LOGS_EXAMPLES, MAN_EXAMPLES, OUTBOX_EXAMPLES, PROFILES_EXAMPLES,
    PULL_EXAMPLES, RELOAD_EXAMPLES, STATE_EXAMPLES, STATUS_EXAMPLES, SUBMIT_EXAMPLES,
    TASKS_EXAMPLES, TOP_EXAMPLES, UNINSTALL_EXAMPLES,
};
use super::{
    install::{InstallArgs, UninstallArgs},
    manual::{CompletionsArgs, ManArgs},
    top::Sort,
};
use crate::config::RunArgs;

const ABOUT: &str =
    "Runs the tasks of a CloudAI master as Docker containers, and loses none of them.";

/// What the demo runs if nobody says otherwise: small, and with a shell.
const DEMO_IMAGE: &str = "busybox";

/// Everything that can be typed.
#[derive(Debug, Parser)]
#[command(
    name = "worker-node",
    version,
    about = ABOUT,
    after_help = EXAMPLES,
    args_override_self = true,
    args_conflicts_with_subcommands = true
)]
pub(super) struct CommandLine {
    /// What to do; nothing means `run`.
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    /// What `run` is told.
    #[command(flatten)]
    pub(super) run: RunCommand,
}

/// What `run` is told, and by which file.
#[derive(Debug, Args)]
pub(super) struct RunCommand {
    /// A file with the values of the flags below (`worker-node config init` prints one) [default: /etc/worker-node/config.toml where
    /// it is there]
    #[arg(long, value_name = "FILE", env = "WORKER_NODE_CONFIG")]
    pub(super) config: Option<OsString>,
    /// The flags.
    #[command(flatten)]
    pub(super) flags: RunArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the worker (this is what happens without a command).
    #[command(after_help = EXAMPLES, args_override_self = true)]
    Run(Box<RunCommand>),
    /// Show the configuration that a start would have, read a file over, or print one to begin with.
    #[command(after_help = CONFIG_EXAMPLES)]
    Config(ConfigArgs),
    /// Look at everything that a worker needs, before one runs or while it does, and say what to do about what is wrong. Changes
    /// nothing.
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(Box<DoctorArgs>),
    /// Try the worker with a master of its own on this machine.
    Demo(Box<DemoArgs>),
    /// List the points at which the variable FAILPOINTS can make this build fail.
    #[cfg(feature = "failpoints")]
    Failpoints,
    /// Show the actors of the worker that runs here: where they stand, what they do, how they were restarted.
    #[command(after_help = ACTORS_EXAMPLES)]
    Actors(ActorsArgs),
    /// Put all that somebody else needs to see of a worker into one file: version, configuration, doctor, status, actors, events,
    /// who changed what, whether its state is sound. No worker needs to run for it.
    #[command(after_help = BUNDLE_EXAMPLES)]
    Bundle(BundleArgs),
    /// Take the worker that runs here out of service: it refuses new tasks, also after a restart, until `uncordon`. What runs goes
    /// on.
    Cordon(FolderArgs),
    /// Take it back into service.
    Uncordon(FolderArgs),
    /// Take it out of service, and its tasks to their end.
    #[command(after_help = DRAIN_EXAMPLES)]
    Drain(DrainArgs),
    /// Bring one task to its end, without the master; it hears that the task was cancelled, and by whom.
    Cancel(CancelArgs),
    /// Show what has happened to the actors; no worker needs to run for it.
    #[command(after_help = EVENTS_EXAMPLES)]
    Events(EventsArgs),
    /// Show the images that the engine of the worker that runs here has: size, tasks that want them, and of those that the worker has
    /// pulled when that was, and when one was used last.
    #[command(after_help = IMAGES_EXAMPLES)]
    Images(ImagesArgs),
    /// Have the worker that runs here pull an image before a task needs it.
    #[command(after_help = PULL_EXAMPLES)]
    Pull(PullArgs),
    /// Say which lines the log of the worker that runs here shows, or have it show others, until its next start.
    #[command(name = "loglevel", after_help = LOGLEVEL_EXAMPLES)]
    LogLevel(LogLevelArgs),
    /// Show a task's log, of a task that runs or of one that has ended; no worker needs to run for it.
    #[command(after_help = LOGS_EXAMPLES)]
    Logs(LogsArgs),
    /// Hurry the outbox of the worker that runs here: the results that it has still to deliver.
    #[command(after_help = OUTBOX_EXAMPLES)]
    Outbox(OutboxArgs),
    /// Show what tasks get by the profiles of the configuration file.
    #[command(after_help = PROFILES_EXAMPLES)]
    Profiles(ProfilesArgs),
    /// Have the worker that runs here read its configuration anew: what can change while it runs is taken, the rest is named.
    #[command(after_help = RELOAD_EXAMPLES)]
    Reload(FolderArgs),
    /// Look at what lies in a state folder, without changing anything; no worker needs to run for it, and one may.
    #[command(after_help = STATE_EXAMPLES)]
    State(StateArgs),
    /// Say whether the worker that runs here is well, and if not, what is wrong and what to do.
    #[command(after_help = STATUS_EXAMPLES)]
    Status(StatusArgs),
    /// Show the tasks of a worker: where each stands, what it holds, how it ended, whether the master knows. No worker needs to
    /// run for it.
    #[command(after_help = TASKS_EXAMPLES)]
    Tasks(TasksArgs),
    /// Show what the tasks of the worker that runs here use of the machine: processors, memory, disks, network.
    #[command(after_help = TOP_EXAMPLES)]
    Top(TopArgs),
    /// Make the worker a service of this machine's systemd: program, unit, configuration.
    #[command(after_help = INSTALL_EXAMPLES)]
    Install(InstallArgs),
    /// Remove what `install` has written. Configuration and state stay.
    #[command(after_help = UNINSTALL_EXAMPLES)]
    Uninstall(UninstallArgs),
    /// Print a script by which a shell completes these commands.
    #[command(after_help = COMPLETIONS_EXAMPLES)]
    Completions(CompletionsArgs),
    /// Write the manual pages, one for each command.
    #[command(after_help = MAN_EXAMPLES)]
    Man(ManArgs),
    /// Say exactly what this program is: version, commit, features, what it speaks and what it writes (`--version --verbose` does
    /// the same).
    Version {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Which worker is meant.
#[derive(Debug, Args)]
pub(super) struct FolderArgs {
    /// The state folder of the worker [default: /var/lib/worker-node as root, else the user's XDG state folder]
    #[arg(
        long,
        value_name = "FOLDER",
        env = "WORKER_NODE_STATE_DIR",
        global = true
    )]
    pub(super) state_dir: Option<OsString>,
    /// The worker's configuration file, which may say where that is [default: /etc/worker-node/config.toml where it is there]
    #[arg(long, value_name = "FILE", env = "WORKER_NODE_CONFIG", global = true)]
    pub(super) config: Option<OsString>,
}

/// What `config` is told.
#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(super) struct ConfigArgs {
    /// What to do.
    #[command(subcommand)]
    pub(super) order: ConfigOrder,
}

/// What to do with a configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigOrder {
    /// Show what a start with these flags, this environment and this file would take, as a file that says the same.
    Show(Box<ConfigShowArgs>),
    /// Read a file over, and say everything that is wrong with it. Flags and environment do not count.
    Check {
        /// The file [default: /etc/worker-node/config.toml]
        file: Option<OsString>,
    },
    /// Print a file with every key, its meaning and its default.
    Init,
}

/// What `doctor` is told.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(super) struct DoctorArgs {
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
    /// The flags of `run`.
    #[command(flatten)]
    pub(super) run: RunCommand,
}

/// What `config show` is told.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(super) struct ConfigShowArgs {
    /// Say what set each value.
    #[arg(long)]
    pub(super) origin: bool,
    /// Leave out what the variables of tasks are set to: that may be secret.
    #[arg(long)]
    pub(super) redact: bool,
    /// Print JSON, with what set each value.
    #[arg(long)]
    pub(super) json: bool,
    /// The flags of `run`.
    #[command(flatten)]
    pub(super) run: RunCommand,
}

/// What `profiles` is told.
#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(super) struct ProfilesArgs {
    /// What to do.
    #[command(subcommand)]
    pub(super) order: ProfilesOrder,
}

/// What to do with profiles.
#[derive(Debug, Subcommand)]
pub(super) enum ProfilesOrder {
    /// Show what a task would get, and which place of the file says so. Nothing is run.
    Test(Box<ProfilesTestArgs>),
}

/// What `profiles test` is told.
#[derive(Debug, Args)]
#[command(args_override_self = true)]
pub(super) struct ProfilesTestArgs {
    /// The task.
    #[command(flatten)]
    pub(super) task: TaskArgs,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
    /// The flags of `run`.
    #[command(flatten)]
    pub(super) run: RunCommand,
}

/// What profiles know a task by.
#[derive(Debug, Args)]
pub(super) struct TaskArgs {
    /// Its image.
    #[arg(long, value_name = "IMAGE")]
    pub(super) image: String,
    /// The master's class of task.
    #[arg(long = "type", value_name = "TYPE")]
    pub(super) task_type: Option<String>,
    /// Who submitted it.
    #[arg(long, value_name = "USER")]
    pub(super) user: Option<String>,
    /// What its user calls it.
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
}

/// What `drain` is told.
#[derive(Debug, Args)]
pub(super) struct DrainArgs {
    /// Stop what still runs after this time, such as 30m; without it tasks run to their end.
    #[arg(long, value_name = "TIME", value_parser = read_time)]
    pub(super) deadline: Option<Duration>,
    /// Return when the last task has ended and its result is delivered, not at once.
    #[arg(long)]
    pub(super) wait: bool,
    /// Which worker.
    #[command(flatten)]
    pub(super) folder: FolderArgs,
}

/// What `bundle` is told.
#[derive(Debug, Args)]
pub(super) struct BundleArgs {
    /// The file to make, such as worker-1.tar.gz; one that is there is left alone.
    #[arg(value_name = "FILE.tar.gz")]
    pub(super) file: OsString,
    /// Which worker.
    #[command(flatten)]
    pub(super) folder: FolderArgs,
}

/// What `cancel` is told.
#[derive(Debug, Args)]
pub(super) struct CancelArgs {
    /// The task, by its id.
    pub(super) task: String,
    /// Which worker.
    #[command(flatten)]
    pub(super) folder: FolderArgs,
}

/// What `actors` is told.
#[derive(Debug, Args)]
#[command(disable_help_subcommand = true, args_conflicts_with_subcommands = true)]
pub(super) struct ActorsArgs {
    /// What to do; nothing means to show.
    #[command(subcommand)]
    pub(super) order: Option<ActorsOrder>,
    /// One actor, or one task by its id; nothing means all.
    pub(super) name: Option<String>,
    /// Show every task, however many there are.
    #[arg(long)]
    pub(super) all: bool,
    /// Show them again every second, until interrupted.
    #[arg(long)]
    pub(super) watch: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
    /// Which worker.
    #[command(flatten)]
    pub(super) folder: FolderArgs,
}

/// What to do with an actor.
#[derive(Debug, Subcommand)]
pub(super) enum ActorsOrder {
    /// Stop a subsystem in good order and start it again, without charge to its restart budget.
    Restart {
        /// Which.
        name: String,
    },
}

/// What `events` is told.
#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    /// Go on with what happens from now on, until interrupted.
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Show who changed something instead: what was assigned, cancelled, moved, restarted, retried, dropped, and by whom.
    #[arg(long)]
    pub(super) audit: bool,
    /// Only those of one actor, or of one task by its id.
    #[arg(long, value_name = "NAME")]
    pub(super) actor: Option<String>,
    /// Only those of this last time, such as 10m or 2h.
    #[arg(long, value_name = "TIME", value_parser = read_time)]
    pub(super) since: Option<Duration>,
    /// Print one JSON object per line.
    #[arg(long)]
    pub(super) json: bool,
    /// Which worker.
    #[command(flatten)]
    pub(super) folder: FolderArgs,
}

/// What `loglevel` is told.
#[derive(Debug, Args)]
pub(super) struct LogLevelArgs {
    /// A level (error, warn, info, debug, trace, off), or that of a name as the log lines show it (operator=debug), several with
    /// commas, or `reset`; nothing means to say what is shown
    #[arg(value_name = "[NAME=]LEVEL")]
    pub(super) level: Option<String>,
    /// Only for this time, such as 10m; then it is as before.
    #[arg(long = "for", value_name = "TIME", value_parser = read_time, requires = "level")]
    pub(super) lasts: Option<Duration>,
    /// Which worker.
    #[command(flatten)]
    pub(super) folder: FolderArgs,
}

/// What `logs` is told.
#[derive(Debug, Args)]
pub(super) struct LogsArgs {
    /// The task, by its id.
    pub(super) task: String,
    /// Go on with what comes, until the task ends.
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Only so many lines before the end.
    #[arg(long, value_name = "LINES")]
    pub(super) tail: Option<u64>,
    /// Only lines of this last time, such as 10m or 2h.
    #[arg(long, value_name = "TIME", value_parser = read_time, conflicts_with = "tail")]
    pub(super) since: Option<Duration>,
    /// Only what it wrote to stdout.
    #[arg(long)]
    pub(super) stdout: bool,
    /// Only what it wrote to stderr.
    #[arg(long, conflicts_with = "stdout")]
    pub(super) stderr: bool,
    /// Begin each line with the time at which it came, in UTC.
    #[arg(short, long, conflicts_with = "raw")]
    pub(super) timestamps: bool,
    /// Exactly the bytes that the task wrote, on a terminal too, and nothing of the worker's.
    #[arg(long)]
    pub(super) raw: bool,
    /// Which worker.
    #[command(flatten)]
    pub(super) folder: FolderArgs,
}

/// What `outbox` is told.
#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(super) struct OutboxArgs {
    /// What to do.
    #[command(subcommand)]
    pub(super) order: OutboxOrder,
    /// Which worker.
    #[command(flatten)]
    pub(super) folder: FolderArgs,
}

/// What to do with the outbox.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub(super) enum OutboxOrder {
    /// Send the parked results again now.
    Retry,
    /// Let go of the parked result of one task: nobody tries to deliver it any more.
    Drop {
        /// The task's id, as `worker-node state dump` shows it.
        task: String,
    },
}

/// What `status` is told.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
    /// Which worker.
    #[command(flatten)]
    pub(super) folder: FolderArgs,
}

/// What `images` is told.
#[derive(Debug, Args)]
pub(super) struct ImagesArgs {
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
    /// Which worker.
    #[command(flatten)]
    pub(super) folder: FolderArgs,
}

/// What `pull` is told.
#[derive(Debug, Args)]
pub(super) struct PullArgs {
    /// The image, as a task would name it.
    pub(super) image: String,
    /// Which worker.
    #[command(flatten)]
    pub(super) folder: FolderArgs,
}

/// What `tasks` is told.
#[derive(Debug, Args)]
pub(super) struct TasksArgs {
    /// One task by its id, also one that is done; nothing means all that are not.
    pub(super) task: Option<String>,
    /// Show those that are done too.
    #[arg(long, conflicts_with = "task")]
    pub(super) all: bool,
    /// Show them again every second, until interrupted.
    #[arg(long)]
    pub(super) watch: bool,
    /// Print JSON.
    #[arg(long)]
    pub(super) json: bool,
    /// Which worker.
    #[command(flatten)]
    pub(super) folder: FolderArgs,
}

/// What `top` is told.
#[derive(Debug, Args)]
pub(super) struct TopArgs {
    /// Which come first.
    #[arg(long, value_enum, default_value = "cpu", value_name = "WHAT")]
    pub(super) sort: Sort,
    /// Show them once, also on a terminal; elsewhere that is so anyway.
    #[arg(long)]
    pub(super) once: bool,
    /// Print JSON, once.
    #[arg(long)]
    pub(super) json: bool,
    /// Which worker.
    #[command(flatten)]
    pub(super) folder: FolderArgs,
}

/// What `state` is told.
#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(super) struct StateArgs {
    /// What to do.
    #[command(subcommand)]
    pub(super) order: StateOrder,
    /// Which worker.
    #[command(flatten)]
    pub(super) folder: FolderArgs,
}

/// What to do with a state folder.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(super) enum StateOrder {
    /// Say whether it is sound, and what to do where it is not.
    Check {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show what is in the journal.
    Dump {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

fn read_time(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text)
        .map_err(|_| "write a number with its unit, such as 30s, 10m or 2h")
}

/// What `demo` is told.
#[derive(Debug, Args)]
#[command(after_help = DEMO_EXAMPLES, args_conflicts_with_subcommands = true)]
pub(super) struct DemoArgs {
    /// What to do with the demo; nothing means to start it.
    #[command(subcommand)]
    pub(super) command: Option<DemoCommand>,

    /// The image that the demo's tasks run; it needs a shell.
    #[arg(long, value_name = "IMAGE", default_value = DEMO_IMAGE)]
    pub(super) image: String,

    /// Go on after the demo's own tasks, for tasks that are submitted by hand; Ctrl-C ends it.
    #[arg(long)]
    pub(super) keep: bool,

    /// Show the worker's own log too.
    #[arg(long)]
    pub(super) verbose: bool,

    /// The container engine: unix:///path or tcp://host:port [default: DOCKER_HOST, else unix:///var/run/docker.sock]
    #[arg(long, value_name = "ADDRESS", env = "WORKER_NODE_ENGINE")]
    pub(super) engine: Option<String>,
}

/// What to do with a demo.
#[derive(Debug, Subcommand)]
pub(super) enum DemoCommand {
    /// Give a task to the demo that runs on this machine, show its log, and end as it ends.
    #[command(after_help = SUBMIT_EXAMPLES)]
    Submit(DemoTask),
}

/// A task for the demo's master.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DemoTask {
    /// The image to run.
    #[arg(long, value_name = "IMAGE", default_value = DEMO_IMAGE)]
    pub image: String,
    /// One word: a line for the image's shell. Several: a program and its arguments. None: the image's own command.
    #[arg(trailing_var_arg = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}
