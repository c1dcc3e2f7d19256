//! The verdict on a run: which rules of the wire contract the worker broke, in sentences. Most are found as they happen
//! (`record` notes them); those that only the end can show are found here. It judges the worker alone: what the master was
//! told to do wrong (faults, a shut door, a worker that a test killed) excuses what follows from it.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::record::{Mark, Record, ReportCopy, TaskRecord};

/// How long after an answer was handed over a killed worker, or a cut connection, puts it in doubt: an older one has arrived.
const DOUBTFUL_FOR: Duration = Duration::from_secs(2);

/// How long after an offer was acknowledged a report may still come that left before that.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// A rule of the wire contract that a worker can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// A report came before the master had written its ack down, and was overwritten by `running`.
    ReportBeforeSettle,
    /// The same result was delivered again although nothing was in doubt.
    SecondReport,
    /// A second result, with another id or another status, for a task that had one.
    SecondOutcome,
    /// A report without `result_id`.
    NoResultId,
    /// A report whose status is no word of the contract.
    StatusWord,
    /// A report for a task that was never given to this worker.
    UnknownTask,
    /// Logs or a message over the limit.
    MessageSize,
    /// Logs without the trailer line at their end.
    NoTrailer,
    /// A cancel that was acknowledged and did not become the outcome, or acknowledged although the result was out.
    CancelIgnored,
    /// CancelTask took too long, or ended as a gRPC error.
    CancelAnswer,
    /// The master was called for a task whose cancel was not answered yet.
    CallBeforeCancelAck,
    /// AssignTask ended as a gRPC error.
    OfferError,
    /// AssignTask took too long.
    SlowOffer,
    /// Too long between two heartbeats.
    HeartbeatGap,
    /// A percentage or a total that cannot be.
    Figures,
    /// `worker_ip` is not host:port.
    WorkerAddress,
    /// A status word in a log chunk that the contract does not know.
    LogStatusWord,
    /// The final log status and the report tell different stories.
    LogDisagrees,
    /// A log chunk that holds more than one line.
    LogLine,
    /// A log stream that was not ended by a final chunk.
    LogNotEnded,
    /// An upload stream without a chunk.
    EmptyUpload,
    /// Chunks of one file between those of another.
    Interleaved,
    /// A chunk for a file that was complete.
    ChunkAfterLast,
    /// is_last_file before the last chunk of the last file.
    EarlyLastFile,
    /// An upload that ended in the middle.
    UnfinishedUpload,
    /// A path that could leave the folder.
    UncleanPath,
    /// An upload that names no task, or another user, name or time than the task's.
    UploadNames,
    /// A `/` in the task name of an upload.
    SlashInTaskName,
    /// A file that differs from its announced digest.
    WrongDigest,
    /// An upload after the report.
    UploadAfterReport,
    /// HTTP/2 pings, which a Go server answers with GOAWAY and an end.
    Pings,
}

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub rule: Rule,
    /// When it was broken, from the start of the master.
    pub at: Duration,
    /// How it was broken, for people.
    pub sentence: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, at, sentence } = self;
        write!(f, "{:.3} s {rule:?}: {sentence}", at.as_secs_f64())
    }
}

/// The judge's verdict on everything up to now.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Broken rules, in the order of time.
    pub violations: Vec<Violation>,
    /// Second copies of a result that were right to come: delivery was in doubt, or the task was offered again.
    pub repeats: Vec<String>,
    /// Tasks that were accepted and have no report yet.
    pub unreported: Vec<String>,
    /// How many heartbeats came in the whole run.
    pub heartbeats: usize,
    /// The longest time between two heartbeats that was not excused.
    pub longest_gap: Duration,
}

impl Verdict {
    /// Whether no rule was broken; tasks may still be under way.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// Whether no rule was broken, and every accepted task has its report.
    pub fn is_complete(&self) -> bool {
        self.is_clean() && self.unreported.is_empty()
    }

