//! Framing, chunk by chunk, against a store that does what real files do.

use std::{collections::HashMap, io::Cursor, path::PathBuf, sync::Arc, thread, time::Duration};

use super::*;
use crate::{
    domain::{id::TaskId, record::Outputs},
    ports::outputs::OutputStore,
};

/// A file's bytes, and whether reading breaks off after them.
struct Stored(Vec<u8>, Option<io::ErrorKind>);

/// Files by path.
struct FakeStore(HashMap<&'static str, Stored>);

struct Breaks(io::ErrorKind);

impl Read for Breaks {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(self.0.into())
    }
}

impl OutputStore for FakeStore {
    fn prepare(&self, _: &TaskId) -> io::Result<PathBuf> {
        unreachable!("not for uploads")
    }

    fn is_there(&self, _: &TaskId) -> io::Result<bool> {
        unreachable!("not for uploads")
    }

    fn list(&self, _: &TaskId) -> io::Result<Outputs> {
        unreachable!("not for uploads")
    }

    fn open(&self, _: &TaskId, file: &OutputFile) -> io::Result<Box<dyn Read + Send>> {
        let Stored(bytes, breaks) = self
            .0
            .get(file.path.as_str())
            .ok_or(io::ErrorKind::NotFound)?;
        let bytes = Cursor::new(bytes.clone());
        Ok(match breaks {
            Some(kind) => Box::new(bytes.chain(Breaks(*kind))),
            None => Box::new(bytes),
        })
    }

    fn unpack(&self, _: &TaskId, _: &mut dyn Read) -> io::Result<Vec<String>> {
        unreachable!("not for uploads")
    }

    fn add(&self, _: &TaskId, _: &str) -> io::Result<Box<dyn io::Write + Send>> {
        unreachable!("not for uploads")
    }

    fn remove(&self, _: &TaskId) -> io::Result<()> {
        unreachable!("not for uploads")
    }
}

