//! What the worker costs: its tasks beside bare calls to the engine, its answers beside bare commits to the disk, and its memory,
//! as one Markdown table. Everything that is compared is measured in the same run and interleaved, because machines are noisy.
//!
//! ```text
//! tests/with-docker cargo bench --bench tasks              # some ten minutes
//! tests/with-docker cargo bench --bench tasks -- --quick   # a minute: it shows that all of it works, and no figures
//! tests/with-docker cargo bench --bench tasks -- rate      # one part: idle, latency, rate, settle, durability, journal, crowd
//! ```
//!
//! The worker that is measured is built apart, as it ships (`binary`), and talks to the recording master in this process. It
//! does not measure log throughput.

#[path = "../support/harness.rs"]
mod harness;

#[path = "tasks/bare.rs"]
mod bare;
#[path = "tasks/binary.rs"]
mod binary;
#[path = "tasks/commit.rs"]
mod commit;
#[path = "tasks/crowd.rs"]
mod crowd;
#[path = "tasks/durability.rs"]
mod durability;
#[path = "tasks/figures.rs"]
mod figures;
#[path = "tasks/flushes.rs"]
mod flushes;
#[path = "tasks/idle.rs"]
mod idle;
#[path = "tasks/journal.rs"]
mod journal;
#[path = "tasks/latency.rs"]
mod latency;
#[path = "tasks/rate.rs"]
mod rate;
#[path = "tasks/stage.rs"]
mod stage;
#[path = "tasks/table.rs"]
mod table;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use bare::BareLoop;
use stage::Stage;
use table::{Machine, Table};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Starts of a worker, for the time to its registration.
    pub(crate) starts: usize,
    /// How long a worker has nothing to do before its memory is read.
    pub(crate) idle: Duration,
    /// Pairs of one bare container and one task.
    pub(crate) pairs: usize,
    /// Rounds of the comparison of rates.
    pub(crate) rounds: usize,
    /// Tasks that are offered at once.
    pub(crate) burst: usize,
    /// Tasks that run and log while answers are timed.
    pub(crate) crowd: usize,
    /// Offers and cancels that are timed meanwhile.
    pub(crate) answers: usize,
}

impl Extent {
    const FULL: Self = Self {
        starts: 5,
        idle: Duration::from_secs(10),
        pairs: 120,
        rounds: 3,
        burst: 64,
        crowd: 100,
        answers: 500,
    };
    const QUICK: Self = Self {
        starts: 1,
        idle: Duration::from_secs(2),
        pairs: 5,
        rounds: 1,
        burst: 16,
        crowd: 10,
        answers: 30,
    };
}

fn main() -> ExitCode {
    // Cargo adds `--bench` of its own.
    let arguments = std::env::args().skip(1).filter(|one| one != "--bench");
    let (flags, parts): (Vec<_>, Vec<_>) = arguments.partition(|one| one.starts_with("--"));
    let extent = match flags.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Extent::FULL,
        ["--quick"] => Extent::QUICK,
        _ => panic!("{flags:?}: only --quick is understood"),
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let binary = binary::build();
    let table = runtime.block_on(measure(&binary, extent, &Parts(parts)));
    match writeln!(std::io::stdout(), "\n{table}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// The parts that were asked for; none means all.
struct Parts(Vec<String>);

impl Parts {
    fn wants(&self, part: &str) -> bool {
        let wanted = self.0.is_empty() || self.0.iter().any(|wanted| wanted == part);
        if wanted {
            eprintln!("measuring: {part}");
        }
        wanted
    }
}

async fn measure(binary: &Path, extent: Extent, parts: &Parts) -> Table {
    let mut table = Table::of(Machine::look().await, extent);
    if parts.wants("idle") {
        table.add(idle::measure(binary, extent).await);
    }
    let stage = Stage::start(binary, ["--settle-time", "0s"]).await;
    let bare = BareLoop::like_a_task(&stage).await;
    if parts.wants("latency") {
        table.add(latency::measure(&stage, &bare, extent).await);
    }
    if parts.wants("rate") {
        table.add(rate::measure(&stage, &bare, extent).await);
    }
    stage.finish().await;
    if parts.wants("settle") {
        let stage = Stage::start(binary, []).await;
        table.add(latency::with_settle_time(&stage, extent).await);
        stage.finish().await;
    }
    if parts.wants("durability") {
        table.add(durability::measure(binary, extent).await);
    }
    if parts.wants("journal") {
        table.add(journal::measure(binary, extent).await);
    }
    if parts.wants("crowd") {
        table.add(crowd::measure(binary, extent).await);
    }
    table
}
