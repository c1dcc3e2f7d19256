//! Generates the gRPC code from `proto/` with protox, so that no protoc is needed, and the list of names that log lines can have.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=Cargo.lock");
    let files = ["proto/cluster.proto", "proto/worker_admin.proto"];
    let descriptors = protox::compile(files, ["proto"])?;
    // The one field whose bytes go from the disk to the socket without a copy of their own.
    tonic_prost_build::configure()
        .bytes(".cluster.LogChunk.data")
        .compile_fds(descriptors)?;
    let names = format!(
        "pub(super) const MODULES: &[&str] = &{:?};\npub(super) const LIBRARIES: &[&str] = &{:?};\n",
        modules(Path::new("src"))?,
        libraries(&fs::read_to_string("Cargo.lock")?),
    );
    let out = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    fs::write(PathBuf::from(out).join("log_names.rs"), names)?;
    Ok(())
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
