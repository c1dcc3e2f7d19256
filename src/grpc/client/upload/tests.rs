//! The reader's end, which no master must ever mistake.

use std::{
    io::{self, Read},
    path::PathBuf,
    sync::Arc,
};

use tokio::sync::mpsc::error::TryRecvError;

use super::*;
use crate::{
    domain::{
        id::TaskId,
        record::{OutputFile, Outputs},
    },
    ports::outputs::OutputStore,
};

/// Opens one empty file, and panics at any other.
struct OneFile;

impl OutputStore for OneFile {
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
        assert_eq!(file.path, "empty", "as the test wants it");
        Ok(Box::new(io::empty()))
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

fn reading(path: &str) -> (Reader, mpsc::Receiver<FileChunk>) {
    let (chunks, received) = mpsc::channel(CHUNKS_AHEAD);
    let upload = Upload {
        task: TaskId::new("a").unwrap(),
        user_id: String::new(),
        task_name: String::new(),
        submitted_at: 0,
        files: vec![OutputFile {
            path: path.into(),
            source: path.into(),
            size: 0,
        }],
        store: Arc::new(OneFile),
        inactivity: Duration::MAX,
        total: Duration::MAX,
    };
    (Reader::start(upload, chunks), received)
}

#[tokio::test]
async fn the_stream_stays_open_after_a_panic() {
    let (mut reader, mut received) = reading("panics");

    assert!(matches!(reader.ended().await, Err(MasterError::Source(_))));

    assert_eq!(received.try_recv(), Err(TryRecvError::Empty));
}

#[tokio::test]
async fn the_stream_ends_with_the_reader() {
    let (mut reader, mut received) = reading("empty");

    reader.ended().await.unwrap();

    assert!(received.try_recv().unwrap().is_last_file);
    assert_eq!(received.try_recv(), Err(TryRecvError::Disconnected));
    assert_eq!(reader.finish().await, Ok(vec![]));
}
