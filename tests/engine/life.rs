//! Create, start, wait, inspect, kill, remove.

use std::time::UNIX_EPOCH;

use futures_util::StreamExt as _;
use worker_node::{
    domain::id::ContainerId,
    ports::engine::{ContainerEngine, ContainerState, EngineError, Force, Signal},
};

use crate::bench::{Bench, Output, in_time, no_image, read};

#[tokio::test]
async fn a_command_that_works_ends_with_0() {
    let bench = Bench::new();
    let plan = bench.plan("echo hello; echo oops >&2").await;

    let (id, code, output) = bench.run(&plan).await;

    assert_eq!(code, 0);
    assert_eq!(output.stdout, b"hello\n");
    assert_eq!(output.stderr, b"oops\n");
    let exit = bench.exit(&id).await;
    assert_eq!((exit.code, exit.oom_killed), (0, false));
    assert!(exit.started_at.is_some() && exit.finished_at.is_some());
}

#[tokio::test]
async fn an_exit_code_is_told_as_it_is_however_late_it_is_asked_for() {
    let bench = Bench::new();

    let (id, code, _) = bench.run(&bench.plan("exit 7").await).await;

    assert_eq!(code, 7);
    assert_eq!(in_time(bench.engine.wait(&id)).await, Ok(7));
    assert_eq!(bench.exit(&id).await.code, 7);
}

#[tokio::test]
async fn a_signal_ends_a_shell_that_does_not_listen_to_it() {
    let bench = Bench::new();

    for (signal, expected) in [(Signal::Term, 143), (Signal::Kill, 137)] {
        let id = bench.running().await;
        bench.engine.kill(&id, signal).await.unwrap();

        assert_eq!(in_time(bench.engine.wait(&id)).await, Ok(expected));
        assert!(!bench.exit(&id).await.oom_killed);
    }
}

#[tokio::test]
async fn a_container_over_its_memory_is_killed_and_says_so() {
    let bench = Bench::new();
    let mut plan = bench.plan("tail /dev/zero").await;
    plan.spec.wants.memory = 16.0 / 1024.0;

    let mut events = bench.engine.events(&bench.worker).await.unwrap();
    let (id, code, _) = bench.run(&plan).await;

    assert_eq!(code, 137);
    assert_eq!(bench.exit(&id).await.code, 137);
    // The flag stays unset where this comes after the end.
    while in_time(events.next()).await.unwrap().unwrap().action != "oom" {}
}

#[tokio::test]
async fn a_missing_command_ends_with_127_and_the_shells_words() {
    let bench = Bench::new();

    let (_, code, output) = bench.run(&bench.plan("no-such-program").await).await;

    assert_eq!(code, 127);
    assert!(String::from_utf8_lossy(&output.stderr).contains("not found"));
}

#[tokio::test]
async fn an_image_without_a_shell_ends_with_127_and_says_why() {
    let bench = Bench::new();
    let mut plan = bench.plan("true").await;
    plan.image = bench.image_without_shell().await;

    let (_, code, output) = bench.run(&plan).await;

    assert_eq!(code, 127);
    assert!(String::from_utf8_lossy(&output.stderr).contains("/bin/sh"));
}

#[tokio::test]
async fn a_start_that_fails_leaves_the_engines_words_and_an_ended_stream() {
    let bench = Bench::new();
    let mut plan = bench.plan("true").await;
    plan.image = bench.image_of_a_user("there-is-no-such-user").await;
    let id = bench.engine.create(&plan).await.unwrap();
    let frames = bench.engine.attach(&id).await.unwrap();

    let outcome = bench.engine.start(&id).await;

    let Err(EngineError::Failed(said)) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(said.contains("there-is-no-such-user"), "{said}");
    let facts = bench.engine.inspect(&id.0).await.unwrap();
    assert_eq!(facts.state, ContainerState::Created);
    assert!(facts.error.contains("there-is-no-such-user"), "{facts:?}");
    assert_eq!(in_time(read(frames)).await, Output::default());
}

#[tokio::test]
async fn a_start_that_wants_what_the_machine_does_not_have_is_no_failure_that_passes() {
    let bench = Bench::new();
    let mut plan = bench.plan("true").await;
    plan.spec.wants.gpu = 1.0;
    let id = bench.engine.create(&plan).await.unwrap();

    let outcome = bench.engine.start(&id).await;

    let Err(EngineError::Invalid(said)) = outcome else {
        panic!("these tests need an engine without GPUs: {outcome:?}");
    };
    assert!(said.to_lowercase().contains("gpu"), "{said}");
}

