//! A worker that has nothing to do: how soon it is registered, and its memory.

use std::path::Path;

use crate::Extent;
use crate::figures::Times;
use crate::stage::Stage;
use crate::table::Row;

/// Limits of `design`: a second to the registration, 25 MiB.
const REGISTERED_MS: f64 = 1000.0;
const IDLE_KIB: f64 = 25.0 * 1024.0;

pub(crate) async fn measure(binary: &Path, extent: Extent) -> Vec<Row> {
    let mut registered = Times::default();
    for _ in 1..extent.starts {
        let stage = Stage::start(binary, []).await;
        registered.push(stage.registered_after);
        stage.finish().await;
    }
    let stage = Stage::start(binary, []).await;
    registered.push(stage.registered_after);
    let ended = tokio::time::timeout(extent.idle, stage.worker.process().wait_exit()).await;
    assert!(ended.is_err(), "the worker ended while it was idle");
    let memory = stage.memory();
    stage.finish().await;
    vec![
        Row::new("registered after the start of the process, slowest")
            .samples(registered.count())
            .worker(format!("{:.0} ms", registered.p99()))
            .budget("< 1 s", registered.p99() < REGISTERED_MS),
        Row::new("memory (resident) when idle")
            .worker(format!("{:.1} MiB", memory / 1024.0))
            .budget("< 25 MiB", memory < IDLE_KIB),
    ]
}
