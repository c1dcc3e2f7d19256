//! Tasks that take what they can: processes, the disk's names, the log, and what lies outside of their folder. The worker and the other
//! tasks go on, and what was too much is told.

use worker_node::proto::Task;

use super::containers::host_config;
use super::endings::{log_of, trailer};
use crate::harness::{Cluster, unique};

/// What a worker may have in all, in MiB, whatever its tasks do.
const MEMORY: u64 = 150;

/// A task of somebody else, which nothing keeps from its work.
async fn assert_others_go_on(cluster: &Cluster) {
    let task = cluster
        .submit(cluster.task("echo mine > /output/mine; echo done"))
        .await;
    let report = cluster.report(&task).await;
    assert_eq!(report.status, "success", "{}", report.logs);
    assert_eq!(log_of(&report), "done\n");
    assert_eq!(report.output_files, ["mine"]);
}

#[track_caller]
fn assert_bounded(cluster: &Cluster) {
    let peak = cluster.worker.process().peak_memory();
    assert!(peak < MEMORY, "the worker took {peak} MiB");
}

/// Each of its processes begins others until it can't. That the limit is there is seen before it begins.
#[tokio::test]
async fn a_fork_bomb_meets_its_limit_and_is_cancelled_while_others_go_on() {
    let limits = ["--task-pids", "64", "--stop-grace", "1s"];
    let cluster = Cluster::start_with(|setup| setup.arguments(limits)).await;
    let bomb = Task {
        // Half a core: this machine has others too.
        req_cpu: 0.5,
        ..cluster.task(
            "mkfifo /tmp/never; exec 3<>/tmp/never; while [ ! -e /tmp/go ]; do sleep 0.1; done; \
             bomb() { while :; do bomb & done; }; bomb & read -r _ <&3",
        )
    };
    let task = cluster.submit(bomb).await;
    cluster.engine.wait_task(&task, "start").await;
    assert_eq!(host_config(&cluster, &task).await.pids_limit, Some(64));

    let container = cluster.engine.containers_of(&task).await.remove(0);
    cluster.engine.touch_in(&container, "/tmp/go").await;
    let log = cluster.master.watch_log(&task);
    log.wait_line("can't fork")
        .await
        .expect("the shell says so");

    assert_others_go_on(&cluster).await;
    cluster.master.cancel(&task).await.expect("it is told");
    assert_eq!(cluster.report(&task).await.status, "cancelled");
    assert_bounded(&cluster);
    cluster.finish().await;
}

#[tokio::test]
async fn a_flood_of_output_loses_its_middle_and_holds_nobody_up() {
    let caps = ["--spool-cap", "4MiB", "--engine-log", "4MiB"];
    let cluster = Cluster::start_with(|setup| setup.arguments(caps)).await;
    let flood = "echo the beginning; yes 0123456789abcdef | head -c 60000000; echo; echo the end; \
                 while [ ! -e /tmp/go ]; do sleep 0.1; done";
    let task = cluster.run(flood).await;

    assert_others_go_on(&cluster).await;
    let container = cluster.engine.containers_of(&task).await.remove(0);
    cluster.engine.touch_in(&container, "/tmp/go").await;
    let report = cluster.report(&task).await;

    assert_eq!(report.status, "success", "{}", trailer(&report));
    assert!(
        report.logs.starts_with("the beginning\n"),
        "{:?}",
        report.logs.get(..100)
    );
    assert!(
        log_of(&report).ends_with("\nthe end\n"),
        "{}",
        trailer(&report)
    );
    let marked = report
        .logs
        .lines()
        .any(|line| line.starts_with("[worker-node] ") && line.contains("left out"));
    assert!(marked, "nothing says what is missing");
    assert_bounded(&cluster);
    cluster.finish().await;
}

/// 10,000 names of 250 control characters, which take six bytes each in the journal.
#[tokio::test]
async fn ten_thousand_files_with_the_dearest_names_are_told_in_few_words() {
    let cluster = Cluster::start().await;
    let task = cluster
        .run(
            "pad=$(printf '%0240d' 0 | tr 0 '\\001'); n=0; while [ $n -lt 10000 ]; do folder=/output/$((n % 62)); \
             [ $n -ge 62 ] || mkdir $folder; true > \"$folder/$n$pad\"; n=$((n + 1)); done; echo made $n",
        )
        .await;

    let report = cluster.report(&task).await;

    assert_eq!(report.status, "success", "{}", trailer(&report));
    assert_eq!(log_of(&report), "made 10000\n");
    let upload = cluster.master.wait_upload(&task).await.unwrap();
    let (taken, told) = (upload.files.len(), trailer(&report));
    let (before, _) = told
        .split_once(" files were left out, since the names")
        .expect(told);
    let out = before
        .rsplit(' ')
        .next()
        .and_then(|count| count.parse().ok());
    let out: usize = out.expect(told);
    assert_eq!(taken + out, 10_000, "{told}");
    assert!(taken > 100, "{taken}");
    assert_others_go_on(&cluster).await;
    assert_bounded(&cluster);
    cluster.finish().await;
}