    /// Whether this rule was broken.
    pub fn broke(&self, rule: Rule) -> bool {
        self.violations.iter().any(|found| found.rule == rule)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} violations, {} repeats in doubt, {} tasks without a report, {} heartbeats with at most {:.1} s between them",
            self.violations.len(),
            self.repeats.len(),
            self.unreported.len(),
            self.heartbeats,
            self.longest_gap.as_secs_f64()
        )?;
        for violation in &self.violations {
            writeln!(f, "  broken: {violation}")?;
        }
        for repeat in &self.repeats {
            writeln!(f, "  repeat: {repeat}")?;
        }
        for task in &self.unreported {
            writeln!(f, "  no report: {task}")?;
        }
        Ok(())
    }
}

/// Judges a record. `pings` is how many PING frames the listener has counted.
pub(super) fn judge(record: &Record, pings: u64, gap_limit: Duration, now: Instant) -> Verdict {
    let mut violations = record.violations.clone();
    let at = now.duration_since(record.started);
    let mut add = |rule, sentence| violations.push(Violation { rule, at, sentence });
    if pings > 0 {
        add(Rule::Pings, format!("the worker sent {pings} HTTP/2 pings"));
    }
    for (worker, silence) in record.silent_workers(gap_limit, now) {
        let seconds = silence.as_secs_f64();
        add(
            Rule::HeartbeatGap,
            format!("{worker} has been silent for {seconds:.1} s"),
        );
    }
    for (id, task) in &record.tasks {
        if let Some(sentence) = log_disagrees(id, task) {
            add(Rule::LogDisagrees, sentence);
        }
    }
    let tasks = || record.tasks.iter();
    Verdict {
        violations,
        repeats: tasks()
            .flat_map(|(id, task)| repeats(id, task, &record.marks).allowed)
            .collect(),
        unreported: record.unreported(),
        heartbeats: record
            .workers
            .values()
            .map(|worker| worker.beat_count)
            .sum(),
        longest_gap: record.longest_gap,
    }
}

/// The word of the final log chunk that goes with a status of the report.
pub(super) fn log_word(report_status: &str) -> &'static str {
    match report_status {
        "success" => "completed",
        "cancelled" => "cancelled",
        _ => "failed",
    }
}

fn log_disagrees(id: &str, task: &TaskRecord) -> Option<String> {
    let report = task.reports.first()?;
    let expected = log_word(&report.status);
    let other = task.log_words.iter().find(|word| *word != expected)?;
    Some(format!(
        "{id}: reported as {:?}, but its log ended as {other:?}",
        report.status
    ))
}

/// Second copies of one task's reports.
pub(super) struct Repeats {
    /// A sentence for each copy that was right to come.
    pub(super) allowed: Vec<String>,
    /// A sentence for each copy that was not.
    pub(super) wrong: Vec<String>,
}

/// Sorts every copy after the first by whether something had put the ones before it in doubt.
pub(super) fn repeats(id: &str, task: &TaskRecord, marks: &[Mark]) -> Repeats {
    let mut repeats = Repeats {
        allowed: Vec::new(),
        wrong: Vec::new(),
    };
    let mut again = OfferedAgain::of(task);
    for pair in task.reports.windows(2) {
        let [earlier, later] = pair else { continue };
        match excuse(earlier, later, &mut again, marks) {
            Some(why) => repeats
                .allowed
                .push(format!("{id}: {} again, since {why}", later.result_id)),
            None => repeats.wrong.push(format!(
                "{id}: {} came again, and nothing was in doubt",
                later.result_id
            )),
        }
    }
    repeats
}

fn excuse(
    earlier: &ReportCopy,
    later: &ReportCopy,
    again: &mut OfferedAgain,
    marks: &[Mark],
) -> Option<String> {
    if !earlier.answered {
        return Some("its answer never left".to_owned());
    }
    let in_doubt = earlier.at..=later.at.min(earlier.at + DOUBTFUL_FOR);
    if let Some(mark) = marks.iter().find(|mark| in_doubt.contains(&mark.at)) {
        return Some(mark.why.clone());
    }
    let is_owed = again.owes(earlier.at, later.at);
    is_owed.then(|| "the task was offered again".to_owned())
}

