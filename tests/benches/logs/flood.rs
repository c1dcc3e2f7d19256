//! A task that prints at full speed for a while, beside one that prints five lines a second: while somebody reads the flood at
//! 100 KB/s and somebody in full, the worker's memory stays flat, its heartbeats come in time, and the other task's lines are
//! seen at once. What is kept of the flood is its beginning and its end, and a marker says how much is not.

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, interval};
use worker_node::proto::{LogChunk, LogSource, TaskLogRequest};

use crate::figures::{Times, p50_p99};
use crate::server::Client;
use crate::stage::Stage;
use crate::{Extent, costs};

/// How much of the flood is kept, in bytes: `--spool-cap`.
const KEPT: u64 = 64 << 20;

/// What the slow one takes in a tenth of a second, in bytes.
const SIP: usize = 10_000;

/// Limits of `design` and of the contract.
const MEMORY_MIB: f64 = 60.0;
const SEEN_MS: f64 = 1_000.0;
const HEARTBEAT: Duration = Duration::from_secs(5);

pub(crate) async fn measure(binary: &Path, extent: Extent) -> String {
    let lasts = if extent.rounds == 1 { 5 } else { 30 };
    let cap = KEPT.to_string();
    let stage = Stage::start_as(|setup| {
        setup
            .binary(binary)
            .arguments(["--settle-time", "0s", "--spool-cap", &cap])
    })
    .await;
    let worker = stage.worker.process().pid().as_raw_nonzero();
    let quiet = submitted(&stage, "while :; do date +%s%N; sleep 0.2; done").await;
    let flood = submitted(
        &stage,
        // Offsets count both streams: the shell's word on the kill would stand among the numbers.
        &format!("exec 2>/dev/null; timeout -s KILL {lasts} seq 100000001 999999999; true"),
    )
    .await;
    costs::forget_peak(worker);
    let full = tokio::spawn(whole(client(&stage).await, flood.clone()));
    let slow = tokio::spawn(sipped(client(&stage).await, flood.clone()));
    let seen = tokio::spawn(delays(client(&stage).await, quiet.clone()));
    let begun = Instant::now();
    stage.report(&flood, "success").await;
    let took = begun.elapsed();
    let peak = costs::peak_mib(worker);
    let gap = heartbeat_gap(&stage, begun);
    let (printed, shown) = full.await.expect("it reads to the end");
    slow.abort();
    stage.master.cancel(&quiet).await;
    stage.report(&quiet, "cancelled").await;
    let seen = seen.await.expect("it reads to the end");
    stage.finish().await;
    let holds = |holds| if holds { "yes" } else { "**no**" };
    format!(
        "| a flood of {lasts} s under a reader of 100 KB/s and one of all of it ({} MB kept) | figure | budget | holds |\n\
         | --- | --- | --- | --- |\n\
         | printed, and shown to the one who reads all of it | {:.0} MB in {:.1} s, {:.0} MB | | |\n\
         | the worker's largest memory | {peak:.0} MiB | < {MEMORY_MIB:.0} MiB | {} |\n\
         | longest time between two heartbeats | {:.1} s | every {} s | {} |\n\
         | another task's line, printed to seen, p50 / p99 of {} | {} | < 1 s | {} |\n",
        KEPT >> 20,
        megabytes(printed),
        took.as_secs_f64(),
        megabytes(shown),
        holds(peak < MEMORY_MIB),
        gap.as_secs_f64(),
        HEARTBEAT.as_secs(),
        holds(gap < HEARTBEAT + Duration::from_secs(1)),
        seen.count(),
        p50_p99(&seen),
        holds(seen.count() > 0 && seen.p99() < SEEN_MS),
    )
}

#[expect(clippy::cast_precision_loss, reason = "shown without decimals")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

async fn submitted(stage: &Stage, command: &str) -> String {
    let task = stage.task(command);
    let id = task.task_id.clone();
    stage.offer(task).await;
    id
}

pub(crate) async fn client(stage: &Stage) -> Client {
    let registered = stage.master.wait_registered(stage.worker.id());
    let address = registered.await.expect("it is").info.worker_ip;
    let client = Client::connect(format!("http://{address}")).await;
    client.expect("the worker listens")
}

async fn followed(mut client: Client, task: String) -> tonic::Streaming<LogChunk> {
    let request = TaskLogRequest {
        task_id: task,
        follow: true,
        batches: true,
        ..TaskLogRequest::default()
    };
    let stream = client.stream_task_logs(request).await;
    stream.expect("a log").into_inner()
}

/// Reads all that there is, and checks that each piece is what was printed at its place. How many bytes were printed, and how many
/// of them came.
async fn whole(client: Client, task: String) -> (u64, u64) {
    let mut stream = followed(client, task).await;
    let (mut shown, mut printed) = (0, 0);
    while let Some(chunk) = stream.message().await.expect("no error") {
        let mut data = &chunk.data[..];
        for piece in &chunk.pieces {
            let (bytes, rest) = data.split_at(usize::try_from(piece.length).expect("small"));
            data = rest;
            if piece.source == i32::from(LogSource::Stdout) {
                assert_printed(piece.offset, bytes);
                shown += piece.length;
                printed = piece.offset + piece.length;
            }
        }
    }
    (printed, shown)
}

/// Its first whole line is the number that stands there: each has nine digits and a newline.
fn assert_printed(offset: u64, bytes: &[u8]) {
    let before = usize::try_from((10 - offset % 10) % 10).expect("small");
    if let Some(line) = bytes.get(before..before + 10) {
        let number = 100_000_001 + offset.div_ceil(10);
        assert_eq!(
            String::from_utf8_lossy(line),
            format!("{number}\n"),
            "at {offset}"
        );
    }
}

/// Takes 100 KB/s of it, for as long as it is let.
async fn sipped(client: Client, task: String) {
    let mut stream = followed(client, task).await;
    let mut ticks = interval(Duration::from_millis(100));
    let mut thirst = 0;
    loop {
        ticks.tick().await;
        thirst += SIP;
        while thirst > 0 {
            match stream.message().await {
                Ok(Some(chunk)) => thirst = thirst.saturating_sub(chunk.data.len()),
                Ok(None) | Err(_) => return,
            }
        }
    }
}

/// How long each line of the quiet task took from its printing to its reader: both go by the clock of this machine.
async fn delays(client: Client, task: String) -> Times {
    let mut stream = followed(client, task).await;
    let mut times = Times::default();
    while let Some(chunk) = stream.message().await.expect("no error") {
        let now = jiff::Timestamp::now().as_nanosecond();
        let text = String::from_utf8_lossy(&chunk.data);
        for printed in text.lines().filter_map(|line| line.parse::<i128>().ok()) {
            let nanos = u64::try_from(now - printed).unwrap_or_default();
            times.push(Duration::from_nanos(nanos));
        }
    }
    times
}

fn heartbeat_gap(stage: &Stage, since: Instant) -> Duration {
    let id = stage.worker.id().to_owned();
    stage.master.look(|record| {
        let beats = &record.worker(&id).expect("it is registered").heartbeats;
        let at: Vec<_> = beats.iter().map(|beat| beat.at).collect();
        let gaps = at.windows(2).filter(|pair| pair[1] > since);
        gaps.map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    })
}
