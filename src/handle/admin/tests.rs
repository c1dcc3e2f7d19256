//! What an operator is told of actors.

use super::*;
use crate::{
    ports::{clock::SystemClock, master::MasterAddress},
    supervision::{Budget, RestartType, slot},
};

fn child(name: &str, dynamic: bool) -> ChildView {
    ChildView {
        name: Arc::from(name),
        dynamic,
        state: ChildState::Running,
        uptime: None,
        generation: 1,
        restarts: 0,
        last_restart: None,
        depth: 0,
        handled: 0,
        last_message: "",
        busy: 0.0,
        last_reason: None,
        restart: RestartType::Permanent,
        budget: Budget::SUBSYSTEM,
        budget_left: 5,
        shutdown: Duration::from_secs(5),
        placement: Placement::OwnArbiter,
    }
}

#[test]
fn a_type_is_shown_without_its_modules() {
    for (name, short) in [
        ("worker_node::actors::registry::AssignTask", "AssignTask"),
        ("Ping", "Ping"),
        ("a::Batch<b::c::Line, [d::E; 2]>", "Batch<Line, [E; 2]>"),
        ("", ""),
    ] {
        assert_eq!(short_type(name), short);
    }
}

#[test]
fn a_task_is_found_by_its_id_and_never_hides_a_subsystem() {
    let children = || {
        vec![
            child("journal", false),
            child("task(a)", true),
            child("task(journal)", true),
        ]
    };
    let found = |name| find(children(), name).map(|child| child.name.to_string());

    assert_eq!(found("a").as_deref(), Some("task(a)"));
    assert_eq!(found("task(a)").as_deref(), Some("task(a)"));
    assert_eq!(found("journal").as_deref(), Some("journal"));
    assert_eq!(found("task(journal)").as_deref(), Some("task(journal)"));
    assert_eq!(found("b"), None);
}

#[test]
fn a_long_reason_is_cut_before_it_is_sent() {
    let told = actor(ChildView {
        last_reason: Some("é".repeat(1_000)),
        last_message: "a::B",
        ..child("journal", false)
    });

    assert_eq!(told.last_reason.map(|reason| reason.len()), Some(512));
    assert_eq!(told.last_message.as_deref(), Some("B"));
    assert_eq!(actor(child("x", false)).last_message, None);
}

#[tokio::test]
async fn before_the_supervisor_begins_nobody_answers() {
    let (_announce, supervisor) = watch::channel(None);
    let worker = WorkerId::new("w").unwrap();

    let asked = Asked {
        outbox: slot("outbox").0,
        images: images::tests::nobody(),
        registry: slot("registry").0,
        configuration: Arc::new(Reload::default),
        log: |_| LogLevel::default(),
    };
    let boards = Boards {
        tasks: watch::channel(Arc::default()).1,
        usage: Arc::default(),
        master: Arc::new(MasterView::new(MasterAddress("m:1".into()))),
        engine: Arc::default(),
        engine_address: "unix:///e".into(),
        pressure: watch::channel(None).1,
        cordon: watch::channel(None).1,
        reconciled: watch::channel(true).1,
        room: Room::default(),
        max_tasks: watch::channel(0).1,
    };
    let clock = Arc::new(SystemClock);
    let told = AdminHandle::new(worker, supervisor, asked, boards, clock)
        .actors()
        .await;

    assert_eq!(told, Err(AdminError::Unavailable));
}
