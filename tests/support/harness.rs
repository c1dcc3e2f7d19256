//! What the end-to-end tests stand on: the real binary as a process, the real engine, a registry on loopback, and the
//! recording master, put together by `Cluster`. A test file takes it in with `#[path = "support/harness.rs"] mod harness;`.
//! Everything a test starts ends with it, whether it passes or not; nothing here sleeps to let things happen.
#![allow(
    dead_code,
    unused_imports,
    reason = "every test binary uses a part of it"
)]

mod chosen;
mod cluster;
mod engine;
mod engine_proxy;
mod far_door;
pub(crate) mod frames;
mod gate;
mod image;
mod private_engine;
mod process;
mod registry;
mod small_disk;
mod worker;

pub(crate) use chosen::{chosen, is_full, times};
pub(crate) use cluster::{Cluster, master_options};
pub(crate) use engine::{
    BUSYBOX, Engine, TASK_LABEL, WORKER_LABEL, remove_all_of, remove_container,
};
pub(crate) use engine_proxy::EngineProxy;
pub(crate) use far_door::FarDoor;
pub(crate) use gate::Gate;
pub(crate) use image::{TestImage, remove_image};
pub(crate) use private_engine::{Flaws, OnStop, PrivateEngine};
pub(crate) use process::Process;
pub(crate) use registry::{LOGIN, Registry};
pub(crate) use small_disk::SmallDisk;
pub(crate) use worker::{WorkerProcess, WorkerSetup};

use std::time::Duration;

/// How long a test waits for a fact before it fails: far more than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Looks again and again until something is so: a file system rings no bell.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    let so = async {
        while !is_so() {
            looks.tick().await;
        }
    };
    let within = tokio::time::timeout(PATIENCE, so).await;
    assert!(within.is_ok(), "never: {what}");
}

/// A name that no other test has, of `prefix` and some random letters.
pub(crate) fn unique(prefix: &str) -> String {
    let letters: String = (0..10).map(|_| fastrand::lowercase()).collect();
    format!("{prefix}-{letters}")
}

/// Runs `work` to its end from a `Drop`, whatever runtime the test has.
pub(crate) fn run_to_end(work: impl Future<Output = ()> + Send + 'static) {
    let thread = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime for the cleaning").block_on(work);
    });
    if thread.join().is_err() {
        eprintln!("the cleaning after a test panicked");
    }
}
