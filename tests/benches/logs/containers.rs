//! The same log from a real container: what our reading of it costs the container, what it costs us, and what the engine's own
//! client costs beside it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfigLogConfig};
use bollard::query_parameters::{StartContainerOptions, WaitContainerOptions};
use futures_util::StreamExt as _;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::Instant;
use worker_node::proto::TaskLogRequest;

use crate::bare::BareLoop;
use crate::figures::quantile;
use crate::flood::client;
use crate::server::Client;
use crate::stage::Stage;
use crate::{Extent, LINE, costs};

/// Who reads, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The container without a worker and without readers.
    Alone,
    /// The same under `docker logs -f`.
    DockerFollows,
    /// Under the worker, and nobody looks.
    Unseen,
    /// So many follow it in batches.
    Batches(usize),
    /// One follows it line by line.
    Lines,
    /// `docker logs` of a container that has ended.
    DockerAfter,
    /// `worker-node logs --raw` of a task that has ended.
    OursAfter,
    /// One asks for batches of a task that has ended.
    BatchesAfter,
}

const WAYS: [Way; 9] = [
    Way::Alone,
    Way::Unseen,
    Way::Batches(1),
    Way::Batches(8),
    Way::Lines,
    Way::DockerFollows,
    Way::DockerAfter,
    Way::OursAfter,
    Way::BatchesAfter,
];

impl Way {
    fn name(self) -> String {
        match self {
            Self::Alone => "the container alone".into(),
            Self::DockerFollows => "the container alone, `docker logs -f`".into(),
            Self::Unseen => "under the worker, no reader".into(),
            Self::Batches(readers) => format!("under the worker, {readers} in batches"),
            Self::Lines => "under the worker, 1 line by line".into(),
            Self::DockerAfter => "ended: `docker logs`".into(),
            Self::OursAfter => "ended: `worker-node logs --raw`".into(),
            Self::BatchesAfter => "ended: 1 in batches".into(),
        }
    }
}

/// What one round of one way came to.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    /// How long the container ran, by the engine's clock; of one that has ended, how long the reading took.
    took: f64,
    /// Processor time of the worker, of the engine, and of a client that is a process of its own, in seconds.
    worker: f64,
    engine: f64,
    client: f64,
    /// The worker's largest memory, in MiB.
    peak: f64,
}

/// The table of all ways.
pub(crate) async fn measure(binary: &Path, extent: Extent) -> String {
    let stage = Stage::start_as(|setup| {
        setup.binary(binary).arguments([
            "--settle-time",
            "0s",
            "--engine-log",
            "2GiB",
            "--spool-cap",
            "4GiB",
        ])
    })
    .await;
    let scene = Scene {
        bare: BareLoop::like_a_task(&stage).await,
        stage,
        binary,
        lines: extent.lines,
    };
    let mut costs = vec![Vec::new(); WAYS.len()];
    for round in 0..extent.rounds.min(5) {
        for (way, costs) in WAYS.into_iter().zip(&mut costs) {
            let cost = scene.measured(way).await;
            eprintln!("round {}: {}: {cost:.2?}", round + 1, way.name());
            costs.push(cost);
        }
    }
    scene.stage.finish().await;
    table(extent, &costs)
}

struct Scene<'a> {
    stage: Stage,
    bare: BareLoop,
    binary: &'a Path,
    lines: u64,
}