#[tokio::test]
async fn a_name_is_given_once() {
    let bench = Bench::new();
    let plan = bench.plan("true").await;
    let first = bench.engine.create(&plan).await.unwrap();

    let second = bench.engine.create(&plan).await;

    assert!(
        matches!(second, Err(EngineError::Conflict(_))),
        "{second:?}"
    );
    let there = bench.engine.inspect(&plan.name.0).await.unwrap();
    assert_eq!((there.id, there.state), (first, ContainerState::Created));
}

#[tokio::test]
async fn a_started_container_may_be_started_again_without_harm() {
    let bench = Bench::new();
    let id = bench.running().await;

    assert_eq!(bench.engine.start(&id).await, Ok(()));

    let facts = bench.engine.inspect(&id.0).await.unwrap();
    assert_eq!(facts.state, ContainerState::Running);
}

#[tokio::test]
async fn only_force_removes_a_running_container() {
    let bench = Bench::new();
    let id = bench.running().await;

    let asked = bench.engine.remove(&id, Force::No).await;
    let forced = bench.engine.remove(&id, Force::Yes).await;

    assert!(matches!(asked, Err(EngineError::Conflict(_))), "{asked:?}");
    assert_eq!(forced, Ok(()));
    assert_gone(&bench, &id).await;
}

#[tokio::test]
async fn removing_is_idempotent_also_by_several_at_once() {
    let bench = Bench::new();
    let id = bench.running().await;
    let remove = || bench.engine.remove(&id, Force::Yes);

    let (first, second, third) = tokio::join!(remove(), remove(), remove());

    assert_eq!([first, second, third], [Ok(()), Ok(()), Ok(())]);
    assert_gone(&bench, &id).await;
    assert_eq!(bench.engine.remove(&id, Force::No).await, Ok(()));
}

#[track_caller]
fn assert_gone<'a>(bench: &'a Bench, id: &'a ContainerId) -> impl Future<Output = ()> + 'a {
    let place = std::panic::Location::caller();
    async move {
        let seen = bench.engine.inspect(&id.0).await;
        assert!(
            matches!(seen, Err(EngineError::NotFound(_))),
            "{place}: {seen:?}"
        );
    }
}

#[tokio::test]
async fn a_wait_ends_when_its_container_is_removed() {
    let bench = Bench::new();
    let id = bench.running().await;

    let (code, removed) = tokio::join!(
        in_time(bench.engine.wait(&id)),
        bench.engine.remove(&id, Force::Yes)
    );

    assert_eq!(removed, Ok(()));
    assert_eq!(code, Ok(137));
}

#[tokio::test]
async fn what_does_not_run_cannot_be_killed() {
    let bench = Bench::new();
    let created = bench.created("true").await;
    let (exited, ..) = bench.run(&bench.plan("true").await).await;

    for id in [created, exited] {
        let outcome = bench.engine.kill(&id, Signal::Kill).await;

        assert!(
            matches!(outcome, Err(EngineError::Conflict(_))),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn every_call_about_a_missing_container_says_so() {
    let bench = Bench::new();
    let id = ContainerId("0".repeat(64));
    let engine = &bench.engine;

    let outcomes = [
        ("attach", engine.attach(&id).await.err()),
        ("logs", engine.logs(&id, UNIX_EPOCH).await.err()),
        ("start", engine.start(&id).await.err()),
        ("wait", engine.wait(&id).await.err()),
        ("inspect", engine.inspect(&id.0).await.err()),
        ("kill", engine.kill(&id, Signal::Term).await.err()),
        ("was_started", engine.was_started(&id).await.err()),
        ("usage", engine.usage(&id).await.err()),
        ("download_output", engine.download_output(&id).await.err()),
    ];

    for (call, error) in outcomes {
        assert!(
            matches!(error, Some(EngineError::NotFound(_))),
            "{call}: {error:?}"
        );
    }
}

#[tokio::test]
async fn a_container_needs_an_image_that_is_there() {
    let bench = Bench::new();
    let mut plan = bench.plan("true").await;
    plan.image = no_image();

    let outcome = bench.engine.create(&plan).await;

    assert!(
        matches!(outcome, Err(EngineError::NotFound(_))),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn what_is_no_id_is_not_sent() {
    let bench = Bench::new();

    for bad in ["", "../images/json?", "a/../b"] {
        let outcome = bench.engine.inspect(bad).await;

        assert!(
            matches!(outcome, Err(EngineError::Invalid(_))),
            "{outcome:?}"
        );
    }
}
