//! A log that is read on as slowly as its reader likes and kept nowhere: for spectators, and for logs of any size. `log_view` is
//! for tests that judge what has come.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::Status;

use super::log_view::LogEnd;
use super::{Core, DevMaster};
use crate::proto::TaskLogRequest;

/// How many lines wait for the reader; beyond them the worker waits.
const WAITING_LINES: usize = 64;

/// One item of a log that is followed.
#[derive(Clone, Debug)]
pub enum LogNews {
    /// The next line, or a part of a long one.
    Line(String),
    /// Nothing more comes.
    End(LogEnd),
}

/// A task's log as it comes. Dropping it closes the stream.
#[derive(Debug)]
pub struct LogFeed {
    news: mpsc::Receiver<LogNews>,
    reading: JoinHandle<()>,
}

impl LogFeed {
    /// The next line or the end; `None` after the end. Waits without limit.
    pub async fn next(&mut self) -> Option<LogNews> {
        self.news.recv().await
    }
}

impl Drop for LogFeed {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

impl DevMaster {
    /// Opens the log of a task at the worker that has it.
    pub fn follow_log(&self, task: &str) -> LogFeed {
        let (sender, news) = mpsc::channel(WAITING_LINES);
        let worker = self.worker_of(task).unwrap_or_default();
        let (core, task) = (Arc::clone(&self.core), task.to_owned());
        let reading = tokio::spawn(async move {
            let end = read(&core, &worker, &task, &sender).await;
            let end = end.unwrap_or_else(LogEnd::Error);
            if let LogEnd::Complete { status, .. } = &end {
                core.ledger.write(|record| record.log_ended(&task, status));
            }
            // The reader may be gone: then there is nobody to tell.
            let _gone = sender.send(LogNews::End(end)).await;
        });
        LogFeed { news, reading }
    }
}

async fn read(
    core: &Core,
    worker: &str,
    task: &str,
    news: &mpsc::Sender<LogNews>,
) -> Result<LogEnd, Status> {
    let connected = core.dial_worker(worker, core.options.patience).await;
    let request = TaskLogRequest {
        task_id: task.to_owned(),
        follow: true,
        ..TaskLogRequest::default()
    };
    let answer = connected
        .map_err(Status::unavailable)?
        .stream_task_logs(request)
        .await?;
    let mut stream = answer.into_inner();
    while let Some(chunk) = stream.message().await? {
        if chunk.is_complete {
            return Ok(LogEnd::Complete {
                trailer: chunk.content,
                status: chunk.status,
            });
        }
        // The real master drops chunks with empty content.
        if chunk.content.is_empty() {
            continue;
        }
        if news.send(LogNews::Line(chunk.content)).await.is_err() {
            break;
        }
    }
    Ok(LogEnd::Cut)
}
