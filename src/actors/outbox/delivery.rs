//! One task's delivery, step by step: upload, settle, seal, close the log, report, note it. Every step can be repeated after a
//! crash, and what may no longer change is durable before it is told.

mod sealing;

use std::{fmt::Write as _, io, sync::Arc};

use log::{debug, info, warn};
use tokio::{
    sync::SemaphorePermit,
    time::{Instant, sleep, sleep_until},
};

use super::{Correspondents, Gates, reporting::Reporter};
use crate::{
    actors::{
        log_router::{OpenLog, OpenSpool},
        registry::TaskNews,
        task::next_lines,
    },
    domain::{
        id::TaskId,
        limits,
        outcome::Outcome,
        record::{Change, Ending, Phase, TaskRecord, Tombstone},
        text::{HeadAndTail, REPORT_LOG_LIMIT, repair_utf8},
    },
    failpoint,
    ports::{
        journal::Known,
        master::{MasterError, Report, Upload},
        spool::{LogEnd, LogRange, Spool},
        worker::LogsError,
    },
    supervision::{halt_if_replaced, threads::beside},
    telemetry::operator::{self, End},
};

/// How long another actor may take to answer before it is asked again.
const ASK: std::time::Duration = std::time::Duration::from_secs(10);

/// Between two tries to end a log on a full disk.
const CLOSE: std::time::Duration = std::time::Duration::from_secs(1);

/// The result of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// The master has the result, by a report that left at this time.
    At(Instant),
    /// The master had the result before.
    Earlier,
    /// The task's verdict is not fixed yet: the delivery that fixes it reports it.
    NotYet,
    /// The journal knows nothing of the task any more.
    Nothing,
}

/// Sends a result once more, no earlier than `not_before`: the master offered the task again, and writes 'running' after this
/// worker's acknowledgement.
pub(super) async fn again(
    with: Correspondents,
    gates: Arc<Gates>,
    task: TaskId,
    not_before: Instant,
) -> Told {
    let mut until = not_before;
    while Instant::now() < until {
        sleep_until(until).await;
        // The offer may have been repeated meanwhile: one report serves for both.
        until = with.receipts.wanted(&task).unwrap_or(until);
    }
    failpoint!("outbox.again");
    match with.records.find_in_the_end(&task).await {
        Some(Known::Record(record)) if record.phase < Phase::Sealed => Told::NotYet,
        // The first report has not arrived yet, as far as is known: this one serves for both.
        Some(Known::Record(record)) if record.phase == Phase::Sealed => {
            Delivery::new(with, gates, *record).run().await
        }
        Some(Known::Record(record)) => {
            let delivery = Delivery::new(with, gates, *record);
            Told::At(delivery.report(until).await)
        }
        Some(Known::Retired(stone)) => {
            let compose = async || report_of(&with, &stone);
            let reporter = Reporter::new(&with, &gates, &task, compose);
            Told::At(reporter.deliver(Some(until)).await)
        }
        Some(Known::Unreadable) | None => Told::Nothing,
    }
}

/// The report for a retired task, whose log and files are gone.
fn report_of(with: &Correspondents, stone: &Tombstone) -> Report {
    Report {
        task: stone.task.clone(),
        worker: with.worker.clone(),
        result_id: stone.result_id.clone(),
        status: stone.verdict.outcome.word(),
        logs: format!(
            "[worker-node] the log of this task is no longer kept\n{}",
            stone.verdict.trailer
        ),
        output_files: Vec::new(),
        usage: None,
        image: None,
        timeout: with.patience.report,
    }
}

/// Ends a log as soon as the disk has room for that. Only the log's viewers wait for it.
async fn close_in_the_end(spool: Arc<dyn Spool>, end: LogEnd) {
    while spool.close(end.clone()).await.is_err() {
        sleep(CLOSE).await;
    }
}

pub(super) struct Delivery {
    with: Correspondents,
    gates: Arc<Gates>,
    record: TaskRecord,
}

impl Delivery {
    pub(super) fn new(with: Correspondents, gates: Arc<Gates>, record: TaskRecord) -> Self {
        Self {
            with,
            gates,
            record,
        }
    }

    /// Delivers, from whatever step is durable to 'delivered'.
    pub(super) async fn run(mut self) -> Told {
        failpoint!("outbox.deliver");
        if self.is_delivered().await {
            let _ = self
                .with
                .news
                .send(TaskNews::Delivered(self.record.spec.id.clone()));
            return Told::Earlier;
        }
        if self.record.phase < Phase::Sealed {
            self.upload().await;
            failpoint!("outbox.uploaded");
            self.seal().await;
            failpoint!("outbox.sealed");
        }
        self.let_go();
        // Opened while the task still holds the log: opening a long log anew means reading all of it.
        let log = self.open_log().await;
        let task = self.record.spec.id.clone();
        let _ = self.with.news.send(TaskNews::Sealed(task));
        // The verdict is durable, and both tell it: the report need not wait until the log's end is on the disk.
        let ((), left) = tokio::join!(self.close_log(log), self.report_first());
        failpoint!("outbox.reported");
        self.note_delivered().await;
        failpoint!("outbox.delivered");
        Told::At(left)
    }

