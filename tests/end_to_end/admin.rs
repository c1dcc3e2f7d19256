//! The operator's door: the commands that look at the actors of a worker, over the real binary and its socket.

mod loglevel;
mod process;

use std::{
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        process::CommandExt,
    },
    path::Path,
    process::{Command, Output},
};

use rustix::process::geteuid;
use serde_json::Value;
use worker_node::dev_master::{Fault, Method};

use crate::harness::{Cluster, EngineProxy, Process};

/// The children of the supervisor in start order.
const SUBSYSTEMS: [&str; 11] = [
    "journal",
    "engine_watch",
    "images",
    "log_router",
    "registry",
    "session",
    "heartbeat",
    "outbox",
    "janitor",
    "servers",
    "admin",
];

fn command(state: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker-node"));
    command.args(arguments).arg("--state-dir").arg(state);
    command
}

/// Runs to its end, beside the test's runtime.
async fn run(mut command: Command) -> Output {
    let ended = tokio::task::spawn_blocking(move || command.output()).await;
    ended
        .expect("no panic")
        .expect("the program can be started")
}

pub(crate) async fn asked(cluster: &Cluster, arguments: &[&str]) -> Output {
    run(command(cluster.worker.state_dir(), arguments)).await
}

pub(crate) fn text(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

async fn json(cluster: &Cluster, arguments: &[&str]) -> Value {
    serde_json::from_str(&text(&asked(cluster, arguments).await)).expect("JSON")
}

fn actor<'a>(tree: &'a Value, name: &str) -> &'a Value {
    let actors = tree["actors"].as_array().expect("a list");
    actors
        .iter()
        .find(|actor| actor["name"] == name)
        .unwrap_or_else(|| panic!("{name} in {tree}"))
}

#[tokio::test]
async fn every_subsystem_is_shown_running_in_start_order() {
    let cluster = Cluster::start().await;
    // The tree is there before the last child is: it is looked at once the worker takes tasks.
    cluster.worker.wait_log_line("Ready to receive tasks").await;

    let shown = text(&asked(&cluster, &["actors"]).await);
    let rows: Vec<&str> = shown.lines().skip(2).collect();
    let names: Vec<&str> = rows
        .iter()
        .filter_map(|row| row.split_whitespace().nth(1))
        .collect();
    assert_eq!(names, SUBSYSTEMS, "{shown}");
    assert!(rows.iter().all(|row| row.contains(" RUNNING ")), "{shown}");

    let tree = json(&cluster, &["actors", "--json"]).await;
    assert_eq!(tree["version"], 1);
    assert_eq!(tree["worker"], cluster.worker.id());
    assert_eq!(
        tree["process"],
        cluster.worker.process().pid().as_raw_nonzero().get()
    );
    for name in SUBSYSTEMS {
        assert_eq!(actor(&tree, name)["state"], "RUNNING", "{name}");
    }
    assert!(actor(&tree, "journal")["handled"].as_u64() > Some(0));
    cluster.finish().await;
}

#[tokio::test]
async fn what_became_of_a_task_is_one_command_with_and_without_a_worker() {
    let mut cluster = Cluster::start().await;
    let task = cluster.run("sleep 60").await;
    let ended = cluster
        .submit(cluster.task("echo left > /output/left; exit 3"))
        .await;
    assert_eq!(cluster.report(&ended).await.status, "failed");
    cluster.engine.wait_task(&ended, "destroy").await;

    let shown = text(&asked(&cluster, &["tasks"]).await);
    let row = shown.lines().find(|line| line.starts_with(&task));
    assert!(row.is_some_and(|row| row.contains("running")), "{shown}");
    let all = json(&cluster, &["tasks", "--all", "--json"]).await;
    let tasks = all["tasks"].as_array().expect("tasks");
    assert_eq!(tasks.len(), 2, "{all}");
    // Its result is here before the worker has noted that.
    let one = loop {
        let told = json(&cluster, &["tasks", &ended, "--json"]).await;
        if told["tasks"][0]["delivered"] == true {
            break told["tasks"][0].clone();
        }
    };
    assert_eq!(one["exit_code"], 3, "{one}");
    assert_eq!(one["outputs"][0]["path"], "left", "{one}");
    for step in ["accepted", "starting", "ended", "sealed", "delivered"] {
        assert!(one["times"][step].is_string(), "{step} in {one}");
    }
    let unknown = asked(&cluster, &["tasks", "nobody"]).await;
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
    // That it runs is told before it is durable.
    while !json(&cluster, &["tasks", &task, "--json"]).await["tasks"][0]["times"]["running"]
        .is_string()
    {}

    cluster.kill_worker().await;
    let shown = text(&asked(&cluster, &["tasks", &task]).await);
    assert!(shown.contains("left running (no worker runs)"), "{shown}");
    let shown = text(&asked(&cluster, &["tasks", &ended]).await);
    assert!(shown.contains("exit        code 3"), "{shown}");

    cluster.restart_worker().await;
    cluster.master.cancel(&task).await.expect("it is known");
    cluster.report(&task).await;
    cluster.finish().await;
}

