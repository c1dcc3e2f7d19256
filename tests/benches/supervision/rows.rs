//! The table that is printed: Markdown, with what one has to know of the machine and of the comparison to read it.

use std::fmt;

use crate::Extent;
use crate::figures::quantile;
use crate::sides::Results;

/// Limits of `design`, in milliseconds and asks.
const RECOVERY_MS: f64 = 100.0;

/// All of it.
pub(crate) struct Table {
    extent: Extent,
    rows: Vec<Row>,
}

impl Table {
    /// Tells what these results say.
    pub(crate) fn of(extent: Extent, results: &Results) -> Self {
        let rows = vec![
            recovery(results),
            calm(results),
            storm(results),
            lost(results),
            asking_cost(results),
            start(results),
            starting_cost(results),
            all_started(extent, results),
            memory(results),
            idle(results),
        ];
        Self { extent, rows }
    }
}

/// One line of it.
struct Row {
    what: String,
    samples: usize,
    ours: String,
    actix: String,
    ractor: String,
    kameo: String,
    budget: Option<(&'static str, bool)>,
}

impl Row {
    /// The same figure of all four, told in the same way.
    fn new(
        what: impl Into<String>,
        results: &Results,
        figure: &str,
        tell: fn(&[f64]) -> String,
    ) -> Self {
        let told = |library| match results.of(library, figure) {
            [] => String::new(),
            values => tell(values),
        };
        Self {
            what: what.into(),
            samples: results.of("ours", figure).len(),
            ours: told("ours"),
            actix: told("actix"),
            ractor: told("ractor"),
            kameo: told("kameo"),
            budget: None,
        }
    }

    /// kameo too can give a child a thread of its own.
    fn and_threaded(mut self, results: &Results, figure: &str, tell: fn(&[f64]) -> String) -> Self {
        let told = tell(results.of("kameo-thread", figure));
        self.kameo = format!("{}; on a thread {told}", self.kameo);
        self
    }

