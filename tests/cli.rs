//! The real binary as people and service managers see it: what it prints, where, and how it ends.

#[path = "cli/bundle.rs"]
mod bundle;
#[path = "cli/config.rs"]
mod config;
#[path = "cli/doctor.rs"]
mod doctor;
#[path = "cli/install.rs"]
mod install;
#[path = "cli/journal.rs"]
mod journal;

use std::{
    path::Path,
    process::{Command, Output},
};

use worker_node::state_dir::StateDir;

/// The program with nothing of this test's own surroundings that it would heed.
fn worker(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker-node"));
    for (name, _) in std::env::vars_os() {
        let foreign = [
            "DOCKER_HOST",
            "STATE_DIRECTORY",
            "XDG_STATE_HOME",
            "RUST_LOG",
        ];
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("WORKER_NODE_") || foreign.contains(&name.as_str()) {
            command.env_remove(name);
        }
    }
    command.args(arguments);
    command
}

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn ended(mut command: Command) -> Ended {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("the program can be started");
    Ended {
        code: status.code(),
        stdout: String::from_utf8(stdout).expect("UTF-8"),
        stderr: String::from_utf8(stderr).expect("UTF-8"),
    }
}

#[track_caller]
fn refused(arguments: &[&str]) -> String {
    let ended = ended(worker(arguments));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert_eq!(ended.stdout, "", "mistakes are no data");
    ended.stderr
}

const HEADINGS: &str = "Cluster: Tasks: State: Process: Examples:";
const FLAGS: &str = "id ip master port pin-master reflection settle-time engine max-tasks reserve-cpu reserve-memory limits pull network task-pids privileges cap-add cap-drop ulimit stop-grace output-files output-bytes engine-log patience \
    state-dir retention orphan-grace spool-cap supervise restart-intensity restart-period restart-backoff restart-backoff-max fail-fast on-stop log-format";
const DEFAULTS: &str = "worker-1 localhost localhost:50051 :50052 256 10s 24h 1GiB leave";

#[test]
fn help_shows_every_flag_in_groups_with_examples() {
    for arguments in [&["--help"][..], &["-h"], &["run", "--help"]] {
        let ended = ended(worker(arguments));
        let help = ended
            .stdout
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");

        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        for heading in HEADINGS.split_whitespace() {
            assert!(help.contains(heading), "{heading}");
        }
        for flag in FLAGS.split_whitespace() {
            let variable = flag.replace('-', "_").to_uppercase();
            assert!(help.contains(&format!("--{flag}")), "{flag}");
            assert!(
                help.contains(&format!("[env: WORKER_NODE_{variable}=]")),
                "{flag}"
            );
        }
        for default in DEFAULTS.split_whitespace() {
            assert!(help.contains(&format!("[default: {default}]")), "{default}");
        }
    }
}

#[test]
fn the_readme_names_every_flag_and_every_command() {
    let readme = include_str!("../README.md");
    let help = ended(worker(&["-h"])).stdout;
    let (_, commands) = help.split_once("Commands:").expect("commands");
    let (commands, _) = commands.split_once("\n\n").expect("their end");
    // A line that begins with a name; the rest of a sentence stands further in.
    let commands = commands.lines().filter_map(|line| line.strip_prefix("  "));
    let commands = commands.filter(|line| !line.starts_with(' '));
    let commands: Vec<_> = commands
        .filter_map(|line| line.split_whitespace().next())
        // Of test builds alone, and clap's own.
        .filter(|name| !["failpoints", "help"].contains(name))
        .collect();
    assert!(commands.len() > 20, "{commands:?}");
    let flags = help
        .lines()
        .filter_map(|line| line.trim().strip_prefix("--"));
    let flags = flags.filter_map(|line| line.split([' ', '[', '.']).next());

    let missing: Vec<_> = commands
        .into_iter()
        .filter(|name| {
            !readme.contains(&format!("`{name}"))
                && !readme.contains(&format!("worker-node {name}"))
        })
        .chain(flags.filter(|name| {
            !["help", "version"].contains(name) && !readme.contains(&format!("-{name}"))
        }))
        .collect();
    assert_eq!(missing, [""; 0]);
}

