//! The work of the supervision benchmark, and the clock beside it: the same lines of code for every library, compiled into the benchmark
//! and into its peers. A library brings a supervisor, children that hold a [`Child`], and a way to ask them.
//!
//! A part runs in a process of its own, which prints its figures: a name and numbers, one a line.

use std::fmt;
use std::future::{Future, pending};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// How long an ask may take, deaths and restarts included. What has no answer by then is lost.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long one try of an ask may take where the library leaves it to its caller to try again.
#[allow(dead_code, reason = "the peers use it")]
pub(crate) const TRY: Duration = Duration::from_secs(1);
/// Tasks that ask, each one question at a time.
const ASKERS: usize = 8;
/// Between two panics of the storm: 50 in a second.
const BETWEEN_PANICS: Duration = Duration::from_millis(20);

/// What is compared.
pub(crate) trait Library: Send + Sync + 'static {
    /// How a child is asked, whichever of its incarnations answers.
    type Handle: Clone + Send + Sync + 'static;

    /// Starts a supervisor with one child.
    fn open(board: Arc<Board>) -> impl Future<Output = (Self, Self::Handle)>
    where
        Self: Sized;

    /// Starts one of many children.
    fn add(&self, name: String) -> impl Future<Output = Self::Handle> + Send;

    /// Asks until an incarnation answers; `None` after `PATIENCE`.
    fn ask(handle: &Self::Handle, question: u64) -> impl Future<Output = Option<Answer>> + Send;

    /// Makes the child panic in a handler, and returns when the sender of that message knows.
    fn break_down(handle: &Self::Handle) -> impl Future<Output = ()> + Send;
}

/// What all incarnations of a process share with the clock.
#[derive(Default)]
pub(crate) struct Board {
    births: AtomicU64,
    panics: AtomicU64,
    last_panic: Mutex<Option<Instant>>,
}

impl Board {
    fn last_panic(&self) -> Instant {
        let last = *self
            .last_panic
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        last.expect("a child has panicked")
    }
}

/// What a child says to a question.
pub(crate) struct Answer {
    /// Who says it: the number of its birth.
    pub(crate) birth: u64,
    /// The sum of all questions so far.
    pub(crate) sum: u64,
}

/// The state of every child: it adds up what it is asked.
pub(crate) struct Child {
    birth: u64,
    sum: u64,
    board: Arc<Board>,
}

impl Child {
    /// A fresh one.
    pub(crate) fn born(board: &Arc<Board>) -> Self {
        Self {
            birth: board.births.fetch_add(1, Ordering::Relaxed),
            sum: 0,
            board: Arc::clone(board),
        }
    }

    /// Answers a question.
    pub(crate) fn answer(&mut self, question: u64) -> Answer {
        self.sum = self.sum.wrapping_add(question);
        Answer {
            birth: self.birth,
            sum: self.sum,
        }
    }

    /// Panics, and notes when.
    pub(crate) fn break_down(&self) -> ! {
        self.board.panics.fetch_add(1, Ordering::Relaxed);
        *self
            .board
            .last_panic
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        panic!("{PLANNED}");
    }
}

const PLANNED: &str = "as planned";

/// Panics that are planned are not printed; any other is.
pub(crate) fn silence_planned_panics() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload_as_str() != Some(PLANNED) {
            previous(info);
        }
    }));
}