#[tokio::test]
async fn a_tasks_log_is_read_with_and_without_a_worker() {
    let mut cluster = Cluster::start().await;
    let ended = cluster
        .submit(cluster.task("seq 1 50000; printf 'a\\033[2J\\377'; echo err >&2; exit 3"))
        .await;
    assert_eq!(cluster.report(&ended).await.status, "failed");
    let task = cluster
        .run("echo begun; while [ ! -e /tmp/end ]; do sleep 0.02; done; echo over")
        .await;

    let following = command(cluster.worker.state_dir(), &["logs", "-f", &task]);
    let following = tokio::spawn(run(following));
    let container = cluster.engine.containers_of(&task).await.remove(0);
    cluster.engine.touch_in(&container, "/tmp/end").await;
    let followed = text(&following.await.expect("no panic"));
    assert!(
        followed.starts_with("begun\nover\n[worker-node] "),
        "{followed}"
    );

    let shown = text(
        &asked(
            &cluster,
            &["logs", "--stdout", "--tail", "2", "--raw", &task],
        )
        .await,
    );
    assert_eq!(shown, "begun\nover\n");
    let errors = text(&asked(&cluster, &["logs", "--stderr", "--timestamps", &ended]).await);
    assert!(
        errors.lines().any(|line| line.ends_with("Z err")),
        "{errors}"
    );
    let unknown = asked(&cluster, &["logs", "nobody"]).await;
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
    cluster.report(&task).await;
    cluster.kill_worker().await;

    let raw = asked(&cluster, &["logs", "--raw", "--stdout", &ended]).await;
    let mut printed: Vec<u8> = (1..=50_000)
        .flat_map(|n| format!("{n}\n").into_bytes())
        .collect();
    printed.extend(b"a\x1b[2J\xff");
    assert!(
        raw.stdout == printed,
        "it is not byte by byte what was printed"
    );
    let page = text(&asked(&cluster, &["tasks", &ended]).await);
    assert!(page.contains("\n  50000\n"), "{page}");
    assert!(page.contains("\n  a\\u{1b}[2J\\xff\n"), "{page}");
    // One stream alone: which of two the engine copies first is not said.
    let piped = format!(
        "{} logs --stdout --state-dir {} {ended} | head -n 3",
        env!("CARGO_BIN_EXE_worker-node"),
        cluster.worker.state_dir().display()
    );
    let mut shell = Command::new("bash");
    shell.args(["-o", "pipefail", "-c", &piped]);
    assert_eq!(text(&run(shell).await), "1\n2\n3\n");
    cluster.restart_worker().await;
    cluster.finish().await;
}

#[tokio::test]
async fn a_task_is_shown_while_it_runs_and_leaves_nothing() {
    let cluster = Cluster::start().await;
    let task = cluster.run("sleep 60").await;

    let tree = text(&asked(&cluster, &["actors"]).await);
    assert!(tree.contains(&format!("task({task})")), "{tree}");
    let one = text(&asked(&cluster, &["actors", &task]).await);
    assert!(one.contains("transient"), "{one}");
    assert!(one.contains("3 of 3 restarts left"), "{one}");
    let refused = asked(&cluster, &["actors", "restart", &task]).await;
    assert_ne!(refused.status.code(), Some(0), "a task is no subsystem");

    cluster.master.cancel(&task).await.expect("it is known");
    cluster.report(&task).await;
    cluster.engine.wait_task(&task, "destroy").await;
    cluster.worker.wait_log_line("stopped actor=task(").await;
    let tree = text(&asked(&cluster, &["actors"]).await);
    assert!(!tree.contains(&task), "{tree}");
    cluster.finish().await;
}