/// Each name is a file at one moment and a link to a file of this machine at the next, until the container ends.
#[tokio::test]
async fn names_that_change_between_files_and_links_until_the_end_let_nothing_of_the_machine_out() {
    let cluster = Cluster::start().await;
    let outside = tempfile::tempdir().unwrap();
    let canary = outside.path().join("canary");
    std::fs::write(&canary, "the canary has flown\n").unwrap();
    let swap = |name: &str| {
        let (file, link) = (format!("{name}.f"), format!("{name}.l"));
        format!(
            "(while :; do echo mine > {file}; mv -f {file} {name}; ln -s {} {link}; mv -f {link} {name}; done) & ",
            canary.display()
        )
    };
    let swaps: String = (0..4)
        .map(|number| swap(&format!("swapped-{number}")))
        .collect();
    let folders = format!(
        "(while :; do mkdir d; echo mine > d/canary; mv d in; rm -rf in; ln -s {} in; rm in; done) 2> /dev/null & ",
        outside.path().display()
    );

    let task = cluster
        .run(&format!(
            "cd /output; ln {} hard 2> /dev/null; {swaps}{folders}sleep 1; echo kept > kept",
            canary.display()
        ))
        .await;
    let report = cluster.report(&task).await;
    let upload = cluster.master.wait_upload(&task).await.unwrap();

    assert_eq!(report.status, "success", "{}", report.logs);
    assert!(upload.file("kept").is_some(), "{}", trailer(&report));
    assert!(!report.logs.contains("has flown"), "{}", report.logs);
    for file in &upload.files {
        let bytes = file.bytes.as_deref().expect("it is small");
        assert!(
            matches!(bytes, b"mine\n" | b"kept\n" | b""),
            "{}: {bytes:?}",
            file.path
        );
    }
    assert_eq!(
        std::fs::read_to_string(&canary).unwrap(),
        "the canary has flown\n"
    );
    cluster.finish().await;
}

#[tokio::test]
async fn no_task_makes_a_device_and_one_that_may_brings_none_out() {
    let cluster = Cluster::start().await;
    let task = cluster
        .run("mknod /output/null c 1 3 || echo refused")
        .await;
    let refused = cluster.report(&task).await;
    // What `mknod` says to stderr may stand before it or behind it.
    let said = log_of(&refused);
    assert!(said.lines().any(|line| line == "refused"), "{said}");
    cluster.finish().await;

    let cluster = Cluster::start_with(|setup| setup.arguments(["--cap-add", "MKNOD"])).await;
    let task = cluster
        .run("cd /output; mknod null c 1 3 && mknod disk b 8 0 && chmod 666 null disk; echo $? > made")
        .await;
    let report = cluster.report(&task).await;
    let upload = cluster.master.wait_upload(&task).await.unwrap();

    assert_eq!(report.output_files, ["made"]);
    assert_eq!(
        upload.file("made").unwrap().bytes.as_deref(),
        Some(&b"0\n"[..])
    );
    for device in ["null", "disk"] {
        assert!(trailer(&report).contains(device), "{}", trailer(&report));
    }
    cluster.finish().await;
}

/// What is left of a command when it ends goes with its container, and whoever ignores a request is gone after the grace.
#[tokio::test]
async fn children_that_are_left_behind_or_hear_nothing_end_with_their_task() {
    let cluster = Cluster::start_with(|setup| setup.arguments(["--stop-grace", "1s"])).await;
    let word = unique("deaf");
    let child = format!(
        "(setsid sh -c \"trap '' TERM INT HUP; touch /output/{word}; while :; do sleep 0.1; done\" &); \
         while [ ! -e /output/{word} ]; do sleep 0.1; done; "
    );

    let leaves = cluster.run(&format!("{child}echo left")).await;
    let left = cluster.report(&leaves).await;
    let holds = cluster
        .run(&format!(
            "{child}trap '' TERM; echo up; while :; do sleep 0.1; done"
        ))
        .await;
    let log = cluster.master.watch_log(&holds);
    log.wait_line("up").await.unwrap();
    cluster.master.cancel(&holds).await.expect("it is told");
    let held = cluster.report(&holds).await;

    assert_eq!((left.status.as_str(), log_of(&left)), ("success", "left\n"));
    assert_eq!(held.status, "cancelled");
    assert!(!runs(&word), "a process of them is still there");
    cluster.finish().await;
}

/// Whether a process of this machine has this among the words of its command.
fn runs(word: &str) -> bool {
    let processes = std::fs::read_dir("/proc").expect("it is there").flatten();
    processes
        .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
        .any(|command| String::from_utf8_lossy(&command).contains(word))
}