#[test]
fn the_version_is_one_line() {
    let version = ended(worker(&["--version"]));

    assert_eq!(version.code, Some(0));
    assert_eq!(
        version.stdout,
        concat!("worker-node ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn the_whole_version_is_a_command_and_two_flags() {
    let command = ended(worker(&["version"]));
    let flags = ended(worker(&["--version", "--verbose"]));

    assert_eq!((command.code, flags.code), (Some(0), Some(0)));
    assert_eq!(command.stdout, flags.stdout);
    for fact in [
        "worker-node 0.",
        "\ncommit ",
        "\nfeatures ",
        "\nwire contract ",
        "\njournal format ",
    ] {
        assert!(flags.stdout.contains(fact), "{fact}: {}", flags.stdout);
    }
}

#[test]
fn a_mistake_ends_with_2_and_names_its_flag() {
    for (arguments, flag) in [
        (&["-port", "99999"][..], "--port '99999'"),
        (&["-port", ":abc"], "--port ':abc'"),
        (&["-id", ""], "--id ''"),
        (&["-id", "a/b"], "--id 'a/b'"),
        (&["-master", "localhost"], "--master 'localhost'"),
        (&["--settle-time", "soon"], "--settle-time 'soon'"),
        (&["run", "--settle-time", "soon"], "--settle-time 'soon'"),
        (&["rum"], "'rum'"),
        (&["--no-such-flag"], "'--no-such-flag'"),
        (&["-id"], "--id"),
    ] {
        let told = refused(arguments);

        assert!(told.contains(flag), "{arguments:?}: {told}");
        assert!(told.contains("--help"), "{arguments:?}: {told}");
    }
}

#[test]
fn all_mistakes_are_told_at_once_and_nothing_is_started() {
    let parent = tempfile::tempdir().expect("a folder");
    let state = parent.path().join("state");
    let state_flag = format!("--state-dir={}", state.display());

    let told = refused(&["-id", "", "-port", "x", "--pull", "x", &state_flag]);

    assert_eq!(told.matches("error: ").count(), 3, "{told}");
    assert!(!state.exists());
}

#[test]
fn a_flag_wins_over_the_environment() {
    let mut wrong = worker(&[]);
    wrong.env("WORKER_NODE_PORT", "x");
    let told = ended(wrong).stderr;
    assert!(told.contains("--port 'x' (or WORKER_NODE_PORT)"), "{told}");

    let mut mended = worker(&["-port", ":0", "--pull", "x"]);
    mended.env("WORKER_NODE_PORT", "x");
    let told = ended(mended).stderr;
    assert!(!told.contains("--port"), "{told}");
}

fn with_state(folder: &Path) -> Command {
    worker(&[
        "-port",
        ":0",
        "--state-dir",
        folder.to_str().expect("UTF-8"),
    ])
}

#[test]
fn a_state_folder_in_use_ends_with_75() {
    let folder = tempfile::tempdir().expect("a folder");
    let _held = StateDir::open(folder.path()).expect("free");

    let second = ended(with_state(folder.path()));

    assert_eq!(second.code, Some(75), "{}", second.stderr);
    assert!(
        second.stderr.contains("in use by another worker"),
        "{}",
        second.stderr
    );
    assert!(second.stderr.contains("--state-dir"), "{}", second.stderr);
}

#[test]
fn a_state_folder_that_cannot_be_written_ends_with_77() {
    // sysfs takes a new folder from nobody, root included.
    let denied = ended(with_state(Path::new("/sys/kernel/worker-node")));

    assert_eq!(denied.code, Some(77), "{}", denied.stderr);
    assert!(
        denied.stderr.contains("cannot be written"),
        "{}",
        denied.stderr
    );
}

#[test]
fn a_state_folder_that_is_a_file_ends_with_78() {
    let file = tempfile::NamedTempFile::new().expect("a file");

    let ended = ended(with_state(file.path()));

    assert_eq!(ended.code, Some(78), "{}", ended.stderr);
}

#[test]
fn a_worker_that_cannot_be_reached_warns() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut command = with_state(file.path());
    command.args(["-master", "10.0.0.1:50051"]);

    let told = ended(command).stderr;

    assert!(told.contains("WARN"), "{told}");
    assert!(told.contains("give --ip the address"), "{told}");
}

#[test]
fn a_json_log_is_one_object_per_line() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut command = with_state(file.path());
    command.args(["--log-format", "json", "-id", "w9"]);

    let told = ended(command).stderr;

    let lines: Vec<serde_json::Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let first = &lines[0];
    assert_eq!(first["msg"], "Starting worker node: w9");
    assert_eq!(first["worker"], "w9");
    assert_eq!(first["target"], "operator");
    assert_eq!(first["level"], "INFO");
}
