//! What the worker writes where its standard error is systemd's journal. A file stands for it: what counts is that the variable
//! names what standard error is.

use std::{fs::File, os::unix::fs::MetadataExt};

use super::with_state;

/// The log of a start that fails, for the state folder is a file.
fn log_of_a_start(stream: impl Fn(&File) -> String) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let (log, state) = (folder.path().join("log"), folder.path().join("state"));
    File::create(&state).expect("a file");
    let file = File::create(&log).expect("a file");
    let mut command = with_state(&state);
    command.env("JOURNAL_STREAM", stream(&file)).stderr(file);
    command.status().expect("it can be started");
    std::fs::read_to_string(&log).expect("UTF-8")
}

fn name(file: &File) -> String {
    let found = file.metadata().expect("it is open");
    format!("{}:{}", found.dev(), found.ino())
}

#[test]
fn the_journal_is_told_what_each_line_is_worth() {
    let log = log_of_a_start(name);

    let lines: Vec<_> = log.lines().collect();
    assert!(
        lines[0].starts_with("<6>INFO  operator: Starting worker node"),
        "{log}"
    );
    assert!(
        lines.iter().any(|line| line.starts_with("<3>ERROR ")),
        "{log}"
    );
    assert!(lines.iter().all(|line| line.starts_with('<')), "{log}");
}

#[test]
fn a_variable_that_names_something_else_changes_nothing() {
    let log = log_of_a_start(|file| format!("{}1", name(file)));

    assert!(
        log.contains("Z INFO  operator: Starting worker node"),
        "{log}"
    );
    assert!(!log.contains("<6>"), "{log}");
}
