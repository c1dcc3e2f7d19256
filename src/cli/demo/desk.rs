//! The desk of a demo with `--keep`: a unix socket in the user's runtime folder where `demo submit` hands in a task and gets its
//! log and its result, one JSON object a line. The master's own service has no method for it, and needs none. A client that hangs
//! up before the end has its task cancelled.

use std::{
    convert::Infallible,
    fs, io,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt},
        net::UnixStream as BlockingStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};

use super::{
    error::DemoError,
    stage::{Stage, next},
};

/// Bytes that are read of a client. A task's command may have 128 KiB; the rest is for JSON's escapes.
const LARGEST_REQUEST: u64 = 1 << 20;
/// A listener that fails to accept, for want of descriptors most likely, tries again after this.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The task that a client hands in.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// The image.
    pub(super) image: String,
    /// The command for the image's shell; empty: the image's own command.
    pub(super) command: String,
}

/// What the client is told, one line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum News {
    /// The worker has it, under this id.
    Accepted(String),
    /// A line of its log.
    Line(String),
    /// The task has ended.
    End {
        /// The master's word: completed, failed or cancelled.
        status: String,
        /// The last line of its log, which is the worker's.
        trailer: String,
    },
    /// The task could not be run; says why.
    Refused(String),
}

/// The open desk. Dropping it removes the socket.
pub(super) struct Desk {
    listener: UnixListener,
    path: PathBuf,
}

impl Desk {
    /// Opens the desk, unless another demo of this user has one.
    pub(super) fn open() -> Result<Self, DemoError> {
        let path = socket_path();
        let folder = path.parent().unwrap_or(Path::new("/"));
        private_folder(folder).map_err(DemoError::path("cannot use the folder", folder))?;
        if BlockingStream::connect(&path).is_ok() {
            return Err(DemoError::AlreadyKept);
        }
        // A socket that nobody listens at is what a killed demo left.
        let _none = fs::remove_file(&path);
        let listener =
            UnixListener::bind(&path).map_err(DemoError::path("cannot listen at", &path))?;
        Ok(Self { listener, path })
    }

    /// Serves every client that connects, for ever.
    pub(super) async fn serve(&self, stage: &Arc<Stage>) -> Infallible {
        let mut visits = JoinSet::new();
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    visits.spawn(attend(Arc::clone(stage), stream));
                }
                Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
            }
            while visits.try_join_next().is_some() {}
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _already_gone = fs::remove_file(&self.path);
    }
}

/// The path of the desk's socket, for the demo and for `demo submit`.
pub(super) fn socket_path() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let user = rustix::process::geteuid();
    let folder = match runtime.filter(|folder| folder.is_absolute()) {
        Some(runtime) => runtime.join("worker-node"),
        None if user.is_root() => PathBuf::from("/run/worker-node"),
        None => std::env::temp_dir().join(format!("worker-node-{}", user.as_raw())),
    };
    folder.join("demo.sock")
}

/// Makes the folder; one that somebody else could write to is refused, since temporary folders are open to all.
fn private_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let found = fs::symlink_metadata(folder)?;
    let ours = found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0;
    if found.is_dir() && ours {
        Ok(())
    } else {
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it belongs to somebody else, or others may write to it",
        ))
    }
}

type Reader = Lines<BufReader<tokio::io::Take<OwnedReadHalf>>>;

async fn attend(stage: Arc<Stage>, stream: UnixStream) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read.take(LARGEST_REQUEST)).lines();
    // A client that hangs up without a request wanted nothing; one that cannot be answered is gone.
    if let Ok(Some(line)) = lines.next_line().await {
        let _gone = perform(&stage, &line, &mut lines, &mut write).await;
    }
}

async fn perform(
    stage: &Stage,
    line: &str,
    lines: &mut Reader,
    write: &mut OwnedWriteHalf,
) -> io::Result<()> {
    let request: Request = match serde_json::from_str(line) {
        Ok(request) => request,
        Err(error) => return tell(write, News::Refused(error.to_string())).await,
    };
    let id = match stage.submit("hand", &request.image, &request.command).await {
        Ok(id) => id,
        Err(missed) => return tell(write, News::Refused(missed.to_string())).await,
    };
    stage.screen.about("task", &format!("{id} runs"));
    let told = tokio::select! {
        told = tell_log(stage, &id, write) => told,
        _ = lines.next_line() => Err(io::ErrorKind::ConnectionAborted.into()),
    };
    if told.is_err() {
        stage
            .screen
            .about("task", &format!("{id} is cancelled: its viewer hung up"));
        let _answer = stage.master.cancel(&id).await;
    }
    told
}

async fn tell_log(stage: &Stage, id: &str, write: &mut OwnedWriteHalf) -> io::Result<()> {
    tell(write, News::Accepted(id.to_owned())).await?;
    let mut feed = stage.master.follow_log(id);
    let end = loop {
        match next(&mut feed).await {
            Ok(line) => tell(write, News::Line(line)).await?,
            Err(end) => break end,
        }
    };
    stage.screen.about("task", &format!("{id} {}", end.status));
    let (status, trailer) = (end.status, end.trailer);
    tell(write, News::End { status, trailer }).await
}

async fn tell(write: &mut OwnedWriteHalf, news: News) -> io::Result<()> {
    let mut line = serde_json::to_vec(&news)?;
    line.push(b'\n');
    write.write_all(&line).await
}
