//! Configuration by file, with the real binary: what wins, what is refused and how, and the commands that look at it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{Ended, ended, worker};

/// A folder with a configuration file in it.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn with(text: &str) -> Self {
        let this = Self(tempfile::tempdir().expect("a folder"));
        fs::write(this.file(), text).expect("written");
        fs::set_permissions(this.file(), fs::Permissions::from_mode(0o644)).expect("closed");
        this
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("config.toml")
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.command(arguments))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = worker(arguments);
        command.args(["--config", text(&self.file())]);
        command
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[track_caller]
fn refused(ended: &Ended, words: &[&str]) {
    assert_eq!(ended.code, Some(78), "{}", ended.stderr);
    assert_eq!(ended.stdout, "", "what is wrong is no data");
    for word in words {
        assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
    }
}

const PORTS: &str = "[cluster]\nport = \"file:x\"\n";

#[test]
fn a_flag_wins_over_the_environment_that_over_the_file_and_that_over_the_default() {
    let scratch = Scratch::with("[cluster]\nid = \"of-file\"\n[tasks]\nmax_tasks = 7\n");
    let id_of = |mut command: Command| {
        command.args(["--origin"]);
        let told = ended(command);
        assert_eq!(told.code, Some(0), "{}", told.stderr);
        let found = told.stdout.lines().find(|line| line.starts_with("id = "));
        found.expect("an id").to_owned()
    };
    let show = || scratch.command(&["config", "show"]);

    let mut with_variable = show();
    with_variable.env("WORKER_NODE_ID", "of-env");
    let mut with_flag = show();
    with_flag
        .env("WORKER_NODE_ID", "of-env")
        .args(["-id", "of-flag"]);

    assert_eq!(
        id_of(worker(&["config", "show"])),
        "id = \"worker-1\" # the default"
    );
    assert_eq!(id_of(show()), "id = \"of-file\" # line 2 of the file");
    assert_eq!(
        id_of(with_variable),
        "id = \"of-env\" # the variable WORKER_NODE_ID"
    );
    assert_eq!(id_of(with_flag), "id = \"of-flag\" # the flag --id");
}

#[test]
fn a_value_of_the_file_is_refused_by_its_line_and_a_flag_mends_it() {
    let scratch = Scratch::with(PORTS);
    let state = scratch.0.path().join("state");
    let state = ["--state-dir", text(&state)];

    for run in [&[][..], &["run"], &["config", "show"]] {
        let told = scratch.run(&[run, &state].concat());
        refused(&told, &["config.toml:2: port 'file:x'"]);
        assert!(!told.stderr.contains("--help"), "{}", told.stderr);
    }
    let mended = scratch.run(&["config", "show", "-port", ":0"]);
    assert_eq!(mended.code, Some(0), "{}", mended.stderr);
    assert!(
        !scratch.0.path().join("state").exists(),
        "nothing is started"
    );
}

#[test]
fn what_is_wrong_with_file_and_flags_is_told_at_once() {
    let scratch = Scratch::with("[tasks]\ntasl_pids = 1\n[state]\nretention = \"x\"\n");

    let told = scratch.run(&["-id", "a/b"]);

    assert_eq!(told.code, Some(2), "a flag is wrong too: {}", told.stderr);
    for words in [
        "did you mean `task_pids`?",
        "config.toml:4: retention 'x'",
        "--id 'a/b'",
    ] {
        assert!(told.stderr.contains(words), "{words}: {}", told.stderr);
    }
}

#[test]
fn a_file_that_cannot_be_read_is_refused_by_every_command_that_needs_it() {
    let scratch = Scratch::with("");
    let missing = text(scratch.0.path()).to_owned() + "/missing";

    for (file, why) in [
        (missing.as_str(), "cannot be read: No such file"),
        (text(scratch.0.path()), "is no file"),
        ("/dev/zero", "is no file"),
        (
            "",
            "--config '' (or WORKER_NODE_CONFIG) is empty; give a file",
        ),
    ] {
        for command in [
            &["run"][..],
            &["status"],
            &["state", "check"],
            &["config", "show"],
        ] {
            let told = ended(worker(&[command, &["--config", file]].concat()));
            match file {
                "" => assert_eq!(told.code, Some(2), "a flag is wrong"),
                _ => refused(&told, &[]),
            }
            assert!(told.stderr.contains(why), "{command:?}: {}", told.stderr);
            assert_eq!(told.stderr.matches("error: ").count(), 1, "{}", told.stderr);
        }
    }
}

#[test]
fn a_file_that_others_may_write_is_not_taken_by_root() {
    let scratch = Scratch::with("");
    fs::set_permissions(scratch.file(), fs::Permissions::from_mode(0o666)).expect("opened");

    let told = scratch.run(&["config", "show"]);

    match rustix::process::geteuid().is_root() {
        true => refused(
            &told,
            &["may be written by others (mode 0666)", "chmod go-w"],
        ),
        false => assert_eq!(told.code, Some(0), "{}", told.stderr),
    }
}

