//! The grid: {panic, stop, hang, error} x {factory, started, handler, spawned future, stopping} x restart type x strategy x {the first
//! fault, within the budget, budget spent}, for static children, and without the strategies for dynamic ones.
//!
//! Everything runs in paused time on one arbiter; a hang is a gate in `ctx.wait`, which shuts the mailbox. Blocked threads are in
//! `threads.rs`. Impossible cells, which `is_possible` leaves out:
//! - a second fault of a temporary child, or of a transient one that stopped: it has no second life;
//! - a hang of a dynamic child that blocks nobody: those are not pinged one by one, their arbiters are.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use worker_node::supervision::{
    Backoff, Budget, ChildSpec, ChildState, Edge, Ended, RestartPolicy, RestartType, Strategy,
    SupervisorOptions,
};

use crate::cast::{Fault, Note, Role, Spot, Stage, Suffer, far, options, subject};

const SPOTS: [Spot; 5] = [
    Spot::Factory,
    Spot::Started,
    Spot::Handler,
    Spot::Spawned,
    Spot::Stopping,
];
const RESTARTS: [RestartType; 3] = [
    RestartType::Permanent,
    RestartType::Transient,
    RestartType::Temporary,
];
const STRATEGIES: [Strategy; 3] = [
    Strategy::OneForOne,
    Strategy::OneForAll,
    Strategy::RestForOne,
];
const TIMES: [Times; 3] = [Times::First, Times::Within, Times::Spent];
const INTENSITY: u32 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Times {
    First,
    Within,
    Spent,
}

