//! Generates the gRPC code from `proto/` with protox, so that no protoc is needed, and the list of names that log lines can have.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use prost::Message;
use prost_types::FileDescriptorSet;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=Cargo.lock");
    let files = [
        "proto/cluster.proto",
        "proto/health.proto",
        "proto/worker_admin.proto",
    ];
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    fs::write(out.join("served.bin"), served(descriptors.clone()))?;
    // The one field whose bytes go from the disk to the socket without a copy of their own.
    tonic_prost_build::configure()
        .bytes(".cluster.LogChunk.data")
        // In one order, whichever they came in: the digest of a task is taken over them.
        .btree_map(".cluster.TaskSettings.environment")
        .compile_fds(descriptors)?;
    let names = format!(
        "pub(super) const MODULES: &[&str] = &{:?};\npub(super) const LIBRARIES: &[&str] = &{:?};\n",
        modules(Path::new("src"))?,
        libraries(&fs::read_to_string("Cargo.lock")?),
    );
    tell_source();
    fs::write(out.join("log_names.rs"), names)?;
    Ok(())
}

/// What is told on the master's port to who asks which methods there are: not the operator's.
fn served(mut descriptors: FileDescriptorSet) -> Vec<u8> {
    descriptors
        .file
        .retain(|file| file.package() != "worker.v1");
    descriptors.encode_to_vec()
}

/// What a release was built from: its commit, where there is a repository and a git, and its date. Builds of every day say nothing:
/// each commit would have everything compiled anew.
fn tell_source() {
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let is_release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let ask = |arguments: &[&str]| is_release.then(|| git(arguments)).flatten();
    let commit = ask(&["rev-parse", "--short=12", "HEAD"]);
    let date = env::var("SOURCE_DATE_EPOCH").ok();
    let date = date.or_else(|| ask(&["log", "-1", "--format=%ct"]));
    // Where HEAD is, and the branch that it names: one of them changes at each commit. A file that is not there would have this run
    // at every build.
    let branch = ask(&["symbolic-ref", "--quiet", "HEAD"]);
    let names = ["HEAD", "packed-refs"].map(str::to_owned);
    for name in names.into_iter().chain(branch) {
        let path = ask(&["rev-parse", "--git-path", &name]);
        if let Some(path) = path.filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    // Cargo sets them for what it runs, too: under names like those of flags the worker would warn of them.
    let commit = commit.as_deref().unwrap_or("unknown");
    println!("cargo::rustc-env=BUILT_FROM_COMMIT={commit}");
    let date = date.as_deref().unwrap_or_default();
    println!("cargo::rustc-env=BUILT_FROM_DATE={date}");
}

/// `None` where this is no repository of its own, or there is no git.
fn git(arguments: &[&str]) -> Option<String> {
    if !Path::new(".git").exists() {
        return None;
    }
    let output = Command::new("git").args(arguments).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !said.is_empty()).then_some(said)
}

/// The paths of all modules: a log line's target is the one that it was written in.
fn modules(folder: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(modules(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let inner = path.with_extension("");
            let inner = inner.strip_prefix("src")?.display().to_string();
            if !["lib", "main"].contains(&inner.as_str()) {
                found.push(format!("worker_node::{}", inner.replace('/', "::")));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The names of all packages, as code writes them.
fn libraries(lock: &str) -> Vec<String> {
    let names = lock.lines().filter_map(|line| {
        let name = line.strip_prefix("name = \"")?.strip_suffix('"')?;
        Some(name.replace('-', "_"))
    });
    names.filter(|name| name != "worker_node").collect()
}
