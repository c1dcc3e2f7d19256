//! The whole worker on one thread, in a world that is made from a seed: the tree of actors as in production, over fakes of every
//! port, in a time that nobody waits for. The world fails in every way that it can, and the worker dies in the middle of its
//! calls and is started again on what is left on the disk. In the end the worker's promises are held against what happened.
//!
//! The same seed gives the same run. `WORKER_NODE_SEED=7 cargo test --lib simulation` shows one, line by line.

mod cluster;
mod disk;
mod docker;
mod engine;
mod falls;
mod judge;
mod master;
mod scene;
mod tests;
mod world;

use std::{rc::Rc, sync::Arc, time::Duration};

use actix_rt::System;
use clap::Parser;
use tokio::{
    runtime::Builder,
    sync::{oneshot, watch},
    time::timeout,
};

use self::{
    cluster::call_the_worker,
    disk::{Folders, Journal, Spools},
    engine::Engine,
    master::Port,
    scene::{HEALED, Planted, Scene},
    world::{Shared, State, World},
};
use super::{parts::Parts, reload::Dials, tree::Inside};
use crate::{
    actors::{engine_watch::Trier, heartbeat::Load, janitor::Ages, log_router::Intake},
    config::{Config, RunArgs, Surroundings},
    domain::spec::MachineTotals,
    failpoint,
    ports::{
        admin::Reload, clock::Clock, holdings::Holdings, journal::JournalStore,
        master::MasterAddress,
    },
    supervision::{
        PingOptions, Placement, Restarts, SupervisorActor, SupervisorHandle, SupervisorOptions,
        threads::one::{self, OneThread},
    },
    telemetry::machine::Room,
};

/// After the last trouble everything must be finished within this: the worker's longest wait is for a parked result.
const QUIET_BY: Duration = Duration::from_secs(3_600);

/// Between two checks whether everything is finished.
const LOOK: Duration = Duration::from_secs(5);

/// Between the death of a worker and the start of the next, in milliseconds.
const AWAY: std::ops::Range<u64> = 0..15_000;

/// The resources of the worker's machine.
fn totals() -> MachineTotals {
    MachineTotals {
        cpu: 4.0,
        memory: 8.0,
        storage: 100.0,
        gpu: 0.0,
    }
}

/// The result of a run.
struct Outcome {
    trace: Vec<String>,
    broken: Vec<String>,
}

/// Plays a scene to its end, and judges it.
fn play(scene: Scene) -> Outcome {
    let (seed, planted) = (scene.seed, scene.planted);
    let world = World::new(scene);
    let config = config(planted);
    for life in 0.. {
        fastrand::seed(seed ^ (life << 32));
        let ended = live(&world, config.clone(), planted);
        let mut state = world.lock();
        match ended {
            Over::Dead => {
                let away = state.random.u64(AWAY);
                state.pause(Duration::from_millis(away));
            }
            Over::Quiet => break,
            Over::OutOfTime => {
                let left = state.is_left().unwrap_or_default();
                state.breaks(format!("not everything has come to its end: {left}"));
                break;
            }
        }
    }
    let mut state = world.lock();
    state.judge();
    Outcome {
        trace: std::mem::take(&mut state.trace),
        broken: std::mem::take(&mut state.broken),
    }
}

/// How a life ended.
enum Over {
    /// It was killed.
    Dead,
    /// Nothing is left to do.
    Quiet,
    OutOfTime,
}

/// One life of the worker: from its start until it dies, or the run is over.
fn live(world: &Shared, config: Config, planted: Planted) -> Over {
    let runtime = || {
        let mut builder = Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    };
    let system = System::with_tokio_rt(runtime);
    system.block_on(async {
        world.lock().is_born();
        let thread = OneThread::new();
        let watched = world.clone();
        failpoint::watch_this_thread(Some(Rc::new(move |point| watched.pass_point(point))));
        let inside = Inside::of(&parts(world, config, planted), Arc::new(Reload::default));
        let handle = inside.handle.clone();
        let _supervisor = start(world, inside);
        one::begin(call_the_worker(world.clone(), handle));
        let (tell, told) = oneshot::channel();
        one::begin(World::go_on(world.clone()));
        one::begin(end(world.clone(), tell));
        let over = tokio::select! {
            biased;
            over = told => over.expect("the end of a life is told"),
            never = thread.run() => match never {},
        };
        failpoint::watch_this_thread(None);
        world.lock().is_gone();
        over
    })
}

