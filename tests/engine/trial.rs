//! What the adapter finds out of an engine and a worker together, before a task has to.

use bollard::query_parameters::ListContainersOptions;
use worker_node::{
    domain::privileges::Privileges,
    engine::EngineOptions,
    ports::engine::{ContainerEngine, Trial, TrialResult},
};

use crate::bench::{Bench, options};

fn trial(bench: &Bench, folder: Option<&std::path::Path>) -> Trial {
    Trial {
        worker: bench.worker.clone(),
        folder: folder.map(Into::into),
        file: "probe",
        enforce_limits: true,
    }
}

async fn tried(bench: &Bench, folder: Option<&std::path::Path>) -> TrialResult {
    let result = bench.engine.try_out(&trial(bench, folder)).await.unwrap();
    let all = ListContainersOptions {
        all: true,
        ..Default::default()
    };
    let left = bench.docker.list_containers(Some(all)).await.unwrap();
    let ours = format!("/wn-{}-trial", bench.worker);
    let mut names = left.iter().flat_map(|found| found.names.iter().flatten());
    assert!(!names.any(|name| name.starts_with(&ours)));
    result
}

#[tokio::test]
async fn a_bound_folder_is_proven_by_what_the_engine_reads_in_it() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("probe"), "a word").unwrap();

    let bound = tried(&bench, Some(folder.path())).await;
    assert_eq!(bound.seen.as_deref(), Some(&b"a word"[..]));
    assert_eq!(
        (bound.has_init, bound.reads_log_files, bound.lack),
        (true, true, None)
    );
    // On a file system without project quotas, as the tests' engine has its data on.
    assert!(!bound.sizes_layers);
    let elsewhere = tried(&bench, Some(std::path::Path::new("/no/such/folder"))).await;
    assert_eq!((elsewhere.seen, elsewhere.lack), (None, None));
    std::fs::remove_file(folder.path().join("probe")).unwrap();
    let other_files = tried(&bench, Some(folder.path())).await;
    assert_eq!((other_files.seen, other_files.lack), (None, None));
    let without = tried(&bench, None).await;
    assert_eq!((without.seen, without.lack), (None, None));
}

#[tokio::test]
async fn a_network_that_is_not_there_is_told_before_any_task_needs_it() {
    let bench = Bench::with_options(EngineOptions {
        network: Some("nosuchnet".into()),
        ..options()
    });

    let lack = tried(&bench, None).await.lack.unwrap();

    assert!(
        lack.starts_with("the engine has no network nosuchnet (--network)"),
        "{lack}"
    );
    assert!(lack.contains("docker network create nosuchnet"), "{lack}");
}

#[tokio::test]
async fn an_engine_that_can_make_no_container_is_told_with_its_words() {
    let bench = Bench::with_options(EngineOptions {
        privileges: Privileges {
            added: vec!["NO_SUCH_CAPABILITY".into()],
            ..Privileges::default()
        },
        ..options()
    });

    let lack = tried(&bench, None).await.lack.unwrap();

    assert!(
        lack.starts_with("the engine can make no containers for this worker: "),
        "{lack}"
    );
}
