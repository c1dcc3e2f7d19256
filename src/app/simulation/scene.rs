//! The scene of one run, made from a seed: the tasks, what the master wants of them, and everything that goes wrong.

use std::time::Duration;

use super::{docker::Habits, world::State};
use crate::{
    domain::{
        id::{PayloadDigest, TaskId},
        spec::{Offer, TaskSpec, Wants},
    },
    failpoint::NAMES,
};

/// An image that no registry has.
pub(super) const ABSENT: &str = "absent";

/// An image whose registry fails two times out of three.
pub(super) const FLAKY: &str = "flaky";

/// From this time on nothing goes wrong any more.
pub(super) const HEALED: Duration = Duration::from_secs(150);

/// All that happens in one run.
pub(super) struct Scene {
    pub(super) seed: u64,
    pub(super) live_restore: bool,
    /// Percent of calls that meet trouble of their own.
    pub(super) trouble: u32,
    pub(super) orders: Vec<Order>,
    pub(super) acts: Vec<(Duration, Act)>,
    pub(super) planted: Planted,
    /// Whether the trace tells of every call.
    pub(super) tells_all: bool,
}

/// A fault that is planted on purpose: the judge must find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Planted {
    /// No fault.
    Nothing,
    /// The journal acknowledges before it writes.
    AckBeforeCommit,
    /// A start whose reply is lost is repeated.
    SecondStart,
    /// The worker reports without settle time.
    HastyReport,
    /// The journal forgets cancels.
    CancelForgotten,
}

/// One task of the master's.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub(super) offer: Offer,
    /// When it is offered first.
    pub(super) offered: Duration,
    /// When it is offered again although it was taken; the latest first.
    pub(super) repeats: Vec<Duration>,
    pub(super) cancelled: Option<Duration>,
    /// How many reports of its result the master refuses.
    pub(super) refusals: u32,
    /// Whether it can never run.
    pub(super) is_impossible: bool,
}

/// One thing that goes wrong, or is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Master and worker cannot reach each other.
    Part,
    /// They reach each other again.
    Meet,
    /// The engine stops; `gently`: by a signal that lets it end its containers.
    StopEngine { gently: bool },
    /// The engine starts again.
    StartEngine,
    /// The worker dies after this many steps.
    KillWorker { in_steps: u32 },
    /// The worker dies at this failpoint.
    KillWorkerAt(&'static str),
    /// The actor that passes this many more failpoints panics.
    Panic { in_points: u32 },
    /// The actor that passes this failpoint panics.
    PanicAt(&'static str),
    /// The worker's clock is moved by this many seconds.
    SetClock(i64),
    /// The disk is full.
    FillDisk,
    /// The disk has room again.
    EmptyDisk,
    /// The disk does not answer for this many milliseconds.
    BlockDisk(u64),
    /// The master forgets the worker.
    Forget,
    /// Nothing goes wrong from here on.
    Heal,
}

impl Scene {
    /// The scene of a seed, the same each time.
    pub(super) fn of(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x5eed_5eed);
        let tasks = random.u32(1..=8);
        let orders = (0..tasks).map(|number| order(number, &mut random));
        let orders = orders.collect();
        Self {
            seed,
            live_restore: random.bool(),
            trouble: *random.choice(&[0, 1, 4, 16]).unwrap(),
            orders,
            acts: acts(&mut random),
            planted: Planted::Nothing,
            tells_all: false,
        }
    }
}

impl Scene {
    /// A scene with one short task, offered after a second, in which only `acts` go wrong.
    pub(super) fn plain(change: impl FnOnce(&mut Order), acts: Vec<(Duration, Act)>) -> Self {
        let mut random = fastrand::Rng::with_seed(0);
        let habits = Habits {
            runs: Duration::from_millis(100),
            code: 0,
            is_stubborn: false,
            leaves_a_file: false,
        };
        let mut order = Order {
            offer: offer(0, "one", &habits, &mut random),
            offered: Duration::from_secs(1),
            repeats: Vec::new(),
            cancelled: None,
            refusals: 0,
            is_impossible: false,
        };
        change(&mut order);
        Self {
            seed: 0,
            live_restore: true,
            trouble: 0,
            orders: vec![order],
            acts,
            planted: Planted::Nothing,
            tells_all: true,
        }
    }
}

fn seconds(random: &mut fastrand::Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(random.u64(range.start * 1_000..range.end * 1_000))
}

/// The storage that a task asks for which stays within it, in GiB.
const MODEST: f64 = 1.0;
/// The storage that a greedy task asks for, in GiB: by this figure it is known as one that writes more than it asked for.
const GREEDY: f64 = 2.0;

/// Whether the task writes more than it asked for, soon after its start.
pub(super) fn is_greedy(spec: &TaskSpec) -> bool {
    spec.wants.storage == GREEDY
}

