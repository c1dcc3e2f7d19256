//! What tasks ask for themselves: seen from inside where the policy of the operator lets them have it, told where not, and kept by the
//! journal through the death of the worker.

use std::{os::unix::fs::symlink, path::PathBuf};

use bollard::query_parameters::InspectContainerOptions;
use rustix::process::Signal;
use worker_node::proto::{Mount, Task, TaskSettings, mount::Source};

use super::endings::log_of;
use crate::harness::{Cluster, FarDoor, WorkerSetup};

/// A folder with a configuration and a root in it that tasks may ask for.
struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        std::fs::create_dir_all(machine.at("root/data")).expect("a folder");
        std::fs::write(machine.at("root/data/file"), "from the root\n").expect("a file");
        machine.say("");
        machine
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        let path = self.at(name);
        path.to_str().expect("a plain path").to_owned()
    }

    /// Lets tasks ask for binds in the root, and for what stands here.
    fn say(&self, more: &str) {
        let root = self.text("root");
        let text = format!("[policy]\nallowed_roots = [\"{root}\"]\n{more}");
        std::fs::write(self.at("config.toml"), text).expect("the file is written");
    }

    async fn cluster(&self, change: impl FnOnce(WorkerSetup) -> WorkerSetup) -> Cluster {
        let path = self.text("config.toml");
        Cluster::start_with(|setup| change(setup.arguments(["--config", &path]))).await
    }
}

fn asking(cluster: &Cluster, command: &str, settings: TaskSettings) -> Task {
    Task {
        settings: Some(settings),
        ..cluster.task(command)
    }
}

fn mount(source: Source, target: &str) -> Mount {
    Mount {
        source: Some(source),
        target: target.to_owned(),
        read_only: false,
    }
}

fn bind(path: &str) -> TaskSettings {
    TaskSettings {
        mounts: vec![mount(Source::Bind(path.to_owned()), "/data")],
        ..TaskSettings::default()
    }
}

fn network(name: &str) -> TaskSettings {
    TaskSettings {
        network: name.to_owned(),
        ..TaskSettings::default()
    }
}

/// Runs until there is a file.
fn waiting(then: &str) -> String {
    format!("while [ ! -e /tmp/end ]; do sleep 0.1; done; {then}")
}

#[tokio::test]
async fn a_task_sees_what_it_asks_for_over_what_its_profile_gives_and_no_label_tells_a_value() {
    let machine = Machine::new();
    machine.say(
        "[task_defaults]\nenvironment = { MODE = \"slow\", ZONE = \"UTC\" }\nhostname = \"given\"\nnetwork = \"bridge\"\n",
    );
    let cluster = machine
        .cluster(|setup| setup.variable("RUST_LOG", "debug"))
        .await;
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let settings = TaskSettings {
        environment: [variable("MODE", "fast"), variable("TOKEN", "s3cret-of-ann")].into(),
        mounts: vec![
            mount(Source::Tmpfs(1 << 20), "/scratch"),
            Mount {
                read_only: true,
                ..mount(Source::Bind(machine.text("root/data")), "/data")
            },
        ],
        user: "7:8".to_owned(),
        workdir: "/work".to_owned(),
        ..network("none")
    };
    let look = "echo $MODE $ZONE ${#TOKEN}; echo $(id -u):$(id -g) $PWD $(hostname); cat /data/file; \
                grep -c ' /scratch tmpfs ' /proc/mounts; wc -l < /proc/net/route";

    let task = cluster
        .submit(asking(&cluster, &waiting(look), settings))
        .await;
    cluster.engine.wait_task(&task, "start").await;
    let container = cluster.engine.containers_of(&task).await.remove(0);
    let docker = cluster.engine.docker();
    let made = docker.inspect_container(&container, None::<InspectContainerOptions>);
    let made = made.await.expect("it is there");
    let labels = made.config.and_then(|config| config.labels);
    cluster.engine.touch_in(&container, "/tmp/end").await;
    let report = cluster.report(&task).await;

    // Without a network the list of its routes is a heading.
    let seen = "fast UTC 13\n7:8 /work given\nfrom the root\n1\n1\n";
    assert_eq!(log_of(&report), seen, "{}", report.logs);
    // A Task message in base64 stands among them: its own bytes are looked at beside it, in `grpc/convert`.
    let labels = format!("{:?}", labels.expect("it has labels"));
    assert!(!labels.contains("s3cret-of-ann"));
    let log = cluster.worker.process().lines();
    assert!(log.iter().any(|line| line.contains(&task)));
    assert!(!log.iter().any(|line| line.contains("s3cret-of-ann")));
    cluster.finish().await;
}

