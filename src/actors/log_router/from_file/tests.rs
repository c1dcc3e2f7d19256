//! A scripted engine writes, dies and comes back; a worker attaches, dies and reads on. The log must have what was printed.

use std::{
    sync::Mutex,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{
    actors::log_router::{counting::Counting, pace::BUSY_BYTES, stored::stored},
    ports::spool::SpoolStore,
    spool::{FileSpools, Limits},
};

/// The machine: the entries that the engine has written, its run, and the time.
#[derive(Default)]
struct World {
    /// The entries of the files that are left, each with its millisecond.
    entries: Vec<(Source, Bytes, u64)>,
    /// Entries that were removed with their files.
    removed: usize,
    run: u64,
    since: u64,
    millis: u64,
}

type Shared = Arc<Mutex<World>>;

fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

struct WorldClock(Shared);

impl Clock for WorldClock {
    fn now(&self) -> SystemTime {
        time(self.0.lock().unwrap().millis)
    }
}

/// Reads the machine's entries; a place is a number of entries.
struct Scripted {
    world: Shared,
    at: usize,
    before: usize,
    /// Entries in one step.
    stride: usize,
}

impl EngineLog for Scripted {
    fn seek(&mut self, place: Place) -> io::Result<bool> {
        let at = usize::try_from(place.offset).unwrap();
        let is_there = at >= self.world.lock().unwrap().removed;
        if is_there {
            self.at = at;
        }
        Ok(is_there)
    }

    fn place(&self) -> Option<Place> {
        Some(Place {
            device: 1,
            offset: self.at as u64,
            ..Place::default()
        })
    }

    fn begins_at_the_first_byte(&mut self) -> io::Result<bool> {
        let removed = self.world.lock().unwrap().removed;
        self.at = self.at.max(removed);
        Ok(removed == 0)
    }

    fn next(&mut self) -> io::Result<Step> {
        let world = self.world.lock().unwrap();
        self.at = self.at.max(world.removed);
        self.before = self.at;
        let from = self.at - world.removed;
        let frames: Vec<_> = world.entries[from..]
            .iter()
            .take(self.stride)
            .map(|(source, bytes, millis)| Frame {
                source: *source,
                bytes: bytes.clone(),
                time: Some(time(*millis)),
            })
            .collect();
        self.at += frames.len();
        Ok(if frames.is_empty() {
            Step::End
        } else {
            Step::Frames(frames)
        })
    }

    fn unread(&mut self) {
        self.at = self.before;
    }

    fn rest(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn file_size(&self) -> u64 {
        64
    }

    fn run(&self) -> Option<EngineRun> {
        let world = self.world.lock().unwrap();
        (world.run > 0).then(|| EngineRun {
            id: world.run,
            age: Duration::from_millis(world.millis - world.since),
        })
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        tokio::task::yield_now().boxed()
    }
}

/// A container, its engine and a worker's log of its output.
struct Stage {
    world: Shared,
    folder: TempDir,
    stride: usize,
    /// What the container has printed to stdout and stderr.
    printed: [Vec<u8>; 2],
}

fn task() -> TaskId {
    TaskId::new("a").unwrap()
}

impl Stage {
    fn new(stride: usize) -> Self {
        let stage = Self {
            world: Shared::default(),
            folder: tempfile::tempdir().unwrap(),
            stride,
            printed: Default::default(),
        };
        stage.revive();
        stage
    }

    fn now(&self) -> SystemTime {
        time(self.world.lock().unwrap().millis)
    }

    fn spool(&self) -> Arc<dyn Spool> {
        let clock = Arc::new(WorldClock(Arc::clone(&self.world)));
        let limits = Limits {
            least_free: 0,
            ..Limits::default()
        };
        let spools = FileSpools::open(self.folder.path(), limits, clock).unwrap();
        spools.open(&task()).unwrap()
    }

    fn log(&self) -> Box<Scripted> {
        Box::new(Scripted {
            world: Arc::clone(&self.world),
            at: 0,
            before: 0,
            stride: self.stride,
        })
    }

    /// Begins the next run of the engine.
    fn revive(&self) {
        let mut world = self.world.lock().unwrap();
        world.millis += 1_000;
        world.run = world.millis;
        world.since = world.millis;
        world.millis += 50;
    }

    /// The container prints. The engine writes the output down, unless it dies before.
    fn print(&mut self, source: Source, text: &[u8], is_written: bool) {
        self.printed[usize::from(source == Source::Stderr)].extend_from_slice(text);
        if is_written {
            self.write(source, text);
        }
    }

    fn write(&self, source: Source, text: &[u8]) {
        let mut world = self.world.lock().unwrap();
        world.millis += 1;
        let millis = world.millis;
        world
            .entries
            .push((source, Bytes::copy_from_slice(text), millis));
    }

    /// Reads the log files to their end.
    async fn read(&self, spool: &Arc<dyn Spool>) -> ReadEnd {
        self.reader(spool, self.log()).at_the_logs_place().await
    }

    /// A reader that knows that the container has ended.
    fn reader(&self, spool: &Arc<dyn Spool>, log: Box<dyn EngineLog>) -> FromFile {
        let ended = Ended::default();
        ended.tell();
        let clock = Arc::new(WorldClock(Arc::clone(&self.world)));
        FromFile::new(
            task(),
            Arc::clone(spool),
            Progress::default(),
            ended,
            log,
            clock,
        )
    }

    async fn counting(&self, spool: &Arc<dyn Spool>) -> Counting {
        let counting = Counting::begin(task(), Arc::clone(spool), self.log());
        counting.await.unwrap()
    }
}

async fn attach(spool: &Arc<dyn Spool>, counting: &mut Counting, source: Source, text: &[u8]) {
    let piece = Piece {
        source,
        bytes: Bytes::copy_from_slice(text),
        time: None,
    };
    spool.append(vec![piece]).await.unwrap();
    counting.appended(text.len()).await;
}

#[tokio::test]
async fn what_a_stream_did_not_bring_is_read_from_the_file() {
    let mut stage = Stage::new(1);
    let spool = stage.spool();
    let mut counting = stage.counting(&spool).await;
    for line in ["one\n", "two\n"] {
        stage.print(Source::Stdout, line.as_bytes(), true);
        stage.print(Source::Stderr, line.as_bytes(), true);
    }
    attach(&spool, &mut counting, Source::Stdout, b"one\ntw").await;
    let ended = stage.now();
    let (log, counted) = counting.end().await.unwrap();

    let end = stage
        .reader(&spool, log)
        .behind_a_stream(counted, ended)
        .await;

    assert_eq!(end, ReadEnd::Whole);
    assert_eq!(stored(&spool).await, (stage.printed, vec![]));
}

#[tokio::test]
async fn what_the_engine_had_sent_and_not_written_is_not_passed_over_behind_its_death() {
    let mut stage = Stage::new(2);
    let spool = stage.spool();
    let mut counting = stage.counting(&spool).await;
    stage.print(Source::Stdout, b"one\n", true);
    stage.print(Source::Stdout, b"two\n", false);
    attach(&spool, &mut counting, Source::Stdout, b"one\ntwo\n").await;
    let ended = stage.now();
    stage.revive();
    stage.print(Source::Stdout, b"six\n", true);
    let (log, counted) = counting.end().await.unwrap();

    let end = stage
        .reader(&spool, log)
        .behind_a_stream(counted, ended)
        .await;

    assert_eq!(end, ReadEnd::Whole);
    assert_eq!(stored(&spool).await, (stage.printed, vec![]));
}

#[tokio::test]
async fn a_death_under_a_busy_container_is_told_at_its_place() {
    let mut stage = Stage::new(1);
    let spool = stage.spool();
    let mut counting = stage.counting(&spool).await;
    let much = [&[b'x'; BUSY_BYTES][..], b"\n"].concat();
    stage.print(Source::Stdout, &much, true);
    let ended = stage.now();
    stage.revive();
    stage.print(Source::Stdout, b"after\n", true);
    attach(&spool, &mut counting, Source::Stdout, &much).await;
    let (log, counted) = counting.end().await.unwrap();

    stage
        .reader(&spool, log)
        .behind_a_stream(counted, ended)
        .await;

    let (bytes, markers) = stored(&spool).await;
    assert_eq!(
        (bytes, markers),
        (stage.printed, vec![ENGINE_DIED.to_owned()])
    );
}

#[tokio::test]
async fn a_death_that_nobody_saw_is_told_at_its_place() {
    let mut stage = Stage::new(1);
    let spool = stage.spool();
    let counting = stage.counting(&spool).await;
    drop(counting);
    stage.print(Source::Stdout, b"before\n", true);
    drop(spool);
    stage.revive();
    stage.print(Source::Stdout, b"after\n", true);

    let spool = stage.spool();
    assert_eq!(stage.read(&spool).await, ReadEnd::Whole);

    let (bytes, markers) = stored(&spool).await;
    assert_eq!(
        (bytes, markers),
        (stage.printed, vec![ENGINE_DIED.to_owned()])
    );
}

#[tokio::test]
async fn what_was_removed_before_it_was_read_is_told_and_nothing_comes_twice() {
    let mut stage = Stage::new(1);
    let spool = stage.spool();
    let mut counting = stage.counting(&spool).await;
    for line in ["one\n", "two\n", "six\n", "ten\n"] {
        stage.print(Source::Stdout, line.as_bytes(), true);
        if line == "six\n" {
            attach(&spool, &mut counting, Source::Stdout, b"one\ntwo\nsix\n").await;
        }
    }
    drop((counting, spool));
    {
        let mut world = stage.world.lock().unwrap();
        world.entries.drain(..1);
        world.removed = 1;
    }

    let spool = stage.spool();
    assert_eq!(stage.read(&spool).await, ReadEnd::Whole);

    let (bytes, markers) = stored(&spool).await;
    assert_eq!((bytes, markers), (stage.printed, vec![GONE.to_owned()]));
}

/// One thing that happens; things happen in any order.
#[derive(Debug, Clone)]
enum Deed {
    Print(bool, u8),
    /// The stream brings this many bytes more, as far as there are any.
    Stream(u8),
    /// The engine dies, and comes back.
    EngineDies,
    /// The worker dies; another one reads on from the files to their end.
    WorkerDies,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        6 => (any::<bool>(), 1_u8..9).prop_map(|(is_err, size)| Deed::Print(is_err, size)),
        4 => (0_u8..20).prop_map(Deed::Stream),
        1 => Just(Deed::EngineDies),
        1 => Just(Deed::WorkerDies),
    ];
    prop::collection::vec(deed, 0..50)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// If the engine writes all that it has read, and the worker may die and be away at any moment, the log has everything, once.
    #[test]
    fn whoever_dies_when_every_byte_is_stored_once(deeds in deeds(), stride in 1_usize..5) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut stage = Stage::new(stride);
            let mut spool = stage.spool();
            let mut counting = Some(stage.counting(&spool).await);
            let mut streamed = [0; 2];
            let mut letter = b'a';
            for deed in deeds {
                match deed {
                    Deed::Print(is_err, size) => {
                        letter = if letter == b'z' { b'a' } else { letter + 1 };
                        let source = if is_err { Source::Stderr } else { Source::Stdout };
                        let text = [vec![letter; size.into()], vec![b'\n']].concat();
                        stage.print(source, &text, true);
                    }
                    Deed::Stream(bytes) => if let Some(counting) = &mut counting {
                        for (number, source) in [Source::Stdout, Source::Stderr].into_iter().enumerate() {
                            let printed = &stage.printed[number][streamed[number]..];
                            let some = &printed[..usize::from(bytes).min(printed.len())];
                            streamed[number] += some.len();
                            attach(&spool, counting, source, some).await;
                        }
                    }
                    // A stream ends with its engine; what it had not brought is in the files.
                    Deed::EngineDies => {
                        if let Some(ends) = counting.take() {
                            let ended = stage.now();
                            let (log, counted) = ends.end().await.unwrap();
                            stage.revive();
                            stage.reader(&spool, log).behind_a_stream(counted, ended).await;
                        } else {
                            stage.revive();
                        }
                    }
                    Deed::WorkerDies => {
                        drop(counting.take());
                        drop(spool);
                        spool = stage.spool();
                        stage.read(&spool).await;
                    }
                }
            }
            drop(counting.take());
            drop(spool);
            spool = stage.spool();
            prop_assert_eq!(stage.read(&spool).await, ReadEnd::Whole);
            let (bytes, _) = stored(&spool).await;
            prop_assert_eq!(bytes, stage.printed);
            Ok(())
        })?;
    }
}
