//! The five targets: what is done with an input, and what must hold of it. Each is a function of bytes that panics where it does not.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use clap::Parser;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
    runtime::Runtime,
};
use worker_node::{
    config::{Config, RunArgs, Surroundings},
    domain::{
        address::HostPort,
        callers::{AllowFrom, MasterNames},
        id::{ContainerId, TaskId, WorkerId, check_safe_name},
        image_rules::{ImageRules, Pattern},
        limits,
        policy::Policy,
        privileges::{Capability, Ulimit},
        spec::{MachineTotals, TaskSpec},
        task_settings::Variable,
        text::{escape, repair_utf8, truncate, without_login},
    },
    engine::{DockerEngine, EngineAddress, EngineOptions},
    grpc::{
        convert::{TaskMessageCodec, digest_of},
        keys::{Dial, KeyFiles, Keys, NamedFile},
    },
    ports::{
        clock::SystemClock,
        engine::{ContainerEngine, SpecCodec},
        engine_log::{EngineLog, Step},
        master::MasterAddress,
        spool::{LogCursor, LogItem, LogRange, RawItem, SpoolStore, Start},
    },
    spool::{self, FileSpools},
    state_dir::Identity,
    telemetry::history::{self, Book},
};

/// The beginning of what the spool reads as its own; it leaves anything else alone.
const SPOOL: &[u8] = b"WNSP";

/// More than any log of the targets has of anything: a reader that goes on longer reads in a circle.
const STEPS: usize = 200_000;

fn engine_at(socket: &Path) -> DockerEngine {
    let address: EngineAddress = format!("unix://{}", socket.display()).parse().unwrap();
    DockerEngine::connect(
        &address,
        Arc::new(TaskMessageCodec),
        EngineOptions::default(),
    )
}

fn runtime() -> Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap()
}

/// From a task's message to what its container is planned with.
pub(crate) fn task() -> impl FnMut(&[u8]) {
    let engine = engine_at(Path::new("/nowhere"));
    move |message| {
        let Some(spec) = TaskMessageCodec.decode(&BASE64.encode(message)) else {
            return;
        };
        assert_within_limits(&spec);
        let label = TaskMessageCodec.encode(&spec);
        let again = TaskMessageCodec
            .decode(&label)
            .expect("it was written by us");
        if !again.command.is_empty() || spec.command.is_empty() {
            assert_eq!(TaskMessageCodec.encode(&again), label);
            assert_eq!(digest_of(&again), digest_of(&spec));
        }
        let totals = MachineTotals {
            cpu: 64.0,
            memory: 512.0,
            storage: 1e4,
            gpu: 8.0,
        };
        if spec.check(&totals).is_ok() {
            check_safe_name(spec.id.as_str()).expect("it was checked");
            assert!(!spec.command.contains('\0'));
            assert!(spec.wants.nano_cpus().is_none_or(|cpus| cpus > 0));
            assert!(
                spec.wants
                    .memory_bytes()
                    .is_none_or(|bytes| bytes <= 512 << 30)
            );
        }
        let _any = engine.parse_image(&spec.image);
    }
}

fn assert_within_limits(spec: &TaskSpec) {
    assert!(spec.image.len() <= limits::IMAGE);
    assert!(without_login(&spec.image).is_none_or(|hidden| hidden == spec.image));
    assert!(spec.user_id.len() <= limits::USER);
    assert!(spec.task_name.len().max(spec.task_type.len()) <= limits::NAME);
    assert!(spec.command.len() <= 128 << 10);
    if let Some(asked) = &spec.asked {
        assert!(asked.environment.len() <= limits::VARIABLES);
        let values = asked.environment.values();
        assert!(values.into_iter().all(|value| *value == Variable::Lost));
        assert!(asked.volumes.iter().flatten().count() <= limits::ASKED_ENTRIES);
        // Whatever came in is judged.
        let _any = Policy::default().refusal(asked);
    }
}

