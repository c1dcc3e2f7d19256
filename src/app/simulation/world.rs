//! The world around the worker, as plain data under one lock: engine, master, disk, clock, and what happens to them when. It has
//! a time of its own, which goes on while no worker lives.

use std::{
    any::type_name,
    collections::BTreeMap,
    future::pending,
    mem,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    cluster::Cluster,
    disk::Disk,
    docker::Docker,
    falls::Falls,
    scene::{Act, Scene},
};
use crate::{
    domain::id::{ContainerId, TaskId},
    ports::clock::Clock,
    supervision::threads::one,
};

/// The time that the worker's clock shows when the world begins, since the Unix epoch.
const BEGINNING: Duration = Duration::from_secs(1_800_000_000);

/// The world around the worker.
pub(super) struct World {
    state: Mutex<State>,
    /// Rings whenever the world has changed.
    changed: watch::Sender<()>,
}

/// The world, shared by all its ports.
pub(super) type Shared = Arc<World>;

/// The state of the world.
pub(super) struct State {
    /// The source of chance.
    pub(super) random: fastrand::Rng,
    /// Time of the world before the present life.
    before: Duration,
    /// When the present life began; `None` between two lives.
    born: Option<Instant>,
    pub(super) due: BTreeMap<(Duration, u64), Due>,
    last: u64,
    /// Whether the worker is dead, as by a power cut: nothing that it still does counts.
    pub(super) dead: bool,
    pub(super) falls: Falls,
    /// Percent of calls that meet trouble of their own.
    pub(super) trouble: u32,
    /// How many seconds the worker's clock is ahead; it may be behind.
    pub(super) clock_ahead: i64,
    pub(super) docker: Docker,
    pub(super) cluster: Cluster,
    pub(super) disk: Disk,
    /// The trace: what happened, a line each.
    pub(super) trace: Vec<String>,
    /// Whether the trace tells of every call.
    pub(super) tells_all: bool,
    /// Whether something has changed that a future may wait for.
    touched: bool,
    /// The promises that were broken, in sentences.
    pub(super) broken: Vec<String>,
}

/// What happens at a given time without a call.
pub(super) enum Due {
    /// A container ends, unless it has ended before.
    Ends(ContainerId),
    /// A start whose caller has given up takes place.
    StartsLate(ContainerId),
    /// The master writes down that a task runs, over what stood there.
    WritesRunning(TaskId),
    /// A disk that acknowledges too early writes its commits.
    Commits,
    /// An act of the scene.
    Act(Act),
}

/// The receiver of a call of the worker.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    /// The engine.
    Engine,
    /// The master.
    Master,
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// The receiver was not reached.
    Unreachable,
    /// The connection broke: the call may have been carried out.
    Lost,
    /// There was no answer before the deadline: the call may have been carried out.
    Late,
}

/// The fate of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Done,
    Unreachable,
    /// The call never arrives, and its connection breaks.
    LostBefore,
    /// The call, or its answer, is slow.
    SlowThere,
    SlowBack,
    /// The call is carried out, and its answer is lost.
    LostAfter,
    /// The same, but the caller waits for the answer until its deadline.
    SilentAfter,
    /// The call is carried out, and the worker dies.
    DiesAfter,
    /// The worker is dead.
    Dead,
}

/// Lets `time` go by.
pub(super) async fn pass(time: Duration) {
    let _elapsed = timeout(time, pending::<()>()).await;
}

impl World {
    pub(super) fn new(scene: Scene) -> Shared {
        let mut state = State {
            random: fastrand::Rng::with_seed(scene.seed),
            before: Duration::ZERO,
            born: None,
            due: BTreeMap::new(),
            last: 0,
            dead: false,
            falls: Falls::default(),
            trouble: scene.trouble,
            clock_ahead: 0,
            docker: Docker::new(scene.live_restore),
            cluster: Cluster::new(scene.orders),
            disk: Disk::new(scene.planted),
            trace: Vec::new(),
            tells_all: scene.tells_all,
            touched: false,
            broken: Vec::new(),
        };
        for (at, act) in scene.acts {
            state.at(at, Due::Act(act));
        }
        Arc::new(Self {
            state: Mutex::new(state),
            changed: watch::Sender::new(()),
        })
    }