/// Sends the listed files; gives back the chunks and what was skipped.
fn send(listed: &[&str], there: Vec<(&'static str, Stored)>) -> (Vec<FileChunk>, Vec<String>) {
    let upload = Upload {
        task: TaskId::new("a").unwrap(),
        user_id: "u".into(),
        task_name: "x/y:z".into(),
        submitted_at: 7,
        files: listed
            .iter()
            .map(|path| OutputFile {
                path: (*path).into(),
                source: (*path).into(),
                size: 1,
            })
            .collect(),
        store: Arc::new(FakeStore(there.into_iter().collect())),
        inactivity: Duration::MAX,
        total: Duration::MAX,
    };
    let (chunks, mut received) = mpsc::channel(1);
    let sending = thread::spawn(move || Framing::new(&upload, &chunks).send_all().unwrap());
    let mut seen = Vec::new();
    while let Some(chunk) = received.blocking_recv() {
        seen.push(chunk);
    }
    (seen, sending.join().unwrap())
}

fn whole(bytes: usize) -> Stored {
    Stored(vec![b'x'; bytes], None)
}

/// Path, bytes, last of its file, last of all.
fn outline(chunks: &[FileChunk]) -> Vec<(&str, usize, bool, bool)> {
    chunks
        .iter()
        .map(|chunk| {
            (
                chunk.file_path.as_str(),
                chunk.data.len(),
                chunk.is_last_chunk,
                chunk.is_last_file,
            )
        })
        .collect()
}

#[test]
fn every_chunk_names_its_task_and_a_slash_never_gets_into_the_name() {
    let (chunks, _) = send(&["a"], vec![("a", whole(CHUNK + 1))]);

    for chunk in chunks {
        assert_eq!((chunk.task_id.as_str(), chunk.user_id.as_str()), ("a", "u"));
        assert_eq!((chunk.task_name.as_str(), chunk.timestamp), ("x_y:z", 7));
    }
}

#[test]
fn an_empty_file_is_one_empty_chunk() {
    let (chunks, _) = send(&["a"], vec![("a", whole(0))]);

    assert_eq!(outline(&chunks), [("a", 0, true, true)]);
}

#[test]
fn a_file_of_whole_chunks_has_no_empty_one_at_its_end() {
    for (bytes, sizes) in [
        (CHUNK - 1, vec![CHUNK - 1]),
        (CHUNK, vec![CHUNK]),
        (CHUNK + 1, vec![CHUNK, 1]),
        (2 * CHUNK, vec![CHUNK, CHUNK]),
    ] {
        let (chunks, _) = send(&["a"], vec![("a", whole(bytes))]);

        let seen: Vec<_> = chunks.iter().map(|chunk| chunk.data.len()).collect();
        assert_eq!(seen, sizes);
        let (last, others) = chunks.split_last().unwrap();
        assert!(last.is_last_chunk && last.is_last_file);
        assert!(
            others
                .iter()
                .all(|chunk| !chunk.is_last_chunk && !chunk.is_last_file)
        );
    }
}

#[test]
fn only_the_very_last_chunk_ends_the_set() {
    let there = vec![("a", whole(CHUNK + 1)), ("b", whole(0)), ("c", whole(2))];

    let (chunks, skipped) = send(&["a", "b", "c"], there);

    assert_eq!(
        outline(&chunks),
        [
            ("a", CHUNK, false, false),
            ("a", 1, true, false),
            ("b", 0, true, false),
            ("c", 2, true, true),
        ]
    );
    assert!(skipped.is_empty());
}

#[test]
fn the_last_file_that_can_be_opened_ends_the_set() {
    let there = vec![("b", whole(1)), ("d", whole(2))];

    let (chunks, skipped) = send(&["a", "b", "c", "d", "e"], there);

    assert_eq!(
        outline(&chunks),
        [("b", 1, true, false), ("d", 2, true, true)]
    );
    assert_eq!(
        skipped,
        [
            "a: entity not found",
            "c: entity not found",
            "e: entity not found"
        ]
    );
}

#[test]
fn a_file_that_breaks_off_ends_there_and_the_others_follow() {
    let broken = |bytes| {
        Stored(
            vec![b'x'; bytes],
            Some(io::ErrorKind::StaleNetworkFileHandle),
        )
    };
    let there = vec![("a", broken(10)), ("b", broken(CHUNK)), ("c", whole(1))];

    let (chunks, skipped) = send(&["a", "b", "c"], there);

    assert_eq!(
        outline(&chunks),
        [
            ("a", 10, true, false),
            ("b", CHUNK, true, false),
            ("c", 1, true, true)
        ]
    );
    assert_eq!(skipped.len(), 2);
    assert!(skipped[0].starts_with("a: broke off"), "{skipped:?}");
}

#[test]
fn a_files_last_chunk_carries_the_digest_of_what_was_sent() {
    let (chunks, _) = send(&["a", "b"], vec![("a", whole(CHUNK + 1)), ("b", whole(0))]);

    let expected = hex(&Sha256::digest(vec![b'x'; CHUNK + 1]));
    assert_eq!(chunks[0].sha256, "");
    assert_eq!(chunks[1].sha256, expected);
    assert_eq!(
        chunks[2].sha256,
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
}

#[test]
fn one_path_is_sent_once_and_only_a_clean_one() {
    let there = vec![("a", whole(1)), ("../x", whole(1)), ("/x", whole(1))];

    let (chunks, skipped) = send(&["../x", "a", "/x", "a", "x//y", "."], there);

    assert_eq!(outline(&chunks), [("a", 1, true, true)]);
    assert_eq!(
        skipped,
        [
            "../x: its path is not clean",
            "/x: its path is not clean",
            "a: another file has the same path",
            "x//y: its path is not clean",
            ".: its path is not clean",
        ]
    );
}

#[test]
fn a_thousand_missing_files_are_told_in_a_few_words() {
    let names: Vec<_> = (0..1_000).map(|n| n.to_string()).collect();
    let listed: Vec<_> = names.iter().map(String::as_str).collect();

    let (chunks, skipped) = send(&listed, vec![]);

    assert!(chunks.is_empty());
    assert_eq!(skipped.len(), SKIPPED_SHOWN + 1);
    assert_eq!(skipped[SKIPPED_SHOWN], "990 more were left out");
}

#[test]
fn a_call_that_has_ended_ends_the_reading() {
    let upload = Upload {
        task: TaskId::new("a").unwrap(),
        user_id: String::new(),
        task_name: String::new(),
        submitted_at: 0,
        files: vec![OutputFile {
            path: "a".into(),
            source: b"a".to_vec(),
            size: 1,
        }],
        store: Arc::new(FakeStore([("a", whole(1))].into())),
        inactivity: Duration::MAX,
        total: Duration::MAX,
    };
    let (chunks, received) = mpsc::channel(1);
    drop(received);

    let ended = Framing::new(&upload, &chunks).send_all();

    assert!(matches!(ended, Err(NobodyListens)));
}
