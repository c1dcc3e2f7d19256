//! Many tasks that run and log: how soon the worker answers meanwhile, beside bare commits in between; what it takes of memory
//! for each; and how soon a successor has adopted them all.
//!
//! The offers that are timed are of an image whose registry never answers, so that no container's start is in the way: the
//! answer to an offer is the same whatever the image is. They are cancelled while their image is pulled; in the end those
//! that run are cancelled one after the other.

use std::path::Path;

use tokio::net::TcpListener;

use crate::Extent;
use crate::commit::BareCommit;
use crate::figures::{Times, p50_p99};
use crate::stage::Stage;
use crate::table::Row;

/// Ten lines a second, without a new process for each.
const LOGGER: &str = "mkfifo /tmp/never; exec 3<>/tmp/never; \
    while :; do read -t 0.1 -u 3 nothing; echo a line of about fifty bytes, ten times in every second; done";

/// Limits of `design`, over the p99 of bare commits and per task.
pub(crate) const ASSIGN_MS: f64 = 5.0;
const CANCEL_MS: f64 = 15.0;
const TASK_KIB: f64 = 256.0;
const REGISTERED_S: f64 = 1.0;
const READY_S: f64 = 2.0;

pub(crate) async fn measure(binary: &Path, extent: Extent) -> Vec<Row> {
    let mut stage = Stage::start(binary, ["--settle-time", "0s", "--stop-grace", "1s"]).await;
    let idle = stage.memory();
    let crowd = gather(&stage, extent).await;
    let mut rows = answers(&stage, extent).await;
    rows.push(memory(idle, stage.memory(), extent));
    rows.extend(adoption(&mut stage, extent).await);
    rows.push(cancel_all(&stage, &crowd).await);
    stage.finish().await;
    rows
}

/// Starts them all, and waits until each has logged.
async fn gather(stage: &Stage, extent: Extent) -> Vec<String> {
    let tasks: Vec<_> = (0..extent.crowd).map(|_| stage.task(LOGGER)).collect();
    let ids: Vec<_> = tasks.iter().map(|task| task.task_id.clone()).collect();
    for task in tasks {
        stage.offer(task).await;
    }
    for id in &ids {
        let log = stage.master.watch_log(id);
        log.wait_line("a line").await.expect("it logs");
    }
    ids
}

async fn answers(stage: &Stage, extent: Extent) -> Vec<Row> {
    let (mut assign, mut cancel, mut bare) = <(Times, Times, Times)>::default();
    let commit = BareCommit::new();
    let registry = silent_registry().await;
    for _ in 0..extent.answers {
        let mut task = stage.task("true");
        let id = task.task_id.clone();
        task.docker_image = format!("{registry}/none");
        bare.push(commit.time().await);
        assign.push(stage.offer(task).await);
        bare.push(commit.time().await);
        let cancelled = stage.master.cancel(&id).await.expect("it was offered");
        assert!(cancelled.answer.is_success(), "{cancelled:?}");
        cancel.push(cancelled.took);
        stage.report(&id, "cancelled").await;
    }
    let crowd = extent.crowd;
    vec![
        Row::new(format!(
            "AssignTask acknowledged, {crowd} tasks running and logging"
        ))
        .beside(&bare, &assign, ASSIGN_MS),
        Row::new("CancelTask acknowledged, likewise").beside(&bare, &cancel, CANCEL_MS),
    ]
}

/// Takes connections and says nothing on them.
pub(crate) async fn silent_registry() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            held.push(connection);
        }
    });
    address
}

/// What came once, with the first tasks, counts too.
fn memory(idle_kib: f64, kib: f64, extent: Extent) -> Row {
    let tasks = u32::try_from(extent.crowd).expect("some dozens");
    let each = (kib - idle_kib) / f64::from(tasks);
    Row::new("memory (resident) per running task")
        .samples(extent.crowd)
        .worker(format!("{each:.0} KiB; {:.1} MiB in all", kib / 1024.0))
        .budget("< 256 KiB", each < TASK_KIB)
}

async fn adoption(stage: &mut Stage, extent: Extent) -> Vec<Row> {
    let (registered, ready) = stage.kill_and_restart().await;
    let crowd = extent.crowd;
    let row = |what: &str, time: std::time::Duration, limit: f64| {
        Row::new(format!(
            "{what} after kill -9 and start, {crowd} containers to adopt"
        ))
        .samples(1)
        .worker(format!("{:.0} ms", time.as_secs_f64() * 1e3))
        .budget(format!("< {limit} s"), time.as_secs_f64() < limit)
    };
    vec![
        row("registered", registered, REGISTERED_S),
        row("ready", ready, READY_S),
    ]
}

/// One after the other, each when the one before has ended.
async fn cancel_all(stage: &Stage, crowd: &[String]) -> Row {
    let (mut cancel, mut bare) = <(Times, Times)>::default();
    let commit = BareCommit::new();
    for id in crowd {
        bare.push(commit.time().await);
        let cancelled = stage.master.cancel(id).await.expect("it was offered");
        assert!(cancelled.answer.is_success(), "{cancelled:?}");
        cancel.push(cancelled.took);
        stage.report(id, "cancelled").await;
    }
    for id in crowd {
        stage.wait_removed(id).await;
    }
    Row::new("CancelTask acknowledged, of those running, one after the other")
        .beside(&bare, &cancel, CANCEL_MS)
}

impl Row {
    /// Worker's answers beside bare commits, with a limit on how much later their p99 is, in milliseconds.
    pub(crate) fn beside(self, bare: &Times, answers: &Times, limit: f64) -> Self {
        let more = answers.p99() - bare.p99();
        self.samples(answers.count())
            .bare(p50_p99(bare))
            .worker(p50_p99(answers))
            .compared(format!(
                "p50 {:+.1} ms, p99 {more:+.1} ms",
                answers.p50() - bare.p50()
            ))
            .budget(format!("p99 <= +{limit} ms"), more <= limit)
    }
}
