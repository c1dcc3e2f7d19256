//! Where tasks are played: the demo's master, and the way of one task through it from its submission to its result. Tasks of
//! the cast and tasks by hand go the same way.

use std::sync::Arc;

use super::{
    cast::Part,
    screen::{Ink, Screen},
    table::Row,
    trailer,
};
use crate::{
    dev_master::{CallAnswer, CancelCall, DevMaster, LogEnd, LogFeed, LogNews, NotSeen},
    proto::Task,
};

/// The master that gives the tasks, the screen that shows them, and the image that those of the cast run.
pub(super) struct Stage {
    pub(super) master: DevMaster,
    pub(super) screen: Arc<Screen>,
    pub(super) image: String,
}

/// A task of the cast after its end.
pub(super) struct Played {
    /// The task's row of the table.
    pub(super) row: Row,
    /// Each difference from what was expected, as a sentence.
    pub(super) complaints: Vec<String>,
}

/// How a log ended.
pub(super) struct End {
    /// The master's word: completed, failed or cancelled.
    pub(super) status: String,
    /// The log's last line, which the worker adds.
    pub(super) trailer: String,
}

impl Stage {
    /// Gives a task to the master, and returns its id once the worker has it.
    ///
    /// # Errors
    /// The worker has not taken the task in time.
    pub(super) async fn submit(
        &self,
        name: &str,
        image: &str,
        command: &str,
    ) -> Result<String, NotSeen> {
        let letters: String = (0..6).map(|_| fastrand::lowercase()).collect();
        let id = format!("{name}-{letters}");
        self.master.submit(Task {
            task_id: id.clone(),
            docker_image: image.to_owned(),
            command: command.to_owned(),
            user_id: "demo".to_owned(),
            task_name: name.to_owned(),
            ..Task::default()
        });
        self.master.wait_accepted(&id).await?;
        Ok(id)
    }

    /// Plays one task of the cast to its end.
    ///
    /// # Errors
    /// An event of the task's course did not come in time.
    pub(super) async fn play(&self, number: usize, part: &Part) -> Result<Played, NotSeen> {
        let ink = Ink::Task(number);
        let id = self.submit(part.name, &self.image, part.command).await?;
        let mut feed = self.master.follow_log(&id);
        let (mut lines, mut last_line) = (0, String::new());
        let end = loop {
            match next(&mut feed).await {
                Ok(line) => {
                    lines += 1;
                    self.screen.log(ink, part.name, &line);
                    if part.cancel_at == Some(line.as_str()) {
                        self.cancel(&id, ink, part.name).await;
                    }
                    last_line = line;
                }
                Err(end) => break end,
            }
        };
        self.screen.log(ink, part.name, &end.trailer);
        self.master.wait_report(&id).await?;
        let row = self.row(&id, part.name, lines, &end);
        let complaints = part.complaints(&row, &last_line);
        Ok(Played { row, complaints })
    }

    async fn cancel(&self, id: &str, ink: Ink, name: &str) {
        let cancel = self.master.cancel(id).await;
        let answer = cancel.map_or_else(|| "no worker has it".to_owned(), in_words);
        let text = format!("-- the master cancels it; the worker says: {answer}");
        self.screen.log(ink, name, &text);
    }

    fn row(&self, id: &str, name: &str, lines: u64, end: &End) -> Row {
        let told = trailer::read(&end.trailer);
        let task = self.master.task(id);
        let status = task
            .as_ref()
            .map_or_else(|| end.status.clone(), |task| task.status.clone());
        let uploads = task.into_iter().flat_map(|task| task.uploads);
        let files = uploads.flat_map(|upload| upload.files);
        Row {
            task: name.to_owned(),
            status,
            exit: told.exit,
            seconds: told.seconds,
            lines,
            files: files.map(|file| (file.path, file.size)).collect(),
        }
    }
}

/// The next line of a log, or how it ended.
pub(super) async fn next(feed: &mut LogFeed) -> Result<String, End> {
    let broken = |why: String| End {
        status: "unknown".to_owned(),
        trailer: format!("the log broke off: {why}"),
    };
    Err(match feed.next().await {
        Some(LogNews::Line(line)) => return Ok(line),
        Some(LogNews::End(LogEnd::Complete { trailer, status })) => End { status, trailer },
        Some(LogNews::End(LogEnd::Error(status))) => broken(status.to_string()),
        Some(LogNews::End(LogEnd::Cut)) | None => broken("no last line came".to_owned()),
    })
}

fn in_words(call: CancelCall) -> String {
    match call.answer {
        CallAnswer::Ack(ack) => ack.message,
        CallAnswer::Error(status) => status.to_string(),
        CallAnswer::Unreachable(why) => why,
    }
}