/// What people call things: ids, addresses, patterns, and what is shown of them.
pub(crate) fn names() -> impl FnMut(&[u8]) {
    |bytes| {
        let text = &*repair_utf8(bytes);
        let shown = escape(text, 100);
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
        assert!(truncate(text, 10).len() <= 10);
        if let Ok(id) = TaskId::new(text) {
            assert!(!id.to_string().chars().any(char::is_control), "{id}");
        }
        assert_eq!(WorkerId::new(text).is_ok(), check_safe_name(text).is_ok());
        if let Ok(address) = text.parse::<HostPort>() {
            assert_eq!(address.to_string().parse(), Ok(address));
        }
        if let Ok(master) = MasterAddress::parse(text) {
            assert_eq!(
                MasterAddress::parse(&master.0).map(|again| again.0),
                Ok(master.0)
            );
        }
        if let Ok(allow) = text.parse::<AllowFrom>() {
            assert_eq!(allow.to_string().parse(), Ok(allow));
        }
        if let Ok(name) = MasterNames::read(text) {
            assert_eq!(MasterNames::read(&name), Ok(name));
        }
        let _any = (Pattern::read(text), Capability::read(text));
        if let Ok(limit) = Ulimit::read(text) {
            assert!(limit.hard == -1 || limit.soft <= limit.hard, "{limit:?}");
        }
        if let Some(hidden) = without_login(text) {
            assert_eq!(without_login(&hidden), Some(hidden));
        }
    }
}

/// An image's name, as a user writes it.
pub(crate) fn image() -> impl FnMut(&[u8]) {
    let engine = engine_at(Path::new("/nowhere"));
    let rules = ImageRules::new(vec![Pattern::read("docker.io/library/*").unwrap()], false);
    move |bytes| {
        let text = &*repair_utf8(bytes);
        match engine.parse_image(text) {
            Ok(image) => {
                assert!(
                    image.0.bytes().all(|byte| byte.is_ascii_graphic()),
                    "{image:?}"
                );
                assert_eq!(
                    engine.parse_image(&image.0).as_ref(),
                    Ok(&image),
                    "normal forms stay"
                );
                let _any = rules.refusal(&image.0);
            }
            Err(why) => assert!(!why.is_empty()),
        }
    }
}

/// A log as the spool and as the engine keep it.
pub(crate) fn log() -> impl FnMut(&[u8]) {
    let (folder, runtime) = (tempfile::tempdir().unwrap(), runtime());
    let task = TaskId::new("task").unwrap();
    let path = spool_file(folder.path(), &task);
    let engines = EnginesLog::new(&runtime);
    move |bytes| {
        if !bytes.starts_with(SPOOL) {
            engines.read(&runtime, bytes);
            return;
        }
        fs::write(&path, bytes).unwrap();
        let spools = FileSpools::open(
            folder.path(),
            spool::Limits::default(),
            Arc::new(SystemClock),
        )
        .unwrap();
        if let Ok(Some(spool)) = spools.find(&task) {
            runtime.block_on(async {
                read_lines(spool.cursor()).await;
                for start in [Start::First, Start::Offset(7), Start::LastLines(2)] {
                    let range = LogRange {
                        start,
                        ..LogRange::default()
                    };
                    read_bytes(spool.cursor_from(range)).await;
                }
            });
        }
    }
}

/// Where the spool keeps the log of that task.
fn spool_file(folder: &Path, task: &TaskId) -> PathBuf {
    let spools = FileSpools::open(folder, spool::Limits::default(), Arc::new(SystemClock)).unwrap();
    drop(spools.open(task).unwrap());
    let mut entries = fs::read_dir(folder).unwrap();
    entries.next().unwrap().unwrap().path()
}

async fn read_lines(mut cursor: Box<dyn LogCursor>) {
    for _ in 0..STEPS {
        match cursor.next().await {
            Ok(LogItem::Lines(lines)) => {
                assert!(!lines.is_empty());
                assert!(lines.iter().all(|line| line.bytes.len() <= 1 << 20));
            }
            Ok(LogItem::CaughtUp | LogItem::End(_)) | Err(_) => {
                let _rest = cursor.take_unfinished();
                return;
            }
        }
    }
    panic!("it reads in a circle");
}

async fn read_bytes(mut cursor: Box<dyn LogCursor>) {
    for _ in 0..STEPS {
        match cursor.next_bytes().await {
            Ok(RawItem::Bytes(stretch)) => {
                let covered: usize = stretch.spans.iter().map(|span| span.len).sum();
                assert_eq!(covered, stretch.bytes.len());
                assert!(covered > 0);
            }
            Ok(RawItem::CaughtUp | RawItem::End(_)) | Err(_) => return,
        }
    }
    panic!("it reads in a circle");
}

/// The engine's log of one container, beside an engine that knows nothing else.
struct EnginesLog {
    root: TempDir,
    file: PathBuf,
    engine: DockerEngine,
}