#[tokio::test]
async fn a_restart_by_hand_is_in_good_order_and_spends_no_budget() {
    let cluster = Cluster::start().await;
    let task = cluster.run("sleep 60").await;

    for name in SUBSYSTEMS {
        let told = text(&asked(&cluster, &["actors", "restart", name]).await);
        assert!(
            told.starts_with(&format!("{name} restarted: generation 2, RUNNING")),
            "{told}"
        );
    }

    let tree = json(&cluster, &["actors", "--json"]).await;
    for name in SUBSYSTEMS {
        let it = actor(&tree, name);
        assert_eq!(it["generation"], 2, "{name}");
        assert_eq!(it["spec"]["budget_left"], 5, "{name}");
    }
    let story = text(&asked(&cluster, &["events", "--actor", "registry"]).await);
    let words: Vec<&str> = story
        .lines()
        .filter_map(|line| line.split_whitespace().nth(2))
        .collect();
    assert_eq!(
        words,
        [
            "starting", "started", "stopping", "stopped", "starting", "started"
        ],
        "{story}"
    );
    // Whoever was restarted knows the task.
    let cancel = cluster.master.cancel(&task).await.expect("it is known");
    assert!(cancel.answer.is_success(), "{cancel:?}");
    assert_eq!(cluster.report(&task).await.status, "cancelled");
    cluster.finish().await;
}

#[tokio::test]
async fn parked_results_are_sent_again_when_the_operator_says_so() {
    let cluster = Cluster::start_with(|setup| {
        setup.arguments(["--report-timeout", "500ms", "--report-doubt", "500ms"])
    })
    .await;
    let nothing = text(&asked(&cluster, &["outbox", "retry"]).await);
    assert!(nothing.starts_with("no result is parked"), "{nothing}");
    cluster.master.inject(Method::Report, Fault::Ignore);
    let tasks = [
        cluster.submit(cluster.task("true")).await,
        cluster.submit(cluster.task("exit 3")).await,
    ];
    let parked = "could not be delivered";
    cluster.worker.process().wait_lines(parked, 2).await;
    let dump = json(&cluster, &["state", "dump", "--json"]).await;
    let shown = dump["tasks"].as_array().expect("a list");
    assert!(
        shown.iter().all(|task| task["outbox"]["parked"] == true),
        "{dump}"
    );

    cluster.master.heal(Method::Report);
    let told = text(&asked(&cluster, &["outbox", "retry"]).await);

    assert_eq!(told, "2 parked results are sent again now\n");
    assert_eq!(cluster.report(&tasks[0]).await.status, "success");
    assert_eq!(cluster.report(&tasks[1]).await.status, "failed");
    cluster.finish().await;
}

#[tokio::test]
async fn an_unknown_actor_is_a_clear_error() {
    let cluster = Cluster::start().await;

    for arguments in [&["actors", "jurnal"][..], &["actors", "restart", "jurnal"]] {
        let asked = asked(&cluster, arguments).await;
        let said = String::from_utf8_lossy(&asked.stderr).into_owned();
        assert_eq!(asked.status.code(), Some(2), "{said}");
        assert!(said.contains("jurnal"), "{said}");
    }
    cluster.finish().await;
}

#[tokio::test]
async fn the_story_can_be_read_after_a_crash() {
    let cluster = Cluster::start().await;
    let started = text(&asked(&cluster, &["events"]).await);
    assert!(started.lines().count() >= 2 * SUBSYSTEMS.len(), "{started}");

    cluster.worker.kill().await;

    assert_eq!(text(&asked(&cluster, &["events"]).await), started);
    let recent = text(&asked(&cluster, &["events", "--since", "1h"]).await);
    assert_eq!(recent, started);
    let journal = text(&asked(&cluster, &["events", "--actor", "journal", "--json"]).await);
    let lines: Vec<Value> = journal
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 2, "{journal}");
    assert!(lines.iter().all(|line| line["actor"] == "journal"));
    // The socket is still there, and nobody behind it.
    let actors = asked(&cluster, &["actors"]).await;
    assert_eq!(actors.status.code(), Some(3));
    let said = String::from_utf8_lossy(&actors.stderr).into_owned();
    assert!(said.contains("no worker runs"), "{said}");
}

