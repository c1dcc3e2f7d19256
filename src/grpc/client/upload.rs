//! The upload of a task's output files: one stream, one file strictly after another, in constant memory. Files are read on a
//! blocking thread ([`framing`]); this half connects, keeps the two deadlines and reads the answer.
//!
//! A file that is gone does not keep the others from being sent. A stream is opened only when its first chunk is there, since
//! an empty one makes a row without a task; and its end is shown to the master only when the reader got to its own end, since
//! a broken stream that ends well would be taken for the whole set.

mod framing;

use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::{sync::mpsc, task::JoinHandle, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use self::framing::Framing;
use super::{Connection, client};
use crate::{
    grpc::{keys::Keys, status},
    ports::master::{MasterAddress, MasterError, Upload, Uploaded},
    proto::{FileChunk, FileUploadAck},
};

/// How many chunks wait on their way from the reader to the connection.
const CHUNKS_AHEAD: usize = 1;

/// Sends all files of an upload, within its two deadlines.
pub(super) async fn send(
    master: &MasterAddress,
    keys: &Keys,
    upload: Upload,
) -> Result<Uploaded, MasterError> {
    if upload.files.is_empty() {
        return Ok(Uploaded::default());
    }
    let deadlines = Deadlines::new(upload.inactivity, upload.total);
    let within = upload.inactivity.min(upload.total);
    let mut connection = Connection::open(master, keys, within).await?;
    let (chunks, mut received) = mpsc::channel(CHUNKS_AHEAD);
    let mut reader = Reader::start(upload, chunks);
    let Some(first) = first_chunk(&mut received, &mut reader, &deadlines).await? else {
        let skipped = reader.finish().await?;
        return Err(MasterError::Source(skipped.join("; ")));
    };
    let rest = stream::iter([first]).chain(ReceiverStream::new(received));
    let mut client = client(&connection);
    let call = client.upload_task_files(rest);
    let answer = watch(call, &mut connection, &mut reader, &deadlines).await?;
    let ack = answer
        .map_err(|status| status::master_error(&status, deadlines.total))?
        .into_inner();
    // This closes the channel from the other end: a reader that is not done is told so.
    drop(connection);
    outcome(ack, reader).await
}

/// The first chunk; `None` where not a single file can be read.
async fn first_chunk(
    received: &mut mpsc::Receiver<FileChunk>,
    reader: &mut Reader,
    deadlines: &Deadlines,
) -> Result<Option<FileChunk>, MasterError> {
    tokio::select! {
        biased;
        first = received.recv() => Ok(first),
        ended = reader.ended() => {
            ended?;
            Ok(received.try_recv().ok())
        }
        () = tokio::time::sleep_until(deadlines.next()) => Err(deadlines.missed()),
    }
}

async fn outcome(ack: FileUploadAck, mut reader: Reader) -> Result<Uploaded, MasterError> {
    if !ack.success {
        return Err(status::refusal(ack.message));
    }
    let skipped = reader.finish().await?;
    Ok(Uploaded {
        received: u32::try_from(ack.files_received).unwrap_or(0),
        skipped,
    })
}

/// Waits for the answer for as long as there is progress: the socket takes bytes, or the reader comes to its end.
async fn watch(
    call: impl Future<Output = Result<Response<FileUploadAck>, Status>>,
    connection: &mut Connection,
    reader: &mut Reader,
    deadlines: &Deadlines,
) -> Result<Result<Response<FileUploadAck>, Status>, MasterError> {
    tokio::pin!(call);
    loop {
        tokio::select! {
            // The answer first: it counts even where a deadline is over at the same moment.
            biased;
            answer = &mut call => return Ok(answer),
            ended = reader.ended() => ended?,
            () = connection.progress() => {}
            () = tokio::time::sleep_until(deadlines.next()) => return Err(deadlines.missed()),
        }
    }
}

/// The two deadlines of an upload: without progress, and in all.
struct Deadlines {
    inactivity: Duration,
    total: Duration,
    end: Instant,
}

impl Deadlines {
    fn new(inactivity: Duration, total: Duration) -> Self {
        Self {
            inactivity,
            total,
            end: Instant::now() + total,
        }
    }

    /// When to give up if nothing happens from now on.
    fn next(&self) -> Instant {
        self.end.min(Instant::now() + self.inactivity)
    }

    fn missed(&self) -> MasterError {
        if Instant::now() >= self.end {
            MasterError::Deadline(self.total)
        } else {
            MasterError::Deadline(self.inactivity)
        }
    }
}

/// The thread that reads the files, as this half sees it.
struct Reader {
    /// `None` once it has ended.
    thread: Option<JoinHandle<Result<Vec<String>, framing::NobodyListens>>>,
    /// Keeps the stream open until the reader says that it is done: a panic must not look like the last chunk.
    open: Option<mpsc::Sender<FileChunk>>,
    skipped: Option<Vec<String>>,
}

impl Reader {
    fn start(upload: Upload, chunks: mpsc::Sender<FileChunk>) -> Self {
        let open = Some(chunks.clone());
        let thread = tokio::task::spawn_blocking(move || Framing::new(&upload, &chunks).send_all());
        Self {
            thread: Some(thread),
            open,
            skipped: None,
        }
    }

    /// Waits for the reader's end; for ever once the end was told.
    async fn ended(&mut self) -> Result<(), MasterError> {
        let Some(thread) = &mut self.thread else {
            return std::future::pending().await;
        };
        let ended = thread.await;
        self.thread = None;
        match ended {
            Ok(Ok(skipped)) => {
                self.skipped = Some(skipped);
                self.open = None;
                Ok(())
            }
            Ok(Err(framing::NobodyListens)) => Ok(()),
            Err(panic) => Err(MasterError::Source(format!("the reader failed: {panic}"))),
        }
    }

    /// Waits for the reader's end where it has not come yet, and says what was left out.
    async fn finish(&mut self) -> Result<Vec<String>, MasterError> {
        if self.thread.is_some() {
            self.ended().await?;
        }
        self.skipped.take().ok_or_else(|| {
            MasterError::Refused("it answered before all files were sent".to_owned())
        })
    }
}

#[cfg(test)]
mod tests;