/// Offers of a task after the one that was taken first. A worker owes a copy of its report for each that it acknowledges, unless a
/// report leaves after that anyway: the master writes `running` then, over what it had.
struct OfferedAgain(Vec<Offered>);

/// When an offer was sent, and until when reports come that left before its acknowledgement.
struct Offered {
    sent: Instant,
    until: Instant,
}

impl OfferedAgain {
    fn of(task: &TaskRecord) -> Self {
        let taken = task.offers.iter().find(|offer| offer.answer.is_success());
        let is_later = |sent: &&Instant| taken.is_none_or(|taken| **sent > taken.at);
        let offers = task.asked.iter().filter(is_later).map(|&sent| {
            let ended = task.offers.iter().find(|offer| offer.at == sent);
            let until = ended.map_or(sent, |offer| sent + offer.took + ON_ITS_WAY);
            Offered { sent, until }
        });
        Self(offers.collect())
    }

    /// Whether one of these offers, each of which brings one copy, brings the later one.
    fn owes(&mut self, earlier: Instant, later: Instant) -> bool {
        let brings = |offer: &Offered| offer.sent <= later && earlier <= offer.until;
        let place = self.0.iter().position(brings);
        place.map(|place| self.0.remove(place)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::super::record::{CallAnswer, Offer};
    use super::*;
    use crate::dev_master::Method;
    use crate::proto::{Task, TaskAck, TaskResult};

    const SETTLE: Duration = Duration::from_millis(250);

    /// A task that was offered, taken and reported.
    async fn reported() -> Record {
        let mut record = Record::new();
        record.submitted(Task {
            task_id: "t".into(),
            ..Task::default()
        });
        let sent = ask(&mut record);
        acknowledged(&mut record, sent);
        advance(SETTLE).await;
        report(&mut record);
        record
    }

    fn ask(record: &mut Record) -> Instant {
        let sent = Instant::now();
        record.asked("t", sent);
        sent
    }

    fn acknowledged(record: &mut Record, sent: Instant) {
        let ack = TaskAck {
            success: true,
            message: String::new(),
        };
        let offer = Offer {
            worker: "w".into(),
            at: sent,
            took: sent.elapsed(),
            answer: CallAnswer::Ack(ack),
        };
        record.offered("t", offer, Duration::from_secs(5));
    }

    fn report(record: &mut Record) {
        let call = record.arrived(Method::Report);
        record.report_taken(
            call,
            TaskResult {
                task_id: "t".into(),
                status: "success".into(),
                result_id: "r".into(),
                ..TaskResult::default()
            },
        );
        record.answered(call);
    }

    /// How many copies were right to come, and how many were not.
    fn copies(record: &Record) -> (usize, usize) {
        let verdict = judge(record, 0, Duration::MAX, Instant::now());
        let wrong = |found: &&Violation| found.rule == Rule::SecondReport;
        let wrong = verdict.violations.iter().filter(wrong).count();
        (verdict.repeats.len(), wrong)
    }

    #[tokio::test(start_paused = true)]
    async fn an_offer_that_is_repeated_brings_one_copy() {
        let mut record = reported().await;

        let sent = ask(&mut record);
        acknowledged(&mut record, sent);
        advance(SETTLE).await;
        report(&mut record);
        assert_eq!(copies(&record), (1, 0));

        report(&mut record);
        assert_eq!(copies(&record), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_report_that_came_before_the_acknowledgement_does_not_serve() {
        let mut record = reported().await;

        ask(&mut record);
        advance(DOUBTFUL_FOR).await;
        // The worker died, and nobody waits for the answer; the copy that it owes comes while the task is offered once more.
        let sent = ask(&mut record);
        advance(SETTLE).await;
        report(&mut record);
        acknowledged(&mut record, sent);
        advance(SETTLE).await;
        report(&mut record);
        assert_eq!(copies(&record), (2, 0));

        report(&mut record);
        assert_eq!(copies(&record), (2, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_offer_brings_no_copy() {
        let mut record = reported().await;

        report(&mut record);

        assert_eq!(copies(&record), (0, 1));
    }
}
