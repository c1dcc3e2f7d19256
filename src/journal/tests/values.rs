//! Records, steps and damages for the tests.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use proptest::{prelude::*, sample::select};

use crate::domain::{
    id::{ContainerId, ContainerName, PayloadDigest, ResultId, TaskId},
    outcome::{Exit, Failure, Outcome},
    privileges::{Capability, Ulimit},
    record::{Change, Ending, OutputFile, Outputs, Phase, TaskRecord, Verdict},
    spec::{TaskSpec, Wants},
    task_settings::{Entrypoint, Port, Source, TaskSettings, Variable, Volume},
    usage::{Transfer, Usage},
};

pub(super) fn task_id(id: &str) -> TaskId {
    TaskId::new(id).unwrap()
}

/// A task that was just accepted.
pub(super) fn record(id: &str) -> TaskRecord {
    let spec = TaskSpec {
        id: task_id(id),
        image: "busybox".into(),
        command: "echo \0 not for a shell".into(),
        wants: Wants::default(),
        user_id: "u".into(),
        task_name: "n/a".into(),
        task_type: String::new(),
        sla_multiplier: 1.5,
        submitted_at: -1,
        asked: None,
    };
    TaskRecord::accepted(
        spec,
        PayloadDigest([7; 32]),
        ResultId(format!("result of {id}")),
        ContainerName(format!("wn-{id}")),
        UNIX_EPOCH + Duration::new(1_800_000_000, 123_456_789),
    )
}

/// Any record, whether it makes sense or not.
pub(super) fn any_record() -> impl Strategy<Value = TaskRecord> {
    let delivery = (
        any::<bool>(),
        any::<u32>(),
        any::<u32>(),
        prop::option::of(any_text()),
    );
    let ends = (
        prop::option::of(any_ending()),
        prop::option::of(any_verdict()),
        prop::option::of(any_time()),
    );
    let start = (
        any::<u32>(),
        any_phase(),
        any::<bool>(),
        any::<bool>(),
        prop::option::of(any_text()),
    );
    (
        any_spec(),
        any::<[u8; 32]>(),
        any_time(),
        start,
        ends,
        delivery,
    )
        .prop_map(
            |(spec, digest, accepted_at, start, ends, delivery)| TaskRecord {
                spec,
                digest: PayloadDigest(digest),
                result_id: ResultId("r".into()),
                container_name: ContainerName("n".into()),
                accepted_at,
                attempt: start.0,
                phase: start.1,
                answered: start.2,
                cancel_requested: start.3,
                image: start.4.clone(),
                container: start.4.map(ContainerId),
                ending: ends.0,
                verdict: ends.1,
                done_at: ends.2,
                uploaded: delivery.0,
                upload_attempts: delivery.1,
                report_attempts: delivery.2,
                parked: delivery.3,
            },
        )
}

/// One thing that happens to the journal.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Requests that are committed together.
    Batch(Vec<Vec<Change>>),
    /// The journal is closed and opened again.
    Reopen,
}

pub(super) fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let request = prop::collection::vec(any_change(), 1..4);
    let batch = prop::collection::vec(request, 1..5).prop_map(Step::Batch);
    prop::collection::vec(prop_oneof![9 => batch, 1 => Just(Step::Reopen)], 1..30)
}

/// Few tasks and few values, so that steps meet each other.
fn any_change() -> impl Strategy<Value = Change> {
    let task = select(vec!["a", "b", "../c"]).prop_map(task_id);
    let few = prop_oneof![Just("x".to_string()), Just("y".to_string())];
    (task, few, 0..19_usize, 1..4_u32).prop_map(|(task, word, kind, attempt)| {
        let verdict = Verdict {
            outcome: Outcome::Succeeded,
            trailer: word.clone(),
        };
        match kind {
            0 | 1 => Change::Accept(Box::new(record(task.as_str()))),
            2 => Change::Withdraw(task),
            3 => Change::Answered(task),
            4 => Change::CancelRequested(task),
            5 => Change::Starting {
                task,
                attempt,
                container_name: ContainerName(word.clone()),
                image: word,
            },
            6 => Change::Running {
                task,
                container: ContainerId(word),
            },
            7 => Change::Ended {
                task,
                ending: Box::new(Ending {
                    outcome: Outcome::Cancelled,
                    exit: None,
                    outputs: Outputs::default(),
                    notes: vec![word],
                }),
            },
            8 => Change::UploadFailed(task),
            // Before the end there is no record of it that could show the note.
            9 => Change::Uploaded { task, note: None },
            10 => Change::Sealed { task, verdict },
            11 => Change::ReportFailed(task),
            12 => Change::Parked {
                task,
                reason: (attempt > 1).then_some(word),
            },
            13 => Change::Delivered(task),
            14 => Change::Done {
                task,
                at: UNIX_EPOCH + Duration::from_secs(attempt.into()),
            },
            15 => Change::Retire(task),
            16 => Change::Redeliver(task),
            17 => Change::Redelivered(task),
            _ => Change::Set {
                key: task.as_str().into(),
                value: word,
            },
        }
    })
}

