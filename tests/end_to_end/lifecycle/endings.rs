//! How tasks end by themselves, and what is told of it.

use bollard::body_full;
use bollard::query_parameters::CreateImageOptions;
use futures_util::TryStreamExt as _;
use tokio::time::Instant;
use worker_node::dev_master::ReportCopy;
use worker_node::proto::Task;

use super::cancels::behind;
use crate::admin::{asked, text};
use crate::harness::{Cluster, Engine, EngineProxy, TestImage, unique};

/// The last line of a report.
#[track_caller]
pub(crate) fn trailer(report: &ReportCopy) -> &str {
    let last = report.logs.lines().next_back().unwrap_or_default();
    assert!(last.starts_with("[worker-node] "), "{:?}", report.logs);
    last
}

/// A report's log without its last line.
pub(crate) fn log_of(report: &ReportCopy) -> &str {
    let log = report.logs.trim_end_matches('\n');
    log.rfind('\n').map_or("", |end| &log[..=end])
}

/// Runs a task and returns its report.
async fn end_of(cluster: &Cluster, task: Task) -> ReportCopy {
    let task = cluster.submit(task).await;
    cluster.report(&task).await
}

#[tokio::test]
async fn a_task_that_succeeds_is_told_with_its_output_and_its_figures() {
    let cluster = Cluster::start_with(|setup| {
        let setup = setup.variable("RUST_LOG", "info");
        setup.variable("FAILPOINTS", "task.watch_usage=print(memory was sampled)")
    })
    .await;
    let begun = Instant::now();

    let task = "echo to stdout; echo to stderr >&2; while [ ! -e /tmp/end ]; do sleep 0.1; done";
    let task = cluster.run(task).await;
    // A busy engine takes seconds to tell it.
    cluster.worker.wait_log_line("memory was sampled").await;
    let shown = text(&asked(&cluster, &["top", "--json"]).await);
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["tasks"][0]["id"], task.as_str(), "{shown}");
    let now = shown["tasks"][0]["used"]["memory_bytes"].as_u64();
    assert!(now.is_some_and(|bytes| bytes > 0), "{shown}");
    let container = cluster.engine.containers_of(&task).await.remove(0);
    cluster.engine.touch_in(&container, "/tmp/end").await;
    let report = cluster.report(&task).await;

    assert_eq!(report.status, "success");
    assert_eq!(report.worker_id, cluster.worker.id());
    let mut lines: Vec<&str> = log_of(&report).lines().collect();
    // The two streams have no order between them.
    lines.sort_unstable();
    assert_eq!(lines, ["to stderr", "to stdout"]);
    let trailer = trailer(&report);
    let figures = trailer.strip_prefix("[worker-node] succeeded; exit code 0, duration ");
    let duration = figures.and_then(|figures| figures.split_once(" s, "));
    let duration: f64 = duration.and_then(|it| it.0.parse().ok()).expect(trailer);
    // The engine's clock may start after the process and stop before it: that this is the container's own time is all there is
    // to say of a busy machine.
    let longest = begun.elapsed().as_secs_f64();
    assert!(duration > 0.0 && duration <= longest, "{trailer}");
    let used = report.usage.expect("it was looked at");
    assert!(
        used.cpu_seconds > 0.0 && used.peak_memory_bytes > 0,
        "{used:?}"
    );
    let peak = used.peak_memory_bytes as f64 / 1_048_576.0;
    let figures = format!(
        " s, cpu time {:.2} s, peak memory {peak:.1} MiB",
        used.cpu_seconds
    );
    assert!(trailer.ends_with(&figures), "{trailer}");
    cluster.finish().await;
}

#[tokio::test]
async fn a_task_that_fails_is_told_with_its_exit_code_or_signal() {
    let cluster = Cluster::start().await;

    for (command, told) in [
        ("exit 42", "failed; exit code 42, duration"),
        ("no-such-program", "failed; exit code 127,"),
        ("kill -SEGV $$", "failed; exit code 139, signal 11,"),
        ("kill -TERM $$", "failed; exit code 143, signal 15,"),
        ("kill -KILL $$", "failed; exit code 137, signal 9,"),
    ] {
        let report = end_of(&cluster, cluster.task(command)).await;

        assert_eq!(report.status, "failed", "{command}");
        let expected = format!("[worker-node] {told}");
        assert!(
            trailer(&report).starts_with(&expected),
            "{command}: {}",
            trailer(&report)
        );
    }
    cluster.finish().await;
}

#[tokio::test]
async fn a_task_over_its_memory_is_told_as_out_of_memory() {
    let cluster = Cluster::start().await;
    ends_out_of_memory(&cluster).await;
    cluster.finish().await;
}

