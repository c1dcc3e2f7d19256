//! What `doctor` says where nothing is as it should be, with the real binary and no engine, no master and no worker.

use std::{net::TcpListener, path::Path};

use worker_node::state_dir::StateDir;

use crate::{Ended, ended, worker};

/// With everything away, but for what `more` says.
fn doctor(state: &Path, more: &[&str]) -> Ended {
    let state = state.to_str().expect("UTF-8");
    let away = [
        "doctor",
        "--engine=/nowhere.sock",
        "--master=127.0.0.1:1",
        "--port=127.0.0.1:0",
        "--state-dir",
        state,
    ];
    ended(worker(&[&away, more].concat()))
}

/// The line of this verdict on this part that has these words.
#[track_caller]
fn found(ended: &Ended, begin: &str, words: &str) {
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<_> = ended.stdout.lines().map(squeezed).collect();
    let is_it = |line: &&String| line.starts_with(begin) && line.contains(words);
    assert!(
        lines.iter().any(|line| is_it(&line)),
        "{begin} .. {words}: {}",
        ended.stdout
    );
}

#[test]
fn each_fault_is_a_line_that_says_what_to_do_and_nothing_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("new/state");

    let told = doctor(&state, &[]);

    assert_eq!(told.code, Some(1), "{}", told.stderr);
    found(
        &told,
        "ok configuration",
        "keys are set by flags and variables",
    );
    found(
        &told,
        "ok state folder",
        "is not there yet: the start makes it",
    );
    found(&told, "ok worker", "none runs");
    found(
        &told,
        "fault engine",
        "-> start it (systemctl start docker)",
    );
    found(
        &told,
        "fault master the master cannot be reached: 127.0.0.1:1",
        "-> see that it runs",
    );
    found(&told, "ok port", "any free one");
    found(&told, "skipped clock", "carry no time");
    found(&told, "ok disk", "are needed (--disk-low)");
    found(&told, "ok nofile", "at once");
    assert!(!folder.path().join("new").exists(), "nothing is made");
}

#[test]
fn a_configuration_that_is_wrong_is_the_first_thing_to_mend() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.toml");
    std::fs::write(&file, "[tasks]\ntasl_pids = 1\n").expect("written");
    let file = file.to_str().expect("UTF-8");

    let told = doctor(
        folder.path(),
        &["--max-tasks=0", "--config", file, "--json"],
    );

    assert_eq!(told.code, Some(1), "{}", told.stderr);
    let told: serde_json::Value = serde_json::from_str(&told.stdout).expect("JSON");
    assert_eq!(
        (&told["version"], &told["well"]),
        (&1.into(), &false.into())
    );
    let findings = told["findings"].as_array().expect("a list");
    assert_eq!(findings.len(), 2, "{told}");
    assert!(
        findings[0]["why"]
            .as_str()
            .expect("words")
            .contains("`task_pids`"),
        "{told}"
    );
    assert_eq!(findings[1]["verdict"], "fault");
}

#[test]
fn what_is_taken_by_others_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = format!("--port={}", taken.local_addr().expect("bound"));
    let more = [port.as_str(), "--disk-low=1024GiB"];

    let told = doctor(folder.path(), &more);
    assert_eq!(told.code, Some(1), "{}", told.stderr);
    found(
        &told,
        "fault port",
        "is in use by another process; stop that one",
    );
    found(&told, "fault disk", "are needed -> remove files");

    // Who has the state folder has the port too.
    let _held = StateDir::open(folder.path()).expect("free");
    let told = doctor(folder.path(), &more);
    let us = format!("the worker of process {} has it", std::process::id());
    found(&told, "ok state folder", &us);
    found(&told, "ok port", "is the running worker's");
    found(
        &told,
        "warning worker",
        "does not answer -> look at its log",
    );
}

#[test]
fn certificates_are_read_as_a_start_reads_them() {
    let folder = tempfile::tempdir().expect("a folder");

    let told = doctor(
        folder.path(),
        &["--tls-cert=/nowhere.pem", "--tls-key=/nowhere.key"],
    );

    found(&told, "fault certificates", "/nowhere");
    found(&told, "skipped master", "cannot be used");
    let unknown = doctor(folder.path(), &["--jsn"]);
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
}
