//! The `worker-node` program: reads the command line, and runs the worker or one of the operator's commands.

use std::process::ExitCode;

use worker_node::{
    app,
    cli::{self, Invocation, demo},
    config::Launch,
    exit::Exit,
    state_dir::StateDir,
    telemetry::operator,
};

fn main() -> ExitCode {
    cli::run(std::env::args_os(), perform).into()
}

fn perform(invocation: Invocation) -> Exit {
    match invocation {
        Invocation::Run(launch) => node(&launch),
        Invocation::Config(command) => cli::config::perform(&command),
        Invocation::Doctor(command) => cli::doctor::perform(&command, app::diagnose),
        Invocation::Demo(settings) => demo::run(&settings),
        Invocation::DemoSubmit(task) => demo::submit(&task),
        #[cfg(feature = "failpoints")]
        Invocation::Failpoints => cli::failpoints::list(),
        Invocation::Actors(command) => {
            let admin = app::admin_of(&command.folder);
            cli::actors::perform(&command, &admin)
        }
        Invocation::Outbox(command) => {
            let admin = app::admin_of(&command.folder);
            cli::outbox::perform(&command, &admin)
        }
        Invocation::Order(command) => {
            let admin = app::admin_of(&command.folder);
            cli::cordon::perform(&command, &admin)
        }
        Invocation::Profiles(command) => cli::profiles::perform(&command, app::image_name),
        Invocation::Reload(command) => cli::reload::perform(&app::admin_of(&command.folder)),
        Invocation::Bundle(command) => cli::bundle::perform(&command),
        Invocation::Events(command) => cli::events::perform(&command),
        Invocation::Images(command) => cli::images::show(&command, &app::admin_of(&command.folder)),
        Invocation::Pull(command) => cli::images::pull(&command, &app::admin_of(&command.folder)),
        Invocation::LogLevel(command) => {
            cli::loglevel::perform(&command, &app::admin_of(&command.folder))
        }
        Invocation::Logs(command) => cli::logs::perform(&command, &app::log_of(&command.folder)),
        Invocation::Install(command) => cli::install::install(&command),
        Invocation::Uninstall(command) => {
            cli::install::uninstall(&command, &app::tasks_of(&command.folder))
        }
        Invocation::Manual(command) => cli::manual::perform(&command),
        Invocation::Tasks(command) => {
            let admin = app::admin_of(&command.folder);
            let tasks = app::tasks_of(&command.folder);
            let log = app::log_of(&command.folder);
            cli::tasks::perform(&command, &admin, &tasks, &log)
        }
        Invocation::Status(command) => {
            let admin = app::admin_of(&command.folder);
            let tasks = app::tasks_of(&command.folder);
            cli::status::perform(&command, &admin, &tasks)
        }
        Invocation::Top(command) => cli::top::perform(&command, &app::admin_of(&command.folder)),
        Invocation::Version(command) => cli::version::perform(&command, app::JOURNAL_FORMAT),
        Invocation::State(command) => cli::state::perform(&command, app::state_of(&command.folder)),
    }
}

/// Runs this process as the worker until it stops. What fails before the actors are built is logged here, once.
fn node(launch: &Launch) -> Exit {
    let config = &launch.config;
    #[cfg(feature = "failpoints")]
    if let Err(error) = worker_node::failpoint::set_up_from_environment() {
        log::error!("{error}");
        return Exit::Usage;
    }
    operator::starting(
        &config.cluster.worker,
        &config.state.folder,
        &config.tasks.engine,
    );
    operator::master_address(&config.cluster.master);
    let state = match StateDir::open(&config.state.folder) {
        Ok(state) => state,
        Err(error) => {
            log::error!("{error}");
            return error.exit();
        }
    };
    app::run(launch, cli::reread, state)
}
