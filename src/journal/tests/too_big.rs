//! Changes that are too big to be kept: SQLite's own bound, and ours, which is met long before.

use super::{super::*, accepted, kept, one, open, place, sealed, values::task_id};
use crate::domain::{
    outcome::Outcome,
    record::{Ending, Outputs, Phase},
};

/// From now on every write of this task's row fails with SQLite's own bound on a value, 1,000,000,000 bytes.
fn is_too_big_for_sqlite(journal: &SqliteJournal, task: &str) {
    let when = |what: &str| {
        format!(
            "CREATE TEMP TRIGGER too_big_{what} BEFORE {what} ON tasks WHEN NEW.id = '{task}'
             BEGIN SELECT length(zeroblob(2000000000)); END;"
        )
    };
    let both = [when("INSERT"), when("UPDATE")].concat();
    journal.connection.execute_batch(&both).unwrap();
}

fn ended(task: &str, note: &str) -> Change {
    Change::Ended {
        task: task_id(task),
        ending: Box::new(Ending {
            outcome: Outcome::Succeeded,
            exit: None,
            outputs: Outputs::default(),
            notes: vec![note.into()],
        }),
    }
}

#[test]
fn what_sqlite_calls_too_big_fails_its_own_task_and_blocks_no_batch() {
    let (_folder, path) = place();
    let mut journal = open(&path);
    for task in ["a", "large", "z"] {
        one(&mut journal, vec![accepted(task)]).unwrap();
    }
    is_too_big_for_sqlite(&journal, "large");

    let batch = ["a", "large", "z"].map(|task| vec![ended(task, ""), sealed(task)]);
    let answers = journal.commit(&batch).unwrap();

    assert_eq!(answers, [Ok(()), Err(Refused::TooBig), Ok(())]);
    let phase = |journal: &mut SqliteJournal, task| kept(journal, &task_id(task)).unwrap().phase;
    assert_eq!(phase(&mut journal, "a"), Phase::Sealed);
    assert_eq!(
        phase(&mut journal, "large"),
        Phase::Accepted,
        "all or nothing"
    );
    assert_eq!(phase(&mut journal, "z"), Phase::Sealed);
    assert_eq!(one(&mut journal, vec![accepted("b")]), Ok(()), "it goes on");
}

#[test]
fn an_ending_over_the_limit_is_too_big_and_what_is_left_of_it_is_not() {
    let (_folder, path) = place();
    let mut journal = open(&path);
    for task in ["large", "z"] {
        one(&mut journal, vec![accepted(task)]).unwrap();
    }
    let large = ended("large", &"x".repeat(17 * 1024 * 1024));

    let answers = journal.commit(&[vec![large.clone()], vec![ended("z", "")]]);

    assert_eq!(answers.unwrap(), [Err(Refused::TooBig), Ok(())]);
    let Change::Ended { task, ending } = large else {
        unreachable!("it was made above")
    };
    let small = Box::new(ending.too_big());
    one(
        &mut journal,
        vec![Change::Ended {
            task,
            ending: small,
        }],
    )
    .unwrap();
    let record = kept(&mut journal, &task_id("large")).unwrap();
    let said = record.ending.unwrap().outcome.to_string();
    assert!(said.contains("too big for the worker's journal"), "{said}");
}
