//! What it costs that accepted means durable. Offers one after another, beside bare commits; as many at once, which share their flushes
//! to the disk; and the rate of tasks beside a worker whose state lies in memory, where a flush costs nothing.
//!
//! The offers are of an image whose registry never answers, so that no container is in the way; they are cancelled when all are
//! answered. Flushes are counted as system calls of the worker's process.

use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::Extent;
use crate::bare::BareLoop;
use crate::commit::BareCommit;
use crate::crowd::{ASSIGN_MS, silent_registry};
use crate::figures::{Times, p50_p99, quantile, spread};
use crate::flushes::Flushes;
use crate::rate::burst;
use crate::stage::Stage;
use crate::table::Row;

/// Where files are in memory. A worker's state there survives no power cut.
const MEMORY: &str = "/dev/shm";

/// Offers at once take fewer flushes than one for each of so many.
const SHARE: f64 = 4.0;

pub(crate) async fn measure(binary: &Path, extent: Extent) -> Vec<Row> {
    let mut rows = offers(binary, extent).await;
    rows.extend(rates(binary, extent).await);
    rows
}

/// A worker whose flushes are counted.
async fn counted(binary: &Path) -> (Stage, Flushes) {
    let flushes = Flushes::new();
    let stage = Stage::start_as(|setup| {
        flushes
            .of(setup)
            .binary(binary)
            .arguments(["--settle-time", "0s"])
    })
    .await;
    (stage, flushes)
}

/// What some offers took.
#[derive(Default)]
struct Offers {
    answers: Times,
    /// Until all were answered, in milliseconds.
    spans: Vec<f64>,
    /// Meanwhile.
    flushes: Vec<f64>,
}

async fn offers(binary: &Path, extent: Extent) -> Vec<Row> {
    let (stage, flushes) = counted(binary).await;
    let (mut alone, mut together) = <(Offers, Offers)>::default();
    let (mut bare, mut bare_spans) = (Times::default(), Vec::new());
    let commit = BareCommit::new();
    let image = format!("{}/none", silent_registry().await);
    for _ in 0..extent.rounds {
        let begun = Instant::now();
        for _ in 0..extent.crowd {
            bare.push(commit.time().await);
        }
        bare_spans.push(millis(begun.elapsed()));
        one_after_another(&stage, &flushes, (&image, extent.crowd), &mut alone).await;
        at_once(&stage, &flushes, (&image, extent.crowd), &mut together).await;
    }
    stage.finish().await;
    rows_of_offers(extent, (&bare, &bare_spans), &alone, &together)
}

async fn one_after_another(
    stage: &Stage,
    flushes: &Flushes,
    (image, count): (&str, usize),
    offers: &mut Offers,
) {
    let (begun, before) = (Instant::now(), flushes.so_far());
    let mut ids = Vec::new();
    for _ in 0..count {
        let flushed = flushes.so_far();
        let (id, answer) = offer(stage, image).await;
        assert!(flushes.so_far() > flushed, "{id} is not durable");
        offers.answers.push(answer);
        ids.push(id);
    }
    offers.spans.push(millis(begun.elapsed()));
    offers.flushes.push(as_f64(flushes.so_far() - before));
    cancel_all(stage, &ids).await;
}

async fn at_once(
    stage: &Stage,
    flushes: &Flushes,
    (image, count): (&str, usize),
    offers: &mut Offers,
) {
    let (begun, before) = (Instant::now(), flushes.so_far());
    let answers = join_all((0..count).map(|_| offer(stage, image))).await;
    offers.spans.push(millis(begun.elapsed()));
    offers.flushes.push(as_f64(flushes.so_far() - before));
    let (ids, times): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
    times.into_iter().for_each(|time| offers.answers.push(time));
    cancel_all(stage, &ids).await;
}

pub(crate) async fn offer(stage: &Stage, image: &str) -> (String, Duration) {
    let mut task = stage.task("true");
    task.docker_image = image.to_owned();
    let id = task.task_id.clone();
    let answer = stage.offer(task).await;
    (id, answer)
}

pub(crate) async fn cancel_all(stage: &Stage, ids: &[String]) {
    let cancels = ids.iter().map(|id| stage.master.cancel(id));
    for cancelled in join_all(cancels).await {
        let cancelled = cancelled.expect("it was offered");
        assert!(cancelled.answer.is_success(), "{cancelled:?}");
    }
    for id in ids {
        stage.report(id, "cancelled").await;
    }
}

