//! A scripted engine keeps a record and dies, a worker attaches, dies and reads on: what is stored is what was printed, or a marker
//! says where it is not.

mod engine;

use bytes::Bytes;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::{sync::Semaphore, time::timeout};

use self::engine::{Cut, Scripted};
use super::*;
use crate::{
    actors::{
        engine_watch::EngineView,
        log_router::{from_file::Ended, pace::BUSY_BYTES, reader::Progress, stored::stored},
    },
    domain::id::{ContainerId, TaskId},
    ports::{
        engine::EngineInfo,
        spool::{Spool, SpoolStore},
    },
    spool::{FileSpools, Limits},
};

const SOURCES: [Source; 2] = [Source::Stdout, Source::Stderr];

/// A container, its engine, and a worker's log of it.
struct Stage {
    engine: Scripted,
    folder: TempDir,
    spool: Arc<dyn Spool>,
    /// What the container has printed: stdout and stderr.
    printed: [Vec<u8>; 2],
    /// Of a line that is not in the record yet.
    unwritten: [Vec<u8>; 2],
    /// Bytes that a stream has brought; `None`: it is over.
    streamed: Option<[usize; 2]>,
}

fn opened(folder: &TempDir, engine: &Scripted) -> Arc<dyn Spool> {
    let limits = Limits {
        least_free: 0,
        ..Limits::default()
    };
    let spools = FileSpools::open(folder.path(), limits, Arc::new(engine.clone())).unwrap();
    spools.open(&TaskId::new("a").unwrap()).unwrap()
}

fn info() -> EngineInfo {
    EngineInfo {
        id: "e".into(),
        version: String::new(),
        api_version: String::new(),
        root: String::new(),
        data_root: None,
        local: false,
        live_restore: true,
    }
}

impl Stage {
    fn new() -> Self {
        let (engine, folder) = (Scripted::default(), tempfile::tempdir().unwrap());
        {
            let mut world = engine.0.lock().unwrap();
            world.millis = 1_000_000;
            world.ahead = 2_000;
        }
        Self {
            spool: opened(&folder, &engine),
            engine,
            folder,
            printed: Default::default(),
            unwritten: Default::default(),
            streamed: Some([0; 2]),
        }
    }

    fn pass(&self, millis: u64) {
        self.engine.0.lock().unwrap().millis += millis;
    }

    /// The container prints; the engine keeps whole lines.
    fn print(&mut self, source: Source, text: &str) {
        let number = usize::from(source == Source::Stderr);
        self.printed[number].extend_from_slice(text.as_bytes());
        let unwritten = &mut self.unwritten[number];
        unwritten.extend_from_slice(text.as_bytes());
        while let Some(newline) = unwritten.iter().position(|byte| *byte == b'\n') {
            let line: Vec<_> = unwritten.drain(..=newline).collect();
            self.engine.0.lock().unwrap().write(source, line.into());
        }
    }

    /// The container ends, and with it its last lines.
    fn end(&mut self) {
        for (source, unwritten) in SOURCES.into_iter().zip(&mut self.unwritten) {
            let rest = Bytes::from(std::mem::take(unwritten));
            if !rest.is_empty() {
                self.engine.0.lock().unwrap().write(source, rest);
            }
        }
    }

    /// The attached stream brings so many bytes of each source.
    async fn stream(&mut self, most: usize) {
        let Some(streamed) = &mut self.streamed else {
            return;
        };
        for (number, source) in SOURCES.into_iter().enumerate() {
            let rest = &self.printed[number][streamed[number]..];
            let some = &rest[..most.min(rest.len())];
            streamed[number] += some.len();
            let piece = Piece {
                source,
                bytes: Bytes::copy_from_slice(some),
                time: None,
            };
            if !some.is_empty() {
                self.spool.append(vec![piece]).await.unwrap();
            }
        }
    }

    /// The worker dies, and another one comes.
    fn replace_worker(&mut self) {
        self.streamed = None;
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        // The old one lets go of the log first.
        self.spool = opened(&self.folder, &self.engine);
        self.folder = folder;
        self.spool = opened(&self.folder, &self.engine);
    }