impl Times {
    fn faults(self) -> u32 {
        match self {
            Self::First => 1,
            Self::Within => INTENSITY,
            Self::Spent => INTENSITY + 1,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    fault: Fault,
    spot: Spot,
    restart: RestartType,
    times: Times,
}

#[derive(Debug, PartialEq, Eq)]
enum Expected {
    Restarted,
    Rests,
    GivesUp,
    BudgetSpent,
}

impl Cell {
    fn restarts(self) -> bool {
        match self.restart {
            RestartType::Permanent => true,
            RestartType::Transient => self.fault != Fault::Stop,
            RestartType::Temporary => false,
        }
    }

    fn is_possible(self) -> bool {
        self.times == Times::First || self.restarts()
    }

    fn expected(self) -> Expected {
        match (self.restarts(), self.times) {
            (true, Times::Spent) => Expected::BudgetSpent,
            (true, _) => Expected::Restarted,
            (false, _) if self.fault == Fault::Stop => Expected::Rests,
            (false, _) => Expected::GivesUp,
        }
    }

    /// The edge by which each of the faults shows.
    fn edge(self) -> Edge {
        match self.fault {
            Fault::Panic => Edge::Panicked,
            Fault::Hang => Edge::Hung,
            Fault::Stop | Fault::Error => Edge::Stopped,
        }
    }
}

fn cells(fault: Fault) -> Vec<Cell> {
    let mut cells = Vec::new();
    for spot in SPOTS {
        for restart in RESTARTS {
            for times in TIMES {
                let cell = Cell {
                    fault,
                    spot,
                    restart,
                    times,
                };
                cells.extend(cell.is_possible().then_some(cell));
            }
        }
    }
    cells
}

fn policy() -> RestartPolicy {
    RestartPolicy {
        budget: Budget {
            intensity: INTENSITY,
            window: Duration::from_secs(600),
        },
        backoff: Backoff::default(),
        quiet: Duration::from_secs(60),
    }
}

/// Makes the subject suffer as often as the cell says. The first incarnation was up.
async fn play(cell: Cell, stage: &mut Stage, role: &Role, name: &str) {
    let faults = cell.times.faults();
    match cell.spot {
        Spot::Factory | Spot::Started | Spot::Spawned => {
            role.script.plan(faults as usize, cell.fault, cell.spot);
            stage.supervisor.restart_child(name).await.expect("known");
            stage.event(Edge::Stopped, name).await;
        }
        Spot::Stopping => role.script.plan(faults as usize, cell.fault, cell.spot),
        Spot::Handler => {}
    }
    for _ in 0..faults {
        if matches!(cell.spot, Spot::Handler | Spot::Stopping) {
            let suffered = if cell.spot == Spot::Stopping {
                Fault::Stop
            } else {
                cell.fault
            };
            // A panic loses the answer; that is another test's business.
            let _ = role.slot.ask(Suffer(suffered), far()).await;
        }
        let end = stage.event(cell.edge(), name).await;
        check_cause(cell, end.cause.as_deref().unwrap_or_default());
    }
}

#[track_caller]
fn check_cause(cell: Cell, cause: &str) {
    let wanted = match cell.fault {
        Fault::Panic => format!("planned in {:?}", cell.spot),
        Fault::Error => format!("failed: planned in {:?}", cell.spot),
        Fault::Hang => "no answer to a ping".to_owned(),
        Fault::Stop => "stopped".to_owned(),
    };
    assert!(cause.contains(&wanted), "{cell:?}: {cause}");
    let has_place = cause.contains("cast.rs:");
    assert_eq!(has_place, cell.fault == Fault::Panic, "{cell:?}: {cause}");
}

/// Every incarnation that started has ended exactly once, but the present one.
#[track_caller]
fn check_ends(stage: &mut Stage, cell: Cell, alive: bool) {
    let _ = stage.story();
    let mut open: Vec<(Arc<str>, u64)> = Vec::new();
    for event in &stage.seen {
        let life = (Arc::clone(&event.actor), event.generation);
        match event.edge {
            Edge::Starting => open.push(life),
            Edge::Stopped | Edge::Panicked | Edge::Hung => {
                let at = open.iter().position(|open| *open == life);
                let at = at.unwrap_or_else(|| panic!("{cell:?}: {life:?} ended twice"));
                open.remove(at);
            }
            Edge::Started | Edge::Stopping | Edge::Restarting | Edge::GaveUp | Edge::Recovered => {}
        }
    }
    let expected = if alive { 3 } else { 0 };
    assert_eq!(open.len(), expected, "{cell:?}: still open: {open:?}");
}

fn trio(cell: Cell) -> ([Role; 3], Vec<ChildSpec>) {
    let ((a, first), (b, second), (c, third)) = (subject("a"), subject("b"), subject("c"));
    let specs = vec![first, second.restart(cell.restart), third];
    ([a, b, c], specs)
}

async fn static_cell(cell: Cell, strategy: Strategy) {
    let (roles, specs) = trio(cell);
    let options = SupervisorOptions {
        strategy,
        policy: policy(),
        ..options()
    };
    let mut stage = Stage::open(options, specs);
    stage.supervisor.ready(far()).await.expect("ready");

    play(cell, &mut stage, &roles[1], "b").await;

    match cell.expected() {
        Expected::Restarted => restarted(cell, strategy, &mut stage, &roles).await,
        Expected::Rests => rests(cell, &mut stage, &roles, ChildState::Stopped).await,
        Expected::GivesUp => {
            stage.event(Edge::GaveUp, "b").await;
            rests(cell, &mut stage, &roles, ChildState::Fatal).await;
        }
        Expected::BudgetSpent => escalated(cell, &stage).await,
    }
    stage.supervisor.stop(far()).await;
    check_ends(&mut stage, cell, false);
    for role in &roles {
        assert_eq!(
            role.script.born(),
            role.script.dropped(),
            "{cell:?} {strategy:?}"
        );
        assert!(role.slot.is_closed());
    }
}

async fn restarted(cell: Cell, strategy: Strategy, stage: &mut Stage, roles: &[Role; 3]) {
    let asked_to_restart = matches!(cell.spot, Spot::Factory | Spot::Started | Spot::Spawned);
    let generation = 1 + u64::from(asked_to_restart) + u64::from(cell.times.faults());
    // The siblings come back after it: wait for all before looking at any.
    let answered = roles[1].slot.ask_idempotent(Note(1), far()).await;
    assert_eq!(answered, Ok(generation), "{cell:?} {strategy:?}");
    stage.event(Edge::Recovered, "b").await;
    for role in roles {
        assert!(
            role.slot.ask_idempotent(Note(2), far()).await.is_ok(),
            "{cell:?} {strategy:?}"
        );
    }

    let disturbed = |role: &Role| role.script.made() > 1;
    let expected = match strategy {
        Strategy::OneForOne => [false, true, false],
        Strategy::OneForAll => [true, true, true],
        Strategy::RestForOne => [false, true, true],
    };
    let view = stage.view("b").await.expect("static");
    assert_eq!(
        roles.each_ref().map(disturbed),
        expected,
        "{cell:?} {strategy:?}"
    );
    assert_eq!(view.state, ChildState::Running, "{cell:?} {strategy:?}");
    assert_eq!(
        view.restarts,
        u64::from(cell.times.faults()),
        "{cell:?} {strategy:?}"
    );
    assert_eq!(view.budget_left, INTENSITY - cell.times.faults());
    check_ends(stage, cell, true);
}

async fn rests(cell: Cell, stage: &mut Stage, roles: &[Role; 3], state: ChildState) {
    assert_eq!(stage.state("b").await, Some(state), "{cell:?}");
    assert!(roles[1].slot.is_closed(), "{cell:?}");
    for role in [&roles[0], &roles[2]] {
        assert_eq!(
            role.slot.ask(Note(1), far()).await,
            Ok(1),
            "{cell:?}: siblings stay"
        );
    }
}

async fn escalated(cell: Cell, stage: &Stage) {
    match stage.supervisor.ended().await {
        Ended::Escalated { child, .. } => assert_eq!(&*child, "b", "{cell:?}"),
        Ended::Stopped => panic!("{cell:?} did not escalate"),
    }
}

async fn static_grid(fault: Fault) {
    tokio::time::pause();
    let mut played = 0;
    for cell in cells(fault) {
        for strategy in STRATEGIES {
            static_cell(cell, strategy).await;
            played += 1;
        }
    }
    // 5 spots x 3 strategies x (permanent 3 + transient 3 + temporary 1), and 2 fewer of the transient where it just stops.
    let expected = if fault == Fault::Stop { 75 } else { 105 };
    assert_eq!(played, expected);
}

#[actix::test]
async fn every_panic_of_a_static_child_is_answered_as_specified() {
    static_grid(Fault::Panic).await;
}

#[actix::test]
async fn every_stop_of_a_static_child_is_answered_as_specified() {
    static_grid(Fault::Stop).await;
}

#[actix::test]
async fn every_hang_of_a_static_child_is_answered_as_specified() {
    static_grid(Fault::Hang).await;
}

#[actix::test]
async fn every_error_of_a_static_child_is_answered_as_specified() {
    static_grid(Fault::Error).await;
}

async fn dynamic_cell(cell: Cell) {
    let options = SupervisorOptions {
        dynamic_policy: policy(),
        ..options()
    };
    let (sibling, unconcerned) = subject("sibling");
    let mut stage = Stage::open(options, vec![unconcerned]);
    let (role, spec) = subject("task");
    let given_up = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&given_up);
    let spec = spec.restart(cell.restart).on_gave_up(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    stage
        .supervisor
        .start_child(spec)
        .await
        .expect("a free name");
    stage.event(Edge::Started, "task").await;

    play(cell, &mut stage, &role, "task").await;

    if cell.expected() == Expected::Restarted {
        assert!(role.slot.ask_idempotent(Note(1), far()).await.is_ok());
        assert_eq!(given_up.load(Ordering::SeqCst), 0, "{cell:?}");
    } else {
        // Closed and forgotten, with one call if it failed.
        assert!(role.slot.ask(Note(1), far()).await.is_err(), "{cell:?}");
        assert_eq!(stage.state("task").await, None, "{cell:?}");
        let failed = cell.expected() != Expected::Rests;
        assert_eq!(
            given_up.load(Ordering::SeqCst),
            u64::from(failed),
            "{cell:?}"
        );
    }
    assert_eq!(sibling.slot.ask(Note(1), far()).await, Ok(1), "{cell:?}");
    stage.supervisor.stop(far()).await;
    check_ends(&mut stage, cell, false);
    assert_eq!(role.script.born(), role.script.dropped(), "{cell:?}");
}

#[actix::test]
async fn every_fault_of_a_dynamic_child_is_answered_as_specified() {
    tokio::time::pause();
    for fault in [Fault::Panic, Fault::Stop, Fault::Error] {
        for cell in cells(fault) {
            dynamic_cell(cell).await;
        }
    }
}
