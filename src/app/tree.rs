//! The supervision tree: the order of the subsystems, what each is given, and how all of them stop.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use actix_rt::Arbiter;
use log::warn;
use tokio::{
    runtime::Runtime,
    sync::{Semaphore, mpsc::UnboundedSender, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    build::Built,
    doors,
    parts::Parts,
    reload::Reloader,
    summary::{self, Moment},
};
use crate::{
    actors::{
        engine_watch::{EngineView, EngineWatchActor},
        heartbeat::{BeatSources, HeartbeatActor},
        images::{self, ImagesActor, NotePull},
        janitor::{JanitorActor, Tools},
        journal::{JournalActor, Records, WritersTurn},
        log_router::{LogRouterActor, Readers},
        news::{NewsDesk, news},
        outbox::{self, Correspondents, OutboxActor},
        registry::{
            AdmissionRules, Board, CordonBoard, Drain, Draining, RegistryActor, RegistryPeers,
            StopAll, TaskDirectory, TaskNews,
        },
        session::{MasterView, Pin, SessionActor, SessionPeers},
        task::{TaskEnv, TaskRules, UsageBoard},
    },
    config::{Config, Limits, MasterMoves, PullPolicy, WhenSubsystemFails},
    domain::{id::TaskId, patience::Patience, settle::SettleTime},
    handle::{
        WorkerHandle,
        admin::{Asked, Boards, ImageDesk},
    },
    ports::{
        admin::Reload,
        clock::SteadyClock,
        master::{Registration, RunningTask},
        shelf::ImageShelf,
        status::Room,
    },
    supervision::{
        Backoff, Budget, ChildSpec, LifecycleEvent, RestartPolicy, Restarts, Seat, Slot,
        StartError, StopReport, SupervisorActor, SupervisorHandle, SupervisorOptions, slot,
        threads::beside,
    },
    telemetry,
};

/// How long offers are still taken while the engine is away, since most interruptions are shorter; their tasks wait.
const ENGINE_PATIENCE: Duration = Duration::from_secs(5);

/// Containers that are created and started at the same time, per core. Measured with 64 tasks on 2 cores, against the best bare
/// loop over the engine: 0.93 of its rate with 2, 0.98 with 3, no more with 4 and 6.
const STARTS_PER_CORE: usize = 3;

/// How long a request to the registry may take during the stop.
const ASK: Duration = Duration::from_secs(2);

/// The running worker.
pub(super) struct Tree {
    pub(super) supervisor: SupervisorHandle,
    registry: Slot<RegistryActor>,
    board: Board,
    boards: Boards,
    master_view: Arc<MasterView>,
    stop_serving: CancellationToken,
    /// Among others, the lock on the state folder, until the process ends.
    built: Built,
}

/// A slot for callers and the seat for the child spec of every subsystem.
struct Places {
    journal: (Slot<JournalActor>, Seat<JournalActor>),
    engine_watch: (Slot<EngineWatchActor>, Seat<EngineWatchActor>),
    images: (Slot<ImagesActor>, Seat<ImagesActor>),
    log_router: (Slot<LogRouterActor>, Seat<LogRouterActor>),
    registry: (Slot<RegistryActor>, Seat<RegistryActor>),
    session: (Slot<SessionActor>, Seat<SessionActor>),
    heartbeat: (Slot<HeartbeatActor>, Seat<HeartbeatActor>),
    outbox: (Slot<OutboxActor>, Seat<OutboxActor>),
    janitor: (Slot<JanitorActor>, Seat<JanitorActor>),
}

impl Places {
    fn new() -> Self {
        Self {
            journal: slot("journal"),
            engine_watch: slot("engine_watch"),
            images: slot("images"),
            log_router: slot("log_router"),
            registry: slot("registry"),
            session: slot("session"),
            heartbeat: slot("heartbeat"),
            outbox: slot("outbox"),
            janitor: slot("janitor"),
        }
    }
}

/// State that is kept beside the actors, so that their restarts do not change it.
pub(super) struct Beside {
    pub(super) view: Arc<EngineView>,
    pub(super) master_view: Arc<MasterView>,
    readers: Arc<Readers>,
    pub(super) board: Board,
    usage: Arc<UsageBoard>,
    settle: Arc<Mutex<SettleTime>>,
    directory: Arc<TaskDirectory>,
    pressure: Arc<watch::Sender<Option<String>>>,
    draining: Draining,
    cordon: CordonBoard,
    reconciled: Arc<watch::Sender<bool>>,
    pub(super) supervisor: watch::Sender<Option<SupervisorHandle>>,
    news: UnboundedSender<TaskNews>,
    desk: NewsDesk<TaskNews>,
}

impl Beside {
    fn new(parts: &Parts) -> Self {
        let (news, desk) = news();
        Self {
            view: Arc::default(),
            master_view: Arc::new(MasterView::new(parts.master_address.clone())),
            readers: Arc::new(Readers::through(parts.intake.clone())),
            board: Arc::new(watch::Sender::new(Arc::default())),
            usage: Arc::default(),
            settle: Arc::new(Mutex::new(SettleTime::new(
                parts.config.cluster.settle_time,
            ))),
            directory: Arc::default(),
            pressure: Arc::new(watch::Sender::new(None)),
            draining: Draining::default(),
            cordon: Arc::new(watch::Sender::new(None)),
            reconciled: Arc::new(watch::Sender::new(false)),
            supervisor: watch::Sender::new(None),
            news,
            desk,
        }
    }

    /// The boards that show an operator what is known without asking an actor.
    pub(super) fn boards(&self, parts: &Parts) -> Boards {
        let totals = &parts.totals;
        Boards {
            tasks: self.board.subscribe(),
            usage: Arc::clone(&self.usage),
            master: Arc::clone(&self.master_view),
            engine: Arc::clone(&self.view),
            engine_address: parts.config.tasks.engine.to_string(),
            pressure: self.pressure.subscribe(),
            cordon: self.cordon.subscribe(),
            reconciled: self.reconciled.subscribe(),
            room: Room {
                cpu: totals.cpu,
                memory: totals.memory,
                gpu: totals.gpu,
                tasks: 0,
            },
            max_tasks: parts.dials.max_tasks.subscribe(),
        }
    }
}

impl Tree {
    /// Starts all subsystems, in order. Returns at once: subsystems wait for those that they need.
    pub(super) fn start(built: Built, reloader: &Arc<Reloader>, runtime: &'static Runtime) -> Self {
        let reloading = Arc::clone(reloader);
        let inside = Inside::of(&built.parts, Arc::new(move || reloading.reload()));
        let stop_serving = CancellationToken::new();
        let admin = doors::admin_handle(&built, &inside);
        let servers = doors::servers(&built, &inside, &stop_serving);
        let http = doors::http(&built, &inside, &admin);
        let doors = [servers, doors::admin(&built, admin)]
            .into_iter()
            .chain(http);
        let mut builder = SupervisorActor::builder(options(&built.parts.config, runtime))
            .events(listener(&built));
        for spec in inside.specs.into_iter().chain(doors) {
            builder = builder.child(spec);
        }
        let supervisor = builder.start();
        inside
            .beside
            .supervisor
            .send_replace(Some(supervisor.clone()));
        Self {
            supervisor,
            registry: inside.asked.registry,
            boards: inside.beside.boards(&built.parts),
            board: inside.beside.board,
            master_view: inside.beside.master_view,
            stop_serving,
            built,
        }
    }

    /// Makes the registry refuse offers from now on.
    pub(super) async fn drain(&self) {
        let drain = Drain("the worker is stopping".into());
        let told = self.registry.ask_idempotent(drain, Instant::now() + ASK);
        if let Err(error) = told.await {
            warn!(error:%; "the registry could not be told to refuse new tasks");
        }
    }

    /// Makes the registry stop all running tasks.
    pub(super) async fn stop_tasks(&self) {
        let told = self.registry.ask_idempotent(StopAll, Instant::now() + ASK);
        if let Err(error) = told.await {
            warn!(error:%; "the running tasks could not be told to stop");
        }
    }

    /// Waits until no task runs, and how each ended is durable.
    pub(super) async fn tasks_over(&self) {
        let over = |tasks: &Arc<Vec<RunningTask>>| tasks.iter().all(RunningTask::is_over);
        // The sender lives as long as the board.
        let _ = self.board.subscribe().wait_for(over).await;
    }

    /// Waits until every result is delivered, and nothing is left of any task.
    pub(super) async fn nothing_left(&self) {
        let _ = self
            .board
            .subscribe()
            .wait_for(|tasks| tasks.is_empty())
            .await;
    }

    /// The tasks that have not ended.
    pub(super) fn running(&self) -> Vec<TaskId> {
        let board = self.board.borrow();
        let running = board.iter().filter(|task| !task.is_over());
        running.map(|task| task.task.clone()).collect()
    }

    /// The figures for the summary line.
    pub(super) fn moment(&self) -> Moment {
        Moment {
            running: self.running().len(),
            waiting: self.undelivered(),
            tally: self.built.doors.metrics.tally(),
            engine: summary::engine(&self.boards.engine_contact()),
            master: summary::master(&self.boards.master_contact()),
        }
    }

    /// The number of results that the master has not taken.
    pub(super) fn undelivered(&self) -> usize {
        let board = self.board.borrow();
        board.iter().filter(|task| task.is_undelivered()).count()
    }

    /// Waits for `patience`; returns if the master has not registered this worker by then, and otherwise never.
    pub(super) async fn master_missed(&self, patience: Duration) {
        let mut registered = self.master_view.registered();
        let registration = registered.wait_for(|registered| *registered);
        if timeout(patience, registration).await.is_ok() {
            std::future::pending().await
        }
    }

    /// Ends the streams of viewers first, then the children in reverse order.
    pub(super) async fn stop(&self, deadline: Instant) -> StopReport {
        self.stop_serving.cancel();
        let report = self.supervisor.stop(deadline).await;
        if let Err(error) = self.built.doors.door.remove() {
            warn!(error:%; "the operator's socket was left behind");
        }
        report
    }
}

/// The listener for lifecycle events: it feeds the history and the metrics.
fn listener(built: &Built) -> Arc<dyn Fn(&LifecycleEvent) + Send + Sync> {
    let metrics = built.doors.metrics.listener();
    let history = built.lifecycle.listener();
    Arc::new(move |event| {
        history(event);
        metrics(event);
    })
}

fn options(config: &Config, runtime: &'static Runtime) -> SupervisorOptions {
    let limits = config.process.restarts;
    SupervisorOptions {
        restarts: match config.process.when_subsystem_fails {
            WhenSubsystemFails::Restart => Restarts::Automatic,
            WhenSubsystemFails::EndProcess => Restarts::Never,
        },
        policy: RestartPolicy {
            backoff: Backoff {
                first: limits.backoff,
                cap: limits.backoff_max,
                ..Backoff::default()
            },
            ..RestartPolicy::with_budget(Budget {
                intensity: limits.intensity,
                window: limits.period,
            })
        },
        arbiters: Arc::new(move || Arbiter::try_with_tokio_rt(move || Ok(runtime))),
        ..SupervisorOptions::default()
    }
}

/// The subsystems without the doors.
pub(super) struct Inside {
    /// In start order.
    pub(super) specs: Vec<ChildSpec>,
    /// The door for the master's calls.
    pub(super) handle: WorkerHandle,
    pub(super) beside: Beside,
    /// The receivers of an operator's orders.
    pub(super) asked: Asked,
}

impl Inside {
    /// The subsystems made of these parts. `configuration` carries out a reload.
    pub(super) fn of(parts: &Parts, configuration: Arc<dyn Fn() -> Reload + Send + Sync>) -> Self {
        let beside = Beside::new(parts);
        let places = Places::new();
        let asked = Asked {
            outbox: places.outbox.0.clone(),
            images: image_desk(parts, &places),
            registry: places.registry.0.clone(),
            configuration,
            log: telemetry::order,
        };
        let records = Records(places.journal.0.clone());
        let handle = WorkerHandle::new(
            places.registry.0.clone(),
            places.log_router.0.clone(),
            places.session.0.clone(),
            records.clone(),
            beside.news.clone(),
        );
        let wiring = Wiring {
            parts,
            beside: &beside,
        };
        Self {
            specs: wiring.specs(places, records),
            handle,
            beside,
            asked,
        }
    }
}

/// What an operator's questions about images need.
fn image_desk(parts: &Parts, places: &Places) -> ImageDesk {
    let engine = Arc::clone(&parts.engine);
    ImageDesk {
        shelf: Arc::clone(&parts.engine) as Arc<dyn ImageShelf>,
        parse: Arc::new(move |name| engine.parse_image(name)),
        actor: places.images.0.clone(),
        records: Records(places.journal.0.clone()),
    }
}

/// Makes the child specs: it knows which subsystem needs what.
struct Wiring<'a> {
    parts: &'a Parts,
    beside: &'a Beside,
}

