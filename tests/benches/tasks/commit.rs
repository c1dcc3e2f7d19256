//! What a durable commit costs on this disk, and nothing else: one row of about a task's size into a file of SQLite's, with a
//! write-ahead log that is flushed at every commit. It lies beside the workers' own state folders.

use std::time::Duration;

use rusqlite::{Connection, params};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Bytes of one row: about those of a task that was just accepted.
const ROW: usize = 400;

/// A thread that commits when it is asked to.
pub(crate) struct BareCommit {
    asks: mpsc::UnboundedSender<oneshot::Sender<Duration>>,
    _folder: TempDir,
}

impl BareCommit {
    /// Opens a new file.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the file");
        let file = open(&folder).expect("SQLite can write there");
        let (asks, queue) = mpsc::unbounded_channel();
        std::thread::spawn(move || serve(&file, queue));
        Self {
            asks,
            _folder: folder,
        }
    }

    /// Commits one row; how long the thread was at it.
    pub(crate) async fn time(&self) -> Duration {
        let (answer, took) = oneshot::channel();
        self.asks.send(answer).expect("its thread lives");
        took.await.expect("its thread answers")
    }
}

fn open(folder: &TempDir) -> rusqlite::Result<Connection> {
    let file = Connection::open(folder.path().join("bare.db"))?;
    file.pragma_update(None, "journal_mode", "WAL")?;
    file.pragma_update(None, "synchronous", "FULL")?;
    file.execute("CREATE TABLE tasks (id INTEGER PRIMARY KEY, task BLOB)", [])?;
    Ok(file)
}

fn serve(file: &Connection, mut queue: mpsc::UnboundedReceiver<oneshot::Sender<Duration>>) {
    let row = [b'x'; ROW];
    while let Some(answer) = queue.blocking_recv() {
        let begun = Instant::now();
        file.prepare_cached("INSERT INTO tasks (task) VALUES (?1)")
            .and_then(|mut insert| insert.execute(params![row.as_slice()]))
            .expect("a row can be committed");
        // Nobody waits for it any more when the run was ended in between.
        let _ended = answer.send(begun.elapsed());
    }
}
