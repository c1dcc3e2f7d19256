//! The composition root: the only place that knows every part. Build (everything is opened and bound, nothing runs), then run
//! (the supervisor and its children), then stop before a deadline.

mod audit;
mod build;
mod descriptors;
mod doctor;
mod doors;
mod ending;
mod lifecycle;
mod ownership;
mod parts;
mod reload;
mod service_manager;
mod signals;
#[cfg(test)]
mod simulation;
mod state;
mod summary;
mod tree;

use std::{path::Path, sync::Arc, time::Duration};

use actix_rt::System;
use log::error;
use tokio::{
    runtime::{Builder, Runtime},
    sync::mpsc,
    time::Instant,
};

use self::{
    build::{Built, StartError},
    ending::{STOP, hurry_at, leave, stop},
    reload::Reloader,
    signals::Signals,
    tree::Tree,
};
pub use self::{
    doctor::diagnose,
    reload::Reread,
    state::{JOURNAL_FORMAT, log_of, state_of, tasks_of},
};
use crate::{
    actors::engine_watch::Unfit,
    config::{Config, Launch, WhenAway},
    exit::Exit,
    grpc::admin::RemoteAdmin,
    ports::admin::Admin,
    state_dir::StateDir,
    supervision::{self, Ended},
};

/// With `--fail-fast`: how long the first registration may take; then the process ends.
const MASTER_PATIENCE: Duration = Duration::from_secs(10);

/// A reason to end the process that comes from within, with the text for the log.
#[derive(Debug)]
pub(crate) struct Fatal {
    /// The exit code.
    pub(crate) exit: Exit,
    /// The text for the operator.
    pub(crate) message: String,
}

/// Runs the worker until it is told to stop or cannot go on, and ends the process. `reread` reads the configuration again, for a
/// reload.
pub fn run(launch: &Launch, reread: Reread, state: StateDir) -> Exit {
    supervision::install_panic_hook();
    descriptors::raise_limit();
    let runtime = match Builder::new_multi_thread()
        .enable_all()
        .thread_name("runtime")
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&StartError::from(error)),
    };
    // Never dropped: dropping it would wait for blocking calls, which may hang.
    let runtime: &'static Runtime = Box::leak(Box::new(runtime));
    let system = System::with_tokio_rt(|| runtime);
    let exit = system.block_on(async { serve(launch, reread, state, runtime).await });
    // Arbiters and blocking threads may hang, so they are not waited for.
    leave(exit)
}

/// A connection to the worker that runs on a state folder, for the commands that ask it.
#[must_use]
pub fn admin_of(folder: &Path) -> impl Admin {
    RemoteAdmin::of(folder)
}

/// The full form of an image's name, or what is wrong with it.
///
/// # Errors
/// The text is no name of an image; the error says what is wrong with it.
pub fn image_name(name: &str) -> Result<String, String> {
    crate::engine::image_name(name)
}

fn refuse(error: &StartError) -> Exit {
    error!("{error}");
    error.exit()
}

async fn refuse_engine(config: &Config, unfit: &Unfit) -> Exit {
    match unfit {
        Unfit::Away(error) => {
            error!("{error} (--fail-fast)");
            let forbidden = build::engine_refusal(config).await;
            forbidden.map_or(Exit::DependencyAway, |_| Exit::Permission)
        }
        Unfit::Lacks(lack) => {
            error!("{lack} (--fail-fast)");
            Exit::Configuration
        }
    }
}

async fn serve(
    launch: &Launch,
    reread: Reread,
    state: StateDir,
    runtime: &'static Runtime,
) -> Exit {
    let config = &launch.config;
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return refuse(&StartError::from(error)),
    };
    let (fatal, mut fatals) = mpsc::unbounded_channel();
    let built = match Built::new(config, state, fatal).await {
        Ok(built) => built,
        Err(error) => return refuse(&error),
    };
    if config.process.when_away == WhenAway::EndProcess
        && let Err(unfit) = built.parts.trier.insist(&*built.parts.engine).await
    {
        return refuse_engine(config, &unfit).await;
    }
    let (ownership, lifecycle) = (Arc::clone(&built.ownership), built.lifecycle.clone());
    lifecycle.begun();
    let reloader = Arc::new(Reloader::new(launch, reread, &built));
    signals.reload_by(Arc::clone(&reloader));
    let tree = Tree::start(built, &reloader, runtime);
    let (exit, why) = tokio::select! {
        end = until_the_end(&tree, config, &mut signals, &mut fatals) => end,
        never = service_manager::attend(&tree.supervisor) => match never {},
        never = summary::attend(&tree) => match never {},
    };
    ownership.release();
    lifecycle.stopped(match exit {
        Exit::Clean => why,
        _ => format!("{why}; exit code {}", exit.code()),
    });
    exit
}

async fn until_the_end(
    tree: &Tree,
    config: &Config,
    signals: &mut Signals,
    fatals: &mut mpsc::UnboundedReceiver<Fatal>,
) -> (Exit, String) {
    let fatal = tokio::select! {
        name = signals.end() => return (stop(tree, config, name, signals).await, name.to_owned()),
        ended = tree.supervisor.ended() => return (gave_up(&ended), "a subsystem was given up".to_owned()),
        () = tree.master_missed(MASTER_PATIENCE), if config.process.when_away == WhenAway::EndProcess => Fatal {
            exit: Exit::DependencyAway,
            message: format!("the master did not register this worker within {MASTER_PATIENCE:?} (--fail-fast)"),
        },
        Some(fatal) = fatals.recv() => fatal,
    };
    error!("{}", fatal.message);
    hurry_at(STOP + Duration::from_secs(2));
    tree.stop(Instant::now() + STOP).await;
    (fatal.exit, fatal.message)
}

fn gave_up(ended: &Ended) -> Exit {
    error!(ended:?; "a subsystem failed and was given up; containers are left running for the next start");
    Exit::TryLater
}

/// Ends the process from any part of the composition root.
pub(crate) type FatalSender = mpsc::UnboundedSender<Fatal>;
