//! The end: escalation, orderly stops, deadlines, and what must not take the supervisor along.

use std::{sync::Arc, time::Duration};

use actix::{Actor, Context, Handler, Message};
use tokio::time::Instant;
use worker_node::{
    answers_pings,
    supervision::{
        self, AskError, Budget, ChildError, ChildSpec, ChildState, Edge, Ended, Placement,
        ReadyError, RestartPolicy, RestartType, Restarts, StartChildError, Strategy,
        SupervisorActor, SupervisorOptions, slot,
    },
};

use crate::cast::{Fault, Note, Spot, Stage, Suffer, far, options, subject};

fn never() -> SupervisorOptions {
    SupervisorOptions {
        restarts: Restarts::Never,
        ..options()
    }
}

#[actix::test]
async fn without_restarts_the_first_failure_ends_everything_in_order() {
    tokio::time::pause();
    let ((a, first), (b, second), (_c, third)) = (subject("a"), subject("b"), subject("c"));
    let mut stage = Stage::open(never(), vec![first, second, third]);
    stage.supervisor.ready(far()).await.unwrap();

    let _ = b.slot.ask(Suffer(Fault::Panic), far()).await;

    let Ended::Escalated { child, reason } = stage.supervisor.ended().await else {
        panic!("not escalated");
    };
    assert_eq!(&*child, "b");
    assert!(reason.contains("planned in Handler"), "{reason}");
    let story = stage.story();
    let since = story.iter().position(|line| line == "b panicked").unwrap();
    assert_eq!(
        story[since..],
        [
            "b panicked",
            "b gave_up",
            "c stopping",
            "c stopped",
            "a stopping",
            "a stopped"
        ]
    );
    assert_eq!(a.slot.ask(Note(1), far()).await, Err(AskError::Unavailable));
}

#[actix::test]
async fn without_restarts_dynamic_children_are_restarted_all_the_same() {
    tokio::time::pause();
    let stage = Stage::open(never(), vec![]);
    let (role, spec) = subject("task");
    stage.supervisor.start_child(spec).await.unwrap();

    let _ = role.slot.ask(Suffer(Fault::Panic), far()).await;

    assert_eq!(role.slot.ask(Note(1), far()).await, Ok(2));
}

#[actix::test]
async fn a_child_that_can_never_start_keeps_those_after_it_from_starting() {
    tokio::time::pause();
    let ((a, first), (b, second)) = (subject("a"), subject("b"));
    a.script.plan(9, Fault::Error, Spot::Factory);
    let stage = Stage::open(options(), vec![first, second]);

    let ready = stage.supervisor.ready(far()).await;

    assert!(
        matches!(ready, Err(ReadyError::Ended(Ended::Escalated { .. }))),
        "{ready:?}"
    );
    assert_eq!(
        (a.script.made(), b.script.made()),
        (6, 0),
        "one start and five restarts"
    );
}

#[actix::test]
async fn a_start_that_fails_at_first_is_ready_in_the_end() {
    tokio::time::pause();
    let ((a, first), (_b, second)) = (subject("a"), subject("b"));
    a.script.plan(2, Fault::Panic, Spot::Started);
    let mut stage = Stage::open(options(), vec![first, second]);

    let early = stage.supervisor.ready(Instant::now()).await;
    stage.supervisor.ready(far()).await.unwrap();

    assert_eq!(early, Err(ReadyError::Deadline));
    let story = stage.story();
    let place = |line: &str| story.iter().position(|seen| seen == line);
    assert!(place("a recovered") < place("b starting"), "{story:?}");
}

#[actix::test]
async fn a_child_that_does_not_stop_is_abandoned_at_its_deadline_and_the_others_still_stop() {
    tokio::time::pause();
    let ((a, first), (b, second)) = (subject("a"), subject("b"));
    b.script.plan(1, Fault::Hang, Spot::Stopping);
    let second = second.shutdown(Duration::from_secs(3));
    let mut stage = Stage::open(options(), vec![first, second]);
    stage.supervisor.ready(far()).await.unwrap();

    let report = stage.supervisor.stop(far()).await;

    assert_eq!(report.killed, ["b".into()]);
    assert_eq!(report.took.as_secs(), 3);
    let hung = stage.event(Edge::Hung, "b").await;
    assert_eq!(hung.cause.as_deref(), Some("did not stop within 3s"));
    stage.event(Edge::Stopped, "a").await;
    tokio::task::yield_now().await;
    assert_eq!(
        (a.script.dropped(), b.script.dropped()),
        (1, 1),
        "it was dropped all the same"
    );
}

