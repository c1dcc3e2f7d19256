//! Profiles: what the operator says that tasks get, seen from inside, and kept by a task through a reload and through the death of its
//! worker.

use std::path::{Path, PathBuf};

use bollard::query_parameters::RemoveVolumeOptions;
use rustix::process::Signal;

use super::endings::{log_of, trailer};
use crate::harness::{Cluster, unique};

/// A folder with a configuration file that says this of tasks.
struct Said {
    folder: tempfile::TempDir,
}

impl Said {
    fn new(text: &str) -> Self {
        let said = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        said.say(text);
        said
    }

    fn say(&self, text: &str) {
        std::fs::write(self.path(), text).expect("the file is written");
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }

    async fn cluster(&self) -> Cluster {
        let path = self.path();
        let path = path.to_str().expect("a plain path");
        Cluster::start_with(|setup| setup.arguments(["--config", path])).await
    }
}

fn training(token: &Path, volume: &str) -> String {
    let token = token.display();
    format!(
        r#"
[task_defaults]
environment = {{ MODE = "slow", ZONE = "UTC" }}

[[profile]]
name = "training"
match = {{ image = "*/busybox", user = "ann", task_name = "j*" }}
environment = {{ MODE = "fast", TOKEN = {{ file = "{token}" }} }}
volumes = [{{ volume = "{volume}", target = "/cache" }}, {{ tmpfs = "1MiB", target = "/scratch" }}]
network = "none"
user = "7:8"
workdir = "/work"
hostname = "trainer"
entrypoint = "keep"
"#
    )
}

#[tokio::test]
async fn a_task_sees_from_inside_what_its_profile_gives_it() {
    let volume = unique("test-volume");
    let said = Said::new("");
    let token = said.folder.path().join("token");
    std::fs::write(&token, "s3cret\n").unwrap();
    said.say(&training(&token, &volume));
    let cluster = said.cluster().await;

    let task = "echo $MODE $ZONE $TOKEN; echo $(id -u):$(id -g) $PWD $(hostname); \
                grep -c -e ' /cache ' -e ' /scratch tmpfs ' /proc/mounts; wc -l < /proc/net/route";
    let task = cluster.submit(cluster.task(task)).await;
    let report = cluster.report(&task).await;

    // Without a network the list of its routes is a heading.
    let seen = "fast UTC s3cret\n7:8 /work trainer\n2\n1\n";
    assert_eq!(log_of(&report), seen, "{}", report.logs);
    let docker = cluster.engine.docker().clone();
    cluster.finish().await;
    let gone = docker.remove_volume(&volume, None::<RemoveVolumeOptions>);
    gone.await.expect("the volume was made, and stays");
}

/// Runs until there is a file.
fn waiting(then: &str) -> String {
    format!("while [ ! -e /tmp/end ]; do sleep 0.1; done; {then}")
}

#[tokio::test]
async fn profiles_that_are_read_anew_are_for_new_tasks_alone() {
    let said = Said::new("[task_defaults]\nenvironment = { MODE = \"one\" }\n");
    let cluster = said.cluster().await;
    let before = cluster.run(&waiting("echo $MODE")).await;

    said.say("[task_defaults]\nenvironment = { MODE = \"two\" }\ntimeout = \"1s\"\n");
    cluster.worker.process().signal(Signal::HUP);
    cluster.worker.wait_log_line("is taken: profiles").await;
    let after = cluster.run("echo $MODE; sleep 600").await;
    let report = cluster.report(&after).await;

    // The shell may say that it was terminated.
    assert_eq!(log_of(&report).lines().next(), Some("two"));
    assert!(trailer(&report).contains("timed out"), "{}", report.logs);
    let container = cluster.engine.containers_of(&before).await.remove(0);
    cluster.engine.touch_in(&container, "/tmp/end").await;
    let report = cluster.report(&before).await;
    assert_eq!(
        (report.status.as_str(), log_of(&report)),
        ("success", "one\n")
    );
    cluster.finish().await;
}

#[tokio::test]
async fn a_task_keeps_its_timeout_when_its_worker_is_killed_and_the_profile_is_gone() {
    let said = Said::new("[task_defaults]\ntimeout = \"2s\"\nstop_grace = \"0s\"\n");
    let mut cluster = said.cluster().await;
    let task = cluster.run("trap '' TERM; sleep 600").await;

    cluster.kill_worker().await;
    said.say("");
    cluster.restart_worker().await;
    let report = cluster.report(&task).await;

    assert_eq!(report.status, "failed");
    assert!(trailer(&report).contains("timed out"), "{}", report.logs);
    assert_eq!(cluster.engine.starts(&task).await, 1);
    cluster.finish().await;
}