    /// The state of the world, brought up to the present time.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap();
        if state.catch_up() {
            self.changed.send_replace(());
        }
        state
    }

    /// Changes the world, and tells those who wait for a change, if it was touched.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let changed = change(&mut state);
        let is_touched = mem::take(&mut state.touched);
        drop(state);
        if is_touched {
            self.changed.send_replace(());
        }
        changed
    }

    /// Rings whenever the world has changed.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Waits until `look` finds something. For a dead worker it never does.
    pub(super) async fn wait<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            {
                let mut state = self.lock();
                let found = if state.dead { None } else { look(&mut state) };
                if let Some(found) = found {
                    return found;
                }
            }
            // The sender lives as long as this world.
            let _ = changed.changed().await;
        }
    }

    /// One call of the worker. `effect` is what it does at the receiver.
    pub(super) async fn call<T, F: FnOnce(&mut State) -> T>(
        &self,
        to: To,
        deadline: Duration,
        effect: F,
    ) -> Result<T, Broken> {
        let (way, back) = {
            let random = &mut self.lock().random;
            (random.u64(1..8), random.u64(0..8))
        };
        pass(Duration::from_millis(way)).await;
        let fate = self.change(|state| {
            let fate = state.fate(to);
            if state.tells_all {
                state.note(format!("{} {fate:?}", type_name::<F>()));
            }
            fate
        });
        match fate {
            Fate::Dead => pending().await,
            Fate::Unreachable => return Err(Broken::Unreachable),
            Fate::LostBefore => return Err(Broken::Lost),
            Fate::SlowThere => {
                self.take_time(deadline).await;
                if !self.lock().is_reachable(to) {
                    return self.alive(Err(Broken::Lost)).await;
                }
            }
            Fate::Done | Fate::SlowBack | Fate::LostAfter | Fate::SilentAfter | Fate::DiesAfter => {
            }
        }
        let done = self.change(effect);
        match fate {
            Fate::DiesAfter => {
                self.change(State::die);
                pending().await
            }
            Fate::LostAfter => return Err(Broken::Lost),
            Fate::SilentAfter => {
                pass(deadline).await;
                return self.alive(Err(Broken::Late)).await;
            }
            Fate::SlowBack => self.take_time(deadline).await,
            _ => pass(Duration::from_millis(back)).await,
        }
        let is_there = self.lock().is_reachable(to);
        self.alive(if is_there {
            Ok(done)
        } else {
            Err(Broken::Lost)
        })
        .await
    }

    /// Takes long, but no longer than half of the deadline. Never returns to a dead worker.
    async fn take_time(&self, deadline: Duration) {
        let most = u64::try_from(deadline.as_millis()).unwrap() / 2;
        let time = self.lock().random.u64(50..most);
        pass(Duration::from_millis(time)).await;
        self.alive(()).await;
    }

    /// The answer, for a worker that lives; a dead one waits for ever.
    pub(super) async fn alive<T>(&self, answer: T) -> T {
        if self.lock().dead {
            pending::<()>().await;
        }
        answer
    }

    /// Makes due things happen when their time comes.
    pub(super) async fn go_on(self: Arc<Self>) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let next = {
                let state = self.lock();
                let now = state.now();
                state.due.keys().next().map(|(at, _)| *at - now)
            };
            let wait = timeout(next.unwrap_or(Duration::MAX), changed.changed());
            let _ = wait.await;
        }
    }
}

impl State {
    /// Time since the world began.
    pub(super) fn now(&self) -> Duration {
        self.before + self.born.map_or(Duration::ZERO, |born| born.elapsed())
    }

    /// Plans something for that time.
    pub(super) fn at(&mut self, at: Duration, due: Due) {
        self.last += 1;
        self.due.insert((at, self.last), due);
    }

    /// Plans something for a time within this range from now, in milliseconds.
    pub(super) fn within(&mut self, millis: std::ops::Range<u64>, due: Due) {
        let at = self.now() + Duration::from_millis(self.random.u64(millis));
        self.at(at, due);
    }

