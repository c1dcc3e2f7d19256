//! The task's state machine against its promises: named cases, then random histories against a small model of the engine.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::domain::{
    id::{ContainerName, PayloadDigest, ResultId, TaskId},
    spec::{TaskSpec, Wants},
    storage::{Allowance, Written},
};

fn record(phase: Phase, cancel_requested: bool) -> TaskRecord {
    let spec = TaskSpec {
        id: TaskId::new("task-1").unwrap(),
        image: "busybox".into(),
        command: "true".into(),
        wants: Wants::default(),
        user_id: String::new(),
        task_name: String::new(),
        task_type: String::new(),
        sla_multiplier: 1.0,
        submitted_at: 0,
        asked: None,
    };
    let mut record = TaskRecord::accepted(
        spec,
        PayloadDigest([0; 32]),
        ResultId("r".into()),
        ContainerName("wn".into()),
        SystemTime::UNIX_EPOCH,
    );
    record.phase = phase;
    record.cancel_requested = cancel_requested;
    record
}

fn container() -> ContainerId {
    ContainerId("c".into())
}

fn play(events: impl IntoIterator<Item = Event>) -> (State, Vec<Effect>) {
    let mut state = State::Accepted;
    let mut all = Vec::new();
    for event in events {
        let (next, effects) = state.on(event);
        state = next;
        all.extend(effects);
    }
    (state, all)
}

#[test]
fn an_image_that_was_removed_before_the_create_is_pulled_again() {
    let (state, effects) = play([
        Event::Begin,
        Event::ImageReady,
        Event::ImageGone,
        Event::ImageReady,
        Event::Created(container()),
    ]);

    assert!(matches!(state, State::Starting { stop: None, .. }));
    assert_eq!(
        effects,
        [
            Effect::Pull,
            Effect::Create,
            Effect::Pull,
            Effect::Create,
            Effect::Start(container()),
        ]
    );
    let (_, effects) = play([
        Event::Begin,
        Event::ImageReady,
        Event::CancelRequested,
        Event::ImageGone,
    ]);
    assert_eq!(recorded(&effects), [Outcome::Cancelled]);
}

fn recorded(effects: &[Effect]) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for effect in effects {
        if let Effect::Record(ending) = effect {
            outcomes.push(ending.outcome.clone());
        }
    }
    outcomes
}

fn until_running() -> Vec<Event> {
    vec![
        Event::Begin,
        Event::ImageReady,
        Event::Created(container()),
        Event::Started,
    ]
}

#[test]
fn a_good_task_goes_through_its_life_once() {
    let mut events = until_running();
    events.extend([
        Event::Exited(Exit::default()),
        Event::Collected(Outputs::default(), vec![]),
        Event::Recorded,
        Event::Delivered,
        Event::Cleaned,
    ]);

    let (state, effects) = play(events);

    assert_eq!(state, State::Done);
    assert_eq!(recorded(&effects), [Outcome::Succeeded]);
    assert_eq!(effects.last(), Some(&Effect::Finish));
    assert_eq!(effects.len(), 9, "{effects:?}");
}

#[test]
fn a_cancel_while_a_create_is_in_flight_starts_nothing() {
    let (state, effects) = play([
        Event::Begin,
        Event::ImageReady,
        Event::CancelRequested,
        Event::Created(container()),
    ]);

    assert_eq!(
        state,
        State::Recording {
            container: Some(container())
        }
    );
    assert_eq!(recorded(&effects), [Outcome::Cancelled]);
    assert!(!effects.contains(&Effect::Start(container())));
}

#[test]
fn a_cancel_while_a_start_is_in_flight_stops_what_was_started() {
    let (state, effects) = play([
        Event::Begin,
        Event::ImageReady,
        Event::Created(container()),
        Event::CancelRequested,
        Event::Started,
    ]);

    assert_eq!(
        state,
        State::Stopping {
            container: container(),
            reason: StopReason::Cancelled
        }
    );
    assert_eq!(effects.last(), Some(&Effect::Terminate(container())));
}

