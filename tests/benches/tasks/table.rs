//! The table that is printed: Markdown, with what one has to know of the machine to read it.

use std::fmt;

use crate::Extent;
use crate::stage::engine;

/// What it was measured on.
pub(crate) struct Machine {
    date: String,
    cores: usize,
    memory_gib: f64,
    engine: String,
    kernel: String,
}

impl Machine {
    /// Looks at this one.
    pub(crate) async fn look() -> Self {
        let version = engine().version().await;
        let version = version.expect("run: tests/with-docker cargo bench");
        let info = engine().info().await.expect("an engine tells about itself");
        Self {
            date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
            cores: std::thread::available_parallelism().map_or(1, Into::into),
            #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
            memory_gib: info.mem_total.unwrap_or(0) as f64 / f64::from(1 << 30),
            engine: version.version.unwrap_or_default(),
            kernel: version.kernel_version.unwrap_or_default(),
        }
    }
}

/// One line of the table.
pub(crate) struct Row {
    what: String,
    samples: Option<usize>,
    bare: String,
    worker: String,
    compared: String,
    budget: Option<(String, bool)>,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            samples: None,
            bare: String::new(),
            worker: String::new(),
            compared: String::new(),
            budget: None,
        }
    }

    /// How often it was measured.
    pub(crate) fn samples(mut self, count: usize) -> Self {
        self.samples = Some(count);
        self
    }

    /// What goes without a worker.
    pub(crate) fn bare(mut self, figure: String) -> Self {
        self.bare = figure;
        self
    }

    /// What goes with one.
    pub(crate) fn worker(mut self, figure: String) -> Self {
        self.worker = figure;
        self
    }

    /// The two beside each other.
    pub(crate) fn compared(mut self, figure: String) -> Self {
        self.compared = figure;
        self
    }

    /// What it must be, and whether it is.
    pub(crate) fn budget(mut self, limit: impl Into<String>, holds: bool) -> Self {
        self.budget = Some((limit.into(), holds));
        self
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let samples = self.samples.map(|n| n.to_string()).unwrap_or_default();
        let (limit, holds) = match &self.budget {
            Some((limit, true)) => (limit.as_str(), "yes"),
            Some((limit, false)) => (limit.as_str(), "**no**"),
            None => ("", ""),
        };
        let Self {
            what,
            bare,
            worker,
            compared,
            ..
        } = self;
        write!(
            f,
            "| {what} | {samples} | {bare} | {worker} | {compared} | {limit} | {holds} |"
        )
    }
}

/// All of it.
pub(crate) struct Table {
    machine: Machine,
    extent: Extent,
    rows: Vec<Row>,
}

impl Table {
    /// An empty one.
    pub(crate) fn of(machine: Machine, extent: Extent) -> Self {
        Self {
            machine,
            extent,
            rows: Vec::new(),
        }
    }

    /// Adds rows, and shows them at once on standard error: a run is long.
    pub(crate) fn add(&mut self, rows: Vec<Row>) {
        for row in &rows {
            eprintln!("{row}");
        }
        self.rows.extend(rows);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine {
            date,
            cores,
            memory_gib,
            engine,
            kernel,
        } = &self.machine;
        writeln!(
            f,
            "{date}: {cores} cores, {memory_gib:.1} GiB, Docker {engine}, Linux {kernel}. Two times are p50 / p99; other spreads \
             are median (least to most). `bare` is a loop over the engine's API that makes the same containers, or a commit to \
             SQLite (WAL, synchronous=FULL), measured in between. The settle time is off (`--settle-time 0s`) but where it is named.\n"
        )?;
        if self.extent.rounds < Extent::FULL.rounds {
            writeln!(f, "**A quick run: too few samples for figures.**\n")?;
        }
        writeln!(
            f,
            "| what | samples | bare | worker | compared | budget | holds |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))
    }
}
