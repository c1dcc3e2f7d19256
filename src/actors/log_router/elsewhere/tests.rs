//! A scripted engine keeps a record and dies; a worker attaches, dies and reads on. The log must have what was printed, or a
//! marker where it has not.

mod engine;
mod model;
mod streams;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::{sync::Semaphore, time::timeout};

use self::engine::{Cut, Scripted, World};
use super::{super::Intake, *};
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

/// A container, its engine, and a worker's log of its output.
struct Stage {
    engine: Scripted,
    folder: TempDir,
    spool: Arc<dyn Spool>,
    /// What the container has printed to stdout and stderr.
    printed: [Vec<u8>; 2],
    /// For each source, the part of a line that is not in the record yet.
    unwritten: [Vec<u8>; 2],
    /// Bytes that the stream has brought; `None` once it is over.
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

    /// The container prints; the engine records whole lines.
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

    /// The container ends; the engine records its last, unfinished lines.
    fn end(&mut self) {
        for (source, unwritten) in SOURCES.into_iter().zip(&mut self.unwritten) {
            let rest = Bytes::from(std::mem::take(unwritten));
            if !rest.is_empty() {
                self.engine.0.lock().unwrap().write(source, rest);
            }
        }
    }

    /// The attached stream brings at most this many bytes of each source.
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

    /// The worker dies, and another one takes its place.
    fn replace_worker(&mut self) {
        self.streamed = None;
        self.spool = opened(&self.folder, &self.engine);
    }

    fn work(&self) -> Work {
        Work {
            engine: Arc::new(self.engine.clone()),
            view: Arc::new(EngineView::of(info())),
            clock: Arc::new(self.engine.clone()),
            task: TaskId::new("a").unwrap(),
            container: ContainerId("c".into()),
            spool: Arc::clone(&self.spool),
            turns: Arc::new(Semaphore::new(1)),
            intake: Intake::default(),
            give_up: Arc::default(),
            progress: Progress::default(),
            ended: Ended::default(),
        }
    }

    fn reader(&self) -> Elsewhere {
        Elsewhere::new(self.work(), None)
    }

    /// Reads on; `None` if that would wait for ever.
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
    // The engine's clock does not matter.
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
async fn the_parts_of_a_line_that_is_written_slowly_come_with_the_time_of_the_first() {
    let mut stage = Stage::new();
    let parts = ["x".repeat(16_384), "y".repeat(16_384), "end\n".to_owned()];
    let parts = parts.map(Bytes::from);
    stage.printed[0] = parts.concat();
    let write = |world: &mut World, part: &Bytes, begun: &mut Option<u64>| {
        world.millis += 1;
        let time = *begun.get_or_insert(world.millis + world.ahead);
        world.record.push((Source::Stdout, part.clone(), time));
    };
    let mut begun = None;
    write(&mut stage.engine.0.lock().unwrap(), &parts[0], &mut begun);
    stage.stream(16_384).await;
    for part in &parts[1..] {
        assert_eq!(stage.read().await, Some(ReadEnd::Whole));
        stage.replace_worker();
        for _ in 0..9 {
            stage.print(Source::Stderr, "meanwhile\n");
            stage.pass(10_000);
        }
        assert_eq!(stage.read().await, Some(ReadEnd::Whole));
        write(&mut stage.engine.0.lock().unwrap(), part, &mut begun);
    }

    assert_eq!(stage.read().await, Some(ReadEnd::Whole));

    stage.assert_is(stage.stored().await, &[]);
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_replaces_is_stored_as_it_was_sent_and_passed_over_as_it_is_told() {
    let mut stage = Stage::new();
    let piece = Piece {
        source: Source::Stdout,
        bytes: Bytes::from_static(b"\xff\xfe\n"),
        time: None,
    };
    stage.spool.append(vec![piece]).await.unwrap();
    stage.print(Source::Stdout, "\u{fffd}\u{fffd}\n");
    for text in ["two\n", "six\n"] {
        assert_eq!(stage.read().await, Some(ReadEnd::Whole));
        stage.replace_worker();
        stage.print(Source::Stdout, text);
    }

    assert_eq!(stage.read().await, Some(ReadEnd::Whole));

    stage.printed[0] = b"\xff\xfe\ntwo\nsix\n".to_vec();
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
    for (has_died, forgot_start) in [(false, false), (false, true), (true, true)] {
        let mut stage = Stage::new();
        stage.print(Source::Stdout, "one\n");
        assert_eq!(stage.read().await, Some(ReadEnd::Whole));
        stage.print(Source::Stdout, &("x".repeat(BUSY_BYTES) + "\n"));
        {
            let mut world = stage.engine.0.lock().unwrap();
            world.died = has_died.then_some(world.millis);
            world.forgot_start = forgot_start;
        }
        stage.pass(500);
        stage.print(Source::Stdout, "after\n");
        stage.replace_worker();

        assert_eq!(stage.read().await, Some(ReadEnd::Whole));

        let markers = if has_died { &[ENGINE_DIED][..] } else { &[] };
        stage.assert_is(stage.stored().await, markers);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_stands_still_is_given_up_where_the_record_has_more() {
    let mut stage = Stage::new();
    stage.print(Source::Stdout, "one\n");
    {
        let mut world = stage.engine.0.lock().unwrap();
        world.runs = true;
        world.cuts = [Cut::Ends(9), Cut::Hangs(1)].into();
        world.later = vec![(Source::Stdout, "two\n".into())];
    }
    stage.printed[0] = b"one\ntwo\n".to_vec();

    assert_eq!(stage.read().await, Some(ReadEnd::Whole));

    stage.assert_is(stage.stored().await, &[]);
}

/// A record of gigabytes on a busy machine: the engine looks through all of it before it sends the first byte.
#[tokio::test(start_paused = true)]
async fn an_engine_that_looks_for_long_for_what_is_new_is_waited_for_in_the_end() {
    let mut stage = Stage::new();
    stage.print(Source::Stdout, "one\n");
    stage.engine.0.lock().unwrap().cuts = [Cut::Waits(60); 40].into();

    assert_eq!(stage.read().await, Some(ReadEnd::Whole));

    stage.assert_is(stage.stored().await, &[]);
    let asked = stage.engine.0.lock().unwrap().asked;
    assert!(asked < 10, "{asked} times");
}

#[tokio::test(start_paused = true)]
async fn a_death_is_told_where_it_may_have_been_and_not_later() {
    let mut stage = Stage::new();
    let flood = "x".repeat(BUSY_BYTES) + "\n";
    stage.print(Source::Stdout, &flood);
    stage.stream(usize::MAX).await;
    {
        let mut world = stage.engine.0.lock().unwrap();
        world.died = Some(world.millis);
    }
    let mut reader = stage.reader();
    reader.may_have_missed = false;
    reader.breaks = vec![Instant::now()];
    for _ in 0..3 {
        stage.pass(500);
        stage.print(Source::Stdout, &flood);
    }
    // By the test's clock the engine came back at once, and the floods behind that are of now.
    {
        let mut world = stage.engine.0.lock().unwrap();
        world.millis = 1_000_010;
    }

    assert_eq!(reader.run().await, ReadEnd::Whole);

    stage.assert_is(stage.stored().await, &[ENGINE_DIED]);
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
        // The followed stream lacks its end.
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