#[test]
fn a_cancelled_task_is_cancelled_whatever_its_exit_code() {
    let mut events = until_running();
    events.extend([
        Event::TimeElapsed,
        Event::CancelRequested,
        Event::GraceElapsed,
        Event::Exited(Exit::default()),
        Event::Collected(Outputs::default(), vec![]),
    ]);

    let (_, effects) = play(events);

    assert!(effects.contains(&Effect::Kill(container())));
    assert_eq!(recorded(&effects), [Outcome::Cancelled]);
}

fn over() -> Over {
    let allowance = Allowance {
        bytes: 20 << 20,
        inodes: 10_000,
    };
    let written = Written {
        layer: 30 << 20,
        ..Written::default()
    };
    allowance.over(&written).unwrap()
}

#[test]
fn a_task_that_is_over_its_storage_is_killed_at_once_and_told_so() {
    let mut events = until_running();
    events.extend([
        Event::OverStorage(over()),
        Event::Exited(Exit::default()),
        Event::Collected(Outputs::default(), vec![]),
    ]);

    let (_, effects) = play(events);

    assert!(effects.contains(&Effect::Kill(container())));
    assert!(!effects.contains(&Effect::Terminate(container())));
    let why = "over its storage: 30 MiB of 20 MiB (layer 30 MiB, /output 0 B)";
    let failed = Outcome::Failed(Failure::OverStorage(why.into()));
    assert_eq!(recorded(&effects), [failed]);
}

#[test]
fn one_that_was_asked_to_end_and_fills_the_disk_is_killed_and_its_end_keeps_its_reason() {
    let mut events = until_running();
    events.extend([Event::CancelRequested, Event::OverStorage(over())]);

    let (state, effects) = play(events);

    let cancelled = State::Stopping {
        container: container(),
        reason: StopReason::Cancelled,
    };
    assert_eq!(state, cancelled);
    assert_eq!(effects.last(), Some(&Effect::Kill(container())));
    // Late, where the container has ended by itself.
    let mut events = until_running();
    events.push(Event::Exited(Exit::default()));
    let (ended, _) = play(events);
    let (state, effects) = ended.clone().on(Event::OverStorage(over()));
    assert_eq!((state, effects), (ended, vec![]));
}

#[test]
fn a_cancel_while_outputs_are_collected_keeps_them() {
    let mut events = until_running();
    let outputs = Outputs {
        skipped: vec!["x".into()],
        ..Outputs::default()
    };
    events.extend([
        Event::Exited(Exit::default()),
        Event::CancelRequested,
        Event::Collected(outputs.clone(), vec![]),
    ]);

    let (_, effects) = play(events);

    let Some(Effect::Record(ending)) = effects.last() else {
        panic!("{effects:?}")
    };
    assert_eq!(ending.outcome, Outcome::Cancelled);
    assert_eq!(ending.outputs, outputs);
}

#[test]
fn an_unseen_start_is_proven_and_never_repeated() {
    let (state, effects) =
        State::resume(&record(Phase::Starting, false), Found::Created(container()));
    assert_eq!(effects, [Effect::ProveStart(container())]);

    let (state, effects) = state.on(Event::NeverStarted);

    assert_eq!(state, State::Pulling);
    assert_eq!(effects, [Effect::CreateAnew(container())]);
}

#[test]
fn an_exited_container_is_collected_and_never_started() {
    let exit = Exit {
        code: 3,
        duration: Duration::from_secs(1),
        ..Exit::default()
    };

    let (state, effects) = State::resume(
        &record(Phase::Starting, false),
        Found::Exited(container(), exit),
    );

    assert_eq!(effects, [Effect::Collect(Some(container()))]);
    assert!(matches!(
        state,
        State::Collecting {
            outcome: Outcome::Failed(Failure::ExitCode(3)),
            ..
        }
    ));
}