fn rows_of_offers(
    extent: Extent,
    (bare, bare_spans): (&Times, &[f64]),
    alone: &Offers,
    together: &Offers,
) -> Vec<Row> {
    let count = extent.crowd;
    let limit = as_f64(count) / SHARE;
    let most = quantile(&together.flushes, 1.0);
    vec![
        Row::new("AssignTask acknowledged, one offer after another, nothing else to do").beside(
            bare,
            &alone.answers,
            ASSIGN_MS,
        ),
        Row::new(format!("AssignTask acknowledged, {count} offered at once"))
            .samples(together.answers.count())
            .worker(p50_p99(&together.answers)),
        Row::new(format!(
            "{count} offers at once, until all are acknowledged; bare: {count} commits"
        ))
        .samples(together.spans.len())
        .bare(whole(bare_spans, " ms"))
        .worker(whole(&together.spans, " ms"))
        .compared(format!("{} one after another", whole(&alone.spans, " ms"))),
        Row::new(format!(
            "flushes (fsync, fdatasync) until {count} offers at once are acknowledged"
        ))
        .samples(together.flushes.len())
        .worker(whole(&together.flushes, ""))
        .compared(format!("{} one after another", whole(&alone.flushes, "")))
        .budget(format!("<= {limit:.0}"), most <= limit),
    ]
}

/// Bursts: with the state on the disk, with the state in memory, and by bare loops.
async fn rates(binary: &Path, extent: Extent) -> Vec<Row> {
    let (on_disk, flushes) = counted(binary).await;
    let in_memory = Stage::start_as(|setup| {
        setup
            .binary(binary)
            .arguments(["--settle-time", "0s"])
            .state_beneath(Path::new(MEMORY))
    })
    .await;
    let bare = BareLoop::like_a_task(&on_disk).await;
    let mut rates = [const { Vec::new() }; 3];
    let (mut each, mut answers) = (Vec::new(), Times::default());
    let mut unused = Times::default();
    for round in 0..extent.rounds {
        let mut disk_first = [true, false];
        disk_first.rotate_left(round % 2);
        for disk in disk_first {
            if disk {
                let before = flushes.so_far();
                rates[0].push(burst(&on_disk, extent, &mut answers).await);
                each.push(as_f64(flushes.so_far() - before) / as_f64(extent.burst));
            } else {
                rates[1].push(burst(&in_memory, extent, &mut unused).await);
            }
        }
        rates[2].push(bare.rate(extent.burst, LOOPS).await);
    }
    in_memory.finish().await;
    on_disk.finish().await;
    rows_of_rates(extent, &rates, &each)
}

/// The bare loops at once that are the fastest as a rule: see `rate`.
const LOOPS: usize = 8;

fn rows_of_rates(extent: Extent, [disk, memory, bare]: &[Vec<f64>; 3], each: &[f64]) -> Vec<Row> {
    let ratios = |others: &[f64]| -> Vec<f64> {
        let pairs = disk.iter().zip(others);
        pairs.map(|(mine, theirs)| mine / theirs).collect()
    };
    vec![
        Row::new(format!(
            "tasks per second, {} offered at once, beside a worker whose state is in memory",
            extent.burst
        ))
        .samples(disk.len())
        .bare(format!("{LOOPS} loops: {}", spread(bare)))
        .worker(format!("{}; in memory {}", spread(disk), spread(memory)))
        .compared(format!(
            "{} of that in memory, {} of the loops",
            spread(&ratios(memory)),
            spread(&ratios(bare))
        )),
        Row::new("flushes per task in that burst, from its offer to its end")
            .samples(each.len())
            .worker(spread(each)),
    ]
}

/// `7 (5 to 9) ms`.
fn whole(samples: &[f64], unit: &str) -> String {
    let at = |share| quantile(samples, share);
    format!("{:.0} ({:.0} to {:.0}){unit}", at(0.5), at(0.0), at(1.0))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[expect(clippy::cast_precision_loss, reason = "some hundreds")]
fn as_f64(count: usize) -> f64 {
    count as f64
}