/// A command that goes on; what it says can be waited for.
fn follow(cluster: &Cluster, arguments: &[&str]) -> Process {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "exec \"$0\" \"$@\" >&2",
        env!("CARGO_BIN_EXE_worker-node"),
    ]);
    command.args(arguments);
    command.arg("--state-dir").arg(cluster.worker.state_dir());
    Process::start(&arguments.join(" "), &mut command)
}

#[tokio::test]
async fn events_are_followed_through_a_crash_and_the_next_start() {
    let mut cluster = Cluster::start().await;
    let events = follow(&cluster, &["events", "-f", "--actor", "session"]);
    events.wait_lines("started     generation=1", 1).await;

    asked(&cluster, &["actors", "restart", "session"]).await;
    events.wait_lines("started     generation=2", 1).await;

    cluster.worker.kill().await;
    cluster.worker.restart().await;
    events.wait_lines("started     generation=1", 2).await;
    cluster.worker.stop().await;
    events.wait_lines("stopped     generation=1", 2).await;
}

#[tokio::test]
async fn a_watch_that_is_piped_appends_the_tree_again_and_again() {
    let cluster = Cluster::start().await;
    let watch = follow(&cluster, &["actors", "--watch"]);

    watch.wait_lines("supervisor of", 3).await;
    watch.wait_lines(" heartbeat ", 3).await;
    cluster.finish().await;
}

#[tokio::test]
async fn the_socket_is_for_its_user_alone() {
    let cluster = Cluster::start().await;
    let socket = cluster.worker.state_dir().join("worker.sock");
    let metadata = std::fs::metadata(&socket).expect("it is there");
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);

    assert!(
        geteuid().is_root(),
        "only root can knock as another user; every other test of this file can be run by anybody"
    );
    // Even where the permissions of folder and file would let another user in, the door does not.
    for (path, mode) in [(cluster.worker.state_dir(), 0o755), (&socket, 0o666)] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("it is ours");
    }
    let mut stranger = command(cluster.worker.state_dir(), &["actors"]);
    stranger.uid(65534).gid(65534);
    let refused = run(stranger).await;
    assert_ne!(refused.status.code(), Some(0));
    assert!(refused.stdout.is_empty());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("user"), "{said}");
    cluster.finish().await;
}

#[tokio::test]
async fn a_stopped_worker_leaves_no_socket() {
    let cluster = Cluster::start().await;

    assert_eq!(cluster.worker.stop().await, Some(0));

    assert!(!cluster.worker.state_dir().join("worker.sock").exists());
}

/// Why an offer is not taken.
async fn refusal(cluster: &Cluster) -> String {
    let task = cluster.task("true");
    let answer = cluster.master.offer(cluster.worker.id(), task).await;
    answer.refusal().expect("it is refused").to_owned()
}

#[tokio::test]
async fn a_cordoned_worker_refuses_tasks_and_keeps_to_it_when_it_is_killed() {
    let mut cluster = Cluster::start().await;
    let running = cluster.run("sleep 600").await;

    let said = text(&asked(&cluster, &["cordon"]).await);
    assert!(said.contains("1 task is left: "), "{said}");
    let cordoned = |refused: &str| {
        assert!(
            refused.starts_with("this worker is cordoned by ") && refused.contains("uncordon"),
            "{refused}"
        );
    };
    cordoned(&refusal(&cluster).await);

    cluster.kill_worker().await;
    cluster.restart_worker().await;
    cluster.worker.wait_log_line("Cordoned by ").await;
    // The journal is read first; offers are refused for that too.
    loop {
        let refused = refusal(&cluster).await;
        if !refused.contains("is starting") {
            cordoned(&refused);
            break;
        }
    }

    text(&asked(&cluster, &["uncordon"]).await);
    let task = cluster.submit(cluster.task("true")).await;
    assert_eq!(cluster.report(&task).await.status, "success");
    let book = text(&asked(&cluster, &["events", "--audit"]).await);
    for deed in ["cordon", "uncordon"] {
        assert!(
            book.lines()
                .any(|line| line.split_whitespace().any(|word| word == deed)),
            "{deed} in {book}"
        );
    }
    cluster.master.cancel(&running).await.expect("it is known");
    cluster.report(&running).await;
    cluster.finish().await;
}