#[test]
fn what_is_durable_decides_where_a_new_incarnation_begins() {
    let begins = |phase, cancelled, found| State::resume(&record(phase, cancelled), found).1;

    assert_eq!(
        begins(Phase::Accepted, false, Found::Nothing),
        [Effect::Pull]
    );
    assert_eq!(
        begins(Phase::Starting, false, Found::Nothing),
        [Effect::Pull]
    );
    assert_eq!(
        begins(Phase::Running, false, Found::Running(container())),
        [Effect::Watch(container())]
    );
    assert_eq!(
        begins(Phase::Running, true, Found::Running(container())),
        [Effect::Watch(container()), Effect::Terminate(container())]
    );
    assert_eq!(
        begins(Phase::Running, false, Found::Nothing),
        [Effect::Collect(None)]
    );
    assert_eq!(
        begins(Phase::Ended, false, Found::Nothing),
        [Effect::Deliver]
    );
    assert_eq!(
        begins(Phase::Sealed, true, Found::Nothing),
        [Effect::Deliver]
    );
    assert_eq!(
        begins(Phase::Delivered, false, Found::Nothing),
        [Effect::Clean(None)]
    );
    assert_eq!(begins(Phase::Done, false, Found::Nothing), [Effect::Finish]);
    let cancelled = begins(Phase::Accepted, true, Found::Nothing);
    assert_eq!(recorded(&cancelled), [Outcome::Cancelled]);
}

#[test]
fn what_may_have_been_started_on_an_engine_that_is_gone_is_not_started_again() {
    for phase in [Phase::Starting, Phase::Running] {
        let (state, effects) = State::resume(&record(phase, false), Found::GoneWithEngine);

        assert_eq!(effects, [Effect::Collect(None)]);
        let (_, effects) = state.on(Event::Collected(Outputs::default(), Vec::new()));
        let lost =
            Failure::EngineLost("its container is gone with the engine that it began on".into());
        assert_eq!(recorded(&effects), [Outcome::Failed(lost)]);
    }
    let (state, _) = State::resume(&record(Phase::Starting, true), Found::GoneWithEngine);
    let (_, effects) = state.on(Event::Collected(Outputs::default(), Vec::new()));
    assert_eq!(recorded(&effects), [Outcome::Cancelled]);
}

#[derive(Debug, Clone)]
enum Step {
    /// The oldest effect that is still open gets a good answer.
    Answer,
    /// The oldest effect that is still open fails.
    Fail,
    Cancel,
    Timeout,
    OverStorage,
    Grace,
    Lost,
    /// The actor dies and begins again from what is durable and what the engine has.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => Just(Step::Answer),
        1 => Just(Step::Fail),
        1 => Just(Step::Cancel),
        1 => Just(Step::Timeout),
        1 => Just(Step::OverStorage),
        1 => Just(Step::Grace),
        1 => Just(Step::Lost),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 0..40)
}

/// The least world that answers effects truthfully: a journal, and an engine that counts starts.
struct World {
    state: State,
    open: Vec<Effect>,
    record: TaskRecord,
    container: Option<(bool, Option<Exit>)>,
    starts_of_container: u32,
    endings: Vec<Ending>,
    cancelled_before_end: bool,
}

impl World {
    fn new() -> Self {
        let (state, open) = State::Accepted.on(Event::Begin);
        Self {
            state,
            open,
            record: record(Phase::Accepted, false),
            container: None,
            starts_of_container: 0,
            endings: Vec::new(),
            cancelled_before_end: false,
        }
    }

    fn feed(&mut self, event: Event) {
        let state = std::mem::replace(&mut self.state, State::Done);
        let (state, effects) = state.on(event);
        self.state = state;
        self.open.extend(effects);
    }

    fn found(&self) -> Found {
        match self.container {
            None => Found::Nothing,
            Some((false, _)) => Found::Created(container()),
            Some((true, None)) => Found::Running(container()),
            Some((true, Some(exit))) => Found::Exited(container(), exit),
        }
    }

    fn restart(&mut self) {
        let (state, effects) = State::resume(&self.record, self.found());
        self.state = state;
        self.open = effects;
    }

    fn cancel(&mut self) {
        // What the registry does: durable first, then the actor hears of it. Once the end is being recorded, it is the
        // registry that turns the outcome into 'cancelled' when it seals it.
        let ended = matches!(
            self.state,
            State::Recording { .. } | State::Delivering { .. } | State::Cleaning | State::Done
        );
        self.cancelled_before_end |= !ended;
        self.record.cancel_requested = true;
        self.feed(Event::CancelRequested);
    }

    fn perform(&mut self, good: bool) {
        if self.open.is_empty() {
            return;
        }
        let effect = self.open.remove(0);
        let event = self.outcome_of(effect, good);
        if let Some(event) = event {
            self.feed(event);
        }
    }