#[actix::test]
async fn the_deadline_of_the_whole_stop_cuts_everything_short() {
    tokio::time::pause();
    let mut specs = Vec::new();
    for name in ["a", "b", "c"] {
        let (role, spec) = subject(name);
        role.script.plan(1, Fault::Hang, Spot::Stopping);
        specs.push(spec.shutdown(Duration::from_secs(60)));
    }
    let stage = Stage::open(options(), specs);
    stage.supervisor.ready(far()).await.unwrap();

    let deadline = Instant::now() + Duration::from_secs(2);
    let report = stage.supervisor.stop(deadline).await;

    assert_eq!(report.killed.len(), 3);
    assert_eq!(report.took.as_secs(), 2);
}

#[actix::test]
async fn a_stop_passes_the_mailbox_and_what_was_queued_is_not_carried_out() {
    tokio::time::pause();
    let (role, spec) = subject("a");
    let stage = Stage::open(options(), vec![spec]);
    stage.supervisor.ready(far()).await.unwrap();
    role.slot.ask(Suffer(Fault::Hang), far()).await.unwrap();
    let slot = role.slot.clone();
    let queued = actix::spawn(async move { slot.ask(Note(1), far()).await });

    let report = stage.supervisor.stop(far()).await;

    assert!(
        report.killed.is_empty(),
        "it stopped although its mailbox was shut"
    );
    assert_eq!(queued.await.unwrap(), Err(AskError::Unavailable));
    assert!(role.script.handled().is_empty());
}

#[actix::test]
async fn a_thousand_dynamic_children_stop_together_before_the_static_ones() {
    tokio::time::pause();
    let (_a, first) = subject("a");
    let mut stage = Stage::open(options(), vec![first]);
    stage.supervisor.ready(far()).await.unwrap();
    let mut roles = Vec::new();
    for number in 0..1_000 {
        let (role, spec) = subject(&format!("task-{number}"));
        stage.supervisor.start_child(spec).await.unwrap();
        roles.push(role);
    }
    for role in &roles {
        role.slot.up(far()).await.unwrap();
    }

    let report = stage.supervisor.stop(far()).await;

    assert_eq!(report.dynamic_stopped, 1_000);
    assert_eq!(stage.story().last().map(String::as_str), Some("a stopped"));
    assert!(roles.iter().all(|role| role.script.dropped() == 1));
}

#[actix::test]
async fn an_ended_supervisor_refuses_everything_and_repeats_its_report() {
    tokio::time::pause();
    let (_a, first) = subject("a");
    let stage = Stage::open(options(), vec![first]);
    let report = stage.supervisor.stop(far()).await;
    let (_b, second) = subject("b");

    let supervisor = &stage.supervisor;
    assert_eq!(
        supervisor.start_child(second).await,
        Err(StartChildError::ShuttingDown)
    );
    assert_eq!(
        supervisor.stop_child("a").await,
        Err(ChildError::ShuttingDown)
    );
    assert_eq!(
        supervisor.restart_child("a").await,
        Err(ChildError::ShuttingDown)
    );
    assert_eq!(supervisor.children().await, []);
    assert_eq!(supervisor.stop(far()).await, report);
    assert_eq!(supervisor.ended().await, Ended::Stopped);
}

#[actix::test]
async fn panics_of_listeners_and_callbacks_do_not_reach_the_supervisor() {
    tokio::time::pause();
    let (role, spec) = subject("a");
    let supervisor = SupervisorActor::builder(options())
        .child(spec)
        .events(Arc::new(|event| {
            assert_ne!(event.edge, Edge::Panicked, "a listener that can't bear it");
        }))
        .start();
    supervisor.ready(far()).await.unwrap();
    let (task, spec) = subject("task");
    let spec = spec
        .restart(RestartType::Temporary)
        .on_gave_up(|news| panic!("a callback that can't bear {}", news.name));
    supervisor.start_child(spec).await.unwrap();

    let _ = task.slot.ask(Suffer(Fault::Panic), far()).await;
    let _ = role.slot.ask(Suffer(Fault::Panic), far()).await;

    assert_eq!(role.slot.ask(Note(1), far()).await, Ok(2));
    assert_eq!(supervisor.children().await.len(), 1);
}

/// Panics when it is dropped, and in a handler.
struct Brittle;

answers_pings!(Brittle);

impl Actor for Brittle {
    type Context = Context<Self>;
}

