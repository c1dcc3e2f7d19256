//! What the journal keeps of images that were pulled.

use super::*;
use crate::domain::{
    id::ContainerName,
    shelf::{Brought, Pulled},
};

fn pulled(id: &str, reference: &str, brought: Brought) -> Change {
    Change::ImagePulled {
        id: id.into(),
        told: format!("r/{id}@sha256:{id}"),
        reference: reference.into(),
        brought,
    }
}

fn images(journal: &SqliteJournal) -> Vec<Pulled> {
    journal.reader().unwrap().household().unwrap().images
}

/// Ids of the images, each with its names.
fn names(journal: &SqliteJournal) -> Vec<(String, Vec<String>)> {
    let images = images(journal).into_iter();
    images.map(|image| (image.id, image.references)).collect()
}

#[test]
fn only_what_a_pull_has_brought_is_ours_and_further_names_of_that() {
    let (_folder, path) = place();
    let mut journal = open(&path);

    for (id, reference, brought) in [
        ("foreign", "r/foreign:1", Brought::Nothing),
        ("a", "r/a:1", Brought::New),
        ("a", "r/a:1", Brought::New),
        ("a", "r/a:latest", Brought::Nothing),
        ("b", "r/b:1", Brought::New),
    ] {
        one(&mut journal, vec![pulled(id, reference, brought)]).unwrap();
    }
    one(&mut journal, vec![Change::ImageRemoved("b".into())]).unwrap();
    drop(journal);

    let ours = vec!["r/a:1".to_owned(), "r/a:latest".to_owned()];
    assert_eq!(names(&open(&path)), [("a".to_owned(), ours)]);
}

#[test]
fn an_image_is_used_from_its_pull_to_the_end_of_its_last_task() {
    let (_folder, path) = place();
    let clock = clock();
    let opened = SqliteJournal::open(&path, Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
    let mut journal = opened.journal;
    let task = task_id("t");
    let start = clock.now();
    let mut at = |seconds, change| {
        let now = start + Duration::from_secs(seconds);
        *clock.0.lock().unwrap() = now;
        one(&mut journal, vec![change]).unwrap();
        images(&journal)[0].used_at == now
    };

    assert!(at(0, pulled("a", "r/a:1", Brought::New)));
    assert!(!at(1, accepted("t")));
    let starting = Change::Starting {
        task: task.clone(),
        attempt: 1,
        container_name: ContainerName("n".into()),
        image: "r/a@sha256:a".into(),
    };
    assert!(at(2, starting));
    assert!(!at(3, sealed("t")));
    let done = Change::Done {
        task,
        at: UNIX_EPOCH,
    };
    assert!(at(4, done));
    assert_eq!(images(&journal)[0].pulled_at, start);
}

#[test]
fn what_open_tasks_want_is_told_by_the_name_they_ask_for_and_by_what_they_run() {
    let (_folder, path) = place();
    let mut journal = open(&path);
    one(&mut journal, vec![accepted("t")]).unwrap();
    let name = record("t").spec.image;
    let wanted = |journal: &SqliteJournal| {
        let household = journal.reader().unwrap().household().unwrap();
        household.images_wanted
    };
    assert_eq!(wanted(&journal), [(name.clone(), None)]);

    let starting = Change::Starting {
        task: task_id("t"),
        attempt: 1,
        container_name: ContainerName("n".into()),
        image: "r/a@sha256:a".into(),
    };
    one(&mut journal, vec![starting]).unwrap();
    assert_eq!(wanted(&journal), [(name, Some("r/a@sha256:a".into()))]);

    let done = Change::Done {
        task: task_id("t"),
        at: UNIX_EPOCH,
    };
    one(&mut journal, vec![sealed("t"), done]).unwrap();
    assert_eq!(wanted(&journal), []);
}
