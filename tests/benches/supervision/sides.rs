//! One part by one library: a process of its own, so that nothing of one part or library is in the memory or on the threads of another.
//! Ours are this very program, started again; the peers are a package of their own, built by cargo.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The programs.
pub(crate) struct Sides {
    ours: PathBuf,
    peers: PathBuf,
}

/// Which package that is.
const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/benches/peers");

impl Sides {
    /// Builds the peers. Without them there is no comparison, so nothing is measured then.
    pub(crate) fn build() -> Result<Self, String> {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .current_dir(PEERS)
            .args(["build", "--release", "--locked", "--target-dir"])
            .arg(&target)
            .status();
        if !built.is_ok_and(|status| status.success()) {
            return Err(format!(
                "the peers in {PEERS} do not build (see above): ractor and kameo come from the registry of crates, or, \
                 offline, from cargo's cache. Nothing is measured without them."
            ));
        }
        Ok(Self {
            ours: std::env::current_exe().map_err(|error| error.to_string())?,
            peers: target.join("release/peers"),
        })
    }

    /// Does a part, and returns its figures by name.
    pub(crate) fn run(&self, library: &str, part: &str, amount: u64) -> Vec<(String, Vec<f64>)> {
        let mut command = if library.starts_with("ractor") || library.starts_with("kameo") {
            Command::new(&self.peers)
        } else {
            let mut again = Command::new(&self.ours);
            again.arg("--side");
            again
        };
        let command = command.args([library, part, &amount.to_string()]);
        let output = command.stderr(Stdio::inherit()).output();
        let output = output.expect("a program that was built can be started");
        assert!(output.status.success(), "{library} failed at {part}");
        let lines = String::from_utf8(output.stdout).expect("names and numbers");
        lines.lines().map(named).collect()
    }
}

fn named(line: &str) -> (String, Vec<f64>) {
    let mut words = line.split(' ');
    let name = words.next().expect("a line has a name").to_owned();
    let values = words.map(|word| word.parse().expect("a number"));
    (name, values.collect())
}

/// The figures of all rounds.
#[derive(Default)]
pub(crate) struct Results(HashMap<(String, String), Vec<f64>>);

impl Results {
    /// Adds those of one turn.
    pub(crate) fn add(&mut self, library: &str, part: &str, figures: Vec<(String, Vec<f64>)>) {
        for (name, values) in figures {
            let key = (library.to_owned(), format!("{part}.{name}"));
            self.0.entry(key).or_default().extend(values);
        }
    }

    /// All values of one figure, named `part.figure`; none where that library was not measured so.
    pub(crate) fn of(&self, library: &str, figure: &str) -> &[f64] {
        let key = (library.to_owned(), figure.to_owned());
        self.0.get(&key).map_or(&[], Vec::as_slice)
    }
}