impl EnginesLog {
    fn new(runtime: &Runtime) -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("containers/abc/local-logs");
        fs::create_dir_all(&folder).unwrap();
        let socket = root.path().join("docker.sock");
        let listener = runtime.block_on(async { UnixListener::bind(&socket).unwrap() });
        runtime.spawn(answer(listener));
        Self {
            file: folder.join("container.log"),
            engine: engine_at(&socket),
            root,
        }
    }

    fn read(&self, runtime: &Runtime, bytes: &[u8]) {
        fs::write(&self.file, bytes).unwrap();
        let id = ContainerId("abc".into());
        let opened = runtime.block_on(self.engine.open_log(&id, self.root.path()));
        let mut log: Box<dyn EngineLog> = opened.unwrap().expect("its driver is known");
        let mut told = 0;
        for _ in 0..STEPS {
            match log.next().unwrap() {
                Step::Frames(frames) => {
                    told += frames.iter().map(|frame| frame.bytes.len()).sum::<usize>()
                }
                Step::Torn(lost) => assert!(lost > 0),
                Step::Cut => panic!("nobody cut it"),
                Step::End => {
                    assert!(told <= bytes.len(), "{told} of {}", bytes.len());
                    assert!(log.rest().unwrap() <= bytes.len() as u64);
                    return;
                }
            }
        }
        panic!("it reads in a circle");
    }
}

/// Every question is about the one container.
async fn answer(listener: UnixListener) {
    let body =
        r#"{"Id":"abc","HostConfig":{"LogConfig":{"Type":"local","Config":{"compress":"false"}}}}"#;
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut question = [0; 4_096];
        let _all = stream.read(&mut question).await;
        let _heard = stream.write_all(answer.as_bytes()).await;
    }
}

/// Only what `run` is told.
#[derive(Parser)]
struct Words {
    #[command(flatten)]
    run: RunArgs,
}

/// What lies in the state folder, and what an operator gives: the first byte says which.
pub(crate) fn state() -> impl FnMut(&[u8]) {
    let folder = tempfile::tempdir().unwrap();
    move |input| {
        let Some((which, bytes)) = input.split_first() else {
            return;
        };
        match which % 4 {
            0 => identity(folder.path(), bytes),
            1 => settings(bytes),
            2 => keys(folder.path(), bytes),
            _ => story(folder.path(), bytes),
        }
    }
}

fn identity(folder: &Path, bytes: &[u8]) {
    fs::write(folder.join("identity"), bytes).unwrap();
    if let Some(identity) = Identity::read(folder).unwrap() {
        identity.write(folder).unwrap();
        assert_eq!(Identity::read(folder).unwrap(), Some(identity));
    }
}

/// A line is an argument.
fn settings(bytes: &[u8]) {
    let text = repair_utf8(bytes);
    let words = std::iter::once("worker-node").chain(text.lines());
    let Ok(words) = Words::try_parse_from(words) else {
        return;
    };
    let surroundings = Surroundings {
        home: Some("/home/u".into()),
        ..Surroundings::default()
    };
    match Config::try_from((words.run, surroundings)) {
        Ok(config) => assert!(config.advertised(1).contains(':')),
        Err(mistakes) => {
            assert!(!mistakes.0.is_empty());
            for mistake in &mistakes.0 {
                assert!(
                    !mistake.sentence.chars().any(char::is_control),
                    "{mistakes}"
                );
            }
        }
    }
}

/// Certificate, key, authorities and token, all of the same bytes.
fn keys(folder: &Path, bytes: &[u8]) {
    let path = folder.join("key.pem");
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let named = |flag| NamedFile {
        flag,
        path: path.clone(),
    };
    let none = || KeyFiles {
        identity: None,
        authorities: None,
        dial: Dial::Clear,
        token: None,
    };
    for files in [
        KeyFiles {
            identity: Some((named("--tls-cert"), named("--tls-key"))),
            ..none()
        },
        KeyFiles {
            authorities: Some(named("--tls-ca")),
            dial: Dial::Tls,
            ..none()
        },
        KeyFiles {
            token: Some((named("--token-file"), Duration::from_secs(1))),
            ..none()
        },
    ] {
        let _any = Keys::open(files, Arc::new(SystemClock));
    }
}

fn story(folder: &Path, bytes: &[u8]) {
    fs::write(folder.join("lifecycle.jsonl"), bytes).unwrap();
    let events = history::read(folder, Book::Lifecycle).unwrap().count();
    let (counted, unreadable) = history::count(folder, Book::Lifecycle).unwrap();
    assert_eq!(events, counted);
    let lines = bytes.split(|byte| *byte == b'\n').count();
    assert!(
        events + unreadable <= lines,
        "{events} and {unreadable} of {lines}"
    );
}
