//! How fast a log is read: that of a finished task, by readers of lines and of batches, beside what the parts of it cost alone; and
//! that of containers, beside the container alone and the engine's own client. Two Markdown tables. Everything that is compared
//! is measured in the same run and interleaved, because machines are noisy.
//!
//! ```text
//! tests/with-docker cargo bench --bench logs              # some ten minutes
//! tests/with-docker cargo bench --bench logs -- --quick   # a minute: it shows that all of it works, and no figures
//! cargo bench --bench logs -- lines                       # one row alone, again and again, for a profiler
//! tests/with-docker cargo bench --bench logs -- containers   # or flood
//! ```
//!
//! For the first table the log is made here, 100 bytes a line, and served by the worker's own server and spool over loopback; servers
//! and readers are on runtimes of their own in this process, and share its cores. For the second the worker is built apart, as it
//! ships, and the containers print the same lines.

#[path = "../support/harness.rs"]
mod harness;

#[path = "tasks/bare.rs"]
mod bare;
#[path = "tasks/binary.rs"]
mod binary;
#[path = "logs/containers.rs"]
mod containers;
#[path = "logs/costs.rs"]
mod costs;
#[path = "tasks/figures.rs"]
#[expect(dead_code, reason = "the other benchmarks use more of it")]
mod figures;
#[path = "logs/flood.rs"]
mod flood;
#[path = "logs/server.rs"]
mod server;
#[path = "tasks/stage.rs"]
#[expect(dead_code, reason = "the benchmark of tasks uses more of it")]
mod stage;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use figures::quantile;
use server::{Client, Server, TASK};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::Instant;
use worker_node::ports::spool::{RawItem, Spool};
use worker_node::proto::TaskLogRequest;

/// Bytes of a line, newline included.
const LINE: u64 = 100;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
struct Extent {
    lines: u64,
    rounds: usize,
}

impl Extent {
    const FULL: Self = Self {
        lines: 2_000_000,
        rounds: 7,
    };
    const QUICK: Self = Self {
        lines: 50_000,
        rounds: 1,
    };
}

/// One row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// The spool's cursor, without a server.
    Cursor,
    /// tonic alone: a server that sends the same chunk again and again.
    Bare,
    Lines,
    Batches(usize),
}

const READINGS: [Reading; 5] = [
    Reading::Cursor,
    Reading::Bare,
    Reading::Lines,
    Reading::Batches(1),
    Reading::Batches(8),
];

impl Reading {
    fn name(self) -> String {
        match self {
            Self::Cursor => "the spool's cursor alone, bytes".into(),
            Self::Bare => "tonic alone, one line to a chunk".into(),
            Self::Lines => "one reader of lines".into(),
            Self::Batches(1) => "one reader of batches".into(),
            Self::Batches(readers) => format!("{readers} readers of batches"),
        }
    }

    /// The word that asks for it alone.
    fn word(self) -> &'static str {
        match self {
            Self::Cursor => "cursor",
            Self::Bare => "bare",
            Self::Lines => "lines",
            Self::Batches(1) => "batches",
            Self::Batches(_) => "crowd",
        }
    }

    fn readers(self) -> u64 {
        match self {
            Self::Batches(readers) => readers as u64,
            Self::Cursor | Self::Bare | Self::Lines => 1,
        }
    }
}

