//! The walk through folders that are made for it.

use std::{
    fs::{self, File},
    os::unix::fs::{MetadataExt, symlink},
};

use super::*;

const MIB: u64 = 1 << 20;

const PLENTY: Allowance = Allowance {
    bytes: 1 << 40,
    inodes: 1 << 20,
};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Does the whole walk on this thread.
fn counted(folder: &Path, most: &Allowance) -> Sum {
    let (mut walk, mut sum) = (Walk::into(folder).unwrap(), Sum::default());
    while !walk.go_on(7, &mut sum, most).unwrap() {}
    sum
}

fn blocks(path: &Path) -> u64 {
    fs::symlink_metadata(path).unwrap().blocks() * 512
}

#[test]
fn a_file_counts_once_however_many_names_it_has() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, vec![1; 3 << 20]).unwrap();
    for name in 0..50 {
        fs::hard_link(&file, folder.path().join(format!("name-{name}"))).unwrap();
    }

    let sum = counted(folder.path(), &PLENTY);

    assert_eq!(sum.inodes(), 2, "the file and the folder");
    let size = blocks(&file) + blocks(folder.path());
    assert!(size - sum.bytes < 51, "{} of {size}", sum.bytes);
    assert_eq!(sum.counted, Counted::Whole);
}

#[test]
fn a_hole_costs_nothing() {
    let folder = folder();
    let file = File::create(folder.path().join("sparse")).unwrap();
    file.set_len(1 << 40).unwrap();

    let sum = counted(folder.path(), &PLENTY);

    assert!(sum.bytes < MIB, "{}", sum.bytes);
}

#[test]
fn a_link_counts_for_itself_and_is_not_followed() {
    let (folder, other) = (folder(), folder());
    fs::write(other.path().join("large"), vec![1; 5 << 20]).unwrap();
    symlink(other.path(), folder.path().join("folder")).unwrap();
    symlink(other.path().join("large"), folder.path().join("file")).unwrap();
    symlink("..", folder.path().join("up")).unwrap();

    let sum = counted(folder.path(), &PLENTY);

    assert_eq!(sum.inodes(), 4);
    assert!(sum.bytes < MIB, "{}", sum.bytes);
    assert!(Walk::into(&folder.path().join("folder")).is_err());
}

/// Makes so many folders, one in the other, with a file in the last.
fn deep(folders: usize) -> tempfile::TempDir {
    let folder = folder();
    let path: std::path::PathBuf = std::iter::repeat_n("d", folders).collect();
    fs::create_dir_all(folder.path().join(&path)).unwrap();
    fs::write(folder.path().join(path).join("file"), vec![1; 2 << 20]).unwrap();
    folder
}

#[test]
fn two_hundred_folders_deep_is_counted_and_what_is_deeper_than_can_be_is_told() {
    let sum = counted(deep(200).path(), &PLENTY);
    assert_eq!((sum.inodes(), sum.counted), (202, Counted::Whole));
    assert!(sum.bytes >= 2 * MIB, "{}", sum.bytes);

    let sum = counted(deep(DEPTH).path(), &PLENTY);
    assert_eq!(sum.counted, Counted::Tangled);
}

#[test]
fn a_walk_ends_where_it_has_found_too_much() {
    let folder = folder();
    for name in 0..200 {
        fs::write(folder.path().join(name.to_string()), "x").unwrap();
    }

    let few = Allowance {
        inodes: 100,
        ..PLENTY
    };
    let sum = counted(folder.path(), &few);
    assert_eq!((sum.inodes(), sum.counted), (101, Counted::UntilOver));

    let small = Allowance {
        bytes: 64 << 10,
        ..PLENTY
    };
    let sum = counted(folder.path(), &small);
    assert_eq!(sum.counted, Counted::UntilOver);
    assert!((64 << 10..200 << 10).contains(&sum.bytes), "{}", sum.bytes);
}

#[test]
fn names_without_end_are_not_counted_to_their_end() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    for name in 0..100 {
        fs::hard_link(&file, folder.path().join(format!("name-{name}"))).unwrap();
    }

    let most = Allowance {
        inodes: 20,
        ..PLENTY
    };

    assert_eq!(counted(folder.path(), &most).counted, Counted::Tangled);
}

#[test]
fn what_vanishes_under_the_walk_is_passed_over() {
    let folder = folder();
    for name in 0..30 {
        fs::create_dir_all(folder.path().join(name.to_string()).join("in")).unwrap();
    }
    let (mut walk, mut sum) = (Walk::into(folder.path()).unwrap(), Sum::default());
    assert!(!walk.go_on(5, &mut sum, &PLENTY).unwrap());

    for name in 0..30 {
        fs::remove_dir_all(folder.path().join(name.to_string())).unwrap();
    }

    while !walk.go_on(5, &mut sum, &PLENTY).unwrap() {}
    assert_eq!(sum.counted, Counted::Whole);
}

/// With `cargo test -- --nocapture` it also prints how long a walk takes.
#[tokio::test]
async fn ten_thousand_files_are_counted() {
    let folder = folder();
    for name in 0..10_000 {
        let inner = folder.path().join((name % 100).to_string());
        if name < 100 {
            fs::create_dir(&inner).unwrap();
        }
        fs::write(inner.join(name.to_string()), "x").unwrap();
    }
    let begun = Instant::now();
    assert_eq!(counted(folder.path(), &PLENTY).inodes(), 10_101);
    println!("10,000 files in 100 folders: {:?}", begun.elapsed());

    let sum = to_its_end(Walk::into(folder.path()).unwrap(), Sum::default(), PLENTY);
    let sum = sum.await.unwrap();

    assert_eq!(sum.inodes(), 10_101);
    assert!(sum.bytes >= 10_000 * 4_096, "{}", sum.bytes);
    assert!(sum.free.is_some_and(|free| free > 0));
}
