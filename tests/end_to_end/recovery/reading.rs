//! Output of tasks that an earlier worker has started: each line once and whole, also one
//! that was begun while nobody read.

use bollard::Docker;
use worker_node::dev_master::LogView;

use crate::harness::{Cluster, FarDoor};

/// Where the engine is, as its worker sees it.
struct Place {
    /// What a worker says first that goes on where another one ended.
    reads_on: &'static str,
    /// What it says when it has all that was printed meanwhile.
    has_caught_up: &'static str,
    /// How often a log says that it may not be whole whose lines are all the same: where a stream was cut off, its end has no place
    /// in the engine's record then.
    markers: usize,
    /// To the engine; `None`: the usual one.
    door: Option<FarDoor>,
}

impl Place {
    /// On its machine, where it can read the engine's files.
    async fn here() -> Self {
        Self {
            reads_on: "reading on from the engine's log files",
            has_caught_up: "reading on from the engine's log files",
            markers: 0,
            door: None,
        }
    }

    /// On another machine: it reaches the engine over tcp alone.
    async fn elsewhere() -> Self {
        Self {
            door: Some(FarDoor::to_the_usual_one().await),
            reads_on: "reading on from the engine's record",
            has_caught_up: "following the engine's record",
            markers: 1,
        }
    }

    async fn cluster(&self) -> Cluster {
        match &self.door {
            Some(door) => {
                let address = door.address();
                Cluster::start_with(|setup| setup.arguments(["--engine", address])).await
            }
            None => Cluster::start().await,
        }
    }
}