#[tokio::test]
async fn what_a_task_may_not_have_is_told_and_nothing_is_pulled_or_made() {
    let machine = Machine::new();
    symlink("/etc", machine.at("root/out")).expect("a link");
    let cluster = machine.cluster(|setup| setup).await;
    let at = |name: &str| machine.text(name);
    let user = TaskSettings {
        user: "root".to_owned(),
        ..TaskSettings::default()
    };
    for (settings, word) in [
        (bind("/etc"), "allowed_roots in [policy]"),
        (bind(&at("other")), "allowed_roots in [policy]"),
        (bind(&at("root/out")), "leads over a link"),
        (bind(&at("root/out/passwd")), "leads over a link"),
        (bind(&at("root/missing")), "is not there"),
        (bind("/var/run/docker.sock"), "the engine's socket"),
        (bind("data"), "settings.mounts.bind 'data' is no whole path"),
        (network("elsewhere"), "networks in [policy] is none, "),
        (user, "users in [policy]"),
    ] {
        let id = cluster.submit(asking(&cluster, "true", settings)).await;
        let report = cluster.report(&id).await;

        assert_eq!(report.status, "failed", "{word}");
        assert!(report.logs.contains(word), "{word}: {}", report.logs);
        assert_eq!(cluster.engine.count(&id, "create").await, 0, "{word}");
    }
    // Nobody asks this registry, which would fail in other words.
    let task = Task {
        docker_image: "127.0.0.1:1/a/b:c".to_owned(),
        ..asking(&cluster, "true", network("elsewhere"))
    };
    let id = cluster.submit(task).await;
    let report = cluster.report(&id).await;
    assert!(
        report
            .logs
            .contains("impossible on this worker: it asks for the network elsewhere"),
        "{}",
        report.logs
    );
    cluster.finish().await;
}

#[tokio::test]
async fn a_policy_that_is_read_anew_is_for_containers_made_after_it_alone() {
    let machine = Machine::new();
    let cluster = machine.cluster(|setup| setup).await;
    let asking = |command: &str| asking(&cluster, command, network("none"));
    let before = cluster.submit(asking(&waiting("echo done"))).await;
    cluster.engine.wait_task(&before, "start").await;

    machine.say("networks = [\"bridge\"]\n");
    cluster.worker.process().signal(Signal::HUP);
    cluster.worker.wait_log_line("is taken: policy").await;
    let after = cluster.submit(asking("true")).await;
    let report = cluster.report(&after).await;

    assert_eq!(report.status, "failed");
    assert!(
        report.logs.contains("networks in [policy] is bridge"),
        "{}",
        report.logs
    );
    let container = cluster.engine.containers_of(&before).await.remove(0);
    cluster.engine.touch_in(&container, "/tmp/end").await;
    let report = cluster.report(&before).await;
    assert_eq!(
        (report.status.as_str(), log_of(&report)),
        ("success", "done\n")
    );
    cluster.finish().await;
}

#[tokio::test]
async fn what_a_task_asks_for_outlives_the_worker_that_accepted_it() {
    let machine = Machine::new();
    let dies = |setup: WorkerSetup| setup.variable("FAILPOINTS", "task.create=return(abort)");
    let mut cluster = machine.cluster(dies).await;
    let settings = TaskSettings {
        environment: [("TOKEN".to_owned(), "s3cret".to_owned())].into(),
        ..bind(&machine.text("root/data"))
    };
    cluster
        .master
        .doubt("the worker dies before it makes a container");

    let task = asking(&cluster, "echo $TOKEN; cat /data/file", settings);
    let task = cluster.submit(task).await;
    cluster
        .worker
        .restart_with(|setup| setup.variable("FAILPOINTS", ""))
        .await;
    let report = cluster.report(&task).await;

    assert_eq!(
        log_of(&report),
        "s3cret\nfrom the root\n",
        "{}",
        report.logs
    );
    assert_eq!(cluster.engine.starts(&task).await, 1);
    cluster.finish().await;
}

/// An engine that is reached over tcp may be elsewhere, with files of its own.
#[tokio::test]
async fn over_tcp_a_task_has_no_binds() {
    let machine = Machine::new();
    let door = FarDoor::to_the_usual_one().await;
    let far = |setup: WorkerSetup| setup.arguments(["--engine", door.address()]);
    let cluster = machine.cluster(far).await;

    let id = cluster
        .submit(asking(&cluster, "true", bind(&machine.text("root/data"))))
        .await;
    let report = cluster.report(&id).await;

    assert!(
        report.logs.contains("do not see the same files"),
        "{}",
        report.logs
    );
    assert_eq!(cluster.engine.count(&id, "create").await, 0);
    cluster.finish().await;
}
