//! What supervision costs and how soon it heals: our library, beside actix without it, ractor and kameo, as one Markdown table. All do the
//! same work (`peers/src/work.rs`, compiled into each), in one run, in turns, every part in a fresh process.
//!
//! ```text
//! cargo bench --bench supervision              # some five minutes
//! cargo bench --bench supervision -- --quick   # half a minute: it shows that all of it works, and no figures
//! ```
//!
//! The peers are built from the registry of crates at the first run; where they cannot be had it fails and says so. It needs no engine.
//! What differs is said below the table: above all, our children and actix's run on threads of their own, the peers' as tasks of the runtime
//! on which the askers are.

#[path = "tasks/figures.rs"]
#[expect(dead_code, reason = "the other benchmark uses more of it")]
mod figures;

#[path = "supervision/ours.rs"]
mod ours;
#[path = "supervision/rows.rs"]
mod rows;
#[path = "supervision/sides.rs"]
mod sides;
#[path = "peers/src/work.rs"]
mod work;

use std::io::Write as _;
use std::process::ExitCode;

use rows::Table;
use sides::{Results, Sides};

/// How much is measured, by each library.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Turns of all libraries.
    pub(crate) rounds: u64,
    /// Panics in one turn, after each of which the first answer is waited for.
    pub(crate) panics: u64,
    /// How long is asked in one turn, in milliseconds.
    pub(crate) asking_ms: u64,
    /// Children that are started one after the other in one turn.
    pub(crate) starts: u64,
    /// Children that are there at once.
    pub(crate) children: u64,
}

impl Extent {
    const FULL: Self = Self {
        rounds: 5,
        panics: 400,
        asking_ms: 3000,
        starts: 400,
        children: 10_000,
    };
    const QUICK: Self = Self {
        rounds: 1,
        panics: 50,
        asking_ms: 300,
        starts: 50,
        children: 1000,
    };

    /// What is measured, by whom, and how much of it.
    fn parts(&self) -> [(&'static str, &'static [&'static str], u64); 5] {
        const SUPERVISED: &[&str] = &["ours", "ractor", "kameo", "kameo-thread"];
        const STORMED: &[&str] = &["ours", "ractor", "kameo"];
        const ASKED: &[&str] = &[
            "ours",
            "watched",
            "actix",
            "ractor",
            "ractor-plain",
            "kameo",
            "kameo-plain",
            "kameo-thread",
        ];
        const MANY: &[&str] = &[
            "ours",
            "actix",
            "ractor",
            "ractor-plain",
            "kameo",
            "kameo-plain",
        ];
        [
            ("recovery", SUPERVISED, self.panics),
            ("calm", ASKED, self.asking_ms),
            ("storm", STORMED, self.asking_ms),
            ("start", MANY, self.starts),
            ("idle", MANY, self.children),
        ]
    }
}

fn main() -> ExitCode {
    // Cargo adds `--bench` of its own.
    let arguments = std::env::args().skip(1).filter(|one| one != "--bench");
    let arguments: Vec<_> = arguments.collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let said = match arguments[..] {
        ["--side", library, part, amount] => {
            let amount = amount.parse().expect("an amount");
            ours::run(library, part, amount).to_string()
        }
        [] => measure(Extent::FULL),
        ["--quick"] => measure(Extent::QUICK),
        _ => panic!("{arguments:?}: only --quick is understood"),
    };
    match write!(std::io::stdout(), "{said}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn measure(extent: Extent) -> String {
    let sides = Sides::build().unwrap_or_else(|reason| panic!("{reason}"));
    let mut results = Results::default();
    for round in 0..extent.rounds {
        for (part, libraries, amount) in extent.parts() {
            eprintln!("round {} of {}: {part}", round + 1, extent.rounds);
            let mut turn = libraries.to_vec();
            // Each goes first as often as last: what one leaves behind is the next one's burden.
            if round % 2 == 1 {
                turn.reverse();
            }
            for library in turn {
                results.add(library, part, sides.run(library, part, amount));
            }
        }
    }
    format!("\n{}", Table::of(extent, &results))
}
