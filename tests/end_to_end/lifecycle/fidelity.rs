//! Generated logs, from the container's bytes to a client's: byte for byte as batches, and as lines with the repairs that the README
//! tells of, though the worker is killed under half of them and stays away under a quarter. A hundred in the gate, a thousand with
//! `WORKER_NODE_FULL=1`; a failure names the seed.

use fastrand::Rng;
use futures_util::TryStreamExt as _;
use worker_node::domain::text::repair_utf8;
use worker_node::proto::{LogChunk, LogSource, TaskLogRequest, task_log_request::Start};

use super::logs::{ask, joined};
use crate::harness::{Cluster, times};

/// What the engine's drivers split lines at.
const EDGE: usize = 16 * 1024;

/// A part of an output, and the command that prints it.
#[derive(Clone, Debug)]
enum Part {
    Bytes(Vec<u8>),
    /// The same character again and again, so many bytes in all.
    Run(&'static str, usize),
    /// Numbers, one a line.
    Numbers(usize, usize),
}

impl Part {
    fn any(random: &mut Rng) -> Self {
        let small = |random: &mut Rng| random.usize(0..200);
        match random.u8(0..10) {
            0 => {
                let length = small(random);
                Self::Bytes((0..length).map(|_| random.u8(..)).collect())
            }
            1 => Self::Bytes(b"\x1b[31mred\x1b[0m\0 and \xff\xfe\n".to_vec()),
            2 => Self::Bytes(b"10%\r20%\r100%\n".to_vec()),
            3 => Self::Bytes(b"windows\r\n\r\n".to_vec()),
            4 => Self::Bytes(b"\n\n \n".to_vec()),
            5 => Self::Run("x", EDGE - 1 + random.usize(0..3)),
            6 => Self::Run("\u{e9}", EDGE - 3 + random.usize(0..6)),
            7 => Self::Run("\u{1f980}", 4 * EDGE + random.usize(0..4)),
            8 => Self::Numbers(1, 1 + random.usize(0..2_000)),
            _ => Self::Bytes(b"no newline".to_vec()),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Run(character, length) => {
                let mut run = character.repeat(length / character.len() + 1).into_bytes();
                run.truncate(*length);
                run
            }
            Self::Numbers(from, to) => (*from..=*to)
                .flat_map(|number| format!("{number}\n").into_bytes())
                .collect(),
        }
    }

    fn command(&self) -> String {
        match self {
            Self::Bytes(bytes) => {
                let octal: String = bytes.iter().map(|byte| format!("\\{byte:03o}")).collect();
                format!("printf '{octal}'")
            }
            Self::Run(character, length) => {
                format!("yes {character} | tr -d '\\n' | head -c {length}")
            }
            Self::Numbers(from, to) => format!("seq {from} {to}"),
        }
    }
}

/// What a task prints.
#[derive(Clone, Debug, Default)]
struct Output {
    /// It waits a moment between them.
    is_slow: bool,
    parts: Vec<(LogSource, Part)>,
}

impl Output {
    fn of(parts: impl IntoIterator<Item = Part>) -> Self {
        let stdout = |part| (LogSource::Stdout, part);
        Self {
            is_slow: false,
            parts: parts.into_iter().map(stdout).collect(),
        }
    }

    fn any(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let count = random.usize(0..12);
        let mut part = || {
            let source = if random.u8(0..3) == 0 {
                LogSource::Stderr
            } else {
                LogSource::Stdout
            };
            (source, Part::any(&mut random))
        };
        Self {
            parts: (0..count).map(|_| part()).collect(),
            is_slow: seed % 2 == 1,
        }
    }

    fn command(&self) -> String {
        let commands = self.parts.iter().map(|(source, part)| {
            let command = part.command();
            match source {
                LogSource::Stderr => format!("{{ {command}; }} >&2"),
                _ => command,
            }
        });
        commands
            .chain(["true".to_owned()])
            .collect::<Vec<_>>()
            .join(if self.is_slow { "\nsleep 0.1\n" } else { "\n" })
    }

