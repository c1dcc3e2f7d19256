//! The journal against a model of it, against damage, and against a full disk.

mod images;
mod too_big;
mod values;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Mutex,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::model::Model;
use super::*;
use crate::{
    domain::{
        outcome::{Failure, Outcome},
        record::{Ending, Outputs, Phase, TaskRecord, Verdict},
    },
    ports::state::{TaskStory, Wanted},
};
use values::{record, task_id};

/// A clock that stands still until it is moved.
struct SetClock(Mutex<SystemTime>);

impl Clock for SetClock {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }
}

/// The task's record, where there is one and it is not retired.
fn kept(journal: &mut SqliteJournal, task: &TaskId) -> Option<TaskRecord> {
    match journal.find(task).unwrap() {
        Some(Known::Record(record)) => Some(*record),
        Some(Known::Retired(_) | Known::Unreadable) | None => None,
    }
}

fn clock() -> Arc<SetClock> {
    let start = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    Arc::new(SetClock(Mutex::new(start)))
}

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    (folder, path)
}

#[track_caller]
fn open(path: &Path) -> SqliteJournal {
    let opened = SqliteJournal::open(path, clock()).unwrap();
    assert_eq!(opened.set_aside, None);
    opened.journal
}

fn accepted(id: &str) -> Change {
    Change::Accept(Box::new(record(id)))
}

fn sealed(id: &str) -> Change {
    Change::Sealed {
        task: task_id(id),
        verdict: Verdict {
            outcome: Outcome::Succeeded,
            trailer: "[worker-node] succeeded".into(),
        },
    }
}

#[track_caller]
fn one(journal: &mut SqliteJournal, changes: Vec<Change>) -> Result<(), Refused> {
    let mut answers = journal.commit(&[changes]).unwrap();
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

#[test]
fn a_refused_request_changes_nothing_and_leaves_the_others_alone() {
    let (_folder, path) = place();
    let mut journal = open(&path);
    one(&mut journal, vec![accepted("a")]).unwrap();

    let answers = journal
        .commit(&[
            vec![accepted("b")],
            vec![
                Change::Set {
                    key: "k".into(),
                    value: "v".into(),
                },
                accepted("a"),
            ],
            vec![Change::Answered(task_id("missing"))],
            vec![Change::Answered(task_id("b"))],
        ])
        .unwrap();

    assert_eq!(
        answers,
        [
            Ok(()),
            Err(Refused::Duplicate),
            Err(Refused::UnknownTask),
            Ok(())
        ]
    );
    let snapshot = journal.snapshot().unwrap();
    assert_eq!(snapshot.settings, []);
    assert!(kept(&mut journal, &task_id("b")).unwrap().answered);
}

#[test]
fn a_batch_of_a_hundred_requests_is_one_commit() {
    let (_folder, path) = place();
    let mut journal = open(&path);
    let before = commits(&path);

    let batch: Vec<_> = (0..100).map(|n| vec![accepted(&format!("t{n}"))]).collect();
    let answers = journal.commit(&batch).unwrap();

    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(commits(&path) - before, 1);
}

/// Counts the frames of SQLite's write-ahead log that end a transaction: those that tell the size of the database.
fn commits(path: &Path) -> usize {
    const HEADER: usize = 32;
    const FRAME_HEADER: usize = 24;
    let log = fs::read(opening_with_wal(path)).unwrap();
    let word = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().unwrap());
    let page = word(8) as usize;
    let frames = (HEADER..log.len()).step_by(FRAME_HEADER + page);
    frames.filter(|frame| word(frame + 4) != 0).count()
}

fn opening_with_wal(path: &Path) -> PathBuf {
    path.with_file_name("journal.db-wal")
}

#[test]
fn a_cancel_for_an_unknown_task_is_applied_when_the_task_turns_up() {
    let (_folder, path) = place();
    let mut journal = open(&path);
    let cancel = || vec![Change::CancelRequested(task_id("a"))];
    one(&mut journal, cancel()).unwrap();
    one(&mut journal, cancel()).unwrap();
    assert_eq!(journal.snapshot().unwrap().early_cancels, [task_id("a")]);

    one(&mut journal, vec![accepted("a")]).unwrap();

    let snapshot = journal.snapshot().unwrap();
    assert!(snapshot.tasks[0].cancel_requested);
    assert_eq!(snapshot.early_cancels, []);
}

