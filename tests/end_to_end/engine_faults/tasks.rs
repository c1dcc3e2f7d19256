//! Tasks that print numbered lines until they are told to end, and what their logs must look like in the end.

use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::resume_unwind;

use bollard::query_parameters::LogsOptions;
use futures_util::TryStreamExt as _;
use tokio::task::spawn_blocking;
use worker_node::dev_master::LogView;

use crate::harness::Cluster;

/// What stands in a log where its continuity could not be proven.
const MARKERS: [&str; 2] = [
    "[worker-node] continuity is not provable here",
    "[worker-node] an unknown number of bytes is missing here",
];

/// Before the number of its last line, which a task says in the end.
const LAST: &str = "the last was ";

/// Lines of one that prints most at a time.
pub(crate) const FLOOD: u64 = 8_500;

/// Fills a line.
const FILLING: &str = "<";

/// How fast a task prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// A line each tenth of a second.
    Slow,
    /// A megabyte a second.
    Megabyte,
    /// As fast as it can, 5 MB at a time: at once, and whenever it is [`Printing::burst`].
    Bursts,
    /// The same with 9.4 MB at a time.
    Floods,
}

impl Pace {
    /// Until `/tmp/end` is there.
    fn command(self) -> String {
        let lines = |count: u64, digits: u64, filling: &str| {
            format!(
                "awk -v n=$n 'BEGIN{{s=\"{filling}\";while(s&&length(s)<1000)s=s s;\
                 for(i=0;i<{count};i++)printf \"%0{digits}d%s\\n\",n+i,s}}'; n=$((n+{count}))"
            )
        };
        let when_told = |lines: String| {
            format!(
                "if rm /tmp/burst; then {lines}; touch /tmp/printed; else sleep 0.02; fi 2>/dev/null"
            )
        };
        let body = match self {
            Self::Slow => "echo $n; n=$((n+1)); sleep 0.1".to_owned(),
            Self::Megabyte => format!("{}; sleep 0.09", lines(100, 999, "")),
            Self::Bursts => when_told(lines(50_000, 99, "")),
            Self::Floods => when_told(lines(FLOOD, 99, FILLING)),
        };
        format!(
            "n=1; touch /tmp/burst; while [ ! -e /tmp/end ]; do {body}; done; echo {LAST}$((n-1))"
        )
    }
}

/// A running task with a viewer.
#[derive(Debug)]
pub(crate) struct Printing {
    pub(crate) task: String,
    pub(crate) viewer: LogView,
    pace: Pace,
    /// Lines that are missing in the engine's record.
    lost: BTreeSet<u64>,
}

impl Printing {
    /// Submits it, and waits until its first line has come.
    pub(crate) async fn start(cluster: &Cluster, pace: Pace) -> Self {
        let task = cluster.submit(cluster.task(&pace.command())).await;
        let viewer = cluster.master.watch_log(&task);
        viewer.wait_line("1").await.expect("it prints");
        Self {
            task,
            viewer,
            pace,
            lost: BTreeSet::new(),
        }
    }

    /// Excuses lines that the engine has lost: one that dies between reading a line and writing it down has it nowhere.
    pub(crate) async fn excuse_the_engine(&mut self, cluster: &Cluster) {
        let id = container_id(cluster, &self.task).await;
        let options = LogsOptions {
            stdout: true,
            ..LogsOptions::default()
        };
        let logs = cluster.engine.docker().logs(&id, Some(options));
        let logs: Vec<_> = logs.try_collect().await.expect("the engine keeps its log");
        let text: String = logs.iter().map(ToString::to_string).collect();
        let recorded: BTreeSet<u64> = text.lines().filter_map(|line| line.parse().ok()).collect();
        let last = *recorded.last().expect("it has printed something");
        self.lost = (1..last).filter(|line| !recorded.contains(line)).collect();
    }

    /// Waits until so many lines more have come.
    pub(crate) async fn wait_more(&self, lines: u64) {
        let target = self
            .viewer
            .until("some lines", |seen| Some(seen.count))
            .await;
        let target = target.expect("there are some") + lines;
        let more = self
            .viewer
            .until("more lines", |seen| (seen.count >= target).then_some(()));
        more.await.expect("it goes on");
    }

    /// Makes it print at full speed, once.
    pub(crate) async fn burst(&self, cluster: &Cluster) {
        self.touched(cluster, "/tmp/burst").await;
    }

    /// Makes it end by itself, with 0.
    pub(crate) async fn end(&self, cluster: &Cluster) {
        self.touched(cluster, "/tmp/end").await;
    }

    /// Waits until it has printed what it was to print once.
    pub(crate) async fn has_printed(&self, cluster: &Cluster) {
        let command = "until rm /tmp/printed 2>/dev/null; do sleep 0.05; done";
        self.run(cluster, &["sh", "-c", command]).await;
    }

    /// Waits until so many lines have come in all.
    pub(crate) async fn has_come_to(&self, lines: u64) {
        let there = self
            .viewer
            .until("all of them", |seen| (seen.count >= lines).then_some(()));
        there.await.expect("they are read");
    }

    /// Looks at its log again, from the beginning, in a worker that was started again.
    pub(crate) fn watch_again(&mut self, cluster: &Cluster) {
        self.viewer = cluster.master.watch_log(&self.task);
    }

