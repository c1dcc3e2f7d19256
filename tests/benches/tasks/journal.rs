//! A worker whose journal has grown: as many finished tasks and tombstones as may be kept, beside one that has just begun. Offers
//! go to both in turns while the janitor of each makes a round a second; how soon each is ready is told too.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use worker_node::domain::id::{ContainerName, PayloadDigest, ResultId, TaskId};
use worker_node::domain::outcome::Outcome;
use worker_node::domain::record::{Change, Ending, Outputs, TaskRecord, Verdict};
use worker_node::domain::spec::{TaskSpec, Wants};
use worker_node::journal::SqliteJournal;
use worker_node::ports::clock::{Clock as _, SystemClock};
use worker_node::ports::journal::JournalStore as _;

use crate::Extent;
use crate::crowd::silent_registry;
use crate::durability::{cancel_all, offer};
use crate::figures::{Times, p50_p99};
use crate::stage::Stage;
use crate::table::Row;

/// Of each kind: the bound on tombstones.
const GROWN: usize = 100_000;
const GROWN_QUICK: usize = 2_000;

/// Requests in one commit while the journal is filled.
const BATCH: usize = 1_000;

/// Limits of `design`.
const READY_MS: f64 = 2_000.0;
const ASSIGN_MS: f64 = 5.0;

pub(crate) async fn measure(binary: &Path, extent: Extent) -> Vec<Row> {
    let count = match extent.starts {
        1 => GROWN_QUICK,
        _ => GROWN,
    };
    let folder = tempfile::tempdir().expect("a folder for the state");
    let path = folder.path().join("journal.db");
    tokio::task::spawn_blocking(move || fill(&path, count))
        .await
        .expect("it is filled");
    let (empty, empty_ready) = started(binary, None).await;
    let (grown, grown_ready) = started(binary, Some(folder.path())).await;
    let image = format!("{}/none", silent_registry().await);
    let (mut bare, mut worker) = <(Times, Times)>::default();
    for round in 0..extent.answers.div_ceil(extent.crowd) {
        // Each goes first as often as the other.
        let sides = [(&empty, &mut bare), (&grown, &mut worker)];
        let mut sides: Vec<_> = sides.into_iter().collect();
        if round % 2 == 1 {
            sides.reverse();
        }
        for (stage, times) in sides {
            let mut ids = Vec::new();
            for _ in 0..extent.crowd {
                let (id, answer) = offer(stage, &image).await;
                times.push(answer);
                ids.push(id);
            }
            cancel_all(stage, &ids).await;
        }
    }
    empty.finish().await;
    grown.finish().await;
    rows(count, (empty_ready, grown_ready), (&bare, &worker))
}

fn rows(count: usize, ready: (Duration, Duration), (bare, worker): (&Times, &Times)) -> Vec<Row> {
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let more = worker.p99() - bare.p99();
    vec![
        Row::new(format!(
            "ready after the start with {count} finished tasks and as many tombstones; bare: an empty journal"
        ))
        .bare(format!("{:.0} ms", millis(ready.0)))
        .worker(format!("{:.0} ms", millis(ready.1)))
        .budget("< 2 s", millis(ready.1) < READY_MS),
        Row::new("AssignTask acknowledged with that journal, p50 / p99; bare: an empty one")
            .samples(worker.count())
            .bare(p50_p99(bare))
            .worker(p50_p99(worker))
            .compared(format!("p99 {more:+.1} ms"))
            .budget(format!("p99 <= +{ASSIGN_MS:.0} ms"), more <= ASSIGN_MS),
    ]
}

/// A worker whose janitor makes a round a second; how long it took until it took offers.
async fn started(binary: &Path, state: Option<&Path>) -> (Stage, Duration) {
    let begun = Instant::now();
    let stage = Stage::start_as(|setup| {
        let setup = setup.binary(binary);
        let setup = setup.arguments(["--settle-time", "0s", "--orphan-grace", "1s"]);
        match state {
            Some(state) => setup.state_dir(state),
            None => setup,
        }
    })
    .await;
    (stage, begun.elapsed())
}

fn fill(path: &Path, count: usize) {
    let clock = Arc::new(SystemClock);
    let opened = SqliteJournal::open(path, clock).expect("it opens");
    let mut journal = opened.journal;
    let requests = (0..count).flat_map(|n| [finished(n), retired(n)]);
    let requests: Vec<_> = requests.collect();
    for batch in requests.chunks(BATCH) {
        let answers = journal.commit(batch).expect("it can be written");
        assert!(answers.iter().all(Result::is_ok));
    }
}

fn finished(n: usize) -> Vec<Change> {
    let mut life = life_of(&format!("finished-{n}"));
    let task = id(&format!("finished-{n}"));
    let at = SystemClock.now();
    life.extend([Change::Delivered(task.clone()), Change::Done { task, at }]);
    life
}

fn retired(n: usize) -> Vec<Change> {
    let mut life = life_of(&format!("retired-{n}"));
    life.push(Change::Retire(id(&format!("retired-{n}"))));
    life
}

fn id(task: &str) -> TaskId {
    TaskId::new(task).expect("a good id")
}

/// Up to its verdict.
fn life_of(task: &str) -> Vec<Change> {
    let spec = TaskSpec {
        id: id(task),
        image: "busybox:latest".into(),
        command: "echo ".repeat(40),
        wants: Wants::default(),
        user_id: "ann".into(),
        task_name: "bench".into(),
        task_type: "mixed".into(),
        sla_multiplier: 1.0,
        submitted_at: 1_700_000_000,
        asked: None,
    };
    let record = TaskRecord::accepted(
        spec,
        PayloadDigest([7; 32]),
        ResultId(format!("result-{task}")),
        ContainerName(format!("wn-bench-{task}")),
        SystemClock.now(),
    );
    let ending = Ending {
        outcome: Outcome::Succeeded,
        exit: None,
        outputs: Outputs::default(),
        notes: Vec::new(),
    };
    let trailer = "[worker-node] succeeded; exit code 0, duration 0.312 s, peak memory unknown";
    let verdict = Verdict {
        outcome: Outcome::Succeeded,
        trailer: trailer.into(),
    };
    vec![
        Change::Accept(Box::new(record)),
        Change::Ended {
            task: id(task),
            ending: Box::new(ending),
        },
        Change::Sealed {
            task: id(task),
            verdict,
        },
    ]
}