#[test]
fn a_withdrawn_offer_may_come_again_and_is_still_cancelled() {
    let (_folder, path) = place();
    let mut journal = open(&path);
    let withdraw = || vec![Change::Withdraw(task_id("a"))];
    one(&mut journal, vec![accepted("a")]).unwrap();
    one(&mut journal, vec![Change::CancelRequested(task_id("a"))]).unwrap();

    one(&mut journal, withdraw()).unwrap();
    one(&mut journal, vec![accepted("a")]).unwrap();

    assert!(kept(&mut journal, &task_id("a")).unwrap().cancel_requested);
    one(&mut journal, vec![Change::Answered(task_id("a"))]).unwrap();
    assert_eq!(one(&mut journal, withdraw()), Err(Refused::Past));
}

#[test]
fn an_offer_that_failed_at_once_can_be_withdrawn_and_one_that_began_cannot() {
    let (_folder, path) = place();
    let mut journal = open(&path);
    let failed = |task: &str, failure| Change::Ended {
        task: task_id(task),
        ending: Box::new(Ending {
            outcome: Outcome::Failed(failure),
            exit: None,
            outputs: Outputs::default(),
            notes: Vec::new(),
        }),
    };
    let impossible = Failure::Impossible("req_cpu is 99".into());
    one(&mut journal, vec![accepted("a"), failed("a", impossible)]).unwrap();
    let pull = Failure::Pull("no such image".into());
    one(&mut journal, vec![accepted("b"), failed("b", pull)]).unwrap();

    one(&mut journal, vec![Change::Withdraw(task_id("a"))]).unwrap();

    assert_eq!(kept(&mut journal, &task_id("a")), None);
    let late = one(&mut journal, vec![Change::Withdraw(task_id("b"))]);
    assert_eq!(late, Err(Refused::Past));
}

#[test]
fn a_reader_sees_what_is_committed_without_what_is_finished() {
    let (_folder, path) = place();
    let mut journal = open(&path);
    one(&mut journal, vec![accepted("a"), sealed("a")]).unwrap();
    let done = Change::Done {
        task: task_id("b"),
        at: UNIX_EPOCH + Duration::from_secs(7),
    };
    one(&mut journal, vec![accepted("b"), sealed("b"), done]).unwrap();
    let mut reader = journal.reader().unwrap();
    let park = |reason: Option<&str>| Change::Parked {
        task: task_id("a"),
        reason: reason.map(Into::into),
    };
    one(&mut journal, vec![park(Some("refused by the master: no"))]).unwrap();

    let household = reader.household().unwrap();

    let since = clock().now();
    assert_eq!(household.parked, [(task_id("a"), since)]);
    assert_eq!(household.unfinished, [task_id("a")].into());
    let finished = [(task_id("b"), UNIX_EPOCH + Duration::from_secs(7))];
    assert_eq!(household.finished, finished);
    let tasks = reader.unfinished().unwrap().tasks;
    assert_eq!(tasks, [kept(&mut journal, &task_id("a")).unwrap()]);

    one(&mut journal, vec![Change::Delivered(task_id("a"))]).unwrap();
    assert_eq!(reader.household().unwrap().parked, []);
}

#[test]
fn what_is_parked_again_was_parked_since_the_first_time() {
    let (_folder, path) = place();
    let clock = clock();
    let opened = SqliteJournal::open(&path, Arc::<SetClock>::clone(&clock)).unwrap();
    let mut journal = opened.journal;
    let first = clock.now();
    let park = Change::Parked {
        task: task_id("a"),
        reason: Some("no".into()),
    };
    one(&mut journal, vec![accepted("a"), sealed("a"), park.clone()]).unwrap();

    *clock.0.lock().unwrap() += Duration::from_secs(600);
    one(&mut journal, vec![park]).unwrap();

    let parked = journal.reader().unwrap().household().unwrap().parked;
    assert_eq!(parked, [(task_id("a"), first)]);
}

#[test]
fn a_late_writer_cannot_take_a_record_back() {
    let (_folder, path) = place();
    let mut journal = open(&path);
    one(&mut journal, vec![accepted("a"), sealed("a")]).unwrap();
    let before = journal.snapshot().unwrap();

    for late in [
        Change::Withdraw(task_id("a")),
        Change::CancelRequested(task_id("a")),
        Change::Running {
            task: task_id("a"),
            container: crate::domain::id::ContainerId("c".into()),
        },
        Change::Sealed {
            task: task_id("a"),
            verdict: Verdict {
                outcome: Outcome::Cancelled,
                trailer: String::new(),
            },
        },
        Change::UploadFailed(task_id("a")),
    ] {
        assert_eq!(one(&mut journal, vec![late]), Err(Refused::Past));
    }

    assert_eq!(one(&mut journal, vec![sealed("a")]), Ok(()), "a repeat");
    assert_eq!(journal.snapshot().unwrap(), before);
}

