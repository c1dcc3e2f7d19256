//! `worker-node demo` as a first-time user meets it: the real program, the real engine, nothing else. Each test gives it
//! temporary and runtime folders of its own, so that what is left behind is seen, and tests do not meet each other's desk.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::harness::{Engine, Process};

const PROGRAM: &str = env!("CARGO_BIN_EXE_worker-node");

/// What surrounds one demo.
struct Place {
    temporary: TempDir,
    runtime: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            temporary: tempfile::tempdir().expect("a folder"),
            runtime: tempfile::tempdir().expect("a folder"),
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("TMPDIR", self.temporary.path())
            .env("XDG_RUNTIME_DIR", self.runtime.path());
        command
    }

    /// Runs it to its end.
    fn run(&self, arguments: &[&str]) -> Ended {
        let output = self.command(PROGRAM).args(arguments).output();
        Ended::from(output.expect("the program can be started"))
    }

    /// Starts it; standard output goes where the lines of a `Process` come from.
    fn start(&self, arguments: &[&str]) -> Process {
        let mut command = self.command("/bin/sh");
        command.args(["-c", "exec \"$0\" \"$@\" 1>&2", PROGRAM]);
        Process::start("worker-node demo", command.args(arguments))
    }

    /// Fails with what is left of the demo whose worker has this name.
    async fn assert_nothing_left(&self, engine: &Engine, worker: &str) {
        engine.wait_nothing_left(worker).await;
        assert_eq!(names(self.temporary.path()), [""; 0]);
        assert!(!self.runtime.path().join("worker-node/demo.sock").exists());
        let locks = names(Path::new("/run/lock"));
        let ours: Vec<_> = locks.iter().filter(|name| name.contains(worker)).collect();
        assert!(ours.is_empty(), "{ours:?}");
    }
}

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// The worker's name and its process, as the demo tells them: `worker    demo-x is process 1, its log is ...`.
fn worker_of<'a>(mut lines: impl Iterator<Item = &'a str>) -> (String, Pid) {
    let line = lines.find(|line| line.contains(" is process "));
    let words: Vec<_> = line
        .expect("the worker is named")
        .split_whitespace()
        .collect();
    let pid = words[4].trim_end_matches(',').parse().ok();
    let pid = pid.and_then(Pid::from_raw).expect("a process id");
    (words[1].to_owned(), pid)
}

/// The cells of the table's row for this task.
#[track_caller]
fn row<'a>(output: &'a str, task: &str) -> Vec<&'a str> {
    let (_, table) = output.split_once("  task  ").expect("a table");
    let mut rows = table.lines().map(|line| line.trim_start());
    let row = rows.find(|row| row.starts_with(task));
    let row = row.unwrap_or_else(|| panic!("no row for {task} in:\n{table}"));
    let cells = row.split("  ").map(str::trim);
    cells.filter(|cell| !cell.is_empty()).collect()
}

#[tokio::test]
async fn a_demo_shows_every_kind_of_end_and_leaves_nothing_behind() {
    let engine = Engine::connect().await;
    let place = Place::new();

    let demo = place.run(&["demo"]);

    assert_eq!(demo.code, Some(0), "{}\n{}", demo.stdout, demo.stderr);
    assert_eq!(demo.stderr, "");
    assert!(!demo.stdout.contains('\x1b'), "colours off a terminal");
    let files = row(&demo.stdout, "files");
    assert_eq!(files[1..3], ["completed", "0"]);
    assert!(files[5].ends_with("result.txt (14 B)"), "{files:?}");
    assert_eq!(row(&demo.stdout, "broken")[1..3], ["failed", "3"]);
    assert_eq!(row(&demo.stdout, "endless")[1], "cancelled");
    for name in ["left", "right"] {
        assert_eq!(row(&demo.stdout, name)[1..3], ["completed", "0"]);
        let line = format!("  {name:<8} | {name} foot, step 2\n");
        assert!(demo.stdout.contains(&line), "{}", demo.stdout);
    }
    let (worker, _) = worker_of(demo.stdout.lines());
    place.assert_nothing_left(&engine, &worker).await;
}