#[tokio::test]
async fn a_drain_ends_when_the_last_result_is_delivered() {
    let cluster = Cluster::start().await;
    let task = cluster
        .run("while [ ! -e /tmp/end ]; do sleep 0.02; done")
        .await;
    let draining = Process::start(
        "drain",
        &mut command(cluster.worker.state_dir(), &["drain", "--wait"]),
    );
    draining.wait_line("draining: 1 task is left: ").await;

    let container = cluster.engine.containers_of(&task).await.remove(0);
    cluster.engine.touch_in(&container, "/tmp/end").await;

    assert_eq!(draining.wait_exit().await.code(), Some(0));
    let told = cluster.master.task(&task).expect("it is known").reports;
    assert_eq!(told.len(), 1, "its result was delivered before the end");
    text(&asked(&cluster, &["uncordon"]).await);
    cluster.finish().await;
}

#[tokio::test]
async fn what_still_runs_at_the_end_of_a_drain_is_stopped() {
    let cluster = Cluster::start_with(|setup| setup.arguments(["--stop-grace", "1s"])).await;
    let task = cluster.run("sleep 600").await;

    text(&asked(&cluster, &["drain", "--deadline", "1s"]).await);

    let report = cluster.report(&task).await;
    assert_eq!(report.status, "failed");
    assert!(
        report.logs.contains("stopped with its worker"),
        "{}",
        report.logs
    );
    text(&asked(&cluster, &["uncordon"]).await);
    cluster.finish().await;
}

#[tokio::test]
async fn a_task_that_is_cancelled_here_says_by_whom() {
    let cluster = Cluster::start().await;
    let task = cluster.run("sleep 600").await;

    text(&asked(&cluster, &["cancel", &task]).await);

    let report = cluster.report(&task).await;
    assert_eq!(report.status, "cancelled");
    assert!(
        report.logs.contains("cancelled at the worker by "),
        "{}",
        report.logs
    );
    let unknown = asked(&cluster, &["cancel", "nobody"]).await;
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
    let words = String::from_utf8_lossy(&unknown.stderr);
    assert!(
        words.contains("no task nobody is under way here"),
        "{words}"
    );
    cluster.finish().await;
}

#[tokio::test]
async fn a_worker_says_whether_it_is_well_and_what_is_wrong() {
    let proxy = EngineProxy::start();
    let engine = proxy.address();
    let mut cluster = Cluster::start_with(|setup| setup.arguments(["--engine", &engine])).await;
    let task = cluster.run("sleep 600").await;
    // The first heartbeat may be on its way.
    let well = loop {
        let asked = asked(&cluster, &["status"]).await;
        if asked.status.success() {
            break text(&asked);
        }
    };
    for words in [
        " is healthy (",
        "registered for",
        "1 running",
        "11 of 11 run",
    ] {
        assert!(well.contains(words), "{words} in {well}");
    }
    assert_eq!(json(&cluster, &["status", "--json"]).await["healthy"], true);

    proxy.go();
    cluster.worker.wait_log_line("Docker engine away").await;
    let ill = asked(&cluster, &["status"]).await;
    assert_eq!(ill.status.code(), Some(1));
    let told = String::from_utf8_lossy(&ill.stdout);
    assert!(
        told.contains("NOT WELL") && told.contains("!! the engine at "),
        "{told}"
    );
    proxy.come();
    cluster.worker.wait_log_line("Docker engine back").await;

    cluster.kill_worker().await;
    let dead = asked(&cluster, &["status"]).await;
    assert_eq!(dead.status.code(), Some(3));
    let told = String::from_utf8_lossy(&dead.stderr);
    assert!(told.contains("1 tasks that have not ended"), "{told}");
    cluster.restart_worker().await;
    cluster.master.cancel(&task).await.expect("it is known");
    cluster.report(&task).await;
    cluster.finish().await;
}
