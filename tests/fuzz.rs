//! Bytes that nobody meant, for what reads bytes from outside: task messages, names, image references, logs, state and settings. What
//! comes out must hold, whatever went in. Each target is given the inputs that are kept in `fuzz/corpus` (what fails once stays there)
//! and some mutations of them; with `WORKER_NODE_FULL=1` as many as fit into a minute.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test fails like the test itself"
)]

#[path = "fuzz/mutation.rs"]
mod mutation;
#[path = "fuzz/targets.rs"]
mod targets;

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    time::Duration,
};

use fastrand::Rng;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use mutation::mutated;

/// Mutations in the gate, the same ones each time.
const FEW: usize = 500;

/// How long a target is tried in a full run.
const LONG: Duration = Duration::from_secs(60);

/// The inputs that are kept for a target.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = folder(target);
    let mut paths: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    // Always in the same order, so that a seed stands for the same run.
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

fn folder(target: &str) -> PathBuf {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    corpus.join(target)
}

/// Tries one input. One that fails is written down beside the others: from then on it is a test.
fn attempt(target: &str, run: &mut dyn FnMut(&[u8]), input: &[u8]) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(input))) else {
        return;
    };
    let digest = Sha256::digest(input);
    let name: String = digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let path = folder(target).join(format!("found-{name}"));
    fs::write(&path, input).unwrap();
    eprintln!("{target} fails on the input in {}", path.display());
    resume_unwind(panic);
}

fn fuzz(target: &str, mut run: impl FnMut(&[u8])) {
    let corpus = corpus(target);
    assert!(!corpus.is_empty(), "nothing to begin with");
    for input in &corpus {
        attempt(target, &mut run, input);
    }
    let is_long = env::var_os("WORKER_NODE_FULL").is_some();
    let mut random = match is_long {
        true => Rng::new(),
        false => Rng::with_seed(7),
    };
    let (begun, mut tried) = (Instant::now(), 0);
    while if is_long {
        begun.elapsed() < LONG
    } else {
        tried < FEW
    } {
        attempt(target, &mut run, &mutated(&corpus, &mut random));
        tried += 1;
    }
    eprintln!(
        "{target}: {} kept inputs and {tried} mutations",
        corpus.len()
    );
}

#[test]
fn a_task_message_of_any_bytes_is_no_task_or_one_within_its_limits() {
    fuzz("task", targets::task());
}

#[test]
fn names_of_any_bytes_are_refused_or_safe() {
    fuzz("names", targets::names());
}

#[test]
fn an_image_reference_of_any_bytes_is_refused_or_has_one_normal_form() {
    fuzz("image", targets::image());
}

#[test]
fn a_log_of_any_bytes_is_read_to_an_end() {
    fuzz("log", targets::log());
}

#[test]
fn a_state_and_settings_of_any_bytes_are_refused_or_understood() {
    fuzz("state", targets::state());
}