#[test]
fn a_question_finds_its_worker_by_the_file_and_does_without_one_that_is_broken() {
    let scratch = Scratch::with("");
    let state = scratch.0.path().join("s");
    fs::write(
        scratch.file(),
        format!("[state]\nstate_dir = \"{}\"\n", text(&state)),
    )
    .expect("written");

    let told = scratch.run(&["status"]);
    assert_eq!(told.code, Some(3), "{}", told.stderr);
    assert!(told.stderr.contains(text(&state)), "{}", told.stderr);

    fs::write(scratch.file(), "[state]\nstate_dirr = 1").expect("written");
    refused(
        &scratch.run(&["status"]),
        &["did you mean `state_dir`? (to do without the file, give --state-dir)"],
    );
    let told = scratch.run(&["status", "--state-dir", text(&state)]);
    assert_eq!(told.code, Some(3), "{}", told.stderr);
}

#[test]
fn what_is_shown_reads_back_as_the_same() {
    let scratch = Scratch::with("");
    let flags = [
        "--max-tasks=9",
        "--allow-image=docker.io/*,*/b",
        "--supervise",
        "--retention=2h",
    ];
    let shown = ended(worker(&[&["config", "show"], &flags[..]].concat()));
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    fs::write(scratch.file(), &shown.stdout).expect("written");

    let again = scratch.run(&["config", "show"]);

    assert_eq!(again.stdout, shown.stdout, "{}", again.stderr);
    for words in [
        "max_tasks = 9",
        "allow_image = [\"docker.io/*\", \"*/b\"]",
        "supervise = true",
        "state_dir = \"/",
    ] {
        assert!(shown.stdout.contains(words), "{words}: {}", shown.stdout);
    }
}

#[test]
fn programs_are_told_each_value_with_its_origin() {
    let scratch = Scratch::with("[tasks]\nmax_tasks = 7\n");

    let told = scratch.run(&["config", "show", "--json"]);

    let told: serde_json::Value = serde_json::from_str(&told.stdout).expect(&told.stderr);
    assert_eq!(told["version"], 1);
    assert_eq!(told["file"], text(&scratch.file()));
    let max_tasks = &told["settings"]["tasks"]["max_tasks"];
    assert_eq!(max_tasks["value"], 7);
    assert_eq!(max_tasks["origin"], "line 2 of the file");
    assert_eq!(
        told["settings"]["closed_doors"]["tls_cert"]["value"],
        serde_json::Value::Null
    );
}

#[test]
fn a_policy_is_read_over_and_shown() {
    let scratch = Scratch::with("[policy]\nports = [\"80\"]\nallowed_roots = [\"/proc\"]\n");
    let check = || ended(worker(&["config", "check", text(&scratch.file())]));
    refused(
        &check(),
        &["config.toml:3: allowed_roots '/proc' would show /proc"],
    );

    fs::write(scratch.file(), "[policy]\nports = [\"80\"]\n").expect("written");
    let sound = check();
    let shown = scratch.run(&["config", "show"]).stdout;
    let told = scratch.run(&["config", "show", "--json"]).stdout;

    let words = "is sound: it sets 0 keys, and has a policy\n";
    assert!(sound.stdout.ends_with(words), "{}", sound.stdout);
    let (_, policy) = shown.split_once("\n[policy]\n").expect("it is shown");
    assert!(policy.contains("ports = [\"80\"]\n"), "{policy}");
    assert!(
        policy.contains("networks = [\"none\", \"bridge\"]\n"),
        "{policy}"
    );
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["policy"]["ports"][0], "80");
    assert_eq!(told["policy"]["users"], "unprivileged");
}

#[test]
fn a_file_is_read_over_whole_and_whatever_the_environment_says() {
    let scratch =
        Scratch::with("[tasks]\nmax_tasks = 0\npul = \"never\"\n\n[process]\nsupervise = \"on\"\n");
    let check = |file: &str| {
        let mut command = worker(&["config", "check", file]);
        command
            .env("WORKER_NODE_MAX_TASKS", "5")
            .env("WORKER_NODE_ID", "a/b");
        ended(command)
    };

    let told = check(text(&scratch.file()));
    refused(
        &told,
        &[
            ":2: max_tasks '0'",
            ":3: unknown key `pul`",
            ":6: supervise is true or false",
        ],
    );
    assert_eq!(told.stderr.lines().count(), 3, "{}", told.stderr);

    fs::write(scratch.file(), "[tasks]\nmax_tasks = 1\n").expect("written");
    let told = check(text(&scratch.file()));
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    assert!(
        told.stdout
            .ends_with("config.toml is sound: it sets 1 key\n"),
        "{}",
        told.stdout
    );
    refused(&check("/nowhere.toml"), &["No such file"]);
    let unknown = ended(worker(&["config", "chek"]));
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("'check'"), "{}", unknown.stderr);
}

#[test]
fn a_file_to_begin_with_is_sound_and_changes_nothing() {
    let scratch = Scratch::with("");
    let sample = ended(worker(&["config", "init"]));
    assert_eq!(sample.code, Some(0), "{}", sample.stderr);
    assert!(
        sample.stdout.contains("(reload)\n#max_tasks = 256\n"),
        "{}",
        sample.stdout
    );
    fs::write(scratch.file(), &sample.stdout).expect("written");

    let check = ended(worker(&["config", "check", text(&scratch.file())]));
    let shown = scratch.run(&["config", "show"]);

    assert_eq!(check.code, Some(0), "{}", check.stderr);
    assert_eq!(shown.stdout, ended(worker(&["config", "show"])).stdout);
}