    async fn touched(&self, cluster: &Cluster, file: &str) {
        let containers = cluster.engine.containers_of(&self.task).await;
        cluster.engine.touch_in(&containers[0], file).await;
    }

    async fn run(&self, cluster: &Cluster, command: &[&str]) {
        let containers = cluster.engine.containers_of(&self.task).await;
        cluster.engine.run_in(&containers[0], command).await;
    }

    /// It ended well, ran once, and its viewer saw every line once; at full speed with a marker where some may be missing.
    pub(crate) async fn assert_whole(self, cluster: &Cluster) {
        let pace = self.pace;
        let gaps = self.gaps(cluster).await;
        assert!(gaps.markers == 0 || pace != Pace::Slow, "{gaps:?}");
    }

    /// It ended well, ran once, and its viewer saw every line once, but those that are missing behind a marker.
    pub(crate) async fn gaps(self, cluster: &Cluster) -> Gaps {
        let report = cluster.report(&self.task).await;
        assert_eq!(report.status, "success", "{}", report.logs);
        let seen = self.viewer.wait_end().await.expect("the end of its log");
        assert_eq!(seen.final_status(), Some("completed"), "{seen}");
        let (pace, count, lost) = (self.pace, seen.count, self.lost);
        // Hundreds of megabytes, beside the master's own thread: it answers heartbeats meanwhile.
        let looked = spawn_blocking(move || assert_in_order(pace, &seen.lines(), &lost)).await;
        let gaps = looked.unwrap_or_else(|failed| resume_unwind(failed.into_panic()));
        if gaps != Gaps::default() {
            eprintln!("{pace:?}: {gaps:?} in {count} lines, and the worker said of it:");
            let said = cluster.worker.process().lines().into_iter();
            for line in said.filter(|line| line.contains(&self.task)) {
                eprintln!("{line}");
            }
        }
        assert_eq!(cluster.engine.starts(&self.task).await, 1, "starts");
        gaps
    }
}

/// The engine's id of a task's container.
pub(crate) async fn container_id(cluster: &Cluster, task: &str) -> String {
    let name = cluster.engine.containers_of(task).await.remove(0);
    let facts = cluster.engine.docker().inspect_container(&name, None).await;
    facts.expect("it is there").id.expect("it has an id")
}

/// Where a log is not whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gaps {
    /// How often it is said.
    pub(crate) markers: usize,
    /// How many lines are missing there.
    pub(crate) missing: u64,
    /// How many are missing elsewhere, and in the engine's record too.
    pub(crate) lost_by_the_engine: u64,
}

/// Every number once and in order, but those that the engine has lost; behind a marker some may be missing, and a line beside one
/// may be a part of a line.
#[track_caller]
fn assert_in_order(pace: Pace, lines: &[String], lost: &BTreeSet<u64>) -> Gaps {
    let is_marker = |line: &String| MARKERS.iter().any(|marker| line.starts_with(marker));
    let (mut next, mut gap, mut gaps) = (1_u64, None, Gaps::default());
    let end = lines.iter().rposition(|line| !is_marker(line));
    let (lines, behind) = lines.split_at(end.expect("there are lines") + 1);
    // An engine that may have died while it wrote the end cannot show that there was no more.
    gaps.markers += behind.len();
    let (last, lines) = lines.split_last().expect("there are lines");
    for (place, line) in lines.iter().enumerate() {
        if is_marker(line) {
            gap = Some(line);
            gaps.markers += 1;
            continue;
        }
        let beside = gap.is_some() || lines.get(place + 1).is_some_and(is_marker);
        match line.trim_end_matches(FILLING).parse::<u64>() {
            Ok(number) if number == next || (gap.is_some() && number > next) => {
                gaps.lacks(pace, next..number, gap);
                (next, gap) = (number + 1, None);
            }
            Ok(number) if number > next && (next..number).all(|line| lost.contains(&line)) => {
                gaps.lost_by_the_engine += number - next;
                next = number + 1;
            }
            _ if beside => {}
            _ => panic!(
                "{pace:?}: line {place} is {line:?}, not {next}, after {gaps:?}: {:?}",
                around(lines, place)
            ),
        }
    }
    let last = last.strip_prefix(LAST).and_then(|last| last.parse().ok());
    let last: u64 = last.unwrap_or_else(|| panic!("{pace:?}: no end after {next}, {gaps:?}"));
    assert!(last >= next || last + 1 == next, "{pace:?}: {last}, {next}");
    assert!(
        last + 1 == next || gap.is_some(),
        "{pace:?}: {next} to {last} are missing"
    );
    gaps.lacks(pace, next..last + 1, gap);
    gaps
}

/// The lines around one, without their filling.
fn around(lines: &[String], place: usize) -> Vec<&str> {
    let near = &lines[place.saturating_sub(30)..lines.len().min(place + 130)];
    let short = near.iter().map(|line| line.trim_start_matches('0'));
    short.collect()
}

impl Gaps {
    fn lacks(&mut self, pace: Pace, lines: Range<u64>, marker: Option<&String>) {
        if !lines.is_empty() {
            eprintln!("{pace:?}: {lines:?} behind {marker:?}");
        }
        self.missing += lines.end - lines.start;
    }
}
