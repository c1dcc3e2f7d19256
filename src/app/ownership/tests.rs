//! Whose a state folder is: told, refused, taken over.

use std::time::Duration;

use super::*;
use crate::{
    config::{RunArgs, Surroundings},
    domain::{
        id::{ContainerName, PayloadDigest, ResultId, TaskId},
        spec::{TaskSpec, Wants},
    },
    ports::engine::container_name,
};

fn worker(id: &str) -> WorkerId {
    WorkerId::new(id).unwrap()
}

fn record(id: &str, worker: &str, phase: Phase) -> TaskRecord {
    let spec = TaskSpec {
        id: TaskId::new(id).unwrap(),
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
    let name: ContainerName = container_name(worker, id, 1);
    TaskRecord {
        phase,
        ..TaskRecord::accepted(
            spec,
            PayloadDigest([0; 32]),
            ResultId(format!("r-{id}")),
            name,
            SystemTime::UNIX_EPOCH,
        )
    }
}

fn snapshot(worker: &str, phases: &[Phase]) -> Snapshot {
    let tasks = phases.iter().enumerate();
    let tasks = tasks.map(|(n, phase)| record(&format!("t{n}"), worker, *phase));
    Snapshot {
        tasks: tasks.collect(),
        ..Snapshot::default()
    }
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000)
}

fn engine(place: &str) -> EngineInfo {
    EngineInfo {
        id: place.into(),
        version: String::new(),
        api_version: String::new(),
        root: String::new(),
        data_root: None,
        local: true,
        live_restore: false,
    }
}

fn claim(folder: &Path, engine: Option<&str>, phases: &[Phase], flags: &[&str]) -> EngineClaim {
    use clap::Parser as _;
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: RunArgs,
    }
    let id = format!("test-{:x}", fastrand::u64(..));
    let line = ["w", "--id", &id].into_iter().chain(flags.iter().copied());
    let line = Line::parse_from(line);
    let surroundings = Surroundings {
        home: Some("/home/u".into()),
        ..Surroundings::default()
    };
    let config = Config::try_from((line.args, surroundings)).unwrap();
    let mut identity = Identity::new(&id, now()).unwrap();
    identity.engine = engine.map(str::to_owned);
    identity.write(folder).unwrap();
    EngineClaim::new(&config, folder, identity, (&snapshot(&id, phases), 0))
}

fn written(folder: &Path) -> Option<String> {
    Identity::read(folder).unwrap().unwrap().engine
}

#[test]
fn a_state_folder_of_another_worker_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let first = settle(
        None,
        folder.path(),
        &worker("ux-n1"),
        (&Snapshot::default(), now()),
    );
    assert_eq!(read(folder.path(), &worker("ux-n1")).unwrap(), first.ok());

    for other in ["ux-n2", "worker-1", "ux-n1.1"] {
        let error = read(folder.path(), &worker(other)).unwrap_err();
        assert_eq!(error.exit(), Exit::Configuration);
        let said = error.to_string();
        assert!(
            said.contains("belongs to worker ux-n1 (0 tasks, 0 of them unfinished)"),
            "{said}"
        );
        assert!(said.contains("start with -id ux-n1, or give"), "{said}");
    }
}

#[test]
fn a_journal_of_before_tells_its_worker_by_the_names_of_its_containers() {
    let folder = tempfile::tempdir().unwrap();
    let before = snapshot("ux-n1", &[Phase::Done, Phase::Running, Phase::Accepted]);

    let error = settle(None, folder.path(), &worker("ux-n2"), (&before, now())).unwrap_err();

    let said = error.to_string();
    assert!(
        said.contains("worker ux-n1 (3 tasks, 2 of them unfinished)"),
        "{said}"
    );
    assert_eq!(
        Identity::read(folder.path()).unwrap(),
        None,
        "nothing was touched"
    );
    let own = settle(None, folder.path(), &worker("ux-n1"), (&before, now())).unwrap();
    assert_eq!(own.worker, "ux-n1");
}

#[test]
fn another_engine_is_refused_while_tasks_have_not_ended_on_the_first() {
    let folder = tempfile::tempdir().unwrap();
    for unfinished in [Phase::Accepted, Phase::Starting, Phase::Running] {
        let claim = claim(folder.path(), Some("A"), &[Phase::Done, unfinished], &[]);

        let error = claim.take(&engine("B")).unwrap_err();

        assert_eq!(error.exit(), Exit::Configuration);
        let said = error.to_string();
        assert!(
            said.contains("engine A") && said.contains("answers is B"),
            "{said}"
        );
        assert!(said.contains("--accept-new-engine"), "{said}");
        assert_eq!(written(folder.path()).as_deref(), Some("A"));
        claim.take(&engine("A")).unwrap();
    }
}

#[test]
fn another_engine_is_taken_over_where_nothing_runs_or_where_it_is_said_to_be_new() {
    let folder = tempfile::tempdir().unwrap();
    for (phases, flags) in [
        (&[Phase::Ended, Phase::Done][..], &[][..]),
        (&[], &[]),
        (&[Phase::Running], &["--accept-new-engine"]),
    ] {
        let claim = claim(folder.path(), Some("A"), phases, flags);
        claim.take(&engine("B")).unwrap();
        assert_eq!(written(folder.path()).as_deref(), Some("B"));

        // Once an engine was used, tasks may be on it: no other one may replace it unasked.
        claim.take(&engine("B")).unwrap();
        let said = claim.take(&engine("A")).unwrap_err().to_string();
        assert!(
            said.contains(" are on the engine B") && !said.contains("("),
            "{said}"
        );
        assert_eq!(written(folder.path()).as_deref(), Some("B"));
    }
}

#[test]
fn what_had_begun_on_an_engine_that_is_given_up_is_lost_and_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    let phases = [
        Phase::Accepted,
        Phase::Starting,
        Phase::Running,
        Phase::Ended,
    ];
    let lost = |claim: &EngineClaim| {
        let ids = (0..phases.len()).map(|n| ResultId(format!("r-t{n}")));
        ids.map(|id| claim.has_lost(&id)).collect::<Vec<_>>()
    };
    let claim = claim(folder.path(), Some("A"), &phases, &["--accept-new-engine"]);
    assert_eq!(lost(&claim), [false; 4], "it may be there still");

    claim.take(&engine("B")).unwrap();

    let begun = [false, true, true, false];
    assert_eq!(lost(&claim), begun);
    let kept = Identity::read(folder.path()).unwrap().unwrap().lost;
    assert_eq!(kept, [ResultId("r-t1".into()), ResultId("r-t2".into())]);
    claim.take(&engine("B")).unwrap();
    assert_eq!(lost(&claim), begun);
}

#[test]
fn an_engine_that_does_not_say_who_it_is_is_taken_and_not_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let nameless = claim(folder.path(), None, &[Phase::Running], &[]);
    nameless.take(&engine("")).unwrap();
    assert_eq!(written(folder.path()), None);
    nameless.take(&engine("A")).unwrap();
    assert_eq!(written(folder.path()).as_deref(), Some("A"));
}
