//! `worker-node demo`: the main job on one machine with nothing else installed but an engine. A development master in this
//! process, the worker in a process of its own, a few tasks, their logs as they come, and a table of what became of them.
//!
//! What it expects is checked: a demo that does not show what it should ends with an error. It is no benchmark and no
//! substitute for a master; what it starts, it takes away.

mod cast;
mod desk;
mod engine;
mod error;
mod house;
mod screen;
mod signals;
mod stage;
mod submit;
mod table;
mod trailer;
mod worker;

use std::{convert::Infallible, sync::Arc};

use futures_util::future::try_join_all;
use tokio::runtime::Builder;

pub use self::submit::submit;
use self::{
    cast::CAST,
    desk::Desk,
    engine::Engine,
    error::DemoError,
    house::House,
    screen::{Ink, Screen},
    signals::Signals,
    stage::{Played, Stage},
};
use crate::{config::EngineAddress, dev_master::Registration, exit::Exit};

/// The arguments of `worker-node demo`, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The image of its tasks.
    pub image: String,
    /// The engine that runs their containers.
    pub engine: EngineAddress,
    /// Whether the demo stays after its own tasks, for tasks by hand.
    pub keep: bool,
    /// Whether the worker's own log is shown too.
    pub verbose: bool,
}

/// Performs the demo, from the first line to the last.
#[must_use]
pub fn run(settings: &Settings) -> Exit {
    let runtime = match Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&DemoError::machine("cannot start")(error)),
    };
    let shown = runtime.block_on(perform(settings));
    // Futures that are still under way are dropped: none is worth waiting for.
    runtime.shutdown_background();
    match shown {
        Ok(()) => Exit::Clean,
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &DemoError) -> Exit {
    // The text may quote the engine or a registry.
    let text = format!("error: {error}");
    for line in text.lines() {
        eprintln!("{}", screen::shown(line));
    }
    error.exit()
}

async fn perform(settings: &Settings) -> Result<(), DemoError> {
    let mut signals = Signals::listen()?;
    let screen = Arc::new(Screen::stdout());
    screen.line("A master, a worker and a few tasks on this machine. Nothing of it stays.");
    screen.line("");
    let engine = tokio::select! {
        engine = ready_engine(settings, &screen) => engine?,
        () = signals.next() => return Err(DemoError::Interrupted),
    };
    let desk = settings.keep.then(Desk::open).transpose()?;
    let house = House::build(settings, &screen).await?;
    let mut shown = undisturbed(&house, &mut signals, act(&house, &engine)).await;
    if let (Ok(()), Some(desk)) = (&shown, &desk) {
        shown = keep(desk, &house, &mut signals).await;
    }
    drop(desk);
    screen.line("");
    screen.line("Stopping the worker...");
    house.clear(&engine, &mut signals, shown).await?;
    screen.line("Done. Nothing is left: no container, no process, no file.");
    Ok(())
}

async fn ready_engine(settings: &Settings, screen: &Screen) -> Result<Engine, DemoError> {
    let engine = Engine::find(&settings.engine, screen).await?;
    engine.provide_image(&settings.image, screen).await?;
    Ok(engine)
}

/// The outcome of `work`, unless a signal or the worker's end comes first.
async fn undisturbed(
    house: &House,
    signals: &mut Signals,
    work: impl Future<Output = Result<(), DemoError>>,
) -> Result<(), DemoError> {
    tokio::select! {
        done = work => done,
        () = signals.next() => Err(DemoError::Interrupted),
        status = house.worker.ended() => {
            eprintln!("The end of the worker's log:");
            for line in house.worker.tail() {
                eprintln!("  {}", screen::shown(&line));
            }
            Err(DemoError::WorkerEnded(status))
        }
    }
}

/// The demo's own tasks, from the registration to the table.
async fn act(house: &House, engine: &Engine) -> Result<(), DemoError> {
    let stage = &house.stage;
    let registration = stage.master.wait_registered(house.id().as_str()).await?;
    announce(stage, &registration);
    let parts = CAST.iter().enumerate();
    let played = try_join_all(parts.map(|(number, part)| stage.play(number, part))).await?;
    show_table(stage, &played);
    let cleared = engine.wait_cleared(house.id()).await;
    judge(stage, &played, cleared)
}

fn announce(stage: &Stage, registration: &Registration) {
    let screen = &stage.screen;
    let info = &registration.info;
    let machine = format!(
        "registered at {} with {} cores, {:.1} GiB of memory, {} GPUs",
        info.worker_ip, info.total_cpu, info.total_memory, info.total_gpu
    );
    screen.about("worker", &screen::shown(&machine));
    screen.line("");
    screen.line("The master gives it five tasks at once:");
    for (number, part) in CAST.iter().enumerate() {
        let name = screen.paint(Ink::Task(number), &format!("{:<8}", part.name));
        screen.line(&format!("  {name}  {}", part.shows));
    }
    screen.line("");
    screen.line("Their logs, as they come (the last line of each is the worker's):");
}

fn show_table(stage: &Stage, played: &[Played]) {
    let rows: Vec<_> = played.iter().map(|played| played.row.clone()).collect();
    stage.screen.line("");
    for (number, line) in table::lines(&rows).iter().enumerate() {
        let line = screen::shown(line);
        let line = match number {
            0 => stage.screen.paint(Ink::Bold, &line),
            _ => line,
        };
        stage.screen.line(&format!("  {line}"));
    }
    stage.screen.line("");
}

/// Compares what each task showed with what it should show, and asks the master whether the worker kept to the contract.
fn judge(stage: &Stage, played: &[Played], cleared: bool) -> Result<(), DemoError> {
    let mut complaints: Vec<_> = played
        .iter()
        .flat_map(|played| played.complaints.clone())
        .collect();
    let verdict = stage.master.verdict();
    if !verdict.is_complete() {
        complaints.push(format!("  the master complains: {verdict}"));
    }
    if !cleared {
        complaints.push("  the worker has not removed all its containers".to_owned());
    }
    let screen = &stage.screen;
    if complaints.is_empty() {
        let text = "All as it should be: each task has one result, and its container is gone.";
        screen.line(&screen.paint(Ink::Good, text));
        Ok(())
    } else {
        screen.line(&screen.paint(Ink::Bad, "Not everything is as it should be."));
        Err(DemoError::Unexpected(complaints))
    }
}

/// Stays for tasks by hand until a person ends it, which is how it should end.
async fn keep(desk: &Desk, house: &House, signals: &mut Signals) -> Result<(), DemoError> {
    let screen = &house.stage.screen;
    screen.line("");
    screen.line("The worker stays. Give it tasks from another terminal, such as:");
    screen.line("");
    screen.line("    worker-node demo submit --image busybox -- echo hello");
    screen.line("");
    screen.line("Ctrl-C ends the demo.");
    let serving = async {
        let never: Infallible = desk.serve(&house.stage).await;
        match never {}
    };
    match undisturbed(house, signals, serving).await {
        Err(DemoError::Interrupted) => Ok(()),
        other => other,
    }
}
