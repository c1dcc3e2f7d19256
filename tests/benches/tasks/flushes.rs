//! Counts the flushes to the disk of a worker, as system calls of its process: a few lines of C between it and the C library, built with
//! the compiler that the crate needs anyway. Nothing of the worker knows of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::harness::WorkerSetup;

/// The source of what is loaded into the worker.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/benches/tasks/flushes.c");

/// A counter for one worker.
pub(crate) struct Flushes {
    library: PathBuf,
    record: PathBuf,
    _folder: TempDir,
}

impl Flushes {
    /// Builds it.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the counter");
        let library = folder.path().join("flushes.so");
        let record = folder.path().join("flushes");
        std::fs::write(&record, "").expect("a file for the record");
        build(&library);
        Self {
            library,
            record,
            _folder: folder,
        }
    }

    /// Lets this worker be counted.
    pub(crate) fn of(&self, setup: WorkerSetup) -> WorkerSetup {
        let path = |path: &Path| path.to_str().expect("a plain name").to_owned();
        setup
            .variable("LD_PRELOAD", &path(&self.library))
            .variable("FLUSHES", &path(&self.record))
    }

    /// How many there were so far, of all files.
    pub(crate) fn so_far(&self) -> usize {
        let record = std::fs::read_to_string(&self.record);
        record.expect("the worker writes it").lines().count()
    }
}

fn build(library: &Path) {
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let built = Command::new(compiler)
        .args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"])
        .arg(library)
        .arg(SOURCE)
        .arg("-ldl")
        .status();
    let built = built.expect("a C compiler is there: the crate needs one");
    assert!(built.success(), "{SOURCE} does not build");
}