fn main() -> ExitCode {
    // Cargo adds `--bench` of its own.
    let arguments: Vec<_> = std::env::args()
        .skip(1)
        .filter(|one| one != "--bench")
        .collect();
    let extent = if arguments.iter().any(|one| one == "--quick") {
        Extent::QUICK
    } else {
        Extent::FULL
    };
    let words: Vec<_> = arguments
        .iter()
        .filter(|one| !one.starts_with("--"))
        .collect();
    let wanted =
        |reading: &Reading| words.is_empty() || words.iter().any(|word| *word == reading.word());
    let readings: Vec<_> = READINGS.into_iter().filter(wanted).collect();
    let mut table = match readings[..] {
        [] => String::new(),
        _ => measure(extent, &readings),
    };
    let wanted = |part: &str| words.is_empty() || words.iter().any(|word| *word == part);
    if wanted("containers") || wanted("flood") {
        let binary = binary::build();
        let runtime = Runtime::new().expect("a runtime");
        if wanted("containers") {
            table += "\n";
            table += &runtime.block_on(containers::measure(&binary, extent));
        }
        if wanted("flood") {
            table += "\n";
            table += &runtime.block_on(flood::measure(&binary, extent));
        }
    }
    match writeln!(std::io::stdout(), "\n{table}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn measure(extent: Extent, readings: &[Reading]) -> String {
    let serving = Runtime::new().expect("a runtime");
    let reading = Runtime::new().expect("another");
    let server = serving.block_on(Server::start(extent.lines, LINE));
    let mut times = vec![Vec::new(); readings.len()];
    for round in 0..extent.rounds {
        for (kind, times) in readings.iter().zip(&mut times) {
            let took = reading.block_on(time(*kind, &server, extent));
            eprintln!("round {}: {}: {took:.2?}", round + 1, kind.name());
            times.push(took.as_secs_f64());
        }
    }
    table(extent, readings, &times)
}

/// One reading, checked to be whole.
async fn time(kind: Reading, server: &Server, extent: Extent) -> Duration {
    let bytes = extent.lines * LINE;
    let began = Instant::now();
    match kind {
        Reading::Cursor => assert_eq!(read_spool(&*server.spool).await, bytes),
        Reading::Bare => {
            let client = Client::connect(server.bare.clone())
                .await
                .expect("it listens");
            assert_eq!(read_lines(client, extent).await, bytes);
        }
        Reading::Lines => assert_eq!(read_lines(server.client().await, extent).await, bytes),
        Reading::Batches(readers) => {
            let mut reading = JoinSet::new();
            for _ in 0..readers {
                reading.spawn(read_batches(server.client().await));
            }
            for read in reading.join_all().await {
                assert_eq!(read, bytes);
            }
        }
    }
    began.elapsed()
}

async fn read_spool(spool: &dyn Spool) -> u64 {
    let mut cursor = spool.cursor();
    let mut read = 0;
    while let RawItem::Bytes(stretch) = cursor.next_bytes().await.expect("it can be read") {
        read += stretch.bytes.len() as u64;
    }
    read
}

/// How many bytes came, newlines included.
async fn read_lines(mut client: Client, extent: Extent) -> u64 {
    let request = TaskLogRequest {
        task_id: TASK.into(),
        follow: true,
        ..TaskLogRequest::default()
    };
    let stream = client.stream_task_logs(request).await;
    let mut stream = stream.expect("a log").into_inner();
    let mut read = 0;
    let mut lines = 0;
    while let Some(chunk) = stream.message().await.expect("no error") {
        if !chunk.is_complete {
            read += chunk.content.len() as u64 + 1;
            lines += 1;
        }
    }
    assert_eq!(lines, extent.lines);
    read
}

async fn read_batches(mut client: Client) -> u64 {
    let request = TaskLogRequest {
        task_id: TASK.into(),
        follow: true,
        batches: true,
        ..TaskLogRequest::default()
    };
    let stream = client.stream_task_logs(request).await;
    let mut stream = stream.expect("a log").into_inner();
    let mut read = 0;
    while let Some(chunk) = stream.message().await.expect("no error") {
        read += chunk.data.len() as u64;
    }
    read
}

#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
fn table(extent: Extent, readings: &[Reading], times: &[Vec<f64>]) -> String {
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let megabytes = (extent.lines * LINE) as f64 / 1e6;
    let mut table = format!(
        "{} lines of {LINE} bytes ({megabytes:.0} MB), {} rounds, {cores} cores, {}\n\n\
         | read by | time, median | fastest to slowest | lines/s | MB/s |\n\
         | --- | --- | --- | --- | --- |\n",
        extent.lines,
        extent.rounds,
        jiff::Timestamp::now().strftime("%Y-%m-%d"),
    );
    for (reading, times) in readings.iter().zip(times) {
        let seconds = quantile(times, 0.5);
        let readers = reading.readers() as f64;
        table += &format!(
            "| {} | {seconds:.3} s | {:.3} to {:.3} s | {:.0} | {:.0} |\n",
            reading.name(),
            quantile(times, 0.0),
            quantile(times, 1.0),
            readers * extent.lines as f64 / seconds,
            readers * megabytes / seconds,
        );
    }
    table
}