    pub(super) fn note(&mut self, what: impl AsRef<str>) {
        self.touched = true;
        let line = format!("{:9.3} {}", self.now().as_secs_f64(), what.as_ref());
        self.trace.push(line);
    }

    /// Marks the world as changed, so that those who wait look again.
    pub(super) fn touch(&mut self) {
        self.touched = true;
    }

    pub(super) fn breaks(&mut self, what: impl AsRef<str>) {
        self.note(format!("BROKEN: {}", what.as_ref()));
        self.broken.push(what.as_ref().to_owned());
    }

    /// A worker starts.
    pub(super) fn is_born(&mut self) {
        self.born = Some(Instant::now());
        self.dead = false;
        self.falls.is_born();
        self.cluster.worker_is_born(self.before);
        self.note("the worker starts");
    }

    /// The worker's life is over. Called while its clock still runs.
    pub(super) fn is_gone(&mut self) {
        self.before = self.now();
        self.born = None;
    }

    /// Lets `time` go by without a worker.
    pub(super) fn pause(&mut self, time: Duration) {
        self.before += time;
    }

    fn fate(&mut self, to: To) -> Fate {
        if self.dead {
            return Fate::Dead;
        }
        if self.dies_here() {
            if self.random.bool() {
                return Fate::DiesAfter;
            }
            self.die();
            return Fate::Dead;
        }
        if !self.is_reachable(to) {
            return Fate::Unreachable;
        }
        if !self.meets_trouble() {
            return Fate::Done;
        }
        match self.random.u32(0..7) {
            0 | 1 => Fate::LostBefore,
            2 | 3 => Fate::LostAfter,
            4 => Fate::SilentAfter,
            5 => Fate::SlowThere,
            _ => Fate::SlowBack,
        }
    }

    pub(super) fn meets_trouble(&mut self) -> bool {
        self.random.u32(0..100) < self.trouble
    }

    fn is_reachable(&self, to: To) -> bool {
        match to {
            To::Engine => self.docker.is_up,
            To::Master => !self.cluster.is_parted,
        }
    }

    /// Makes everything happen that is due; whether there was anything.
    fn catch_up(&mut self) -> bool {
        let now = self.now();
        let mut happened = false;
        while let Some(entry) = self.due.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let at = entry.key().0;
            let due = entry.remove();
            self.happen(at, due);
            happened = true;
        }
        happened
    }

    fn happen(&mut self, at: Duration, due: Due) {
        match due {
            Due::Ends(container) => self.comes_to_its_end(&container, at),
            Due::StartsLate(container) => drop(self.start(&container)),
            Due::WritesRunning(task) => self.cluster.writes_running(&task),
            Due::Commits => self.disk.comes_to_it(),
            Due::Act(act) => self.act(act),
        }
    }

    /// Commits take `time` from now on, if a worker lives.
    pub(super) fn block_disk(&mut self, time: Duration) {
        self.disk.was_full = Some(self.now() + time);
        if self.born.is_some() {
            one::block_until(Instant::now() + time);
        }
    }

    /// Whether nothing of the scene is still to come.
    pub(super) fn is_played(&self) -> bool {
        let is_past = |((at, _), due): (&(Duration, u64), &Due)| match due {
            // The container has ended otherwise.
            Due::Ends(container) => !self.docker.ends_at(container, *at),
            _ => false,
        };
        self.due.iter().all(is_past)
    }
}

impl Clock for World {
    fn now(&self) -> SystemTime {
        let state = self.lock();
        let shown = BEGINNING + state.now();
        let ahead = Duration::from_secs(state.clock_ahead.unsigned_abs());
        let shown = match state.clock_ahead < 0 {
            true => shown - ahead,
            false => shown + ahead,
        };
        UNIX_EPOCH + shown
    }
}

/// The engine's clock at that time; no act moves it.
pub(super) fn engine_time(at: Duration) -> SystemTime {
    UNIX_EPOCH + BEGINNING + Duration::from_millis(u64::try_from(at.as_millis()).unwrap())
}