/// Starts the tree as in production, without threads and listeners.
fn start(world: &Shared, inside: Inside) -> SupervisorHandle {
    let options = SupervisorOptions {
        restarts: Restarts::Automatic,
        placement: Some(Placement::SupervisorsArbiter),
        // Nothing hangs here, and finding hangs would cost more than all the rest.
        ping: PingOptions {
            interval: Duration::from_secs(60),
            deadline: Duration::from_secs(60),
            start_deadline: Duration::from_secs(60),
        },
        ..SupervisorOptions::default()
    };
    let world = world.clone();
    let mut builder = SupervisorActor::builder(options).events(Arc::new(move |event| {
        world.change(|state| state.judge_event(event))
    }));
    for spec in inside.specs {
        builder = builder.child(spec);
    }
    let supervisor = builder.start();
    let announced = Some(supervisor.clone());
    inside.beside.supervisor.send_replace(announced);
    supervisor
}

/// Tells how a life ended, once it has.
async fn end(world: Shared, tell: oneshot::Sender<Over>) {
    let mut changes = world.changes();
    let over = loop {
        changes.borrow_and_update();
        if let Some(over) = world.lock().is_over() {
            break over;
        }
        let _ = timeout(LOOK, changes.changed()).await;
    };
    // The receiver lives as long as this life.
    let _ = tell.send(over);
}

impl State {
    fn is_over(&self) -> Option<Over> {
        if self.dead {
            return Some(Over::Dead);
        }
        if self.is_left().is_none() {
            return Some(Over::Quiet);
        }
        (self.now() > HEALED + QUIET_BY).then_some(Over::OutOfTime)
    }
}

/// The flags of `worker-node run`.
#[derive(Parser)]
struct Words {
    #[command(flatten)]
    run: RunArgs,
}

fn config(planted: Planted) -> Config {
    // Short times of doubt: what follows after them is the same.
    let mut words = vec![
        "worker-node",
        "--id=w",
        "--report-timeout=20s",
        "--report-doubt=40s",
    ];
    if planted == Planted::HastyReport {
        words.push("--settle-time=0s");
    }
    let words = Words::try_parse_from(words).unwrap();
    let home = Surroundings {
        home: Some("/home/w".into()),
        ..Surroundings::default()
    };
    Config::try_from((words.run, home)).unwrap()
}

/// Fakes for all of the worker's ports, over this world.
fn parts(world: &Shared, config: Config, planted: Planted) -> Parts {
    let (spools, outputs) = (
        Arc::new(Spools(world.clone())),
        Arc::new(Folders(world.clone())),
    );
    let clock: Arc<dyn Clock> = world.clone();
    let household = world.lock().disk.household();
    let disk = world.clone();
    let journal = Journal::new(world);
    Parts {
        clock: Arc::clone(&clock),
        advertised: "worker:1".into(),
        open_journal: Arc::new(move || Ok(Box::new(journal.clone()) as Box<dyn JournalStore>)),
        journal_lost: watch::channel(0).1,
        ages: Arc::new(Ages::of(&household, clock.now())),
        master: Arc::new(Port(world.clone())),
        master_address: MasterAddress("master:1".into()),
        engine: Arc::new(Engine {
            world: world.clone(),
            repeats_starts: planted == Planted::SecondStart,
        }),
        claim: Arc::new(|_| Ok(())),
        lost_with_engine: Arc::new(|_| false),
        trier: Trier {
            worker: config.cluster.worker.clone(),
            outputs: Some(outputs.clone()),
            enforce_limits: true,
        },
        holdings: vec![
            spools.clone() as Arc<dyn Holdings>,
            outputs.clone() as Arc<dyn Holdings>,
        ],
        dials: Arc::new(Dials::of(&config)),
        intake: Intake::default(),
        spools,
        outputs,
        totals: totals(),
        cores: 1,
        load: Arc::new(Load::default),
        room: Arc::new(move |_| {
            let bytes = if disk.lock().disk.is_full {
                0
            } else {
                u64::MAX
            };
            Ok(Room {
                bytes,
                size: u64::MAX,
                inodes: None,
            })
        }),
        own_space: Arc::new(|| Ok(0)),
        config,
    }
}
