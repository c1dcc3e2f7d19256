//! One viewer of a task's log: a connection of its own and follow=true, as the real master opens one. It keeps the lines
//! (or only counts them, for logs of any size) and tells the judge how the stream ended.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::Status;

use super::Core;
use super::judge::Rule;
use super::ledger::NotSeen;
use super::service::LARGEST_MESSAGE;
use super::upload::hex;
use crate::proto::{LogChunk, TaskLogRequest};

/// What a viewer keeps of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Every chunk.
    Lines,
    /// Counts and a digest alone.
    Counts,
}

/// How a log stream ended.
#[derive(Clone, Debug)]
pub enum LogEnd {
    /// With a final chunk.
    Complete {
        /// The final chunk's content: the trailer.
        trailer: String,
        /// The final chunk's status word.
        status: String,
    },
    /// Without a final chunk.
    Cut,
    /// With a gRPC error; NOT_FOUND for an unknown task.
    Error(Status),
}

/// What a viewer has seen so far.
#[derive(Clone, Debug, Default)]
pub struct LogSeen {
    /// The chunks that came, without those that the real master drops (empty content) and without the final one.
    pub chunks: Vec<LogChunk>,
    /// How many chunks came, the dropped ones and the final one included.
    pub count: u64,
    /// Chunks with empty content, which the real master drops.
    pub dropped: u64,
    /// Bytes of content, and one newline for each line that ended.
    pub bytes: u64,
    /// SHA-256 of the lines with their newlines, once the stream has ended, in lower-case hex.
    pub sha256: String,
    /// How the stream ended, once it has.
    pub end: Option<LogEnd>,
}

impl LogSeen {
    /// The lines, with those that came in parts put together again.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut begun = String::new();
        for chunk in &self.chunks {
            begun.push_str(&chunk.content);
            if !chunk.continued {
                lines.push(std::mem::take(&mut begun));
            }
        }
        if !begun.is_empty() {
            lines.push(begun);
        }
        lines
    }

    /// The status word of the final chunk.
    pub fn final_status(&self) -> Option<&str> {
        match &self.end {
            Some(LogEnd::Complete { status, .. }) => Some(status),
            Some(LogEnd::Cut | LogEnd::Error(_)) | None => None,
        }
    }
}

impl fmt::Display for LogSeen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} chunks, {} bytes, end {:?}; the last lines:",
            self.count, self.bytes, self.end
        )?;
        let skipped = self.chunks.len().saturating_sub(10);
        self.chunks
            .iter()
            .skip(skipped)
            .try_for_each(|chunk| writeln!(f, "  {:?}", chunk.content))
    }
}

/// A viewer. Dropping it closes its stream.
#[derive(Debug)]
pub struct LogView {
    task_id: String,
    patience: Duration,
    seen: Arc<Mutex<LogSeen>>,
    changed: watch::Receiver<()>,
    reading: JoinHandle<()>,
}

impl LogView {
    pub(super) fn open(core: Arc<Core>, worker: String, task_id: String, keep: Keep) -> Self {
        let (bell, changed) = watch::channel(());
        let seen = Arc::new(Mutex::new(LogSeen::default()));
        let reader = Reader {
            patience: core.options.patience,
            core,
            task_id: task_id.clone(),
            keep,
            seen: Arc::clone(&seen),
            bell,
            hash: Sha256::new(),
        };
        Self {
            task_id,
            patience: reader.patience,
            seen,
            changed,
            reading: tokio::spawn(reader.run(worker)),
        }
    }

    /// What has come so far.
    pub fn seen(&self) -> LogSeen {
        self.look(LogSeen::clone)
    }

    /// Waits for a line that holds `text`, and returns it.
    ///
    /// # Errors
    /// The line does not come in time.
    pub async fn wait_line(&self, text: &str) -> Result<String, NotSeen> {
        self.until(&format!("a line with {text:?}"), |seen| {
            let found = seen
                .chunks
                .iter()
                .find(|chunk| chunk.content.contains(text));
            found.map(|chunk| chunk.content.clone())
        })
        .await
    }

    /// Waits for the end of the stream, and returns everything.
    ///
    /// # Errors
    /// The end does not come in time.
    pub async fn wait_end(&self) -> Result<LogSeen, NotSeen> {
        self.until("the end", |seen| seen.end.is_some().then(|| seen.clone()))
            .await
    }