    fn outcome_of(&mut self, effect: Effect, good: bool) -> Option<Event> {
        Some(match effect {
            Effect::Pull if good => Event::ImageReady,
            Effect::Pull => Event::PullFailed("no".into()),
            Effect::AbortPull | Effect::Finish => return None,
            Effect::Create => {
                self.record.phase = self.record.phase.max(Phase::Starting);
                if !good {
                    return Some(Event::CreateFailed("no".into()));
                }
                self.container = Some((false, None));
                self.starts_of_container = 0;
                Event::Created(container())
            }
            Effect::Start(_) if good => {
                self.starts_of_container += 1;
                self.container = Some((true, None));
                Event::Started
            }
            Effect::Start(_) => Event::StartFailed("no".into()),
            Effect::ProveStart(_) => self.proven(),
            Effect::CreateAnew(_) => {
                self.container = None;
                Event::ImageReady
            }
            Effect::Watch(_) => {
                self.record.phase = self.record.phase.max(Phase::Running);
                match self.container {
                    None => Event::Lost("gone".into()),
                    Some((_, known)) => {
                        let exit = known.unwrap_or(Exit {
                            code: i64::from(!good),
                            ..Exit::default()
                        });
                        self.container = Some((true, Some(exit)));
                        Event::Exited(exit)
                    }
                }
            }
            Effect::Terminate(_) | Effect::Kill(_) => return None,
            Effect::Collect(_) => Event::Collected(Outputs::default(), vec![]),
            Effect::Record(ending) => {
                self.record.phase = Phase::Ended;
                self.endings.push(*ending);
                Event::Recorded
            }
            Effect::Deliver => self.delivery(),
            Effect::Remove(_) => {
                self.container = None;
                return None;
            }
            Effect::Clean(_) => {
                self.container = None;
                self.record.phase = Phase::Done;
                Event::Cleaned
            }
        })
    }

    fn delivery(&mut self) -> Event {
        if self.record.phase < Phase::Sealed {
            self.record.phase = Phase::Sealed;
            // The next answer is that the master has it.
            self.open.push(Effect::Deliver);
            return Event::Sealed;
        }
        self.record.phase = Phase::Delivered;
        Event::Delivered
    }

    fn proven(&mut self) -> Event {
        match self.found() {
            Found::Created(_) => Event::NeverStarted,
            Found::Running(_) => Event::Started,
            Found::Exited(_, exit) => Event::Exited(exit),
            Found::Stopped(_, exit, who) => Event::StoppedByOther(exit, who),
            Found::Nothing | Found::GoneWithEngine => Event::Lost("gone".into()),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Answer => self.perform(true),
            Step::Fail => self.perform(false),
            Step::Cancel => self.cancel(),
            Step::Timeout => self.feed(Event::TimeElapsed),
            Step::OverStorage => self.feed(Event::OverStorage(over())),
            Step::Grace => self.feed(Event::GraceElapsed),
            Step::Lost => {
                self.container = None;
            }
            Step::Restart => self.restart(),
        }
    }
}

#[test]
fn the_container_is_removed_when_the_result_is_fixed_and_not_when_the_master_has_it() {
    let delivering = State::Delivering {
        container: Some(container()),
    };

    let (state, effects) = delivering.on(Event::Sealed);
    assert_eq!(effects, [Effect::Remove(container())]);
    let (state, effects) = state.on(Event::Delivered);
    assert_eq!(state, State::Cleaning);
    assert_eq!(effects, [Effect::Clean(Some(container()))]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_ends_once_and_starts_no_container_twice(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            prop_assert!(world.starts_of_container <= 1, "started twice: {steps:?}");
        }
        // Left alone, every task comes to its end.
        for _ in 0..20 {
            world.perform(true);
        }

        prop_assert_eq!(&world.state, &State::Done);
        prop_assert_eq!(world.endings.len(), 1, "{:?}", world.endings);
        prop_assert_eq!(world.container, None, "the container is left behind");
        if world.cancelled_before_end {
            prop_assert_eq!(&world.endings[0].outcome, &Outcome::Cancelled);
        }
    }
}