#[tokio::test]
async fn a_kept_demo_takes_tasks_by_hand_until_ctrl_c() {
    let engine = Engine::connect().await;
    let place = Place::new();
    let demo = place.start(&["demo", "--keep"]);
    demo.wait_line("Ctrl-C ends the demo.").await;

    let hello = place.run(&[
        "demo",
        "submit",
        "--image",
        "busybox",
        "--",
        "echo",
        "hello  you",
    ]);
    assert_eq!((hello.code, &*hello.stdout), (Some(0), "hello  you\n"));
    assert!(
        hello.stderr.contains("] succeeded; exit code 0"),
        "{}",
        hello.stderr
    );
    let failing = place.run(&["demo", "submit", "echo out; echo err >&2; exit 3"]);
    assert_eq!(failing.code, Some(1), "{}", failing.stderr);
    assert!(failing.stdout.contains("out\n") && failing.stdout.contains("err\n"));
    assert!(failing.stderr.contains("exit code 3"), "{}", failing.stderr);
    let second = place.run(&["demo", "--keep"]);
    assert_eq!(second.code, Some(75), "{}", second.stderr);

    demo.signal(Signal::INT);
    let code = demo.wait_exit().await.code();
    assert_eq!(code, Some(0), "{}", demo.tail());
    let (worker, _) = worker_of(demo.lines().iter().map(String::as_str));
    place.assert_nothing_left(&engine, &worker).await;
    let late = place.run(&["demo", "submit", "true"]);
    assert_eq!(late.code, Some(69));
    assert!(
        late.stderr.contains("worker-node demo --keep"),
        "{}",
        late.stderr
    );
}

#[tokio::test]
async fn who_hangs_up_has_cancelled_the_task() {
    let engine = Engine::connect().await;
    let place = Place::new();
    let demo = place.start(&["demo", "--keep"]);
    demo.wait_line("Ctrl-C ends the demo.").await;
    let viewer = place.start(&["demo", "submit", "echo under way; sleep 1000"]);
    viewer.wait_line("under way").await;
    let id = viewer.wait_line("task ").await.replace("task ", "");

    // Not INT, which is ignored in whatever a script has put into the background.
    viewer.signal(Signal::TERM);

    demo.wait_line(&format!("{id} is cancelled")).await;
    engine.wait_task(&id, "destroy").await;
    demo.signal(Signal::INT);
    assert_eq!(demo.wait_exit().await.code(), Some(0), "{}", demo.tail());
}

#[tokio::test]
async fn a_demo_that_is_interrupted_puts_everything_away() {
    let engine = Engine::connect().await;
    let place = Place::new();
    let demo = place.start(&["demo"]);
    demo.wait_line("still here: 1").await;

    demo.signal(Signal::TERM);

    let code = demo.wait_exit().await.code();
    assert_eq!(code, Some(1), "{}", demo.tail());
    demo.wait_line("ended on request").await;
    let (worker, _) = worker_of(demo.lines().iter().map(String::as_str));
    place.assert_nothing_left(&engine, &worker).await;
}

#[tokio::test]
async fn a_demo_whose_worker_dies_says_so_and_keeps_its_log() {
    let engine = Engine::connect().await;
    let place = Place::new();
    let demo = place.start(&["demo"]);
    demo.wait_line("still here: 1").await;
    let (worker, pid) = worker_of(demo.lines().iter().map(String::as_str));

    kill_process(pid, Signal::KILL).expect("it runs");

    let code = demo.wait_exit().await.code();
    assert_eq!(code, Some(1), "{}", demo.tail());
    demo.wait_line("the worker ended early (signal: 9").await;
    demo.wait_line("are kept: ").await;
    let log = place
        .temporary
        .path()
        .join(format!("worker-node-{worker}/worker.log"));
    assert!(
        fs::read_to_string(log)
            .expect("it is kept")
            .contains(&worker)
    );
    engine.wait_nothing_left(&worker).await;
}

#[test]
fn without_an_engine_a_demo_says_what_to_do() {
    let place = Place::new();
    let mut command = place.command(PROGRAM);
    command
        .arg("demo")
        .env("DOCKER_HOST", "unix:///nonexistent.sock");
    command.env_remove("WORKER_NODE_ENGINE");

    let demo = Ended::from(command.output().expect("it can be started"));

    assert_eq!(demo.code, Some(69), "{}", demo.stderr);
    let told = &demo.stderr;
    assert!(
        told.contains("no container engine answers at unix:///nonexistent.sock"),
        "{told}"
    );
    assert!(told.contains("Start Docker, or say where it is"), "{told}");
    assert_eq!(names(place.temporary.path()), [""; 0]);
}

#[test]
fn an_image_that_cannot_be_had_is_named() {
    let place = Place::new();

    // Nobody listens at port 1.
    let away = place.run(&["demo", "--image", "127.0.0.1:1/no/image:1"]);
    let senseless = place.run(&["demo", "--image", "No Image"]);

    assert_eq!(away.code, Some(69), "{}", away.stderr);
    assert!(
        away.stderr.contains("127.0.0.1:1/no/image:1"),
        "{}",
        away.stderr
    );
    assert!(away.stderr.contains("with --image"), "{}", away.stderr);
    assert_eq!(senseless.code, Some(2), "{}", senseless.stderr);
}