impl Scene<'_> {
    /// Prints the log, 100 bytes a line, at full speed.
    fn command(&self) -> String {
        let line = "x".repeat(usize::try_from(LINE - 1).expect("small"));
        format!("yes {line} | head -n {}", self.lines)
    }

    async fn measured(&self, way: Way) -> Cost {
        match way {
            Way::Alone | Way::DockerFollows => {
                let container = self.made().await;
                let cost = self.counted(self.ran(&container, way)).await;
                self.bare.remove(&container).await;
                cost
            }
            Way::DockerAfter => {
                let container = self.made().await;
                self.ran(&container, Way::Alone).await;
                let cost = self.counted(self.docker_logs(&container, false)).await;
                self.bare.remove(&container).await;
                cost
            }
            Way::Unseen | Way::Batches(_) | Way::Lines => self.counted(self.task(way)).await,
            Way::OursAfter | Way::BatchesAfter => {
                let task = self.submitted().await;
                self.ended(&task).await;
                match way {
                    Way::OursAfter => self.counted(self.our_logs(&task)).await,
                    _ => self.counted(self.batches_of(&task)).await,
                }
            }
        }
    }

    /// What happens meanwhile; the work says how long it took.
    async fn counted(&self, work: impl Future<Output = Duration>) -> Cost {
        let worker = self.stage.worker.process().pid().as_raw_nonzero();
        let engine = || costs::engine().map_or(Duration::ZERO, costs::of);
        costs::forget_peak(worker);
        let before = (costs::of(worker), engine(), costs::of_ended_children());
        let took = work.await;
        let after = (costs::of(worker), engine(), costs::of_ended_children());
        Cost {
            took: took.as_secs_f64(),
            worker: (after.0 - before.0).as_secs_f64(),
            engine: (after.1 - before.1).as_secs_f64(),
            client: (after.2 - before.2).as_secs_f64(),
            peak: costs::peak_mib(worker),
        }
    }

    /// A container like a task's, of which the engine keeps all that it prints.
    async fn made(&self) -> String {
        let mut body: ContainerCreateBody = self.bare.body();
        body.cmd = Some(vec!["sh".into(), "-c".into(), self.command()]);
        body.entrypoint = None;
        let host = body.host_config.get_or_insert_default();
        host.log_config = Some(HostConfigLogConfig {
            typ: Some("local".into()),
            config: Some([("max-size".to_owned(), "2g".to_owned())].into()),
        });
        self.bare.create(&body).await
    }

    /// Starts it; how long it ran.
    async fn ran(&self, container: &str, way: Way) -> Duration {
        let docker = &self.stage.docker;
        let started = docker.start_container(container, None::<StartContainerOptions>);
        started.await.expect("start");
        if way == Way::DockerFollows {
            self.docker_logs(container, true).await;
        }
        let options = WaitContainerOptions {
            condition: "not-running".to_owned(),
        };
        let ended = docker.wait_container(container, Some(options)).next().await;
        assert!(matches!(ended, Some(Ok(_))), "{ended:?}");
        let seen = docker.inspect_container(container, None).await;
        let state = seen.expect("it is there").state.expect("it has one");
        let at = |time: Option<String>| -> jiff::Timestamp {
            time.expect("it ended").parse().expect("a time")
        };
        let ran = at(state.finished_at).duration_since(at(state.started_at));
        ran.unsigned_abs()
    }

    async fn docker_logs(&self, container: &str, follows: bool) -> Duration {
        let mut command = Command::new("docker");
        command.args(["logs"]).args(follows.then_some("-f"));
        command.arg(container);
        run(command).await
    }

    async fn our_logs(&self, task: &str) -> Duration {
        let mut command = Command::new(self.binary);
        command.args(["logs", "--raw", "--state-dir"]);
        command.arg(self.stage.worker.state_dir()).arg(task);
        run(command).await
    }

    async fn submitted(&self) -> String {
        let task = self.stage.task(&self.command());
        let id = task.task_id.clone();
        self.stage.offer(task).await;
        id
    }

    /// How long its container ran, as its result tells.
    async fn ended(&self, task: &str) -> Duration {
        let report = self.stage.report(task, "success").await;
        let (_, told) = report.logs.rsplit_once(", duration ").expect("a trailer");
        let (seconds, _) = told.split_once(" s").expect("seconds");
        Duration::from_secs_f64(seconds.parse().expect("a number"))
    }

    /// A task with its readers: all have seen all of it.
    async fn task(&self, way: Way) -> Duration {
        let task = self.submitted().await;
        let mut reading = JoinSet::new();
        let readers = match way {
            Way::Batches(readers) => readers,
            Way::Lines => 1,
            _ => 0,
        };
        for _ in 0..readers {
            reading.spawn(read(
                client(&self.stage).await,
                task.clone(),
                way != Way::Lines,
            ));
        }
        let took = self.ended(&task).await;
        for read in reading.join_all().await {
            assert!(read >= self.lines * LINE, "{read} bytes");
        }
        took
    }

    async fn batches_of(&self, task: &str) -> Duration {
        let client = client(&self.stage).await;
        let begun = Instant::now();
        let read = read(client, task.to_owned(), true).await;
        assert!(read >= self.lines * LINE, "{read} bytes");
        begun.elapsed()
    }
}

/// To its end, with its output thrown away.
async fn run(mut command: Command) -> Duration {
    let begun = Instant::now();
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().await.expect("it can be started");
    assert!(status.success(), "{status}");
    begun.elapsed()
}

/// Follows a log to its end; how many bytes of it came, newlines included.
async fn read(mut client: Client, task: String, batches: bool) -> u64 {
    let request = TaskLogRequest {
        task_id: task,
        follow: true,
        batches,
        ..TaskLogRequest::default()
    };
    let stream = client.stream_task_logs(request).await;
    let mut stream = stream.expect("a log").into_inner();
    let mut read = 0;
    while let Some(chunk) = stream.message().await.expect("no error") {
        read += match batches {
            true => chunk.data.len() as u64,
            false => chunk.content.len() as u64 + 1,
        };
    }
    read
}

#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
fn table(extent: Extent, costs: &[Vec<Cost>]) -> String {
    let mut table = String::from(
        "| printed by a container, read by | time, median | fastest to slowest | beside the container alone | MB/s | lines/s | CPU: worker | engine | client | worker's peak |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    let bytes = (extent.lines * LINE) as f64;
    for (way, rounds) in WAYS.into_iter().zip(costs) {
        let each = |of: fn(&Cost) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
        let median = |of| quantile(&each(of), 0.5);
        let times = each(|cost| cost.took);
        // Each beside the container of its own round.
        let ratios: Vec<_> = rounds
            .iter()
            .zip(&costs[0])
            .map(|(cost, alone)| cost.took / alone.took)
            .collect();
        let seconds = quantile(&times, 0.5);
        table += &format!(
            "| {} | {seconds:.2} s | {:.2} to {:.2} s | {:.2} ({:.2} to {:.2}) | {:.0} | {:.0} | {:.2} s | {:.2} s | {:.2} s | {:.0} MiB |\n",
            way.name(),
            quantile(&times, 0.0),
            quantile(&times, 1.0),
            quantile(&ratios, 0.5),
            quantile(&ratios, 0.0),
            quantile(&ratios, 1.0),
            bytes / seconds / 1e6,
            extent.lines as f64 / seconds,
            median(|cost| cost.worker),
            median(|cost| cost.engine),
            median(|cost| cost.client),
            median(|cost| cost.peak),
        );
    }
    table
}
