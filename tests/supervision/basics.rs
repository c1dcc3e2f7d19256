//! Start, stop, views, dynamic children: what works when nothing fails, and the first failure.

use std::time::Duration;

use worker_node::supervision::{
    ChildError, ChildState, Edge, Ended, RestartType, StartChildError, Strategy, SupervisorOptions,
};

use crate::cast::{Fault, Note, Stage, Suffer, far, options, subject};

#[actix::test]
async fn children_start_in_order_and_stop_in_reverse() {
    tokio::time::pause();
    let ((_a, first), (_b, second), (_c, third)) = (subject("a"), subject("b"), subject("c"));
    let mut stage = Stage::open(options(), vec![first, second, third]);

    stage.supervisor.ready(far()).await.unwrap();
    let report = stage.supervisor.stop(far()).await;

    let names: Vec<&str> = report.stopped.iter().map(AsRef::as_ref).collect();
    assert_eq!(names, ["c", "b", "a"]);
    assert_eq!(report.ended, Ended::Stopped);
    assert_eq!(
        stage.story(),
        [
            "a starting",
            "a started",
            "b starting",
            "b started",
            "c starting",
            "c started",
            "c stopping",
            "c stopped",
            "b stopping",
            "b stopped",
            "a stopping",
            "a stopped",
        ]
    );
}

#[actix::test]
async fn a_panic_in_a_handler_brings_a_fresh_incarnation_at_once() {
    tokio::time::pause();
    let (role, spec) = subject("a");
    let mut stage = Stage::open(options(), vec![spec]);
    stage.supervisor.ready(far()).await.unwrap();

    let lost = role.slot.ask(Suffer(Fault::Panic), far()).await;
    let generation = role.slot.ask(Note(1), far()).await;

    assert!(lost.is_err());
    assert_eq!(generation, Ok(2));
    assert_eq!((role.script.made(), role.script.dropped()), (2, 1));
    let panicked = stage.event(Edge::Panicked, "a").await;
    assert!(panicked.cause.unwrap().contains("planned in Handler"));
    let restarting = stage.event(Edge::Restarting, "a").await;
    assert_eq!(restarting.backoff, Some(Duration::ZERO));
    let used = restarting.restarts.unwrap();
    assert_eq!((used.used, used.of), (1, 5));
    stage.event(Edge::Recovered, "a").await;
}

#[actix::test]
async fn a_dynamic_child_that_stops_is_forgotten() {
    tokio::time::pause();
    let mut stage = Stage::open(options(), vec![]);
    let (role, spec) = subject("task");

    stage.supervisor.start_child(spec).await.unwrap();
    assert_eq!(role.slot.ask(Note(1), far()).await, Ok(1));
    role.slot.ask(Suffer(Fault::Stop), far()).await.unwrap();
    stage.event(Edge::Stopped, "task").await;

    assert_eq!(stage.state("task").await, None);
    assert!(role.slot.is_closed());
    assert_eq!((role.script.made(), role.script.dropped()), (1, 1));
}

#[actix::test]
async fn a_name_is_refused_while_it_is_taken_and_free_afterwards() {
    tokio::time::pause();
    let stage = Stage::open(options(), vec![]);
    let ((_a, first), (_b, second), (_c, third)) = (subject("x"), subject("x"), subject("x"));
    stage.supervisor.start_child(first).await.unwrap();

    let refused = stage.supervisor.start_child(second).await;
    stage.supervisor.stop_child("x").await.unwrap();
    let accepted = stage.supervisor.start_child(third).await;

    assert_eq!(refused, Err(StartChildError::DuplicateName("x".into())));
    assert_eq!(accepted, Ok(()));
}

#[actix::test]
async fn a_static_child_can_be_stopped_and_started_by_hand() {
    tokio::time::pause();
    let (role, spec) = subject("a");
    let stage = Stage::open(options(), vec![spec]);
    stage.supervisor.ready(far()).await.unwrap();

    stage.supervisor.stop_child("a").await.unwrap();
    assert_eq!(stage.state("a").await, Some(ChildState::Stopped));
    stage.supervisor.restart_child("a").await.unwrap();
    assert_eq!(role.slot.ask(Note(1), far()).await, Ok(2));
    stage.supervisor.restart_child("a").await.unwrap();
    assert_eq!(role.slot.ask_idempotent(Note(2), far()).await, Ok(3));

    let view = stage.view("a").await.unwrap();
    assert_eq!((view.restarts, view.budget_left), (0, 5), "no charge");
    assert_eq!(
        stage.supervisor.stop_child("nobody").await,
        Err(ChildError::Unknown)
    );
}

async fn story_of_a_panic_in_b(strategy: Strategy, restart_of_c: RestartType) -> Vec<String> {
    tokio::time::pause();
    let ((a, first), (b, second), (_c, third)) = (subject("a"), subject("b"), subject("c"));
    let options = SupervisorOptions {
        strategy,
        ..options()
    };
    let mut stage = Stage::open(options, vec![first, second, third.restart(restart_of_c)]);
    stage.supervisor.ready(far()).await.expect("ready");
    let before = stage.story().len();

    let _ = b.slot.ask(Suffer(Fault::Panic), far()).await;
    stage.event(Edge::Recovered, "b").await;
    a.slot
        .ask_idempotent(Note(1), far())
        .await
        .expect("a is back");
    while stage.state("c").await == Some(ChildState::Starting) {
        tokio::task::yield_now().await;
    }

    stage.story().split_off(before)
}

#[actix::test]
async fn one_for_all_takes_everybody_down_in_reverse_and_up_in_order() {
    let story = story_of_a_panic_in_b(Strategy::OneForAll, RestartType::Permanent).await;

    assert_eq!(
        story,
        [
            "b panicked",
            "b restarting",
            "c stopping",
            "c stopped",
            "a stopping",
            "a stopped",
            "a starting",
            "a started",
            "b starting",
            "b started",
            "b recovered",
            "c starting",
            "c started",
        ]
    );
}

#[actix::test]
async fn rest_for_one_takes_down_those_that_started_later() {
    let story = story_of_a_panic_in_b(Strategy::RestForOne, RestartType::Permanent).await;

    assert_eq!(
        story,
        [
            "b panicked",
            "b restarting",
            "c stopping",
            "c stopped",
            "b starting",
            "b started",
            "b recovered",
            "c starting",
            "c started",
        ]
    );
}

#[actix::test]
async fn a_temporary_sibling_that_is_taken_down_stays_down() {
    let story = story_of_a_panic_in_b(Strategy::OneForAll, RestartType::Temporary).await;

    assert_eq!(story.last().map(String::as_str), Some("b recovered"));
    assert!(story.contains(&"c stopped".to_owned()), "{story:?}");
}

#[actix::test]
async fn whoever_waits_for_a_stop_is_told_although_a_restart_comes_between() {
    tokio::time::pause();
    let (role, spec) = subject("a");
    let stage = Stage::open(options(), vec![spec]);
    stage.supervisor.ready(far()).await.unwrap();

    let supervisor = &stage.supervisor;
    let (stopped, restarted) =
        tokio::join!(supervisor.stop_child("a"), supervisor.restart_child("a"));

    assert_eq!((stopped, restarted), (Ok(()), Ok(())));
    assert_eq!(role.slot.ask_idempotent(Note(1), far()).await, Ok(2));
}
