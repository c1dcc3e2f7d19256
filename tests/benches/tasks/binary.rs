//! The worker that is measured: built by cargo with the profile `fast` and without what tests add to the crate, since a feature
//! that tests turn on is in every binary that is built beside them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Builds it, and says where it lies.
pub(crate) fn build() -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--profile", "fast", "--bin", "worker-node"])
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo can be started");
    assert!(output.status.success(), "the worker does not build");
    let messages = String::from_utf8_lossy(&output.stdout);
    let executable = messages.lines().rev().find_map(executable_of);
    executable.expect("cargo names the binary that it built")
}

fn executable_of(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    message["executable"].as_str().map(PathBuf::from)
}