    fn budget(mut self, limit: &'static str, holds: bool) -> Self {
        self.budget = Some((limit, holds));
        self
    }
}

fn recovery(results: &Results) -> Row {
    let figure = "recovery.recovery_ms";
    let p99 = quantile(results.of("ours", figure), 0.99);
    Row::new(
        "panic to the first answer of the successor, p50 / p99",
        results,
        figure,
        p50_p99,
    )
    .and_threaded(results, figure, p50_p99)
    .budget("p99 < 100 ms", p99 < RECOVERY_MS)
}

fn calm(results: &Results) -> Row {
    Row::new(
        "asks per second, 8 askers, one child",
        results,
        "calm.asks_per_s",
        thousands,
    )
    .and_threaded(results, "calm.asks_per_s", thousands)
}

fn storm(results: &Results) -> Row {
    let mut row = Row::new(
        "the same while it panics 50 times a second",
        results,
        "storm.asks_per_s",
        thousands,
    );
    for (library, told) in row.supervised() {
        let at = |part: &str| quantile(results.of(library, &format!("{part}.asks_per_s")), 0.5);
        let panics = quantile(results.of(library, "storm.panics_per_s"), 0.5);
        let kept = at("storm") / at("calm");
        *told = format!("{told}; {kept:.2} of it, {panics:.0} panics/s");
    }
    row
}

fn lost(results: &Results) -> Row {
    let mut row = Row::new(
        "asks lost in that storm; the longest ask",
        results,
        "storm.lost",
        |lost| format!("{}", lost.iter().sum::<f64>()),
    );
    for (library, told) in row.supervised() {
        let longest = results.of(library, "storm.longest_ms");
        *told = format!("{told}; {:.1} ms", quantile(longest, 1.0));
    }
    let none = results
        .of("ours", "storm.lost")
        .iter()
        .all(|lost| *lost == 0.0);
    row.budget("0", none)
}

impl Row {
    fn supervised(&mut self) -> [(&'static str, &mut String); 3] {
        [
            ("ours", &mut self.ours),
            ("ractor", &mut self.ractor),
            ("kameo", &mut self.kameo),
        ]
    }
}

/// One library's median beside another's.
fn ratio(results: &Results, figure: &str, one: &str, other: &str) -> f64 {
    let median = |library| quantile(results.of(library, figure), 0.5);
    median(one) / median(other)
}

/// A supervised child beside an actor of the same library that nobody supervises.
fn cost(what: &str, results: &Results, figure: &str) -> Row {
    let against = |one, other| format!("{:.2}", ratio(results, figure, one, other));
    Row {
        what: format!("{what}, supervised against a plain actor of the same library"),
        samples: results.of("ours", figure).len(),
        ours: against("ours", "actix"),
        actix: "1".to_owned(),
        ractor: against("ractor", "ractor-plain"),
        kameo: against("kameo", "kameo-plain"),
        budget: None,
    }
}

fn asking_cost(results: &Results) -> Row {
    let figure = "calm.asks_per_s";
    let mut row = cost("asks per second (more is better)", results, figure);
    let watched = ratio(results, figure, "watched", "actix");
    row.ours = format!("{}; by address, past the slot: {watched:.2}", row.ours);
    row
}

fn starting_cost(results: &Results) -> Row {
    cost("that start (less is better)", results, "start.start_ms")
}

fn start(results: &Results) -> Row {
    Row::new(
        "start of one more child to its first answer, p50 / p99",
        results,
        "start.start_ms",
        p50_p99,
    )
}

fn all_started(extent: Extent, results: &Results) -> Row {
    Row::new(
        format!(
            "{} children started, until each has answered",
            extent.children
        ),
        results,
        "idle.all_started_ms",
        |times| format!("{:.0} ms", quantile(times, 0.5)),
    )
}

fn memory(results: &Results) -> Row {
    Row::new(
        "memory (resident) of each",
        results,
        "idle.kib_each",
        |kib| format!("{:.1} KiB", quantile(kib, 0.5)),
    )
}

fn idle(results: &Results) -> Row {
    Row::new(
        "processor time while they are idle",
        results,
        "idle.idle_cpu_percent",
        |percent| format!("{:.1} %", quantile(percent, 0.5)),
    )
}

fn p50_p99(times: &[f64]) -> String {
    let micros = |share| 1e3 * quantile(times, share);
    format!("{:.0} / {:.0} us", micros(0.5), micros(0.99))
}

/// `412k (398k to 420k)`.
fn thousands(rates: &[f64]) -> String {
    let at = |share| quantile(rates, share) / 1e3;
    format!("{:.0}k ({:.0}k to {:.0}k)", at(0.5), at(0.0), at(1.0))
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (limit, holds) = match self.budget {
            Some((limit, true)) => (limit, "yes"),
            Some((limit, false)) => (limit, "**no**"),
            None => ("", ""),
        };
        let Self {
            what,
            samples,
            ours,
            actix,
            ractor,
            kameo,
            ..
        } = self;
        write!(
            f,
            "| {what} | {samples} | {ours} | {actix} | {ractor} | {kameo} | {limit} | {holds} |"
        )
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", machine())?;
        writeln!(
            f,
            "Spreads are median (least to most) of {} rounds. Not the same: a child of ours or of actix alone that is asked runs on an \
             arbiter, a thread of its own, and every ask crosses threads twice; one of ractor's or kameo's is a task of the runtime \
             of the askers. Many children of ours share two arbiters. ractor's supervisor and both peers' repeating of asks that met a \
             death are code of this benchmark; ours is told when a successor is there, and pings its children besides. Restarts are \
             never delayed here.\n",
            self.extent.rounds
        )?;
        if self.extent.rounds < Extent::FULL.rounds {
            writeln!(f, "**A quick run: too few samples for figures.**\n")?;
        }
        writeln!(
            f,
            "| what | samples | ours | actix alone | ractor 0.16.5 | kameo 0.22.2 | budget | holds |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|")?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}

/// What it was measured on.
fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo");
    let kib = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = kib.map(|rest| rest.trim().trim_end_matches("kB").trim().parse());
    let gib = kib.map_or(0.0, |kib: Result<f64, _>| kib.unwrap_or(0.0)) / 1024.0 / 1024.0;
    format!(
        "{}: {} cores, {gib:.1} GiB, Linux {}.",
        jiff::Timestamp::now().strftime("%Y-%m-%d"),
        std::thread::available_parallelism().map_or(1, Into::into),
        read("/proc/sys/kernel/osrelease").trim()
    )
}