fn any_spec() -> impl Strategy<Value = TaskSpec> {
    let texts = prop::collection::vec(any_text(), 5);
    let amounts = prop::collection::vec(any_amount(), 5);
    let rest = (
        any::<i64>(),
        prop::option::of(any_asked().prop_map(Box::new)),
    );
    (any_text(), texts, amounts, rest).prop_map(|(id, texts, amounts, (submitted_at, asked))| {
        let mut texts = texts.into_iter();
        let mut text = || texts.next().unwrap();
        TaskSpec {
            id: task_id(&format!("{id}!")),
            image: text(),
            command: text(),
            user_id: text(),
            task_name: text(),
            task_type: text(),
            wants: Wants {
                cpu: amounts[0],
                memory: amounts[1],
                storage: amounts[2],
                gpu: amounts[3],
            },
            sla_multiplier: amounts[4],
            submitted_at,
            asked,
        }
    })
}

/// Whatever sense it makes, but for those texts that are read again.
fn any_asked() -> impl Strategy<Value = TaskSettings> {
    let variable = prop_oneof![
        any_text().prop_map(Variable::Text),
        Just(Variable::File("/a".into())),
        Just(Variable::Lost),
    ];
    let source = prop_oneof![
        any_text().prop_map(Source::Named),
        any_text().prop_map(Source::Bind),
        any::<u64>().prop_map(Source::Memory),
    ];
    let volume = (source, any_text(), any::<bool>());
    let volume = volume.prop_map(|(source, target, read_only)| Volume {
        source,
        target,
        read_only,
    });
    let port = select(vec!["1:2/tcp", "[::1]:0:53/udp", "10.0.0.1:65535:1/sctp"]);
    let limit = select(vec!["nofile=1:2", "core=-1:-1"]);
    let capability = select(vec!["ALL", "NET_RAW"]);
    let lists = (
        prop::option::of(prop::collection::vec(volume, 0..3)),
        prop::option::of(prop::collection::vec(port, 0..2)),
        prop::option::of(prop::collection::vec(limit, 0..2)),
        prop::option::of(prop::collection::vec(capability, 0..2)),
        prop::option::of(prop::collection::vec(any_text(), 0..2)),
    );
    let texts = prop::collection::vec(prop::option::of(any_text()), 6);
    let amounts = (
        prop::option::of((0..u64::from(u32::MAX)).prop_map(Duration::from_millis)),
        any::<Option<u64>>(),
        any::<Option<bool>>(),
        prop::option::of(select(vec![Entrypoint::Keep, Entrypoint::Replace])),
    );
    let environment = prop::collection::btree_map(any_text(), variable, 0..3);
    (environment, lists, texts, amounts).prop_map(|(environment, lists, mut texts, amounts)| {
        let (volumes, ports, ulimits, capabilities, extra_hosts) = lists;
        let capabilities = read_all(capabilities, Capability::read);
        let mut text = || texts.pop().flatten();
        TaskSettings {
            environment,
            volumes,
            network: text(),
            ports: read_all(ports, Port::read),
            workdir: text(),
            user: text(),
            hostname: text(),
            extra_hosts,
            timeout: amounts.0,
            stop_signal: text(),
            stop_grace: amounts.0,
            shm_size: amounts.1,
            ulimits: read_all(ulimits, Ulimit::read),
            runtime: text(),
            read_only_root: amounts.2,
            cap_add: capabilities.clone(),
            cap_drop: capabilities,
            entrypoint: amounts.3,
        }
    })
}

fn read_all<T>(
    texts: Option<Vec<&str>>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Option<Vec<T>> {
    texts.map(|texts| texts.into_iter().map(|text| read(text).unwrap()).collect())
}

/// No NaN: it does not equal itself, and has a test of its own.
fn any_amount() -> impl Strategy<Value = f64> {
    any::<f64>().prop_filter("a number", |amount| !amount.is_nan())
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,20}",
        "[\\x00-\\x7f]{0,20}",
        Just("\0\"'\\".to_string())
    ]
}

fn any_phase() -> impl Strategy<Value = Phase> {
    select(vec![
        Phase::Accepted,
        Phase::Starting,
        Phase::Running,
        Phase::Ended,
        Phase::Sealed,
        Phase::Delivered,
        Phase::Done,
    ])
}