impl Wiring<'_> {
    /// All subsystems in start order.
    fn specs(&self, places: Places, records: Records) -> Vec<ChildSpec> {
        let env = self.task_env(&places, &records);
        let peers = self.registry_peers(&places, &records, &env);
        let correspondents = self.correspondents(&places, &records);
        vec![
            self.journal(places.journal.1),
            self.engine_watch(places.engine_watch.1),
            self.images(places.images.1, records.clone()),
            self.log_router(places.log_router.1),
            self.registry(places.registry.1, peers),
            self.session(places.session.1, records.clone()),
            self.heartbeat(places.heartbeat.1, places.session.0),
            spec(places.outbox.1, move || {
                OutboxActor::new(correspondents.clone())
            }),
            self.janitor(places.janitor.1, records, places.outbox.0),
        ]
    }

    fn journal(&self, seat: Seat<JournalActor>) -> ChildSpec {
        let open = Arc::clone(&self.parts.open_journal);
        let turn = WritersTurn::default();
        ChildSpec::new(seat, move |_| {
            JournalActor::new(Arc::clone(&open), Arc::clone(&turn)).map_err(StartError::new)
        })
    }

    fn engine_watch(&self, seat: Seat<EngineWatchActor>) -> ChildSpec {
        let engine = Arc::clone(&self.parts.engine);
        let worker = self.parts.config.cluster.worker.clone();
        let (view, claim) = (Arc::clone(&self.beside.view), Arc::clone(&self.parts.claim));
        let trier = self.parts.trier.clone();
        spec(seat, move || {
            EngineWatchActor::new(
                Arc::clone(&engine),
                worker.clone(),
                Arc::clone(&view),
                Arc::clone(&claim),
                trier.clone(),
            )
        })
    }

    fn images(&self, seat: Seat<ImagesActor>, records: Records) -> ChildSpec {
        let (engine, view) = (
            Arc::clone(&self.parts.engine),
            Arc::clone(&self.beside.view),
        );
        let policy = match self.parts.config.tasks.pull {
            PullPolicy::Auto => images::PullPolicy::Auto,
            PullPolicy::Missing => images::PullPolicy::Missing,
            PullPolicy::Always => images::PullPolicy::Always,
            PullPolicy::Never => images::PullPolicy::Never,
        };
        let patience = Patience(self.parts.config.tasks.patience);
        let note: NotePull = Arc::new(move |pull| {
            let records = records.clone();
            drop(beside(async move { records.keep(vec![pull]).await }));
        });
        spec(seat, move || {
            let (engine, view) = (Arc::clone(&engine), Arc::clone(&view));
            ImagesActor::new(engine, view, policy, patience, Arc::clone(&note))
        })
    }

    fn log_router(&self, seat: Seat<LogRouterActor>) -> ChildSpec {
        let (spools, engine) = (
            Arc::clone(&self.parts.spools),
            Arc::clone(&self.parts.engine),
        );
        let (view, readers) = (
            Arc::clone(&self.beside.view),
            Arc::clone(&self.beside.readers),
        );
        let clock = Arc::clone(&self.parts.clock);
        spec(seat, move || {
            LogRouterActor::new(
                Arc::clone(&spools),
                Arc::clone(&engine),
                Arc::clone(&view),
                Arc::clone(&readers),
                Arc::clone(&clock),
            )
        })
    }

    fn registry(&self, seat: Seat<RegistryActor>, peers: RegistryPeers) -> ChildSpec {
        let rules = AdmissionRules {
            totals: self.parts.totals,
            max_tasks: self.parts.dials.max_tasks.subscribe(),
            engine_patience: ENGINE_PATIENCE,
        };
        let (board, desk) = (Arc::clone(&self.beside.board), self.beside.desk.clone());
        spec(seat, move || {
            RegistryActor::new(
                peers.clone(),
                rules.clone(),
                Arc::clone(&board),
                desk.clone(),
            )
        })
    }

    fn session(&self, seat: Seat<SessionActor>, records: Records) -> ChildSpec {
        let peers = SessionPeers {
            master: Arc::clone(&self.parts.master),
            view: Arc::clone(&self.beside.master_view),
            engine: Arc::clone(&self.beside.view),
            records,
        };
        let cluster = &self.parts.config.cluster;
        let registration = Registration {
            worker: cluster.worker.clone(),
            address: self.parts.advertised.clone(),
            totals: self.parts.totals,
        };
        let pin = match cluster.master_moves {
            MasterMoves::Followed => Pin::Free,
            MasterMoves::Refused => Pin::Pinned,
            MasterMoves::OfNobody => Pin::Unproven,
        };
        let configured = cluster.master.clone();
        spec(seat, move || {
            SessionActor::new(
                peers.clone(),
                registration.clone(),
                (configured.clone(), pin),
            )
        })
    }

    fn heartbeat(&self, seat: Seat<HeartbeatActor>, session: Slot<SessionActor>) -> ChildSpec {
        let master = Arc::clone(&self.parts.master);
        let sources = BeatSources {
            worker: self.parts.config.cluster.worker.clone(),
            load: Arc::clone(&self.parts.load),
            running: self.beside.board.subscribe(),
            master_view: Arc::clone(&self.beside.master_view),
            settle: Arc::clone(&self.beside.settle),
        };
        spec(seat, move || {
            HeartbeatActor::new(Arc::clone(&master), sources.clone(), session.clone())
        })
    }

    fn janitor(
        &self,
        seat: Seat<JanitorActor>,
        records: Records,
        outbox: Slot<OutboxActor>,
    ) -> ChildSpec {
        let tools = Tools {
            records,
            outbox,
            clock: Arc::new(SteadyClock::started_by(self.parts.clock.as_ref())),
            spools: Arc::clone(&self.parts.spools),
            outputs: Arc::clone(&self.parts.outputs),
            holdings: self.parts.holdings.clone(),
            engine: Arc::clone(&self.parts.engine),
            view: Arc::clone(&self.beside.view),
            ages: Arc::clone(&self.parts.ages),
            room: Arc::clone(&self.parts.room),
            own_space: Arc::clone(&self.parts.own_space),
            pressure: Arc::clone(&self.beside.pressure),
            retention: self.parts.dials.retention.subscribe(),
        };
        spec(seat, move || JanitorActor::new(tools.clone()))
    }

    fn task_env(&self, places: &Places, records: &Records) -> Arc<TaskEnv> {
        let tasks = &self.parts.config.tasks;
        Arc::new(TaskEnv {
            worker: self.parts.config.cluster.worker.clone(),
            engine: Arc::clone(&self.parts.engine),
            view: Arc::clone(&self.beside.view),
            lost_with_engine: Arc::clone(&self.parts.lost_with_engine),
            outputs: Arc::clone(&self.parts.outputs),
            records: records.clone(),
            images: places.images.0.clone(),
            logs: places.log_router.0.clone(),
            outbox: places.outbox.0.clone(),
            news: self.beside.news.clone(),
            starts: Arc::new(Semaphore::new(STARTS_PER_CORE * self.parts.cores)),
            totals: self.parts.totals,
            images_allowed: self.parts.dials.images.subscribe(),
            profiles: self.parts.dials.profiles.subscribe(),
            policy: self.parts.dials.policy.subscribe(),
            rules: TaskRules {
                stop_grace: tasks.stop_grace,
                enforce_limits: tasks.limits == Limits::Enforce,
                disk_low: self.parts.config.state.disk_low,
                patience: Patience(tasks.patience),
            },
            usage: Arc::clone(&self.beside.usage),
            clock: Arc::clone(&self.parts.clock),
            journal_lost: self.parts.journal_lost.clone(),
        })
    }

    fn registry_peers(
        &self,
        places: &Places,
        records: &Records,
        env: &Arc<TaskEnv>,
    ) -> RegistryPeers {
        RegistryPeers {
            worker: self.parts.config.cluster.worker.clone(),
            records: records.clone(),
            outbox: places.outbox.0.clone(),
            engine: Arc::clone(&self.beside.view),
            supervisor: self.beside.supervisor.subscribe(),
            directory: Arc::clone(&self.beside.directory),
            env: Arc::clone(env),
            settle: Arc::clone(&self.beside.settle),
            clock: Arc::clone(&self.parts.clock),
            pressure: self.beside.pressure.subscribe(),
            draining: Arc::clone(&self.beside.draining),
            cordon: Arc::clone(&self.beside.cordon),
            reconciled: Arc::clone(&self.beside.reconciled),
            registered: self.beside.master_view.registered(),
        }
    }

    fn correspondents(&self, places: &Places, records: &Records) -> Correspondents {
        let (upload, report) = (
            self.parts.config.cluster.upload,
            self.parts.config.cluster.report,
        );
        Correspondents {
            worker: self.parts.config.cluster.worker.clone(),
            master: Arc::clone(&self.parts.master),
            master_view: Arc::clone(&self.beside.master_view),
            records: records.clone(),
            logs: places.log_router.0.clone(),
            registry: places.registry.0.clone(),
            news: self.beside.news.clone(),
            outputs: Arc::clone(&self.parts.outputs),
            settle: Arc::clone(&self.beside.settle),
            receipts: Arc::default(),
            clock: Arc::clone(&self.parts.clock),
            patience: outbox::Patience {
                upload_inactivity: upload.inactivity,
                upload_total: upload.total,
                report: report.timeout,
                doubt: report.doubt,
                ..outbox::Patience::default()
            },
        }
    }
}

/// The spec of a subsystem whose factory cannot fail.
pub(super) fn spec<A>(seat: Seat<A>, make: impl Fn() -> A + Send + Sync + 'static) -> ChildSpec
where
    A: actix::Actor<Context = actix::Context<A>> + actix::Handler<crate::supervision::Ping>,
{
    ChildSpec::new(seat, move |_| Ok(make()))
}