/// Each test here, and with the engine on another machine.
macro_rules! here_and_elsewhere {
    ($($name:ident)*) => {
        mod here {
            $(#[tokio::test] async fn $name() { super::$name(super::Place::here().await).await; })*
        }
        mod elsewhere {
            $(#[tokio::test] async fn $name() { super::$name(super::Place::elsewhere().await).await; })*
        }
    };
}

here_and_elsewhere! {
    an_adopted_task_is_read_on_and_has_each_line_once
    a_line_that_was_begun_while_nobody_read_comes_whole
    a_task_that_is_paused_meanwhile_is_read_on_when_it_goes_on
    output_that_says_the_same_over_and_over_is_whole_or_marked_once
}

/// A task and its container.
struct Running {
    task: String,
    container: String,
    docker: Docker,
}

impl Running {
    async fn start(cluster: &Cluster, command: &str) -> Self {
        let task = cluster.run(command).await;
        let container = cluster.engine.containers_of(&task).await.remove(0);
        let docker = cluster.engine.docker().clone();
        Self {
            task,
            container,
            docker,
        }
    }

    /// Makes a file that its command looks for.
    async fn let_go(&self, cluster: &Cluster, file: &str) {
        cluster.engine.touch_in(&self.container, file).await;
    }

    async fn lines(&self, cluster: &Cluster) -> Vec<String> {
        let report = cluster.report(&self.task).await;
        assert_eq!(report.status, "success", "{}", report.logs);
        let seen = cluster.master.watch_log(&self.task).wait_end().await;
        seen.expect("the end of its log").lines()
    }
}

/// Starts the worker again; a viewer of that task.
async fn started(cluster: &mut Cluster, task: &str) -> LogView {
    cluster.restart_worker().await;
    cluster.master.watch_log(task)
}

async fn wait_more(viewer: &LogView, lines: u64) {
    let seen = viewer.until("a line", |seen| Some(seen.count)).await;
    let target = seen.expect("there is one") + lines;
    let more = viewer.until("more lines", |seen| (seen.count >= target).then_some(()));
    more.await.expect("it goes on");
}

async fn an_adopted_task_is_read_on_and_has_each_line_once(place: Place) {
    let mut cluster = place.cluster().await;
    let counts =
        "n=0; while [ ! -e /tmp/end ]; do echo $n; echo $n >&2; n=$((n+1)); sleep 0.02; done";
    let task = Running::start(&cluster, counts).await;
    let viewer = cluster.master.watch_log(&task.task);
    viewer.wait_line("5").await.expect("it runs");

    for _ in 0..2 {
        cluster.kill_worker().await;
        let viewer = started(&mut cluster, &task.task).await;
        cluster.worker.wait_log_line(place.has_caught_up).await;
        wait_more(&viewer, 20).await;
    }
    task.let_go(&cluster, "/tmp/end").await;

    let mut next = [0, 0];
    let lines = task.lines(&cluster).await;
    for line in &lines {
        // The two say the same, so a line is that of the one that is behind or the one that is ahead.
        let number: u32 = line.parse().unwrap_or_else(|_| panic!("{line:?}"));
        let its = next.iter_mut().find(|next| **next == number);
        *its.unwrap_or_else(|| panic!("{number} in {lines:?}")) += 1;
    }
    assert_eq!(next[0], next[1], "{lines:?}");
    // Six of the first worker, and half of what was waited for of each of the others.
    assert!(next[0] >= 6 + 2 * 10, "{next:?}");
    cluster.finish().await;
}

async fn a_line_that_was_begun_while_nobody_read_comes_whole(place: Place) {
    let mut cluster = place.cluster().await;
    let wait = |file: &str| format!("while [ ! -e {file} ]; do sleep 0.02; done");
    let (begin, end) = (wait("/tmp/begin"), wait("/tmp/end"));
    let command = format!(
        "printf 'read, '; echo up >&2; {begin}; printf 'unread, '; echo begun >&2; {end}; echo ended; echo more"
    );
    let task = Running::start(&cluster, &command).await;
    let viewer = cluster.master.watch_log(&task.task);
    viewer.wait_line("up").await.expect("it runs");

    cluster.kill_worker().await;
    task.let_go(&cluster, "/tmp/begin").await;
    let viewer = started(&mut cluster, &task.task).await;
    viewer.wait_line("begun").await.expect("it goes on");
    cluster.worker.wait_log_line(place.has_caught_up).await;
    task.let_go(&cluster, "/tmp/end").await;

    let lines = task.lines(&cluster).await;
    assert_eq!(lines, ["up", "begun", "read, unread, ended", "more"]);
    cluster.finish().await;
}

async fn a_task_that_is_paused_meanwhile_is_read_on_when_it_goes_on(place: Place) {
    let mut cluster = place.cluster().await;
    let counts = "n=0; while [ ! -e /tmp/end ]; do echo $n; n=$((n+1)); sleep 0.02; done";
    let task = Running::start(&cluster, counts).await;
    let viewer = cluster.master.watch_log(&task.task);
    viewer.wait_line("5").await.expect("it runs");

    cluster.kill_worker().await;
    let paused = task.docker.pause_container(&task.container).await;
    paused.expect("it runs");
    let viewer = started(&mut cluster, &task.task).await;
    viewer.wait_line("5").await.expect("what is known of it");
    cluster.worker.wait_log_line(place.reads_on).await;
    let unpaused = task.docker.unpause_container(&task.container).await;
    unpaused.expect("it is paused");
    wait_more(&viewer, 50).await;
    task.let_go(&cluster, "/tmp/end").await;

    let lines = task.lines(&cluster).await;
    let expected: Vec<String> = (0..lines.len()).map(|n| n.to_string()).collect();
    assert_eq!(lines, expected);
    cluster.finish().await;
}

async fn output_that_says_the_same_over_and_over_is_whole_or_marked_once(place: Place) {
    let mut cluster = place.cluster().await;
    let ticks = "n=0; while [ ! -e /tmp/end ]; do echo tick; n=$((n+1)); sleep 0.01; done; echo $n";
    let task = Running::start(&cluster, ticks).await;
    let viewer = cluster.master.watch_log(&task.task);
    wait_more(&viewer, 5).await;

    for _ in 0..2 {
        cluster.kill_worker().await;
        let viewer = started(&mut cluster, &task.task).await;
        wait_more(&viewer, 200).await;
    }
    task.let_go(&cluster, "/tmp/end").await;

    let mut lines = task.lines(&cluster).await;
    let count = lines.pop().expect("the count");
    let before = lines.len();
    lines.retain(|line| !line.starts_with("[worker-node] continuity is not provable here"));
    assert_eq!(before - lines.len(), place.markers, "{lines:?}");
    assert!(lines.iter().all(|line| line == "tick"), "{lines:?}");
    if place.markers == 0 {
        assert_eq!(lines.len().to_string(), count);
    }
    cluster.finish().await;
}
