//! The commands that can be typed, and the help that goes with them. What `run` is told is `config`'s.

use clap::{Args, Parser, Subcommand};

use crate::config::RunArgs;

const ABOUT: &str =
    "Runs the tasks of a CloudAI master as Docker containers, and loses none of them.";

const EXAMPLES: &str = "\
-id, -ip, -master and -port may be written with one dash, as for the existing worker.
A flag wins over its environment variable, and that over the default.

Examples:
  worker-node -id worker-1 -ip 10.0.0.7 -master 10.0.0.1:50051
      join the cluster of the master at 10.0.0.1, which reaches this machine at 10.0.0.7:50052
  worker-node run --supervise --on-stop drain --log-format json
      restart failed subsystems, let running tasks finish on SIGTERM, log one JSON object per line

Exit codes:
  0 clean, 1 unexpected, 2 usage, 69 dependency away with --fail-fast, 70 stop took too long,
  75 try later (state or id in use, port taken, gave up), 77 permission, 78 configuration
";

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
    pub(super) run: RunArgs,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the worker (this is what happens without a command).
    #[command(after_help = EXAMPLES, args_override_self = true)]
    Run(Box<RunArgs>),
    /// Try the worker with a master of its own on this machine.
    Demo(DemoArgs),
}

/// What `demo` is told.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// What to do with the demo; nothing means to start it.
    #[command(subcommand)]
    pub(super) command: Option<DemoCommand>,
}

/// What to do with a demo.
#[derive(Debug, Subcommand)]
pub(super) enum DemoCommand {
    /// Give a task to the demo that runs on this machine.
    Submit(DemoTask),
}

/// A task for the demo's master.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DemoTask {
    /// The image to run.
    pub image: String,
    /// What a shell in it runs; nothing means the image's own command.
    #[arg(trailing_var_arg = true)]
    pub command: Vec<String>,
}