    fn bytes(&self, source: LogSource) -> Vec<u8> {
        let of_it = self.parts.iter().filter(|(from, _)| *from == source);
        of_it.flat_map(|(_, part)| part.bytes()).collect()
    }
}

/// What the README says of lines.
fn lines_of(bytes: &[u8]) -> Vec<String> {
    let mut lines: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
    let last = lines.pop().unwrap_or_default();
    if last.iter().any(|byte| *byte != b'\r') {
        lines.push(last);
    }
    let shown = lines.into_iter().map(|line| {
        let end = line.iter().rposition(|byte| *byte != b'\r');
        let line = &line[..end.map_or(0, |end| end + 1)];
        let state = line
            .rsplit(|byte| *byte == b'\r')
            .next()
            .unwrap_or_default();
        match repair_utf8(state).into_owned() {
            text if text.is_empty() => " ".to_owned(),
            text => text,
        }
    });
    shown.collect()
}

async fn chunks(cluster: &Cluster, request: TaskLogRequest) -> Vec<LogChunk> {
    let stream = ask(cluster, request).await;
    let mut chunks: Vec<_> = stream.try_collect().await.expect("the whole log");
    let last = chunks.pop().expect("a last chunk");
    assert!(last.is_complete, "{last:?}");
    chunks
}

fn all_of(task: &str) -> TaskLogRequest {
    TaskLogRequest {
        task_id: task.to_owned(),
        follow: true,
        ..TaskLogRequest::default()
    }
}

/// Both streams as they were printed, and where the pieces stand.
#[derive(Default)]
struct Batched {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    all: Vec<u8>,
}

async fn batched(cluster: &Cluster, request: TaskLogRequest, what: &str) -> Batched {
    let request = TaskLogRequest {
        batches: true,
        ..request
    };
    let mut seen = Batched::default();
    let mut next = None;
    for chunk in chunks(cluster, request).await {
        assert!(
            chunk.content.is_empty() && chunk.data.len() <= 64 * 1024,
            "{what}"
        );
        let mut data = &chunk.data[..];
        for piece in chunk.pieces {
            let length = usize::try_from(piece.length).expect("within a chunk");
            let (bytes, rest) = data.split_at(length);
            data = rest;
            match piece.source() {
                LogSource::Stdout => seen.stdout.extend(bytes),
                LogSource::Stderr => seen.stderr.extend(bytes),
                other => panic!("{what}: {other:?} {:?}", String::from_utf8_lossy(bytes)),
            }
            seen.all.extend(bytes);
            assert!(
                next.is_none_or(|next| next == piece.offset),
                "{what}: {piece:?}"
            );
            next = Some(piece.offset + piece.length);
        }
        assert!(data.is_empty(), "{what}: the pieces cover the data");
    }
    seen
}

async fn lines(cluster: &Cluster, request: TaskLogRequest) -> Vec<String> {
    joined(&chunks(cluster, request).await)
}

/// Compares bytes without printing a megabyte of them.
#[track_caller]
fn assert_same(seen: &[u8], printed: &[u8], what: &str) {
    let same = seen
        .iter()
        .zip(printed)
        .take_while(|(seen, printed)| seen == printed)
        .count();
    assert!(
        seen == printed,
        "{what}: {} of {} bytes, the first other one at {same}",
        seen.len(),
        printed.len()
    );
}

async fn check(cluster: &Cluster, task: &str, output: &Output, live: &Batched, what: &str) {
    let replayed = batched(cluster, all_of(task), what).await;
    for seen in [live, &replayed] {
        assert_same(&seen.stdout, &output.bytes(LogSource::Stdout), what);
        assert_same(&seen.stderr, &output.bytes(LogSource::Stderr), what);
    }
    assert_same(&live.all, &replayed.all, what);

    let middle = replayed.all.len() / 2;
    let from_middle = TaskLogRequest {
        start: Some(Start::Offset(middle as u64)),
        ..all_of(task)
    };
    let rest = batched(cluster, from_middle, what).await;
    assert_same(&rest.all, &replayed.all[middle..], what);

    for source in [LogSource::Stdout, LogSource::Stderr] {
        let only = TaskLogRequest {
            only: source.into(),
            ..all_of(task)
        };
        let expected = lines_of(&output.bytes(source));
        assert!(
            lines(cluster, only.clone()).await == expected,
            "{what}: lines"
        );
        let last = TaskLogRequest {
            start: Some(Start::LastLines(3)),
            ..only
        };
        let tail = &expected[expected.len().saturating_sub(3)..];
        assert!(lines(cluster, last).await == tail, "{what}: the last lines");
    }
}

/// What becomes of the worker under a group of tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is looked at what comes.
    Lives,
    /// It is killed when one of them has started, and starts again.
    Dies,
    /// And starts again when that one has ended.
    StaysAway,
}

const FATES: [Fate; 4] = [Fate::Lives, Fate::Dies, Fate::Lives, Fate::StaysAway];

async fn meet(fate: Fate, cluster: &mut Cluster, one: &str) {
    if fate == Fate::Lives {
        return;
    }
    cluster.engine.wait_task(one, "start").await;
    cluster.kill_worker().await;
    if fate == Fate::StaysAway {
        cluster.engine.wait_task(one, "die").await;
    }
    cluster.restart_worker().await;
}

#[tokio::test]
async fn what_a_container_prints_comes_byte_for_byte_and_line_by_line() {
    let mut cluster = Cluster::start().await;
    let text = |text: &str| Part::Bytes(text.into());
    let mut outputs = vec![
        ("nothing".to_owned(), Output::default()),
        (
            "a line of a megabyte".to_owned(),
            Output::of([text("before\n"), Part::Run("y", 1_000_000), text("\nafter")]),
        ),
        (
            "lines around 16 KiB".to_owned(),
            Output::of(
                [EDGE - 1, EDGE, EDGE + 1]
                    .into_iter()
                    .flat_map(|length| [Part::Run("z", length), text("\n")]),
            ),
        ),
        (
            "characters across 16 KiB".to_owned(),
            Output::of([
                text("x"),
                Part::Run("\u{e9}", 4 * EDGE),
                text("\n\u{20ac}"),
                Part::Run("\u{1f980}", 4 * EDGE),
                text("\n"),
            ]),
        ),
        (
            "many lines".to_owned(),
            Output::of([Part::Numbers(1, 100_000)]),
        ),
    ];
    outputs.extend(
        (0..times(100, 1_000)).map(|seed| (format!("seed {seed}"), Output::any(seed as u64))),
    );

    for (group, fate) in outputs.chunks(13).zip(FATES.into_iter().cycle()) {
        let mut followed = Vec::new();
        for (what, output) in group {
            let task = cluster.submit(cluster.task(&output.command())).await;
            followed.push((task, what, output));
        }
        let (one, what, _) = &followed[fastrand::usize(..followed.len())];
        eprintln!("{fate:?} under {what}");
        meet(fate, &mut cluster, one).await;
        for (task, what, output) in followed {
            let what = format!("{what}, {fate:?}");
            let live = batched(&cluster, all_of(&task), &what).await;
            cluster.report(&task).await;
            check(&cluster, &task, output, &live, &what).await;
        }
    }
    cluster.finish().await;
}