impl Drop for Brittle {
    fn drop(&mut self) {
        panic!("broke in its destructor");
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct Break;

impl Handler<Break> for Brittle {
    type Result = ();

    fn handle(&mut self, _: Break, _: &mut Self::Context) {
        panic!("broke in a handler");
    }
}

#[actix::test]
async fn a_destructor_that_panics_after_a_panic_is_reported_as_the_first_and_ends_nothing() {
    tokio::time::pause();
    let (slot, seat) = slot::<Brittle>("brittle");
    let spec = ChildSpec::new(seat, |_| Ok(Brittle)).placement(Placement::SupervisorsArbiter);
    let mut stage = Stage::open(options(), vec![spec]);
    stage.supervisor.ready(far()).await.unwrap();

    let _ = slot.ask(Break, far()).await;

    let panicked = stage.event(Edge::Panicked, "brittle").await;
    assert!(panicked.cause.unwrap().contains("broke in a handler"));
    assert_eq!(slot.up(far()).await, Ok(2));
}

#[actix::test]
async fn a_destructor_that_panics_in_an_orderly_stop_is_a_panic() {
    tokio::time::pause();
    let (_slot, seat) = slot::<Brittle>("brittle");
    let spec = ChildSpec::new(seat, |_| Ok(Brittle)).placement(Placement::SupervisorsArbiter);
    let mut stage = Stage::open(options(), vec![spec]);
    stage.supervisor.ready(far()).await.unwrap();

    let report = stage.supervisor.stop(far()).await;

    assert_eq!(report.ended, Ended::Stopped);
    let panicked = stage.event(Edge::Panicked, "brittle").await;
    assert!(panicked.cause.unwrap().contains("broke in its destructor"));
}

#[actix::test]
async fn views_speak_of_backoff_and_spent_budget() {
    tokio::time::pause();
    let (role, spec) = subject("a");
    let spec = spec.budget(Budget {
        intensity: 3,
        window: Duration::from_secs(30),
    });
    let mut stage = Stage::open(options(), vec![spec]);
    stage.supervisor.ready(far()).await.unwrap();
    tokio::time::advance(Duration::from_secs(7)).await;
    let before = stage.view("a").await.unwrap();
    role.script.plan(1, Fault::Panic, Spot::Factory);

    let _ = role.slot.ask(Suffer(Fault::Panic), far()).await;
    stage.event(Edge::Panicked, "a").await;
    stage.event(Edge::Panicked, "a").await;
    let failing = stage.view("a").await.unwrap();

    assert_eq!(before.uptime.map(|up| up.as_secs()), Some(7));
    assert_eq!((before.state, before.budget_left), (ChildState::Running, 3));
    assert_eq!(
        (failing.state, failing.budget_left),
        (ChildState::Backoff, 1)
    );
    assert_eq!(
        (failing.uptime, failing.restarts, failing.generation),
        (None, 2, 2)
    );
    assert!(failing.last_reason.unwrap().contains("planned in Factory"));
    assert_eq!(failing.state.to_string(), "BACKOFF");
}

#[actix::test]
async fn a_failure_can_not_be_kept_alive_by_stopping() {
    tokio::time::pause();
    let (role, spec) = subject("a");
    let mut stage = Stage::open(options(), vec![spec]);
    stage.supervisor.ready(far()).await.unwrap();
    role.script.plan(1, Fault::Hang, Spot::Stopping);
    let failed_at = Instant::now();

    role.slot.ask(Suffer(Fault::Error), far()).await.unwrap();

    let stopped = stage.event(Edge::Stopped, "a").await;
    assert_eq!(stopped.cause.as_deref(), Some("failed: planned in Handler"));
    assert_eq!(role.slot.ask(Note(1), far()).await, Ok(2));
    assert_eq!(
        failed_at.elapsed(),
        Duration::ZERO,
        "no ping had to find it"
    );
}

#[actix::test]
async fn a_panic_in_the_factory_leaves_no_name_on_the_thread() {
    tokio::time::pause();
    let (role, spec) = subject("a");
    role.script.plan(1, Fault::Panic, Spot::Factory);
    let stage = Stage::open(options(), vec![spec]);

    stage.supervisor.ready(far()).await.unwrap();

    assert_eq!(role.script.made(), 2);
    assert!(
        supervision::current().is_none(),
        "the next panic here would be blamed on it"
    );
}

#[actix::test]
async fn in_a_group_the_groups_budget_counts_and_is_shown() {
    tokio::time::pause();
    let ((a, first), (b, second)) = (subject("a"), subject("b"));
    let generous = Budget {
        intensity: 50,
        window: Duration::from_secs(30),
    };
    let options = SupervisorOptions {
        strategy: Strategy::OneForAll,
        policy: RestartPolicy::with_budget(Budget {
            intensity: 2,
            ..generous
        }),
        ..options()
    };
    let mut stage = Stage::open(options, vec![first.budget(generous), second]);
    stage.supervisor.ready(far()).await.unwrap();

    for role in [&a, &b] {
        role.slot.up(far()).await.unwrap();
        let _ = role.slot.ask(Suffer(Fault::Panic), far()).await;
        stage.event(Edge::Recovered, role.slot.name()).await;
    }
    assert_eq!(stage.view("a").await.unwrap().budget_left, 0);
    a.slot.up(far()).await.unwrap();
    let _ = a.slot.ask(Suffer(Fault::Panic), far()).await;

    let ended = stage.supervisor.ended().await;
    assert!(matches!(ended, Ended::Escalated { .. }), "{ended:?}");
}