#[test]
fn the_note_of_an_upload_stands_behind_those_of_the_ending_and_is_said_once() {
    let (_folder, path) = place();
    let mut journal = open(&path);
    let ended = Change::Ended {
        task: task_id("a"),
        ending: Box::new(Ending {
            outcome: Outcome::Succeeded,
            exit: None,
            outputs: Outputs::default(),
            notes: vec!["first".into()],
        }),
    };
    let uploaded = |note: &str| Change::Uploaded {
        task: task_id("a"),
        note: Some(note.into()),
    };

    one(&mut journal, vec![accepted("a"), ended.clone()]).unwrap();
    one(&mut journal, vec![uploaded("second")]).unwrap();
    one(&mut journal, vec![uploaded("again"), ended]).unwrap();

    let ending = kept(&mut journal, &task_id("a")).unwrap().ending;
    assert_eq!(ending.unwrap().notes, ["first", "second"]);
}

#[test]
fn a_wish_that_is_no_number_is_kept_as_one() {
    let (_folder, path) = place();
    let mut journal = open(&path);
    let mut odd = record("a");
    odd.spec.wants.cpu = f64::NAN;
    odd.spec.wants.gpu = f64::INFINITY;

    one(&mut journal, vec![Change::Accept(Box::new(odd))]).unwrap();

    let wants = kept(&mut journal, &task_id("a")).unwrap().spec.wants;
    assert!(wants.cpu.is_nan());
    assert_eq!((wants.memory, wants.gpu), (0.0, f64::INFINITY));
}

#[test]
fn a_retired_task_leaves_a_tombstone_for_thirty_days() {
    let (_folder, path) = place();
    let clock = clock();
    let mut journal = SqliteJournal::open(&path, clock.clone()).unwrap().journal;
    let retire = |id| vec![Change::Retire(task_id(id))];
    one(&mut journal, vec![accepted("a")]).unwrap();
    assert_eq!(one(&mut journal, retire("a")), Err(Refused::Early));
    one(&mut journal, vec![sealed("a")]).unwrap();
    one(&mut journal, retire("a")).unwrap();
    assert_eq!(
        one(&mut journal, vec![accepted("a")]),
        Err(Refused::Duplicate)
    );
    assert_eq!(
        one(&mut journal, vec![Change::CancelRequested(task_id("a"))]),
        Err(Refused::Past)
    );

    *clock.0.lock().unwrap() += Duration::from_secs(31 * 24 * 3600);
    one(&mut journal, vec![accepted("b"), sealed("b")]).unwrap();
    one(&mut journal, retire("b")).unwrap();

    let left = journal.snapshot().unwrap().tombstones;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].task, task_id("b"));
    assert_eq!(one(&mut journal, vec![accepted("a")]), Ok(()));
}

#[test]
fn no_more_than_a_hundred_thousand_tombstones_are_kept() {
    let (_folder, path) = place();
    let mut journal = open(&path);
    one(&mut journal, vec![accepted("last"), sealed("last")]).unwrap();
    let many = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100005)
        INSERT INTO tombstones (task, digest, result_id, verdict, retired_at)
        SELECT 't' || i, zeroblob(32), 'r', ?1, 1800000000000000000 FROM n";
    let verdict = r#"{"outcome":{"is":"succeeded"},"trailer":""}"#;
    journal.connection.execute(many, [verdict]).unwrap();

    one(&mut journal, vec![Change::Retire(task_id("last"))]).unwrap();

    let left = journal.snapshot().unwrap().tombstones;
    assert_eq!(left.len(), 100_000);
    assert_eq!(left[0].task, task_id("t7"));
    assert_eq!(left[99_999].task, task_id("last"));
}

