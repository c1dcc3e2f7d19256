//! Tasks that can never run here: those that can be reported are accepted and fail with the reason, the others are refused.

use worker_node::proto::Task;

use super::assert_goes_on;
use crate::harness::{Cluster, Registry};

/// The longest command that a kernel takes, in bytes.
const LONGEST_COMMAND: usize = 128 * 1024 - 1;

/// Offers a task that must be accepted and fail with all of these words in its log, without ever having run.
async fn assert_fails(cluster: &Cluster, task: Task, words: &[&str]) {
    let id = task.task_id.clone();
    let what = format!("{words:?}");
    // Before that, offers are refused for the moment.
    cluster.worker.wait_log_line("Ready to receive").await;

    let answer = cluster.master.offer(cluster.worker.id(), task).await;
    assert!(answer.is_success(), "{what}: {answer:?}");
    let report = cluster.report(&id).await;

    assert_eq!(report.status, "failed", "{what}");
    for word in words {
        assert!(report.logs.contains(word), "{what}: {:?}", report.logs);
    }
    assert_eq!(cluster.engine.starts(&id).await, 0, "{what}");
}

/// Offers a task that can be neither run nor reported.
async fn assert_refused(cluster: &Cluster, task: Task, word: &str) {
    // Before that, offers are refused for the moment.
    cluster.worker.wait_log_line("Ready to receive").await;
    let answer = cluster.master.offer(cluster.worker.id(), task).await;

    let refusal = answer.refusal().unwrap_or_else(|| panic!("{answer:?}"));
    assert!(refusal.contains(word), "{refusal:?}");
}

/// A cluster that takes offers.
async fn ready() -> Cluster {
    let cluster = Cluster::start_with(|setup| setup.arguments(["--patience", "1s"])).await;
    assert_goes_on(&cluster).await;
    cluster
}

#[tokio::test]
async fn an_image_that_no_registry_has_fails_with_the_registrys_words() {
    let cluster = ready().await;
    let registry = Registry::start().await;
    let image = |name: String| Task {
        docker_image: name,
        ..cluster.task("true")
    };

    let missing = registry.reference("nobody-pushed-this");
    assert_fails(
        &cluster,
        image(missing),
        &["could not be pulled", "not found"],
    )
    .await;
    let name = registry.push_busybox(cluster.engine.docker()).await;
    let other_tag = format!("{}/{name}:other", registry.address());
    assert_fails(
        &cluster,
        image(other_tag),
        &["could not be pulled", "not found"],
    )
    .await;
    // A port that nobody listens on: tried again until patience is spent.
    let nobody = "127.0.0.1:1/a/b:c".to_owned();
    assert_fails(
        &cluster,
        image(nobody),
        &["could not be pulled", "refused", "tried"],
    )
    .await;

    assert_goes_on(&cluster).await;
    cluster.finish().await;
}

#[tokio::test]
async fn an_image_name_that_is_none_fails_with_what_is_wrong() {
    let cluster = ready().await;

    for name in [
        "",
        " ",
        "UPPER/case",
        "busybox:bad tag",
        "-rf",
        "a/../../b",
        "busybox@sha256:zz",
        "file:///etc/passwd",
        "busybox\nbusybox",
        "busybox\0",
    ] {
        let task = Task {
            docker_image: name.to_owned(),
            ..cluster.task("true")
        };
        assert_fails(
            &cluster,
            task,
            &["impossible on this worker", "the image name"],
        )
        .await;
    }

    assert_goes_on(&cluster).await;
    cluster.finish().await;
}

#[tokio::test]
async fn an_image_that_may_not_run_is_told_and_nothing_is_made_of_it() {
    let rules = ["--allow-image", "registry.example/*"];
    let cluster = Cluster::start_with(|setup| setup.arguments(rules)).await;
    let task = cluster.task("true");

    let why = "is not among those that this worker may run (--allow-image registry.example/*)";
    assert_fails(&cluster, task, &["impossible on this worker", why]).await;
    cluster.finish().await;
}

