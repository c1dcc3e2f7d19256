//! Images from a registry.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use tempfile::TempDir;
use tokio::sync::mpsc;
use worker_node::{
    engine::EngineOptions,
    ports::engine::{ContainerEngine, EngineError, Image},
};

use crate::{
    bench::{Bench, in_time, options},
    registry::{Guard, ODD, PLAIN, Registry},
};

/// Pulls, and tells the lines and the number of bare signs of life.
async fn pull(bench: &Bench, name: &str) -> (Result<Image, EngineError>, Vec<String>, usize) {
    let image = bench.engine.parse_image(name).unwrap();
    let (sender, mut receiver) = mpsc::channel(1_000);
    let outcome = in_time(bench.engine.pull(&image, sender)).await;
    let (mut lines, mut signs) = (Vec::new(), 0);
    while let Some(item) = receiver.recv().await {
        match item {
            Some(line) => lines.push(line),
            None => signs += 1,
        }
    }
    (outcome, lines, signs)
}

/// A Docker configuration with these credentials for a registry.
fn config_for(address: impl ToString, (user, password): (&str, &str)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let auth = STANDARD.encode(format!("{user}:{password}"));
    let config = serde_json::json!({"auths": {address.to_string(): {"auth": auth}}});
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    folder
}

fn bench_with(docker_config: &TempDir) -> Bench {
    Bench::with_options(EngineOptions {
        docker_config: Some(docker_config.path().to_owned()),
        ..options()
    })
}

/// Bytes that nothing makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(length as u64);
    (0..length).map(|_| random.u8(..)).collect()
}

#[tokio::test]
async fn an_image_is_pulled_with_progress_and_known_by_its_digest() {
    let bench = Bench::new();
    let registry = Registry::start(Guard::Open);
    let name = registry.offer(&bench, "app", &noise(9 << 20)).await;
    let reference = bench.engine.parse_image(&name).unwrap();
    assert_eq!(bench.engine.find_image(&reference).await, Ok(None));

    let (outcome, lines, signs) = pull(&bench, &name).await;

    let image = outcome.unwrap();
    let digest = image.repo_digest.clone().unwrap();
    let repository = name.trim_end_matches(":1");
    assert!(
        digest.starts_with(&format!("{repository}@sha256:")),
        "{digest}"
    );
    assert_eq!(lines[0], "1: Pulling from app");
    assert!(
        lines.iter().any(|line| line.ends_with("Pull complete")),
        "{lines:?}"
    );
    assert!(lines.len() < 20 && signs > 0, "{lines:?} and {signs} signs");
    assert_eq!(
        bench.engine.find_image(&reference).await,
        Ok(Some(image.clone()))
    );
    let by_digest = bench.engine.parse_image(&digest).unwrap();
    assert_eq!(
        bench.engine.find_image(&by_digest).await,
        Ok(Some(image.clone()))
    );
    let by_id = bench.engine.parse_image(&image.id).unwrap();
    assert_eq!(bench.engine.find_image(&by_id).await, Ok(Some(image)));
}

#[tokio::test]
async fn a_pull_goes_on_when_nobody_listens() {
    let bench = Bench::new();
    let registry = Registry::start(Guard::Open);
    let name = registry.offer(&bench, "app", b"nobody listens").await;
    let reference = bench.engine.parse_image(&name).unwrap();
    let (sender, receiver) = mpsc::channel(1);
    drop(receiver);

    let outcome = in_time(bench.engine.pull(&reference, sender)).await;

    assert!(outcome.is_ok(), "{outcome:?}");
}

#[tokio::test]
async fn an_image_is_pulled_by_its_digest() {
    let bench = Bench::new();
    let registry = Registry::start(Guard::Open);
    let name = registry.offer(&bench, "app", b"by digest").await;
    let (pulled, ..) = pull(&bench, &name).await;
    let pulled = pulled.unwrap();
    let digest = pulled.repo_digest.clone().unwrap();
    bench.remove_later(&digest);

    let (again, ..) = pull(&bench, &digest).await;

    assert_eq!(again, Ok(pulled));
}

#[tokio::test]
async fn what_the_registry_does_not_have_is_final() {
    let bench = Bench::new();
    let registry = Registry::start(Guard::Open);
    registry.offer(&bench, "app", b"there").await;
    let address = registry.address();

    for missing in [
        format!("{address}/app:2"),
        format!("{address}/none:1"),
        format!("{address}/app@sha256:{}", "0".repeat(64)),
    ] {
        let (outcome, ..) = pull(&bench, &missing).await;

        assert!(
            matches!(outcome, Err(EngineError::NotFound(_))),
            "{missing}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn an_id_that_is_not_here_is_final_and_asks_nobody() {
    let bench = Bench::new();

    let (outcome, lines, _) = pull(&bench, &"0".repeat(64)).await;

    assert!(
        matches!(outcome, Err(EngineError::NotFound(_))),
        "{outcome:?}"
    );
    assert_eq!(lines, [""; 0]);
}

#[tokio::test]
async fn a_registry_that_is_down_may_come_back() {
    let bench = Bench::new();
    let address = Registry::start(Guard::Open).stop();

    let (outcome, ..) = pull(&bench, &format!("{address}/app:1")).await;

    let Err(EngineError::Failed(said)) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(said.contains("refused"), "{said}");
}

#[tokio::test]
async fn a_guarded_registry_wants_the_right_credentials() {
    let registry = Registry::start(Guard::Htpasswd);
    let address = registry.address();
    let offering = Bench::new();
    let name = registry.offer(&offering, "app", b"guarded").await;

    let none = tempfile::tempdir().unwrap();
    let wrong = config_for(address, (PLAIN.0, "wrong"));
    for folder in [&none, &wrong] {
        let (outcome, ..) = pull(&bench_with(folder), &name).await;
        assert!(
            matches!(outcome, Err(EngineError::Unauthorized(_))),
            "{outcome:?}"
        );
    }

    for right in [PLAIN, ODD] {
        let folder = config_for(address, right);
        let (outcome, ..) = pull(&bench_with(&folder), &name).await;
        assert!(outcome.is_ok(), "{right:?}: {outcome:?}");
    }
}

#[tokio::test]
async fn no_password_is_in_an_error() {
    let registry = Registry::start(Guard::Htpasswd);
    let folder = config_for(registry.address(), ("plain", "a-very-secret-word"));
    let bench = bench_with(&folder);

    let (outcome, lines, _) = pull(&bench, &format!("{}/app:1", registry.address())).await;

    let shown = format!("{outcome:?} {lines:?}");
    assert!(
        outcome.is_err() && !shown.contains("a-very-secret-word"),
        "{shown}"
    );
}