    /// Frees what a report does not tell, since the delivery may wait for the master for days.
    fn let_go(&mut self) {
        self.record.spec.command = String::new();
        if let Some(ending) = &mut self.record.ending {
            let mut room = limits::REPORTED_PATHS;
            let reported = ending.outputs.files.iter().take_while(|file| {
                let rest = room.checked_sub(file.path.len());
                room = rest.unwrap_or(room);
                rest.is_some()
            });
            let reported = reported.count();
            ending.outputs.files.truncate(reported);
            ending.outputs.files.shrink_to_fit();
        }
    }

    async fn report(&self, not_before: Instant) -> Instant {
        let task = &self.record.spec.id;
        Reporter::new(&self.with, &self.gates, task, async || self.compose().await)
            .deliver(Some(not_before))
            .await
    }

    /// The first report, with the line in the worker's log about how the task ended.
    async fn report_first(&self) -> Instant {
        let record = &self.record;
        let verdict = self.sealed();
        let end = End {
            outcome: &verdict.outcome,
            exit: record.ending.as_ref().and_then(|end| end.exit.as_ref()),
            image: &record.spec.image,
        };
        let compose = async || self.compose().await;
        Reporter::new(&self.with, &self.gates, &record.spec.id, compose)
            .telling(end)
            .deliver(None)
            .await
    }

    /// Reads the task's record again; true if its result is delivered. After a start both the task and the outbox ask for its
    /// delivery, and either may have read the record before the other's delivery was noted.
    async fn is_delivered(&mut self) -> bool {
        match self
            .with
            .records
            .find_in_the_end(&self.record.spec.id)
            .await
        {
            Some(Known::Retired(_) | Known::Unreadable) => true,
            Some(Known::Record(record)) if record.phase >= Phase::Ended => {
                self.record = *record;
                self.record.phase >= Phase::Delivered
            }
            // The journal was lost meanwhile: the record that was handed over is all there is.
            Some(Known::Record(_)) | None => false,
        }
    }

    fn ending(&self) -> Ending {
        let lost = || Ending {
            outcome: Outcome::Failed(crate::domain::outcome::Failure::Internal(
                "its end was not recorded".into(),
            )),
            exit: None,
            outputs: crate::domain::record::Outputs::default(),
            notes: Vec::new(),
        };
        self.record.ending.clone().unwrap_or_else(lost)
    }

    async fn upload(&mut self) {
        if self.record.uploaded {
            return;
        }
        let note = match files_were_there(&self.record) {
            true => self.upload_files().await,
            false => None,
        };
        self.note(note.clone());
        if files_were_there(&self.record) {
            // Without files a repeat would upload nothing, so there is nothing to record.
            self.keep(Change::Uploaded {
                task: self.record.spec.id.clone(),
                note,
            })
            .await;
        }
        self.record.uploaded = true;
    }

    pub(super) fn note(&mut self, note: Option<String>) {
        if let (Some(ending), Some(note)) = (&mut self.record.ending, note) {
            ending.notes.push(note);
        }
    }

    /// Uploads the files, and tries until that is done or given up. Returns a sentence for the trailer if some were not uploaded.
    async fn upload_files(&mut self) -> Option<String> {
        let mut unreachable = 0;
        let gates = Arc::clone(&self.gates);
        let patience = &self.with.patience;
        let longest = patience.upload_inactivity * patience.upload_tries;
        loop {
            let Some(turn) = gates.uploads.take(longest).await else {
                let still = longest.as_secs();
                warn!(task:% = self.record.spec.id, still; "output files are not uploaded: uploads stand still on the master");
                return Some(format!(
                    "the output files were not uploaded: uploads have stood still on the master for {still} s"
                ));
            };
            let result = self.upload_once().await;
            // Not held while waiting for the next try.
            drop(turn);
            let error = match result {
                Ok(skipped) => {
                    gates.uploads.goes_on();
                    let note = format!("not uploaded: {}", skipped.join(", "));
                    return (!skipped.is_empty()).then_some(note);
                }
                Err(error) => error,
            };
            match error {
                MasterError::Deadline(_) => gates.uploads.stands_still(),
                MasterError::Refused(_) => gates.uploads.goes_on(),
                _ => {}
            }
            // Nothing was sent, so this does not count as a try.
            if matches!(error, MasterError::Unreachable(_)) {
                let backoff = &self.with.patience.backoff;
                let delay = backoff.delay(unreachable, fastrand::f64());
                self.with.wait_for_master(delay).await;
                unreachable += 1;
                continue;
            }
            self.record.upload_attempts += 1;
            self.keep(Change::UploadFailed(self.record.spec.id.clone()))
                .await;
            let tries = self.record.upload_attempts;
            warn!(task:% = self.record.spec.id, tries, error:%; "the upload of the output files failed");
            if tries >= self.with.patience.upload_tries {
                return Some(format!(
                    "the upload of the output files failed: {error} (tried {tries} times)"
                ));
            }
            sleep(self.with.patience.backoff.delay(tries - 1, fastrand::f64())).await;
        }
    }