/// As of a build that goes on without one of its compilers.
#[tokio::test]
async fn a_task_that_succeeds_though_something_in_it_ran_out_of_memory_is_told_with_that_remark() {
    let cluster = Cluster::start().await;
    let greedy = Task {
        req_memory: 16.0 / 1024.0,
        ..cluster.task("tail /dev/zero; while [ ! -e /tmp/end ]; do sleep 0.1; done; echo went on")
    };

    let task = cluster.submit(greedy).await;
    cluster.engine.wait_task(&task, "oom").await;
    let container = cluster.engine.containers_of(&task).await.remove(0);
    cluster.engine.touch_in(&container, "/tmp/end").await;
    let report = cluster.report(&task).await;

    assert_eq!(report.status, "success", "{}", report.logs);
    assert!(log_of(&report).ends_with("went on\n"), "{}", report.logs);
    let trailer = trailer(&report);
    assert!(
        trailer.starts_with("[worker-node] succeeded; exit code 0, duration ")
            && trailer.ends_with("; something in it ran out of memory"),
        "{trailer}"
    );
    cluster.finish().await;
}

/// As where the engine hears of it after the end, and leaves its flag unset.
#[tokio::test]
async fn a_lack_of_memory_of_which_an_event_alone_tells_is_told() {
    let proxy = EngineProxy::start();
    let cluster = behind(&proxy).await;
    proxy.hide("OOMKilled");
    ends_out_of_memory(&cluster).await;
    cluster.finish().await;
}

async fn ends_out_of_memory(cluster: &Cluster) {
    let greedy = Task {
        req_memory: 16.0 / 1024.0,
        ..cluster.task("echo begun; tail /dev/zero")
    };

    let report = end_of(cluster, greedy).await;

    assert_eq!(report.status, "failed");
    // The shell may say that what it ran was killed.
    assert_eq!(log_of(&report).lines().next(), Some("begun"));
    let trailer = trailer(&report);
    assert!(
        trailer
            .starts_with("[worker-node] failed; exit code 137, signal 9, out of memory, duration"),
        "{trailer}"
    );
}

#[tokio::test]
async fn without_a_command_the_image_says_what_runs() {
    let cluster = Cluster::start().await;
    let docker = cluster.engine.docker();
    let with_both =
        TestImage::with_entrypoint(docker, &["/bin/echo", "entry"], &["and default"]).await;
    let with_default =
        TestImage::with_entrypoint(docker, &[], &["/bin/echo", "default alone"]).await;

    for (image, told) in [
        (&with_both, "entry and default\n"),
        (&with_default, "default alone\n"),
    ] {
        let task = Task {
            docker_image: image.name.clone(),
            ..cluster.task("")
        };
        let report = end_of(&cluster, task).await;

        assert_eq!(report.status, "success", "{}", report.logs);
        assert_eq!(log_of(&report), told);
    }
    cluster.finish().await;
}

#[tokio::test]
async fn an_image_that_says_nothing_to_run_is_a_clear_failure() {
    let cluster = Cluster::start().await;
    let image = empty_image(&cluster.engine).await;
    let with = |command: &str| Task {
        docker_image: image.name.clone(),
        ..cluster.task(command)
    };

    let without_command = end_of(&cluster, with("")).await;
    let without_shell = end_of(&cluster, with("echo hello")).await;

    assert_eq!(without_command.status, "failed");
    assert!(
        // Engines differ in the first letter.
        trailer(&without_command)
            .to_lowercase()
            .contains("could not be created: no command specified"),
        "{}",
        without_command.logs
    );
    assert_eq!(without_shell.status, "failed");
    assert!(
        without_shell.logs.contains("/bin/sh"),
        "the missing shell is not named: {:?}",
        without_shell.logs
    );
    cluster.finish().await;
}

/// An image with one empty file, no program and no command.
async fn empty_image(engine: &Engine) -> TestImage {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(0);
    archive
        .append_data(&mut header, "file", std::io::empty())
        .expect("a vector takes everything");
    let bytes = archive.into_inner().expect("a vector takes everything");
    let repository = unique("worker-node-test-empty");
    let options = CreateImageOptions {
        from_src: Some("-".to_owned()),
        repo: Some(repository.clone()),
        tag: Some("1".to_owned()),
        ..CreateImageOptions::default()
    };
    let import = engine
        .docker()
        .create_image(Some(options), Some(body_full(bytes.into())), None);
    import
        .try_collect::<Vec<_>>()
        .await
        .expect("an archive can be imported");
    TestImage {
        name: format!("{repository}:1"),
    }
}