#[tokio::test]
async fn amounts_that_are_none_or_too_much_fail_with_their_names() {
    let cluster = ready().await;
    type Set = fn(&mut Task, f64);
    let fields: [(&str, Set); 4] = [
        ("req_cpu", |task, amount| task.req_cpu = amount),
        ("req_memory", |task, amount| task.req_memory = amount),
        ("req_storage", |task, amount| task.req_storage = amount),
        ("req_gpu", |task, amount| task.req_gpu = amount),
    ];

    for (name, set) in fields {
        for amount in [
            -1.0,
            -1e-9,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            1e300,
        ] {
            let mut task = cluster.task("true");
            set(&mut task, amount);
            assert_fails(&cluster, task, &["impossible on this worker", name]).await;
        }
    }

    assert_goes_on(&cluster).await;
    cluster.finish().await;
}

#[tokio::test]
async fn an_amount_under_the_engines_least_is_raised_to_it() {
    let cluster = ready().await;
    let modest = Task {
        req_cpu: 1e-9,
        req_memory: 1e-9,
        req_storage: 1e-9,
        ..cluster.task("echo ran")
    };

    let task = cluster.submit(modest).await;

    let report = cluster.report(&task).await;
    assert_eq!(report.status, "success", "{}", report.logs);
    cluster.finish().await;
}

#[tokio::test]
async fn an_id_that_is_no_safe_name_is_reported_under_itself_and_never_used() {
    let cluster = ready().await;
    let unique = cluster.task("").task_id;
    let named = |id: String| Task {
        task_id: id,
        ..cluster.task("touch /output/ran")
    };

    for id in [
        format!("../../{unique}"),
        format!("/tmp/{unique}"),
        format!("{unique}\n{unique}"),
        format!("{unique}\u{1b}[31m"),
        format!("{unique}\0"),
        format!("{unique} with spaces"),
        format!("\u{fc}-{unique}"),
        format!("{unique}{}", "x".repeat(900)),
    ] {
        assert_fails(
            &cluster,
            named(id),
            &["impossible on this worker", "the task id"],
        )
        .await;
    }
    assert_refused(&cluster, named(String::new()), "is empty").await;
    assert_refused(
        &cluster,
        named("x".repeat(2000)),
        "is longer than 1024 bytes",
    )
    .await;

    let above = cluster.worker.state_dir().parent().unwrap().to_owned();
    for place in [above, "/tmp".into(), "/".into()] {
        assert!(!place.join(&unique).exists(), "{}", place.display());
    }
    let lines = cluster.worker.process().lines();
    assert!(
        !lines
            .iter()
            .any(|line| line.contains(|c: char| c.is_control())),
        "an id wrote into the log as it is: {lines:?}"
    );
    assert_goes_on(&cluster).await;
    cluster.finish().await;
}

#[tokio::test]
async fn a_command_that_no_kernel_takes_fails_and_the_longest_one_runs() {
    let cluster = ready().await;
    let padded = |length: usize| {
        let begin = "echo $((6 * 7)); : ";
        format!("{begin}{}", "x".repeat(length - begin.len()))
    };

    assert_fails(&cluster, cluster.task("echo \0"), &["the command", "NUL"]).await;
    let too_long = cluster.task(&padded(LONGEST_COMMAND + 1));
    assert_fails(
        &cluster,
        too_long,
        &["the command has 131072 bytes", "limit"],
    )
    .await;
    let longest = cluster.submit(cluster.task(&padded(LONGEST_COMMAND))).await;
    let report = cluster.report(&longest).await;

    assert_eq!(report.status, "success", "{}", report.logs);
    assert!(report.logs.starts_with("42\n"), "{}", report.logs);
    assert_goes_on(&cluster).await;
    cluster.finish().await;
}

#[tokio::test]
async fn names_that_only_people_read_may_be_anything() {
    let cluster = ready().await;
    let odd = Task {
        user_id: "../root\n\u{1b}[31m\0".to_owned(),
        task_name: "../../etc/x:y\n\0".to_owned(),
        task_type: "x".repeat(1_000),
        sla_multiplier: f64::NAN,
        submitted_at: i64::MIN,
        ..cluster.task("echo 1 > /output/file")
    };

    let task = cluster.submit(odd).await;
    let report = cluster.report(&task).await;

    assert_eq!(report.status, "success", "{}", report.logs);
    let upload = cluster.master.wait_upload(&task).await.unwrap();
    assert_eq!(upload.task_name, ".._.._etc_x:y\n\0");
    assert_goes_on(&cluster).await;
    cluster.finish().await;
}