    async fn upload_once(&self) -> Result<Vec<String>, MasterError> {
        failpoint!("outbox.upload");
        let spec = &self.record.spec;
        let upload = Upload {
            task: spec.id.clone(),
            user_id: spec.user_id.clone(),
            task_name: spec.task_name.clone(),
            submitted_at: spec.submitted_at,
            files: self.ending().outputs.files,
            store: Arc::clone(&self.with.outputs),
            inactivity: self.with.patience.upload_inactivity,
            total: self.with.patience.upload_total,
        };
        halt_if_replaced().await;
        operator::task_uploading(&spec.id, upload.files.len());
        let _ = self.with.news.send(TaskNews::Uploading(spec.id.clone()));
        let uploaded = self
            .with
            .master
            .upload(&self.with.master_view.address(), upload)
            .await?;
        debug!(task:% = spec.id, files = uploaded.received; "output files uploaded");
        Ok(uploaded.skipped)
    }

    /// The task's log, with one of the places for logs that are being ended: each log holds a descriptor, and there may be as
    /// many as results.
    async fn open_log(&self) -> Option<(SemaphorePermit<'_>, Arc<dyn Spool>)> {
        let place = self.gates.logs.acquire().await.ok()?;
        let task = self.record.spec.id.clone();
        match self
            .with
            .logs
            .ask_idempotent(OpenSpool(task), Instant::now() + ASK)
            .await
        {
            Ok(Ok(spool)) => return Some((place, spool)),
            Ok(Err(error)) => {
                warn!(task:% = self.record.spec.id, error; "a log could not be ended")
            }
            Err(error) => warn!(task:% = self.record.spec.id, error:%; "a log could not be ended"),
        }
        None
    }

    /// Ends the log for its viewers: from here on the outcome cannot change.
    async fn close_log(&self, log: Option<(SemaphorePermit<'_>, Arc<dyn Spool>)>) {
        let Some((_place, spool)) = log else {
            return;
        };
        let verdict = self.sealed();
        let end = LogEnd {
            word: verdict.outcome.word(),
            trailer: verdict.trailer,
        };
        if let Err(error) = spool.close(end.clone()).await {
            warn!(task:% = self.record.spec.id, error:%; "the end of a log could not be written; trying on");
            beside(close_in_the_end(spool, end));
        }
    }

    async fn note_delivered(&self) {
        let task = self.record.spec.id.clone();
        self.keep(Change::Delivered(task.clone())).await;
        let _ = self.with.news.send(TaskNews::Delivered(task));
    }

    async fn keep(&self, change: Change) {
        if let Err(refused) = self.with.records.keep_of(&self.record, change).await {
            info!(task:% = self.record.spec.id, refused:%; "the journal has gone past that step");
        }
    }

    async fn compose(&self) -> Report {
        let verdict = self.sealed();
        let (mut logs, omitted) = self.log_text().await;
        if !logs.is_empty() && !logs.ends_with('\n') {
            logs.push('\n');
        }
        logs.push_str(&verdict.trailer);
        if omitted > 0 {
            let _ = write!(logs, "; {omitted} bytes of log left out above");
        }
        let ending = self.record.ending.as_ref();
        let files = ending.map_or_else(Vec::new, |ending| ending.outputs.paths());
        let exit = ending.and_then(|ending| ending.exit.as_ref());
        Report {
            task: self.record.spec.id.clone(),
            worker: self.with.worker.clone(),
            result_id: self.record.result_id.clone(),
            status: verdict.outcome.word(),
            logs,
            output_files: files,
            usage: exit.and_then(|exit| exit.usage),
            image: self.record.image.clone(),
            timeout: self.with.patience.report,
        }
    }

    /// The log's text as a report carries it, and how many bytes of the log were left out.
    async fn log_text(&self) -> (String, u64) {
        let mut kept = HeadAndTail::new(REPORT_LOG_LIMIT);
        if let Err(error) = self.read_log(&mut kept).await {
            kept.push(format!("[worker-node] the log could not be read on: {error}\n").as_bytes());
        }
        let omitted = kept.omitted();
        (kept.into_text(), omitted)
    }

    async fn read_log(&self, kept: &mut HeadAndTail) -> io::Result<()> {
        let open = OpenLog(self.record.spec.id.clone(), LogRange::default());
        let opened = self
            .with
            .logs
            .ask_idempotent(open, Instant::now() + ASK)
            .await;
        let mut cursor = match opened.map_err(io::Error::other)? {
            Ok(cursor) => cursor,
            // The task never started, so it has no log.
            Err(LogsError::UnknownTask) => return Ok(()),
            Err(error) => return Err(io::Error::other(error)),
        };
        while let Some(lines) = next_lines(cursor.as_mut()).await? {
            for line in lines {
                kept.push(repair_utf8(&line.bytes).as_bytes());
                if !line.continued {
                    kept.push(b"\n");
                }
            }
        }
        Ok(())
    }
}

fn files_were_there(record: &TaskRecord) -> bool {
    record
        .ending
        .as_ref()
        .is_some_and(|ending| !ending.outputs.files.is_empty())
}