/// What a part measured: names and numbers.
#[derive(Default)]
pub(crate) struct Figures(Vec<(&'static str, Vec<f64>)>);

impl Figures {
    fn with(mut self, name: &'static str, values: Vec<f64>) -> Self {
        self.0.push((name, values));
        self
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, values) in &self.0 {
            write!(f, "{name}")?;
            values.iter().try_for_each(|value| write!(f, " {value}"))?;
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Does one part: `amount` is a number of samples, or of milliseconds.
pub(crate) async fn perform<L: Library>(part: &str, amount: u64) -> Figures {
    let board = Arc::default();
    let (library, first) = L::open(Arc::clone(&board)).await;
    let part = part.to_owned();
    // As a task of the runtime, like those who ask in a program: not on the thread of whoever starts things.
    let measured = tokio::spawn(async move {
        answered::<L>(&first).await;
        match part.as_str() {
            "recovery" => recovery::<L>(&first, &board, amount).await,
            "calm" => asks::<L>(first, &board, amount, false).await,
            "storm" => asks::<L>(first, &board, amount, true).await,
            "start" => start(&library, amount).await,
            "idle" => idle(&library, amount).await,
            _ => panic!("no part is named {part}"),
        }
    });
    measured.await.expect("a part is measured to its end")
}

async fn answered<L: Library>(handle: &L::Handle) -> Answer {
    let answer = L::ask(handle, 1).await;
    answer.expect("a child that nobody breaks answers")
}

/// From the panic to the first answer of the successor.
async fn recovery<L: Library>(child: &L::Handle, board: &Board, samples: u64) -> Figures {
    let mut before = answered::<L>(child).await;
    let mut times = Vec::new();
    for _ in 0..samples {
        L::break_down(child).await;
        let after = answered::<L>(child).await;
        times.push(millis(board.last_panic().elapsed()));
        assert!(after.birth > before.birth, "the dead does not answer");
        assert_eq!(after.sum, 1, "the successor begins anew");
        before = after;
    }
    Figures::default().with("recovery_ms", times)
}

/// Asks as fast as can be for so many milliseconds; in a storm the child panics meanwhile.
async fn asks<L: Library>(child: L::Handle, board: &Board, span: u64, storm: bool) -> Figures {
    let stop = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let askers: Vec<_> = (0..ASKERS)
        .map(|_| tokio::spawn(ask_on::<L>(child.clone(), Arc::clone(&stop))))
        .collect();
    // A fact that never comes is how long that is.
    let meanwhile = async {
        if storm {
            panics::<L>(&child).await;
        }
        pending::<()>().await;
    };
    let _over = timeout(Duration::from_millis(span), meanwhile).await;
    stop.store(true, Ordering::Relaxed);
    let mut all = Asked::default();
    for asker in askers {
        all.add(&asker.await.expect("an asker ends"));
    }
    let seconds = begun.elapsed().as_secs_f64();
    Figures::default()
        .with("asks_per_s", vec![as_f64(all.answered) / seconds])
        .with("lost", vec![as_f64(all.lost)])
        .with("longest_ms", vec![millis(all.longest)])
        .with(
            "panics_per_s",
            vec![as_f64(board.panics.load(Ordering::Relaxed)) / seconds],
        )
}

#[derive(Default)]
struct Asked {
    answered: u64,
    lost: u64,
    longest: Duration,
}

impl Asked {
    fn add(&mut self, more: &Self) {
        self.answered += more.answered;
        self.lost += more.lost;
        self.longest = self.longest.max(more.longest);
    }
}

async fn ask_on<L: Library>(child: L::Handle, stop: Arc<AtomicBool>) -> Asked {
    let mut asked = Asked::default();
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        match L::ask(&child, 1).await {
            Some(_) => asked.answered += 1,
            None => asked.lost += 1,
        }
        asked.longest = asked.longest.max(begun.elapsed());
    }
    asked
}

async fn panics<L: Library>(child: &L::Handle) {
    let mut ticks = interval(BETWEEN_PANICS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        L::break_down(child).await;
    }
}

/// One more child: from its start to its first answer.
async fn start<L: Library>(library: &L, samples: u64) -> Figures {
    let mut times = Vec::new();
    for number in 0..samples {
        let begun = Instant::now();
        let child = library.add(format!("child-{number}")).await;
        answered::<L>(&child).await;
        times.push(millis(begun.elapsed()));
    }
    Figures::default().with("start_ms", times)
}

/// For how long nothing is done.
const IDLE: Duration = Duration::from_secs(3);

/// Many children, until each has answered; then nothing.
async fn idle<L: Library>(library: &L, children: u64) -> Figures {
    let before = resident_kib();
    let begun = Instant::now();
    let mut all = Vec::new();
    for number in 0..children {
        all.push(library.add(format!("child-{number}")).await);
    }
    for child in &all {
        answered::<L>(child).await;
    }
    let took = begun.elapsed();
    let (kib, cpu) = (resident_kib() - before, cpu_ticks());
    let _over = timeout(IDLE, pending::<()>()).await;
    // The kernel counts in hundredths of a second.
    let busy = (cpu_ticks() - cpu) / 100.0 / IDLE.as_secs_f64();
    Figures::default()
        .with("all_started_ms", vec![millis(took)])
        .with("kib_each", vec![kib / as_f64(children)])
        .with("idle_cpu_percent", vec![busy * 100.0])
}

fn resident_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("this process is there");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.expect("the kernel tells it");
    let kib = resident.trim().trim_end_matches("kB").trim().parse();
    kib.expect("a number")
}

/// Processor time of this process so far, user's and system's.
fn cpu_ticks() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("this process is there");
    let (_, behind_name) = stat.rsplit_once(") ").expect("a name in brackets");
    let fields = behind_name.split(' ').skip(11).take(2);
    fields
        .map(|field| field.parse::<f64>().expect("a number"))
        .sum()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn as_f64(count: u64) -> f64 {
    count as f64
}
