//! Tasks per second: a burst offered at once, beside the best of bare loops at any parallelism, in rounds. A container counts
//! when it is removed, on both sides.

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::Extent;
use crate::bare::{BareLoop, COMMAND, per_second};
use crate::figures::{Times, p50_p99, quantile, spread};
use crate::stage::Stage;
use crate::table::Row;

/// Loops at once. More only queue in the engine.
const LOOPS: [usize; 4] = [1, 2, 4, 8];
/// Between the loops that are the fastest as a rule.
const WORKERS_TURN: usize = 3;
const LEAST_RATIO: f64 = 0.95;

pub(crate) async fn measure(stage: &Stage, bare: &BareLoop, extent: Extent) -> Vec<Row> {
    let mut by_loops = [const { Vec::new() }; LOOPS.len()];
    let (mut rates, mut ratios, mut answers) = (Vec::new(), Vec::new(), Times::default());
    for _ in 0..extent.rounds {
        // The worker in the middle: a machine that becomes slower or faster does so for both.
        let mut best = 0.0_f64;
        for (turn, loops) in LOOPS.into_iter().enumerate() {
            if turn == WORKERS_TURN {
                rates.push(burst(stage, extent, &mut answers).await);
            }
            let rate = bare.rate(extent.burst * loops.min(4) / 4, loops).await;
            best = best.max(rate);
            by_loops[turn].push(rate);
        }
        ratios.push(rates.last().copied().unwrap_or(0.0) / best);
        eprintln!("  the round's best by loops {best:.2}, tasks {rates:.2?}");
    }
    rows(&by_loops, &rates, &ratios, &answers, extent)
}

fn rows(
    by_loops: &[Vec<f64>],
    rates: &[f64],
    ratios: &[f64],
    answers: &Times,
    extent: Extent,
) -> Vec<Row> {
    let medians: Vec<_> = by_loops.iter().map(|rates| quantile(rates, 0.5)).collect();
    let loops = LOOPS.iter().zip(&medians);
    let loops: Vec<_> = loops.map(|(n, rate)| format!("{n}: {rate:.2}")).collect();
    let holds = quantile(ratios, 0.5) >= LEAST_RATIO;
    vec![
        Row::new(format!(
            "tasks per second, {} offered at once",
            extent.burst
        ))
        .samples(rates.len())
        .bare(format!("by loops {}", loops.join(", ")))
        .worker(spread(rates))
        .compared(format!("{} of the round's best", spread(ratios)))
        .budget(format!(">= {LEAST_RATIO}"), holds),
        Row::new("AssignTask acknowledged in that burst, p50 / p99")
            .samples(answers.count())
            .worker(p50_p99(answers)),
    ]
}

/// Offers a burst at once and waits until nothing is left of it; how many tasks that makes per second.
pub(crate) async fn burst(stage: &Stage, extent: Extent, answers: &mut Times) -> f64 {
    let tasks: Vec<_> = (0..extent.burst).map(|_| stage.task(COMMAND)).collect();
    let ids: Vec<_> = tasks.iter().map(|task| task.task_id.clone()).collect();
    let begun = Instant::now();
    for answer in join_all(tasks.into_iter().map(|task| stage.offer(task))).await {
        answers.push(answer);
    }
    for id in &ids {
        stage.report(id, "success").await;
    }
    for id in &ids {
        stage.wait_removed(id).await;
    }
    per_second(ids.len(), begun.elapsed())
}