fn any_time() -> impl Strategy<Value = SystemTime> {
    let seconds = i64::from(i32::MIN)..i64::from(u32::MAX);
    (seconds, 0..1_000_000_000_u32).prop_map(|(seconds, nanos)| {
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let second = if seconds < 0 {
            UNIX_EPOCH - whole
        } else {
            UNIX_EPOCH + whole
        };
        second + Duration::from_nanos(nanos.into())
    })
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let with_text: Vec<fn(String) -> Failure> = vec![
        Failure::Pull,
        Failure::Create,
        Failure::Start,
        Failure::Impossible,
        Failure::EngineLost,
        Failure::StoppedByOther,
        Failure::OverStorage,
        Failure::Internal,
    ];
    prop_oneof![
        Just(Outcome::Succeeded),
        Just(Outcome::Cancelled),
        Just(Outcome::Failed(Failure::OutOfMemory)),
        Just(Outcome::Failed(Failure::TimedOut)),
        any::<i64>().prop_map(|code| Outcome::Failed(Failure::ExitCode(code))),
        any::<i64>().prop_map(|signal| Outcome::Failed(Failure::Signal(signal))),
        (select(with_text), any_text()).prop_map(|(failure, text)| Outcome::Failed(failure(text))),
    ]
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    (any_outcome(), any_text()).prop_map(|(outcome, trailer)| Verdict { outcome, trailer })
}

fn any_ending() -> impl Strategy<Value = Ending> {
    let files = prop::collection::vec(any_file(), 0..5);
    let texts = || prop::collection::vec(any_text(), 0..3);
    (
        any_outcome(),
        prop::option::of(any_exit()),
        files,
        texts(),
        texts(),
    )
        .prop_map(|(outcome, exit, files, skipped, notes)| Ending {
            outcome,
            exit,
            outputs: Outputs { files, skipped },
            notes,
        })
}

fn any_exit() -> impl Strategy<Value = Exit> {
    let duration = (any::<u64>(), 0..1_000_000_000_u32);
    let usage = prop::option::of(any_usage());
    (any::<i64>(), any::<bool>(), duration, usage).prop_map(
        |(code, oom_killed, (seconds, nanos), usage)| Exit {
            code,
            oom_killed,
            duration: Duration::new(seconds, nanos),
            usage,
        },
    )
}

fn any_usage() -> impl Strategy<Value = Usage> {
    let transfer = || any::<(u64, u64)>().prop_map(|(into, out)| Transfer { into, out });
    let numbers = any::<(u64, u64, u64, u64)>();
    (numbers, transfer(), prop::option::of(transfer())).prop_map(
        |((cpu, memory, peak_memory, pids), disk, network)| Usage {
            cpu: Duration::from_nanos(cpu),
            memory,
            peak_memory,
            pids,
            disk,
            network,
        },
    )
}

fn any_file() -> impl Strategy<Value = OutputFile> {
    let same = any_text().prop_map(|path| (path.clone(), path.into_bytes()));
    let repaired = (any_text(), any::<Vec<u8>>());
    (prop_oneof![same, repaired], any::<u64>()).prop_map(|((path, source), size)| OutputFile {
        path,
        source,
        size,
    })
}

/// What can happen to the journal's file.
#[derive(Debug, Clone)]
pub(super) enum Damage {
    Flip { log: bool, at: f64, bit: u8 },
    Truncate { log: bool, at: f64 },
    ZeroPage { log: bool, at: f64 },
    LoseLog,
    ForeignLog,
}

pub(super) fn any_damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => (any::<bool>(), 0.0..1.0, 0..8_u8).prop_map(|(log, at, bit)| Damage::Flip { log, at, bit }),
        2 => (any::<bool>(), 0.0..1.0).prop_map(|(log, at)| Damage::Truncate { log, at }),
        2 => (any::<bool>(), 0.0..1.0).prop_map(|(log, at)| Damage::ZeroPage { log, at }),
        1 => Just(Damage::LoseLog),
        1 => Just(Damage::ForeignLog),
    ]
}

impl Damage {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a place somewhere in a small file"
    )]
    pub(super) fn strike(&self, path: &Path) {
        let log_path = path.with_file_name("copy-journal.db-wal");
        let edit = |log: bool, change: &dyn Fn(&mut Vec<u8>)| {
            let file = if log { log_path.as_path() } else { path };
            if let Ok(mut bytes) = fs::read(file)
                && !bytes.is_empty()
            {
                change(&mut bytes);
                fs::write(file, bytes).unwrap();
            }
        };
        let place = |bytes: &[u8], at: f64| (bytes.len() as f64 * at) as usize;
        match *self {
            Self::Flip { log, at, bit } => edit(log, &|bytes| {
                let at = place(bytes, at);
                bytes[at] ^= 1 << bit;
            }),
            Self::Truncate { log, at } => edit(log, &|bytes| bytes.truncate(place(bytes, at))),
            Self::ZeroPage { log, at } => edit(log, &|bytes| {
                let from = place(bytes, at) & !4095;
                let to = (from + 4096).min(bytes.len());
                bytes[from..to].fill(0);
            }),
            Self::LoseLog => drop(fs::remove_file(log_path)),
            Self::ForeignLog => drop(fs::copy(path, log_path)),
        }
    }
}