    fn reader(&self) -> Elsewhere {
        let work = Work {
            engine: Arc::new(self.engine.clone()),
            view: Arc::new(EngineView::of(info())),
            clock: Arc::new(self.engine.clone()),
            task: TaskId::new("a").unwrap(),
            container: ContainerId("c".into()),
            spool: Arc::clone(&self.spool),
            turns: Arc::new(Semaphore::new(1)),
            give_up: Arc::default(),
            progress: Progress::default(),
            ended: Ended::default(),
        };
        Elsewhere::new(work, false)
    }

    /// Reads on; `None`: it would wait for ever.
    async fn read(&mut self) -> Option<ReadEnd> {
        self.streamed = None;
        timeout(Duration::from_secs(3_600), self.reader().run())
            .await
            .ok()
    }

    async fn stored(&self) -> ([Vec<u8>; 2], Vec<String>) {
        stored(&self.spool).await
    }

    #[track_caller]
    fn assert_is(&self, stored: ([Vec<u8>; 2], Vec<String>), markers: &[&str]) {
        let texts = |bytes: &[Vec<u8>; 2]| {
            let texts = bytes
                .each_ref()
                .map(|bytes| bytes.escape_ascii().to_string());
            texts.map(|text| text.replace("\\n", ","))
        };
        assert_eq!(texts(&stored.0), texts(&self.printed));
        assert_eq!(stored.1, markers);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_stream_did_not_bring_comes_from_the_record() {
    let mut stage = Stage::new();
    // What clock the engine has does not matter.
    stage.engine.0.lock().unwrap().ahead = 3_600_000;
    for line in ["one\n", "two\n", "six\n"] {
        stage.print(Source::Stdout, line);
        stage.print(Source::Stderr, line);
    }
    stage.stream(6).await;

    assert_eq!(stage.read().await, Some(ReadEnd::Whole));

    stage.assert_is(stage.stored().await, &[]);
}

#[tokio::test(start_paused = true)]
async fn a_log_of_which_nobody_has_read_anything_comes_from_the_record() {
    let mut stage = Stage::new();
    stage.print(Source::Stdout, "one\n");
    stage.pass(1_000_000);
    stage.print(Source::Stderr, "two");
    stage.end();

    assert_eq!(stage.read().await, Some(ReadEnd::Whole));
    assert_eq!(stage.read().await, Some(ReadEnd::Whole));

    stage.assert_is(stage.stored().await, &[]);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_was_begun_in_the_stream_is_ended_from_the_record() {
    let mut stage = Stage::new();
    stage.print(Source::Stdout, "read, ");
    stage.print(Source::Stderr, "up\n");
    stage.stream(100).await;
    stage.pass(50_000);
    assert_eq!(stage.read().await, Some(ReadEnd::Whole));
    stage.replace_worker();
    stage.print(Source::Stdout, "unread\nmore\n");
    stage.pass(50_000);

    assert_eq!(stage.read().await, Some(ReadEnd::Whole));

    stage.assert_is(stage.stored().await, &[]);
}

#[tokio::test(start_paused = true)]
async fn lines_that_say_the_same_have_one_marker_at_the_break_of_the_stream_and_none_later() {
    let mut stage = Stage::new();
    for _ in 0..9 {
        stage.print(Source::Stdout, "tick\n");
        stage.pass(3_000);
    }
    stage.stream(100).await;
    for _ in 0..3 {
        assert_eq!(stage.read().await, Some(ReadEnd::Whole));
        stage.replace_worker();
        for _ in 0..50 {
            stage.pass(1_000);
            stage.print(Source::Stdout, "tick\n");
        }
    }

    assert_eq!(stage.read().await, Some(ReadEnd::Whole));

    stage.assert_is(stage.stored().await, &[NOT_PROVABLE]);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_was_silent_for_long_lacks_nothing() {
    let mut stage = Stage::new();
    stage.print(Source::Stderr, "begun\n");
    stage.stream(100).await;
    stage.pass(100_000);
    for number in 0..9 {
        stage.print(Source::Stdout, &format!("{number}\n"));
    }
    stage.stream(18).await;
    stage.print(Source::Stderr, "begun\n");
    stage.print(Source::Stdout, "last\n");

    assert_eq!(stage.read().await, Some(ReadEnd::Whole));

    stage.assert_is(stage.stored().await, &[]);
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_and_never_written_is_told() {
    let mut stage = Stage::new();
    stage.print(Source::Stdout, "one\ntwo\n");
    stage.stream(100).await;
    stage.engine.0.lock().unwrap().record.pop();
    stage.pass(1_000);
    stage.print(Source::Stdout, "six\n");

    assert_eq!(stage.read().await, Some(ReadEnd::Whole));

    stage.assert_is(stage.stored().await, &[NOT_PROVABLE]);
}

#[tokio::test(start_paused = true)]
async fn what_was_removed_before_it_was_read_is_told_and_nothing_comes_twice() {
    let mut stage = Stage::new();
    stage.print(Source::Stdout, "one\ntwo\n");
    assert_eq!(stage.read().await, Some(ReadEnd::Whole));
    stage.engine.0.lock().unwrap().record.remove(0);
    stage.print(Source::Stdout, "six\n");
    stage.replace_worker();

    assert_eq!(stage.read().await, Some(ReadEnd::Whole));

    stage.assert_is(stage.stored().await, &[GONE]);
    stage.print(Source::Stdout, "ten\n");
    stage.replace_worker();
    assert_eq!(stage.read().await, Some(ReadEnd::Whole));
    stage.assert_is(stage.stored().await, &[GONE]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_has_become_shorter_is_told() {
    let mut stage = Stage::new();
    stage.print(Source::Stdout, "one\ntwo\n");
    assert_eq!(stage.read().await, Some(ReadEnd::Whole));
    stage.engine.0.lock().unwrap().record.pop();
    stage.replace_worker();
    assert_eq!(stage.read().await, Some(ReadEnd::Whole));
    stage.print(Source::Stdout, "six\nten\n");

    assert_eq!(stage.read().await, Some(ReadEnd::Whole));

    let (bytes, markers) = stage.stored().await;
    assert_eq!(bytes, stage.printed);
    assert!(markers.iter().all(|marker| marker == GONE) && !markers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_death_under_a_busy_container_is_told_at_its_place() {
    for has_died in [false, true] {
        let mut stage = Stage::new();
        stage.print(Source::Stdout, "one\n");
        assert_eq!(stage.read().await, Some(ReadEnd::Whole));
        stage.print(Source::Stdout, &("x".repeat(BUSY_BYTES) + "\n"));
        stage.pass(500);
        stage.engine.0.lock().unwrap().has_died = has_died;
        stage.print(Source::Stdout, "after\n");
        stage.replace_worker();

        assert_eq!(stage.read().await, Some(ReadEnd::Whole));

        let markers = if has_died { &[ENGINE_DIED][..] } else { &[] };
        stage.assert_is(stage.stored().await, markers);
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_cannot_read_its_record_is_asked_a_few_times() {
    let mut stage = Stage::new();
    stage.print(Source::Stdout, "one\ntwo\n");
    for _ in 0..20 {
        let cut = Cut::Fails(1);
        stage.engine.0.lock().unwrap().cuts.push_back(cut);
    }

    assert_eq!(stage.read().await, Some(ReadEnd::Broken));

    let (bytes, markers) = stage.stored().await;
    assert_eq!(
        (&bytes[0][..], markers),
        (&b"one\n"[..], vec![UNREADABLE.to_owned()])
    );
}

#[tokio::test(start_paused = true)]
async fn a_record_that_ends_before_its_last_entry_is_not_whole() {
    let mut stage = Stage::new();
    stage.print(Source::Stdout, "one\ntwo\n");
    stage.engine.0.lock().unwrap().cuts.push_back(Cut::Ends(1));

    assert_eq!(stage.read().await, Some(ReadEnd::Broken));

    let (_, markers) = stage.stored().await;
    assert_eq!(markers, [UNREADABLE]);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_runs_is_followed_and_read_to_its_end_after_that() {
    let mut stage = Stage::new();
    stage.print(Source::Stdout, "one\n");
    {
        let mut world = stage.engine.0.lock().unwrap();
        world.runs = true;
        // The stream that grows lacks its end.
        world.cuts = [Cut::Ends(9), Cut::Ends(2)].into();
        world.later = ["two\n", "six\n"]
            .map(|text| (Source::Stdout, text.into()))
            .into();
    }
    stage.printed[0] = b"one\ntwo\nsix\n".to_vec();

    assert_eq!(stage.read().await, Some(ReadEnd::Whole));

    stage.assert_is(stage.stored().await, &[]);
    assert_eq!(stage.engine.0.lock().unwrap().asked, 3);
}

/// What happens, in any order.
#[derive(Debug, Clone)]
enum Deed {
    /// So many bytes, of one source, that end a line or do not.
    Print(bool, u8, bool),
    /// Of what was printed, so many bytes.
    Stream(u8),
    Pass(u16),
    /// The stream ends; what follows is read until the engine breaks off after so many entries, and from there.
    Breaks(usize),
    /// The worker reads so many entries, and dies; another one reads on.
    WorkerDies(usize),
    /// At full speed, with the loss of so many entries.
    EngineDies(usize),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let print = (any::<bool>(), 1_u8..9, prop::bool::weighted(0.8));
    let deed = prop_oneof![
        12 => print.prop_map(|(is_err, size, ends)| Deed::Print(is_err, size, ends)),
        6 => (0_u8..40).prop_map(Deed::Stream),
        3 => (0_u16..30_000).prop_map(Deed::Pass),
        1 => (0_usize..9).prop_map(Deed::Breaks),
        1 => (0_usize..9).prop_map(Deed::WorkerDies),
        1 => (0_usize..4).prop_map(Deed::EngineDies),
    ];
    prop::collection::vec(deed, 0..60)
}

impl Stage {
    async fn perform(&mut self, deed: Deed, text: impl Fn(u8) -> String) {
        let cut = |stage: &Self, cut| stage.engine.0.lock().unwrap().cuts.push_back(cut);
        match deed {
            Deed::Print(is_err, size, ends) => {
                let end = if ends { "\n" } else { "" };
                self.print(SOURCES[usize::from(is_err)], &(text(size) + end));
            }
            Deed::Stream(bytes) => self.stream(bytes.into()).await,
            Deed::Pass(millis) => {
                // A stream brings in time what there is.
                self.stream(usize::MAX).await;
                self.pass(millis.into());
            }
            Deed::Breaks(entries) => {
                cut(self, Cut::Breaks(entries));
                assert_eq!(self.read().await, Some(ReadEnd::Whole));
            }
            Deed::WorkerDies(entries) => {
                self.replace_worker();
                cut(self, Cut::Hangs(entries));
                self.read().await;
                self.replace_worker();
            }
            Deed::EngineDies(lost) => {
                for _ in 0..BUSY_BYTES / 1_024 + lost {
                    self.print(Source::Stdout, &("x".repeat(1_023) + &text(5) + "\n"));
                }
                self.stream(usize::MAX).await;
                self.streamed = None;
                let mut world = self.engine.0.lock().unwrap();
                let kept = world.record.len() - lost;
                world.record.truncate(kept);
                world.has_died |= lost > 0;
                world.millis += 1_000;
            }
        }
    }
}

/// The log of all that, read to its end.
fn log_of(
    deeds: Vec<Deed>,
    text: impl Fn(u8) -> String,
) -> ([Vec<u8>; 2], Vec<String>, [Vec<u8>; 2]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut stage = Stage::new();
        for deed in deeds {
            stage.perform(deed, &text).await;
        }
        stage.end();
        stage.engine.0.lock().unwrap().cuts.clear();
        assert_eq!(stage.read().await, Some(ReadEnd::Whole));
        let (bytes, markers) = stage.stored().await;
        (bytes, markers, stage.printed)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// And nothing stands there twice.
    #[test]
    fn whoever_dies_when_every_byte_is_stored_once_or_a_marker_stands(deeds in deeds()) {
        // Lines that say the same, more or less.
        let (bytes, markers, printed) = log_of(deeds, |size| "a".repeat(usize::from(size % 3)));
        prop_assert!(bytes == printed || !markers.is_empty(), "{bytes:?}, {printed:?}");
    }

    /// However the worker and the streams break off.
    #[test]
    fn lines_that_differ_are_stored_without_a_marker_where_nothing_is_lost(deeds in deeds()) {
        let nothing_is_lost = |deed: &Deed| !matches!(deed, Deed::EngineDies(lost) if *lost > 0);
        let deeds = deeds.into_iter().filter(nothing_is_lost).collect();
        let number = std::cell::Cell::new(0_u32);
        let (bytes, markers, printed) = log_of(deeds, |_| {
            number.set(number.get() + 1);
            format!("{}.", number.get())
        });
        prop_assert_eq!((bytes, markers), (printed, vec![]));
    }
}