    /// Waits until `look` finds something in what has come.
    ///
    /// # Errors
    /// `look` finds nothing in time.
    pub async fn until<T>(
        &self,
        wanted: &str,
        mut look: impl FnMut(&LogSeen) -> Option<T>,
    ) -> Result<T, NotSeen> {
        let mut changed = self.changed.clone();
        let search = async {
            loop {
                if let Some(found) = self.look(&mut look) {
                    return Some(found);
                }
                if changed.changed().await.is_err() {
                    // The reader is gone: what is there now is all there will be.
                    return self.look(&mut look);
                }
            }
        };
        let found = tokio::time::timeout(self.patience, search)
            .await
            .ok()
            .flatten();
        found.ok_or_else(|| NotSeen {
            wanted: format!("{wanted} in the log of {}", self.task_id),
            within: self.patience,
            seen: self.look(LogSeen::to_string),
        })
    }

    fn look<T>(&self, look: impl FnOnce(&LogSeen) -> T) -> T {
        look(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for LogView {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// The task behind a viewer, which reads the stream.
struct Reader {
    core: Arc<Core>,
    task_id: String,
    keep: Keep,
    patience: Duration,
    seen: Arc<Mutex<LogSeen>>,
    bell: watch::Sender<()>,
    hash: Sha256,
}

impl Reader {
    async fn run(mut self, worker: String) {
        let end = self.read(&worker).await.unwrap_or_else(LogEnd::Error);
        let sha256 = hex(&std::mem::take(&mut self.hash).finalize());
        match &end {
            LogEnd::Complete { status, .. } => self
                .core
                .ledger
                .write(|record| record.log_ended(&self.task_id, status)),
            LogEnd::Cut => self.violate(
                Rule::LogNotEnded,
                "the log stream ended without a final chunk",
            ),
            LogEnd::Error(_) => {}
        }
        self.note(|seen| {
            seen.sha256 = sha256;
            seen.end = Some(end);
        });
    }

    async fn read(&mut self, worker: &str) -> Result<LogEnd, Status> {
        let mut client = self
            .core
            .dial_worker(worker, self.patience)
            .await
            .map_err(Status::unavailable)?;
        let request = TaskLogRequest {
            task_id: self.task_id.clone(),
            user_id: self
                .core
                .ledger
                .read(|record| {
                    record
                        .task(&self.task_id)
                        .map(|task| task.task.user_id.clone())
                })
                .unwrap_or_default(),
            follow: true,
            ..TaskLogRequest::default()
        };
        let mut stream = client.stream_task_logs(request).await?.into_inner();
        while let Some(chunk) = stream.message().await? {
            self.check(&chunk);
            if chunk.is_complete {
                self.note(|seen| seen.count += 1);
                return Ok(LogEnd::Complete {
                    trailer: chunk.content,
                    status: chunk.status,
                });
            }
            self.take(chunk);
        }
        Ok(LogEnd::Cut)
    }

    fn take(&mut self, chunk: LogChunk) {
        let newline: &[u8] = if chunk.continued { b"" } else { b"\n" };
        self.hash.update(chunk.content.as_bytes());
        self.hash.update(newline);
        let keep = self.keep;
        self.note(|seen| {
            seen.count += 1;
            seen.bytes += (chunk.content.len() + newline.len()) as u64;
            if chunk.content.is_empty() {
                seen.dropped += 1;
                // The empty chunk may be the end of a line that was shown already.
                if let Some(last) = seen.chunks.last_mut() {
                    last.continued = false;
                }
            } else if keep == Keep::Lines {
                seen.chunks.push(chunk);
            }
        });
    }

    fn check(&self, chunk: &LogChunk) {
        let size = prost::Message::encoded_len(chunk);
        if size > LARGEST_MESSAGE {
            self.violate(Rule::MessageSize, &format!("a log chunk of {size} bytes"));
        }
        let known = matches!(
            chunk.status.as_str(),
            "running" | "completed" | "failed" | "cancelled"
        );
        if !chunk.is_complete && !known {
            self.violate(
                Rule::LogStatusWord,
                &format!("a log chunk says {:?}", chunk.status),
            );
        }
        if chunk.content.contains('\n') {
            self.violate(Rule::LogLine, "a log chunk holds a newline");
        }
    }

    fn violate(&self, rule: Rule, sentence: &str) {
        let sentence = format!("{}: {sentence}", self.task_id);
        self.core
            .ledger
            .write(|record| record.violate(rule, sentence));
    }

    fn note(&self, change: impl FnOnce(&mut LogSeen)) {
        change(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        self.bell.send_replace(());
    }
}
