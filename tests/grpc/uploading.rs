//! Uploads over a real connection: whole sets, and masters that do not play along. How files become chunks is tested where
//! they do.

use std::{
    collections::HashMap,
    io::{self, Cursor, Read},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;
use tonic::Code;
use worker_node::{
    domain::{
        id::TaskId,
        record::{OutputFile, Outputs},
    },
    grpc::client::GrpcMaster,
    ports::{
        master::{Master, MasterAddress, MasterError, Upload, Uploaded},
        outputs::OutputStore,
    },
};

use crate::fake_master::{Frames, Script, Seen, Sights, master, recording_proxy};

/// Files by path; reading one called 'panic' panics.
struct FakeStore(HashMap<String, Vec<u8>>);

struct Panics;

impl Read for Panics {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        panic!("as the test wants it")
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
        if file.path == "panic" {
            return Ok(Box::new(Panics));
        }
        let bytes = self.0.get(&file.path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(Cursor::new(bytes.clone())))
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

fn file(path: &str) -> OutputFile {
    OutputFile {
        path: path.into(),
        source: path.into(),
        size: 0,
    }
}

/// An upload of `listed`, of which `there` are to be found.
fn upload(listed: &[&str], there: &[(&str, Vec<u8>)]) -> Upload {
    let there = there
        .iter()
        .map(|(path, bytes)| ((*path).to_owned(), bytes.clone()));
    Upload {
        task: TaskId::new("a").unwrap(),
        user_id: "u".into(),
        task_name: "x/y".into(),
        submitted_at: 1_700_000_000,
        files: listed.iter().map(|path| file(path)).collect(),
        store: Arc::new(FakeStore(there.collect())),
        inactivity: Duration::from_secs(30),
        total: Duration::from_secs(60),
    }
}

/// A large set: more than fits the windows and buffers between a client and a master that does not read.
fn large() -> Upload {
    upload(&["large"], &[("large", vec![7; 40 * 1024 * 1024])])
}

async fn send(master: &MasterAddress, upload: Upload) -> Result<Uploaded, MasterError> {
    GrpcMaster::default().upload(master, upload).await
}

/// Puts the files together as the master does, checking the order on the way.
fn received(sights: &mut Sights) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let mut open = false;
    while let Ok(seen) = sights.try_recv() {
        match seen {
            Seen::Chunk(chunk) => {
                assert_eq!(
                    (chunk.user_id.as_str(), chunk.task_name.as_str()),
                    ("u", "x_y")
                );
                assert_eq!(
                    (chunk.task_id.as_str(), chunk.timestamp),
                    ("a", 1_700_000_000)
                );
                if !open {
                    files.push((chunk.file_path.clone(), Vec::new()));
                }
                let (path, bytes) = files.last_mut().unwrap();
                assert_eq!(*path, chunk.file_path, "files interleaved");
                bytes.extend(chunk.data);
                open = !chunk.is_last_chunk;
            }
            Seen::UploadEnded(clean) => assert!(clean && !open),
            other => panic!("{other:?}"),
        }
    }
    files
}

#[tokio::test]
async fn a_set_arrives_as_it_was() {
    let (address, mut sights) = master(Script::Accept).await;
    let large: Vec<u8> = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    let there = [
        ("a", b"x".to_vec()),
        ("dir/empty", vec![]),
        ("large", large),
    ];

    let uploaded = send(&address, upload(&["a", "dir/empty", "large"], &there)).await;

    assert_eq!(
        uploaded,
        Ok(Uploaded {
            received: 3,
            skipped: vec![]
        })
    );
    let sent = there.map(|(path, bytes)| (path.to_owned(), bytes));
    assert_eq!(received(&mut sights), sent);
}

#[tokio::test]
async fn a_file_that_is_gone_does_not_lose_the_others() {
    let (address, mut sights) = master(Script::Accept).await;
    let there = [("a", b"x".to_vec())];

    let uploaded = send(&address, upload(&["a", "gone"], &there))
        .await
        .unwrap();

    assert_eq!(uploaded.received, 1);
    assert_eq!(uploaded.skipped, ["gone: entity not found"]);
    assert_eq!(received(&mut sights), [("a".into(), b"x".to_vec())]);
}

#[tokio::test]
async fn where_every_file_is_gone_no_stream_is_opened() {
    let (address, _sights) = master(Script::Accept).await;
    let (proxy, mut said) = recording_proxy(address).await;

    let error = send(&proxy, upload(&["gone", "too"], &[])).await;

    assert_eq!(
        error,
        Err(MasterError::Source(
            "gone: entity not found; too: entity not found".into()
        ))
    );
    let frames = Frames::parse(&said.recv().await.unwrap());
    assert_eq!(frames.headers, 0);
}

#[tokio::test]
async fn no_files_are_no_upload() {
    let nobody = MasterAddress("127.0.0.1:1".into());

    assert_eq!(
        send(&nobody, upload(&[], &[])).await,
        Ok(Uploaded::default())
    );
}

#[tokio::test]
async fn a_reader_that_panics_never_looks_like_the_end_of_the_set() {
    let (address, mut sights) = master(Script::Accept).await;
    let there = [("a", vec![1; 2 * 1024 * 1024])];

    let error = send(&address, upload(&["a", "panic"], &there))
        .await
        .unwrap_err();

    assert!(matches!(error, MasterError::Source(_)), "{error:?}");
    loop {
        match sights.recv().await.unwrap() {
            Seen::UploadEnded(clean) => break assert!(!clean),
            Seen::Chunk(chunk) => assert!(!chunk.is_last_file),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_master_that_never_reads_meets_the_inactivity_deadline() {
    let (address, _sights) = master(Script::Hang).await;
    let inactivity = Duration::from_millis(300);

    let error = send(
        &address,
        Upload {
            inactivity,
            ..large()
        },
    )
    .await;

    assert_eq!(error, Err(MasterError::Deadline(inactivity)));
}

#[tokio::test]
async fn a_master_that_reads_slowly_is_waited_for() {
    let (address, _sights) = master(Script::AcceptSlowly(50)).await;
    let inactivity = Duration::from_secs(1);
    let started = Instant::now();

    let uploaded = send(
        &address,
        Upload {
            inactivity,
            ..large()
        },
    )
    .await;

    assert_eq!(uploaded.map(|uploaded| uploaded.received), Ok(1));
    assert!(started.elapsed() > inactivity, "too fast to tell");
}

#[tokio::test]
async fn an_upload_ends_at_its_total_deadline() {
    let (address, _sights) = master(Script::Hang).await;
    let total = Duration::from_millis(300);

    let error = send(&address, Upload { total, ..large() }).await;

    assert_eq!(error, Err(MasterError::Deadline(total)));
}

#[tokio::test]
async fn a_refusal_of_an_upload_is_seen_although_grpc_says_ok() {
    let (address, _sights) = master(Script::Refuse("database is down")).await;

    let error = send(&address, upload(&["a"], &[("a", vec![])])).await;

    assert_eq!(error, Err(MasterError::Refused("database is down".into())));
}

#[tokio::test]
async fn a_failed_upload_is_read_like_any_call() {
    let (address, _sights) = master(Script::Fail(Code::ResourceExhausted, "too large")).await;

    let error = send(&address, upload(&["a"], &[("a", vec![])])).await;

    assert_eq!(error, Err(MasterError::Unacceptable("too large".into())));
}

#[tokio::test]
async fn a_success_before_the_last_file_is_none() {
    let (address, _sights) = master(Script::AcceptEarly).await;

    let error = send(&address, large()).await;

    assert_eq!(
        error,
        Err(MasterError::Refused(
            "it answered before all files were sent".into()
        ))
    );
}
