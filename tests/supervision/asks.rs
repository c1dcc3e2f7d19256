//! Slots: what an ask sees of the deaths of the actor that it is with.

use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::time::Instant;
use worker_node::supervision::{
    AskError, Budget, Edge, PingOptions, RestartType, SupervisorOptions,
};

use crate::cast::{Fault, Note, Role, Spot, Stage, Suffer, far, options, subject};

async fn one_child(options: SupervisorOptions) -> (Role, Stage) {
    tokio::time::pause();
    let (role, spec) = subject("a");
    let spec = spec.budget(Budget {
        intensity: 50,
        window: Duration::from_secs(30),
    });
    let stage = Stage::open(options, vec![spec]);
    stage.supervisor.ready(far()).await.expect("ready");
    (role, stage)
}

#[actix::test]
async fn an_ask_that_is_not_idempotent_ends_with_its_incarnation() {
    let (role, _stage) = one_child(options()).await;

    let (gate, queued) = tokio::join!(
        role.slot.ask(Suffer(Fault::Hang), far()),
        role.slot.ask(Note(1), far()),
    );

    assert_eq!(gate, Ok(()));
    assert_eq!(queued, Err(AskError::Unavailable));
    assert_eq!(role.slot.ask(Note(2), far()).await, Ok(2));
    assert_eq!(
        role.script.handled(),
        [(2, 2)],
        "the lost note was never handled"
    );
}

#[actix::test]
async fn idempotent_asks_queued_behind_a_hang_are_answered_once_by_the_successor() {
    let (role, _stage) = one_child(options()).await;
    let started = Instant::now();

    let notes = (0..8).map(|note| role.slot.ask_idempotent(Note(note), far()));
    let (_, answers) = tokio::join!(role.slot.ask(Suffer(Fault::Hang), far()), join_all(notes));

    assert_eq!(answers, vec![Ok(2); 8]);
    let mut handled = role.script.handled();
    handled.sort_unstable();
    assert_eq!(handled, (0..8).map(|note| (2, note)).collect::<Vec<_>>());
    assert!(
        started.elapsed() <= Duration::from_millis(1_600),
        "{:?}",
        started.elapsed()
    );
}

#[actix::test]
async fn a_message_whose_handler_died_twice_is_poison_and_spares_the_third_incarnation() {
    let (role, _stage) = one_child(options()).await;

    let answer = role.slot.ask_idempotent(Suffer(Fault::Panic), far()).await;

    assert_eq!(answer, Err(AskError::Poisoned));
    assert_eq!(role.slot.ask_idempotent(Note(1), far()).await, Ok(3));
    assert_eq!(role.script.made(), 3);
}

#[actix::test]
async fn innocent_asks_around_a_poison_are_all_answered() {
    let (role, _stage) = one_child(options()).await;

    let before = (0..5).map(|note| role.slot.ask_idempotent(Note(note), far()));
    let after = (5..20).map(|note| role.slot.ask_idempotent(Note(note), far()));
    let (before, poison, after) = tokio::join!(
        join_all(before),
        role.slot.ask_idempotent(Suffer(Fault::Panic), far()),
        join_all(after),
    );

    assert_eq!(poison, Err(AskError::Poisoned));
    assert!(
        before.iter().chain(&after).all(Result::is_ok),
        "{before:?} {after:?}"
    );
    assert_eq!(
        role.script.made(),
        3,
        "one death for the first offer, one for the second"
    );
}

#[actix::test]
async fn an_orderly_stop_is_no_death_of_the_messages_behind_it() {
    let (role, _stage) = one_child(options()).await;

    for _ in 0..3 {
        let (_, behind) = tokio::join!(
            role.slot.ask(Suffer(Fault::Stop), far()),
            role.slot.ask_idempotent(Note(1), far()),
        );
        assert!(behind.is_ok());
    }

    assert_eq!(role.script.made(), 4);
}

#[actix::test]
async fn an_ask_that_meets_the_deaths_of_others_again_and_again_is_no_poison() {
    let (role, _stage) = one_child(options()).await;

    // Polled in this order: each panic is in the mailbox before the note.
    let others = async {
        for _ in 0..5 {
            let _ = role.slot.ask(Suffer(Fault::Panic), far()).await;
        }
    };
    let ((), answer) = join(others, role.slot.ask_idempotent(Note(1), far())).await;

    assert_eq!(answer, Ok(6));
}