fn order(number: u32, random: &mut fastrand::Rng) -> Order {
    let offered = seconds(random, 0..60);
    let mut cancelled = (random.u32(0..100) < 35).then(|| offered + seconds(random, 0..90));
    let millis = match random.u32(0..10) {
        0 | 1 => 0,
        2..5 => random.u64(20..1_000),
        5..8 => random.u64(1_000..30_000),
        8 => random.u64(30_000..300_000),
        _ => {
            // Only a cancel ends this one.
            cancelled.get_or_insert(offered + Duration::from_secs(60));
            600_000
        }
    };
    let habits = Habits {
        runs: Duration::from_millis(millis),
        code: *random.choice(&[0, 0, 0, 1, 137]).unwrap(),
        is_stubborn: random.u32(0..4) == 0,
        leaves_a_file: random.bool(),
    };
    let image = *random
        .choice(&["one", "two", "two", "three", FLAKY, ABSENT, "!invalid"])
        .unwrap();
    let mut repeats: Vec<_> = (0..random.u32(0..3))
        .map(|_| offered + seconds(random, 1..140))
        .collect();
    repeats.sort_by(|one, other| other.cmp(one));
    Order {
        is_impossible: image.starts_with('!'),
        offer: offer(number, image, &habits, random),
        offered,
        repeats,
        cancelled,
        refusals: match random.u32(0..40) {
            // Refused so often that the result is parked first.
            0 => 10,
            1..8 => random.u32(1..3),
            _ => 0,
        },
    }
}

fn offer(number: u32, image: &str, habits: &Habits, random: &mut fastrand::Rng) -> Offer {
    let spec = TaskSpec {
        id: TaskId::new(format!("task-{number}")).unwrap(),
        image: image.into(),
        command: habits.command(),
        wants: Wants {
            cpu: f64::from(random.u32(0..5)) / 2.0,
            memory: f64::from(random.u32(0..4)),
            storage: [0.0, MODEST, GREEDY][number as usize % 3],
            ..Wants::default()
        },
        user_id: format!("user-{}", random.u32(0..3)),
        task_name: String::new(),
        task_type: String::new(),
        sla_multiplier: 1.0,
        submitted_at: 0,
        asked: None,
    };
    let mut digest = [0; 32];
    digest[0] = u8::try_from(number).unwrap();
    Offer {
        spec,
        excess: None,
        digest: PayloadDigest(digest),
    }
}

fn acts(random: &mut fastrand::Rng) -> Vec<(Duration, Act)> {
    let mut acts = vec![(HEALED, Act::Heal)];
    let mut lasting = |random: &mut fastrand::Rng, begin, end, most: u64| {
        let at = seconds(random, 0..120);
        acts.push((at, begin));
        acts.push((at + seconds(random, 1..most), end));
    };
    for _ in 0..random.u32(0..3) {
        lasting(random, Act::Part, Act::Meet, 60);
    }
    for _ in 0..random.u32(0..3) {
        let gently = random.bool();
        lasting(random, Act::StopEngine { gently }, Act::StartEngine, 30);
    }
    if random.u32(0..3) == 0 {
        lasting(random, Act::FillDisk, Act::EmptyDisk, 40);
    }
    for _ in 0..random.u32(0..5) {
        let in_steps = random.u32(1..120);
        acts.push((seconds(random, 0..130), Act::KillWorker { in_steps }));
    }
    // So far apart that no restart budget is used up.
    for number in 0..random.u64(0..4) {
        let in_points = random.u32(1..60);
        let at = seconds(random, number * 40..number * 40 + 8);
        acts.push((at, Act::Panic { in_points }));
    }
    // So that failpoints are met that are passed seldom.
    for _ in 0..random.u32(0..3) {
        let point = random.choice(NAMES).unwrap();
        let act = match random.bool() {
            true => Act::KillWorkerAt(point),
            false => Act::PanicAt(point),
        };
        acts.push((seconds(random, 0..60), act));
    }
    for _ in 0..random.u32(0..3) {
        let millis = random.u64(100..4_000);
        acts.push((seconds(random, 0..120), Act::BlockDisk(millis)));
    }
    for _ in 0..random.u32(0..2) {
        // By less than the time for which results are kept.
        let by = *random.choice(&[-80_000, -3_600, -5, 60, 80_000]).unwrap();
        acts.push((seconds(random, 0..140), Act::SetClock(by)));
    }
    if random.u32(0..3) == 0 {
        acts.push((seconds(random, 0..140), Act::Forget));
    }
    acts
}

impl State {
    pub(super) fn act(&mut self, act: Act) {
        self.note(format!("{act:?}"));
        match act {
            Act::Part => self.cluster.is_parted = true,
            Act::Meet => self.cluster.is_parted = false,
            Act::StopEngine { gently } => self.engine_stops(gently),
            Act::StartEngine => self.engine_returns(),
            Act::KillWorker { in_steps } => {
                self.falls.dies_in = self.falls.dies_in.or(Some(in_steps))
            }
            Act::KillWorkerAt(point) => self.falls.dies_at = Some(point),
            Act::PanicAt(point) => self.falls.panics_at = Some(point),
            Act::Panic { in_points } => {
                self.falls.panics_in = self.falls.panics_in.or(Some(in_points))
            }
            Act::SetClock(by) => self.clock_ahead += by,
            Act::FillDisk => self.disk.is_full = true,
            Act::EmptyDisk => self.empty_disk(),
            Act::BlockDisk(millis) => self.block_disk(Duration::from_millis(millis)),
            Act::Forget => self.cluster.is_registered = false,
            Act::Heal => {
                self.trouble = 0;
                self.falls.heal();
                self.cluster.is_parted = false;
                self.engine_returns();
                self.empty_disk();
            }
        }
    }

    fn empty_disk(&mut self) {
        self.disk.is_full = false;
        self.disk.was_full = Some(self.now());
    }
}