#[test]
fn a_full_disk_is_said_and_the_same_handle_works_when_there_is_room_again() {
    let (_folder, path) = place();
    let mut journal = open(&path);
    one(&mut journal, vec![accepted("a")]).unwrap();
    let pages: i64 = journal
        .connection
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .unwrap();
    let limit = |journal: &SqliteJournal, pages: i64| {
        let set = format!("PRAGMA max_page_count = {pages}");
        journal
            .connection
            .query_row(&set, [], |row| row.get::<_, i64>(0))
            .unwrap();
    };
    let mut big = record("b");
    big.spec.command = "x".repeat(100_000);
    let batch = [
        vec![accepted("c")],
        vec![Change::Accept(Box::new(big))],
        vec![accepted("d")],
    ];

    limit(&journal, pages);
    let full = journal.commit(&batch);

    assert!(matches!(full, Err(JournalError::Full(_))), "{full:?}");
    assert_eq!(journal.snapshot().unwrap().tasks.len(), 1, "nothing of it");
    limit(&journal, 1_000_000);
    assert_eq!(journal.commit(&batch).unwrap(), [Ok(()), Ok(()), Ok(())]);
}

#[test]
fn only_its_user_can_read_the_journal() {
    let (_folder, path) = place();
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();

    let mut journal = open(&path);
    one(&mut journal, vec![accepted("a")]).unwrap();

    for name in ["journal.db", "journal.db-wal", "journal.db-shm"] {
        let file = path.with_file_name(name);
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_missing_folder_is_told_in_words() {
    let (folder, _) = place();

    let refused = SqliteJournal::open(&folder.path().join("no/journal.db"), clock()).err();

    let Some(JournalError::Broken(text)) = refused else {
        panic!("{refused:?}");
    };
    assert!(text.contains("its folder must exist"), "{text}");
    assert!(text.contains("no/journal.db: "), "{text}");
}

#[test]
fn a_newer_journal_is_left_exactly_as_it_is() {
    let (folder, path) = place();
    let mut journal = open(&path);
    one(&mut journal, vec![accepted("a")]).unwrap();
    let newer = schema::KNOWN + 1;
    journal
        .connection
        .pragma_update(None, "user_version", newer)
        .unwrap();
    drop(journal);
    let before = fs::read(&path).unwrap();

    let refused = SqliteJournal::open(&path, clock()).err();

    let (found, known) = (newer, schema::KNOWN);
    assert_eq!(refused, Some(JournalError::Newer { found, known }));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert!(!folder.path().join("journal.db.damaged-1").exists());
}

#[test]
fn a_damaged_journal_is_set_aside_under_a_name_of_its_own() {
    let (_folder, path) = place();
    let mut places = Vec::new();
    let damages: [fn(&Path); 4] = [
        |path| fs::write(path, "no database at all, and long enough to be looked at").unwrap(),
        |path| {
            let other = Connection::open(path).unwrap();
            other.execute_batch("CREATE TABLE theirs (a)").unwrap();
        },
        |path| {
            let journal = Connection::open(path).unwrap();
            journal.execute_batch("DROP TABLE outbox").unwrap();
        },
        |path| {
            let journal = Connection::open(path).unwrap();
            let garble = "UPDATE tasks SET verdict = '{\"outcome\":1}'";
            assert_eq!(journal.execute(garble, []).unwrap(), 1);
        },
    ];
    for damage in damages {
        let _ = fs::remove_file(&path);
        if places.len() > 1 {
            let mut whole = open(&path);
            one(&mut whole, vec![accepted("a"), sealed("a")]).unwrap();
        }
        damage(&path);

        let mut opened = SqliteJournal::open(&path, clock()).unwrap();

        let aside = opened.set_aside.expect("it is damaged");
        assert!(aside.exists());
        assert_eq!(opened.journal.snapshot().unwrap(), Snapshot::default());
        assert_eq!(one(&mut opened.journal, vec![accepted("a")]), Ok(()));
        places.push(aside);
    }
    places.dedup();
    assert_eq!(places.len(), 4, "each under its own name: {places:?}");
}

#[test]
fn a_finished_row_that_is_damaged_costs_that_task_alone() {
    let (_folder, path) = place();
    let mut whole = open(&path);
    for id in ["retired", "done", "nameless", "other"] {
        let at = clock().now();
        let done = Change::Done {
            task: task_id(id),
            at,
        };
        one(
            &mut whole,
            vec![
                accepted(id),
                sealed(id),
                Change::Delivered(task_id(id)),
                done,
            ],
        )
        .unwrap();
    }
    one(&mut whole, vec![Change::Retire(task_id("retired"))]).unwrap();
    drop(whole);
    let tool = Connection::open(&path).unwrap();
    for garble in [
        "UPDATE tasks SET verdict = '{\"outcome\":1}' WHERE id = 'done'",
        "UPDATE tasks SET id = '' WHERE id = 'nameless'",
        "UPDATE tombstones SET verdict = ''",
    ] {
        assert_eq!(tool.execute(garble, []).unwrap(), 1);
    }

    let opened = SqliteJournal::open(&path, clock()).unwrap();
    assert_eq!(opened.set_aside, None);
    let mut journal = opened.journal;
    for id in ["done", "retired"] {
        let found = journal.find(&task_id(id)).unwrap();
        assert_eq!(found, Some(Known::Unreadable), "{id}");
    }
    assert!(kept(&mut journal, &task_id("other")).is_some());
    let finished = journal.reader().unwrap().household().unwrap().finished;
    let finished: Vec<_> = finished.into_iter().map(|(id, _)| id).collect();
    assert_eq!(finished, [task_id("done"), task_id("other")]);
    assert_eq!(one(&mut journal, vec![accepted("new")]), Ok(()));

    let stories = |wanted| look::stories(&path, look::Beside::Worker, &wanted).unwrap();
    let unreadable = |story: &TaskStory| match story {
        TaskStory::Unreadable(lost) => Some(lost.task.clone()),
        _ => None,
    };
    let all = stories(Wanted::All);
    let lost: Vec<_> = all.iter().filter_map(unreadable).collect();
    assert_eq!(
        (all.len(), lost),
        (4, vec!["done".to_owned(), String::new()])
    );
    let retired = stories(Wanted::One(task_id("retired")));
    assert_eq!(retired.iter().filter_map(unreadable).count(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_record_comes_back_as_it_was_written(record in values::any_record()) {
        let (_folder, path) = place();
        let mut journal = open(&path);

        one(&mut journal, vec![Change::Accept(Box::new(record.clone()))]).unwrap();
        drop(journal);

        let mut again = open(&path);
        prop_assert_eq!(kept(&mut again, &record.spec.id), Some(record.clone()));
        prop_assert_eq!(again.snapshot().unwrap().tasks, vec![record]);
    }

    #[test]
    fn the_journal_does_what_its_model_does(steps in values::any_steps()) {
        let (_folder, path) = place();
        let clock = clock();
        let mut journal = SqliteJournal::open(&path, clock.clone()).unwrap().journal;
        journal.connection.pragma_update(None, "synchronous", "OFF").unwrap();
        let mut model = Model::default();

        for step in steps {
            let values::Step::Batch(batch) = step else {
                drop(journal);
                journal = open(&path);
                journal.connection.pragma_update(None, "synchronous", "OFF").unwrap();
                continue;
            };
            let expected: Vec<_> = batch.iter().map(|request| model.request(request)).collect();
            prop_assert_eq!(journal.commit(&batch).unwrap(), expected);
            prop_assert_eq!(&journal.snapshot().unwrap(), &model.0);
        }
        for task in &model.0.tasks {
            let found = kept(&mut journal, &task.spec.id);
            prop_assert_eq!(found.as_ref(), Some(task));
        }
    }

    /// The worst case is a flipped bit that makes the file look newer: then a person must look, and the file is untouched.
    #[test]
    fn no_damage_keeps_the_journal_from_opening(
        damages in prop::collection::vec(values::any_damage(), 1..4),
    ) {
        let (_folder, path) = place();
        let mut journal = open(&path);
        for n in 0..40 {
            let id = format!("t{n}");
            one(&mut journal, vec![accepted(&id), sealed(&id)]).unwrap();
        }
        // As after a kill: the write-ahead log has not been moved into the file.
        for name in ["journal.db", "journal.db-wal"] {
            let copy = path.with_file_name(format!("copy-{name}"));
            fs::copy(path.with_file_name(name), copy).unwrap();
        }
        let copy = path.with_file_name("copy-journal.db");
        for damage in damages {
            damage.strike(&copy);
        }

        match SqliteJournal::open(&copy, clock()) {
            Err(JournalError::Newer { .. }) => {}
            Err(other) => prop_assert!(false, "{}", other),
            Ok(mut opened) => {
                let tasks = opened.journal.snapshot().unwrap().tasks;
                prop_assert!(opened.set_aside.is_none() || tasks.is_empty());
                prop_assert!(tasks.iter().all(|task| task.phase == Phase::Sealed));
                one(&mut opened.journal, vec![accepted("new")]).unwrap();
            }
        }
    }
}