#[actix::test]
async fn a_message_that_sees_many_orderly_ends_is_no_poison() {
    let patient = SupervisorOptions {
        ping: PingOptions {
            deadline: Duration::from_secs(60),
            start_deadline: Duration::from_secs(60),
            ..options().ping
        },
        ..options()
    };
    let (role, mut stage) = one_child(patient).await;
    role.slot.ask(Suffer(Fault::Hang), far()).await.unwrap();
    role.script.plan(2, Fault::Hang, Spot::Started);
    let slot = role.slot.clone();
    let note = actix::spawn(async move { slot.ask_idempotent(Note(1), far()).await });

    for _ in 0..3 {
        while role.slot.generation().is_none() {
            role.slot.changed().await;
        }
        tokio::task::yield_now().await;
        stage.supervisor.restart_child("a").await.unwrap();
        stage.event(Edge::Stopped, "a").await;
    }

    assert_eq!(note.await.unwrap(), Ok(4));
}

#[actix::test]
async fn an_ask_right_behind_a_death_waits_for_the_successor() {
    let (role, _stage) = one_child(options()).await;

    // As a task of its own it runs before the supervisor hears of the death.
    let slot = role.slot.clone();
    let asked = actix::spawn(async move {
        let lost = slot.ask(Suffer(Fault::Panic), far()).await;
        (lost, slot.ask(Note(1), far()).await)
    });

    assert_eq!(asked.await.unwrap(), (Err(AskError::Unavailable), Ok(2)));
}

#[actix::test]
async fn an_ask_waits_for_a_child_in_its_backoff_until_its_deadline() {
    let (role, mut stage) = one_child(options()).await;
    role.script.plan(3, Fault::Error, Spot::Factory);
    let _ = role.slot.ask(Suffer(Fault::Panic), far()).await;
    stage.event(Edge::Panicked, "a").await;

    let soon = Instant::now() + Duration::from_millis(10);
    let impatient = role.slot.ask(Note(1), soon).await;
    let patient = role.slot.ask(Note(2), far()).await;

    assert_eq!(impatient, Err(AskError::Unavailable));
    assert_eq!(patient, Ok(5));
}

#[actix::test]
async fn an_answer_that_does_not_come_in_time_is_a_deadline() {
    let patient = SupervisorOptions {
        ping: PingOptions {
            deadline: Duration::from_secs(60),
            ..options().ping
        },
        ..options()
    };
    let (role, _stage) = one_child(patient).await;
    role.slot.ask(Suffer(Fault::Hang), far()).await.unwrap();
    let asked = Instant::now();

    let answer = role.slot.ask(Note(1), asked + Duration::from_secs(2)).await;

    assert_eq!(answer, Err(AskError::Deadline));
    assert_eq!(asked.elapsed().as_secs(), 2);
}

#[actix::test]
async fn a_slot_of_a_child_that_ended_for_good_refuses_at_once() {
    tokio::time::pause();
    let (role, spec) = subject("a");
    let stage = Stage::open(options(), vec![spec.restart(RestartType::Temporary)]);
    stage.supervisor.ready(far()).await.unwrap();
    role.slot.ask(Suffer(Fault::Stop), far()).await.unwrap();
    let asked = Instant::now();

    assert_eq!(
        role.slot.ask(Note(1), far()).await,
        Err(AskError::Unavailable)
    );
    assert_eq!(role.slot.up(far()).await, Err(AskError::Unavailable));
    assert_eq!(asked.elapsed(), Duration::ZERO);
}

#[actix::test]
async fn a_slot_whose_seat_was_thrown_away_refuses_at_once() {
    tokio::time::pause();
    let (role, spec) = subject("a");

    drop(spec);

    assert!(role.slot.is_closed());
    assert_eq!(
        role.slot.ask(Note(1), far()).await,
        Err(AskError::Unavailable)
    );
}

#[actix::test]
async fn statistics_count_what_waits_and_what_was_answered() {
    let (role, stage) = one_child(options()).await;
    role.slot.ask(Note(1), far()).await.unwrap();
    let waiting = actix::spawn({
        let slot = role.slot.clone();
        async move {
            let _ = slot.ask(Suffer(Fault::Hang), far()).await;
            slot.ask_idempotent(Note(2), far()).await
        }
    });
    while role.slot.statistics().handled < 2 {
        tokio::task::yield_now().await;
    }
    tokio::task::yield_now().await;

    let view = stage.view("a").await.unwrap();
    assert_eq!((view.depth, view.handled), (1, 2));
    assert!(view.last_message.ends_with("Note"), "{}", view.last_message);
    waiting.await.unwrap().unwrap();
    assert_eq!(role.slot.statistics().in_flight, 0);
}

#[actix::test]
async fn an_ask_that_is_dropped_is_never_carried_out() {
    let (role, _stage) = one_child(options()).await;

    tokio::select! {
        biased;
        answer = role.slot.ask(Note(1), far()) => panic!("answered before the actor ran: {answer:?}"),
        () = std::future::ready(()) => {}
    }
    role.slot.ask(Note(2), far()).await.unwrap();

    assert_eq!(role.script.handled(), [(1, 2)]);
}
