//! Logs written and read: whole, cut short, damaged, over the cap, on a full disk, by many at once.

mod damage;
mod start;
mod viewers;

use std::{
    io::ErrorKind,
    mem,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{
    domain::{
        log_line::{Line, LineSplitter, Source},
        outcome::StatusWord,
    },
    ports::{clock::SystemClock, engine_log::Place, spool::LogItem},
};

/// A clock on which each call takes a millisecond.
#[derive(Default)]
struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> SystemTime {
        let calls = self.0.fetch_add(1, Ordering::Relaxed);
        UNIX_EPOCH + Duration::from_millis(calls)
    }
}

/// A disk whose free space and support for holes are set by the test. With nothing free, half of each write gets through.
struct SetDisk {
    free: AtomicU64,
    makes_holes: bool,
}

impl Disk for SetDisk {
    fn write(&self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        if self.free.load(Ordering::Relaxed) > 0 {
            return LinuxDisk.write(file, bytes, at);
        }
        LinuxDisk.write(file, &bytes[..bytes.len() / 2], at)?;
        Err(ErrorKind::StorageFull.into())
    }

    fn free(&self, _: &Path) -> io::Result<u64> {
        Ok(self.free.load(Ordering::Relaxed))
    }

    fn punch(&self, file: &File, range: Range<u64>) -> io::Result<()> {
        if self.makes_holes {
            LinuxDisk.punch(file, range)
        } else {
            Err(ErrorKind::Unsupported.into())
        }
    }
}

fn store_in(folder: &TempDir, cap: u64) -> FileSpools {
    let limits = Limits { cap, least_free: 0 };
    FileSpools::open(folder.path(), limits, Arc::new(Ticking::default())).unwrap()
}

fn store() -> (TempDir, FileSpools) {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(&folder, 1 << 30);
    (folder, store)
}

fn task(id: &str) -> TaskId {
    TaskId::new(id).unwrap()
}

fn end() -> LogEnd {
    LogEnd {
        word: StatusWord::Failed,
        trailer: "[worker-node] failed: exit code 1".into(),
    }
}

fn piece(source: Source, bytes: impl Into<Bytes>) -> Piece {
    Piece {
        source,
        bytes: bytes.into(),
        time: None,
    }
}

async fn print(spool: &Arc<dyn Spool>, text: impl Into<Bytes>) {
    spool
        .append(vec![piece(Source::Stdout, text)])
        .await
        .unwrap();
}

/// Everything that a cursor gives out now, and how it stopped.
async fn read(cursor: &mut Box<dyn LogCursor>) -> (Vec<Line>, LogItem) {
    let mut lines = Vec::new();
    loop {
        match cursor.next().await.unwrap() {
            LogItem::Lines(more) => lines.extend(more),
            stop => return (lines, stop),
        }
    }
}

async fn read_all(spool: &Arc<dyn Spool>) -> Vec<Line> {
    let mut cursor = spool.cursor();
    let (mut lines, _) = read(&mut cursor).await;
    lines.extend(cursor.take_unfinished());
    lines
}

fn texts(lines: &[Line]) -> Vec<&str> {
    let text = |line| std::str::from_utf8(line).unwrap();
    lines.iter().map(|line| text(&line.bytes)).collect()
}

#[tokio::test]
async fn lines_come_out_in_order_with_the_time_of_their_arrival() {
    let (_folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    spool.note("pulling\nthe image\n".into()).await.unwrap();
    let frames = [
        (Source::Stdout, "on"),
        (Source::Stderr, "oops\n"),
        (Source::Stdout, "e\ntw"),
    ];
    let pieces = frames.map(|(source, text)| piece(source, text));
    spool.append(pieces.into()).await.unwrap();
    print(&spool, "o").await;
    let mut cursor = spool.cursor();

    let (lines, stop) = read(&mut cursor).await;

    assert_eq!(texts(&lines), ["pulling", "the image", "oops", "one"]);
    assert_eq!(lines[0].source, Source::Worker);
    assert_eq!(lines[2].source, Source::Stderr);
    let micros: Vec<_> = lines.iter().map(|line| line.micros).collect();
    assert_eq!(micros, [0, 0, 1_000, 1_000]);
    assert_eq!(stop, LogItem::CaughtUp);
    assert_eq!(texts(&cursor.take_unfinished()), ["two"]);
    assert_eq!(spool.appended(), (7, 5));
}

#[tokio::test]
async fn output_that_comes_with_its_time_keeps_it() {
    let (_folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    let at = |seconds, text: &'static str| Piece {
        time: Some(UNIX_EPOCH + Duration::from_secs(seconds)),
        ..piece(Source::Stdout, text)
    };
    let pieces = vec![
        at(7, "seven\n"),
        at(7, "and more\n"),
        at(9, "nine\n"),
        piece(Source::Stdout, "now\n"),
    ];

    spool.append(pieces).await.unwrap();
    spool.note("a note".into()).await.unwrap();

    let micros: Vec<_> = read_all(&spool)
        .await
        .iter()
        .map(|line| line.micros)
        .collect();
    assert_eq!(micros, [7_000_000, 7_000_000, 9_000_000, 0, 1_000]);
}

#[tokio::test]
async fn the_newest_output_is_known_also_after_a_restart() {
    let (folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    assert_eq!(spool.newest(), None);
    let at = UNIX_EPOCH + Duration::from_secs(7);
    let old = Piece {
        time: Some(at),
        ..piece(Source::Stderr, "seven\n")
    };

    spool.append(vec![old]).await.unwrap();
    spool.note("a note is no output".into()).await.unwrap();

    assert_eq!(spool.newest(), Some(at));
    drop((spool, store));
    let again = store_in(&folder, 1 << 30);
    let spool = again.find(&task("a")).unwrap().expect("it is there");
    assert_eq!(spool.newest(), Some(at));
}

#[tokio::test]
async fn a_closed_log_tells_its_end_and_takes_nothing_more() {
    let (folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    print(&spool, "whole\nunfinished").await;

    spool.close(end()).await.unwrap();
    let other = LogEnd {
        word: StatusWord::Success,
        trailer: "another".into(),
    };
    spool.close(other).await.unwrap();

    assert!(spool.append(vec![]).await.is_err());
    assert!(spool.note("late".into()).await.is_err());
    drop((spool, store));
    let again = store_in(&folder, 1 << 30);
    let spool = again.find(&task("a")).unwrap().expect("it is there");
    assert_eq!(spool.end(), Some(end()));
    assert_eq!(spool.appended(), (16, 0));
    assert!(spool.note("later".into()).await.is_err());
    let mut cursor = spool.cursor();
    let (lines, stop) = read(&mut cursor).await;
    assert_eq!(texts(&lines), ["whole", "unfinished"]);
    assert_eq!(stop, LogItem::End(end()));
    assert_eq!(cursor.next().await.unwrap(), LogItem::End(end()));
}

#[tokio::test]
async fn there_is_one_handle_per_task_for_as_long_as_anybody_reads() {
    let (_folder, store) = store();
    assert!(store.find(&task("a")).unwrap().is_none());
    let first = store.open(&task("a")).unwrap();
    let second = store.open(&task("a")).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    let mut cursor = first.cursor();
    drop((first, second));

    let third = store.find(&task("a")).unwrap().expect("it is there");
    print(&third, "seen\n").await;

    assert_eq!(texts(&read(&mut cursor).await.0), ["seen"]);
}

#[tokio::test]
async fn a_removed_log_is_read_to_its_end_and_a_new_one_starts_empty() {
    let (_folder, store) = store();
    let old = store.open(&task("a")).unwrap();
    print(&old, "old\n").await;

    store.remove(&task("a")).unwrap();
    store.remove(&task("a")).unwrap();
    assert!(store.find(&task("a")).unwrap().is_none());
    let new = store.open(&task("a")).unwrap();

    assert_eq!(texts(&read_all(&old).await), ["old"]);
    assert_eq!(read_all(&new).await, []);
}

#[tokio::test]
async fn a_reader_is_woken_by_growth_and_by_the_end() {
    let (_folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    let mut cursor = spool.cursor();
    assert_eq!(read(&mut cursor).await.1, LogItem::CaughtUp);
    assert!(cursor.grown().now_or_never().is_none(), "nothing came yet");

    let (_, ()) = tokio::join!(cursor.grown(), print(&spool, "more\n"));
    assert_eq!(texts(&read(&mut cursor).await.0), ["more"]);

    let (_, closed) = tokio::join!(cursor.grown(), spool.close(end()));
    closed.unwrap();
    assert_eq!(cursor.next().await.unwrap(), LogItem::End(end()));
}

#[tokio::test]
async fn a_reader_that_is_dropped_midway_loses_no_line() {
    let (_folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    for n in 0..20_000 {
        if n % 1_000 == 0 {
            let text: String = (n..n + 1_000)
                .map(|n| format!("{n} {:>50}\n", ""))
                .collect();
            print(&spool, text).await;
        }
    }
    let mut cursor = spool.cursor();

    let mut seen = Vec::new();
    loop {
        // Polled once and dropped, more often than not before the file is read.
        let item = match cursor.next().now_or_never() {
            Some(item) => item,
            None => cursor.next().await,
        };
        match item.unwrap() {
            LogItem::Lines(lines) => seen.extend(lines),
            _ => break,
        }
    }

    assert_eq!(seen.len(), 20_000);
    for (n, line) in seen.iter().enumerate() {
        assert!(
            line.bytes.starts_with(format!("{n} ").as_bytes()),
            "line {n}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_readers_see_every_line_once_while_it_is_written() {
    const LINES: usize = 30_000;
    let (_folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    let readers: Vec<_> = (0..8)
        .map(|_| {
            let mut cursor = spool.cursor();
            tokio::spawn(async move {
                let mut seen = 0;
                loop {
                    match cursor.next().await.unwrap() {
                        LogItem::Lines(lines) => {
                            for line in lines {
                                assert_eq!(line.bytes, format!("line {seen}").into_bytes());
                                seen += 1;
                            }
                        }
                        LogItem::CaughtUp => cursor.grown().await,
                        LogItem::End(_) => return seen,
                    }
                }
            })
        })
        .collect();

    let text: String = (0..LINES).map(|n| format!("line {n}\n")).collect();
    // Pieces that end anywhere, as a pipe's do.
    for piece in text.as_bytes().chunks(777) {
        print(&spool, piece.to_vec()).await;
    }
    spool.close(end()).await.unwrap();

    for reader in readers {
        assert_eq!(reader.await.unwrap(), LINES);
    }
}

#[tokio::test]
async fn appends_that_nobody_waits_for_are_written_in_order() {
    let (_folder, store) = store();
    let spool = store.open(&task("a")).unwrap();

    for n in 0..500 {
        let line = Bytes::from(format!("{n}\n"));
        let append = spool.append(vec![piece(Source::Stdout, line)]);
        let _ = append.now_or_never();
    }
    print(&spool, "last\n").await;

    let seen: Vec<usize> = texts(&read_all(&spool).await)
        .iter()
        .filter_map(|line| line.parse().ok())
        .collect();
    assert!(seen.is_sorted(), "{seen:?}");
    assert!(!seen.is_empty());
}

fn only_file(folder: &TempDir) -> PathBuf {
    let mut files = fs::read_dir(folder.path()).unwrap();
    let file = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none());
    file
}

#[tokio::test]
async fn whatever_a_kill_leaves_of_the_end_is_cut_off_and_the_log_goes_on() {
    let (folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    let mut sizes = vec![];
    let file = only_file(&folder);
    for text in ["one\n", "two\n", "three\n"] {
        sizes.push(fs::metadata(&file).unwrap().len());
        print(&spool, text).await;
    }
    drop((spool, store));
    let whole = fs::read(&file).unwrap();

    for length in usize::try_from(sizes[0]).unwrap()..whole.len() {
        fs::write(&file, &whole[..length]).unwrap();
        let store = store_in(&folder, 1 << 30);
        let spool = store.open(&task("a")).unwrap();
        print(&spool, "four\n").await;

        let kept = sizes[1..]
            .iter()
            .filter(|end| **end <= length as u64)
            .count();
        let expected = [&["one", "two"][..kept], &["four"]].concat();
        assert_eq!(texts(&read_all(&spool).await), expected, "cut at {length}");
        let bytes = expected.iter().map(|line| line.len() as u64 + 1).sum();
        assert_eq!(spool.appended(), (bytes, 0));
        let end = sizes
            .iter()
            .copied()
            .filter(|end| *end <= length as u64)
            .max();
        let new = (format::HEAD + "four\n".len()) as u64;
        assert_eq!(fs::metadata(&file).unwrap().len(), end.unwrap() + new);
    }
}

fn position(stdout: u64) -> Position {
    let place = Place {
        device: 1,
        inode: 2,
        offset: 3 * stdout,
        written: -4,
    };
    Position {
        place,
        run: u64::MAX,
        stdout,
        stderr: 5,
    }
}

/// A kill may leave output without the position behind it, and never a position without the output before it.
#[tokio::test]
async fn a_position_is_never_ahead_of_what_was_printed() {
    let (folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    assert_eq!(spool.position(), None);
    for printed in [3, 6] {
        let three = vec![piece(Source::Stdout, "one")];
        spool.append_up_to(three, position(printed)).await.unwrap();
        assert_eq!(spool.position(), Some(position(printed)));
    }
    drop((spool, store));
    let path = only_file(&folder);
    let whole = fs::read(&path).unwrap();

    let mut seen = HashSet::new();
    for length in (whole.len() / 4..=whole.len()).rev() {
        fs::write(&path, &whole[..length]).unwrap();
        let found = store_in(&folder, 1 << 30).find(&task("a")).unwrap();
        let Some(spool) = found else { break };
        let behind = spool.position().map_or(0, |position| position.stdout);
        assert!(behind <= spool.appended().0, "{length}");
        seen.insert(spool.position().map(|position| position.stdout));
    }

    assert_eq!(seen, HashSet::from([None, Some(3), Some(6)]));
}

#[tokio::test]
async fn an_end_that_is_no_record_of_this_place_is_cut_off() {
    let (folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    let file = only_file(&folder);
    let size = || usize::try_from(fs::metadata(&file).unwrap().len()).unwrap();
    let start = size();
    print(&spool, "one\n").await;
    let second = size();
    print(&spool, "two\n").await;
    drop((spool, store));
    let whole = fs::read(&file).unwrap();
    let lost = [&whole[..whole.len() - 4], &[0; 4]].concat();
    let stale = [&whole, &whole[start..second]].concat();

    for (bytes, expected) in [(lost, &["one"][..]), (stale, &["one", "two"])] {
        fs::write(&file, bytes).unwrap();
        let store = store_in(&folder, 1 << 30);
        let spool = store.open(&task("a")).unwrap();

        assert_eq!(texts(&read_all(&spool).await), expected);
        assert_eq!(size(), start + expected.len() * (second - start));
    }
}

#[tokio::test]
async fn a_damaged_record_costs_itself_alone() {
    let (folder, store) = store();
    let spool = store.open(&task("a")).unwrap();
    for text in ["one\n", "damaged\n", "three\n"] {
        print(&spool, text).await;
    }
    drop((spool, store));
    let file = only_file(&folder);
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes
        .windows(7)
        .position(|bytes| bytes == b"damaged")
        .unwrap();
    bytes[at] ^= 1;
    fs::write(&file, bytes).unwrap();

    let store = store_in(&folder, 1 << 30);
    let lines = read_all(&store.open(&task("a")).unwrap()).await;

    let marker = "[worker-node] 8 bytes of this log are damaged, and left out here";
    assert_eq!(texts(&lines), ["one", marker, "three"]);
}

#[tokio::test]
async fn a_file_that_is_not_the_tasks_is_set_aside() {
    let (folder, store) = store();
    drop(store.open(&task("a")).unwrap());
    let file = only_file(&folder);
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] = b'b';
    for wrong in [bytes, b"short".to_vec(), Vec::new(), vec![0; 10_000]] {
        fs::write(&file, &wrong).unwrap();

        assert!(store.find(&task("a")).unwrap().is_none());

        let aside = file.with_extension("log.damaged");
        assert_eq!(fs::read(&aside).unwrap(), wrong);
        assert_eq!(read_all(&store.open(&task("a")).unwrap()).await, []);
        store.remove(&task("a")).unwrap();
        assert!(!aside.exists());
    }
}

#[test]
fn only_its_user_can_read_a_log() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("logs");
    let store = FileSpools::open(&folder, Limits::default(), Arc::new(SystemClock)).unwrap();
    store.open(&task("../../escape")).unwrap();

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    let mut files = fs::read_dir(&folder).unwrap();
    assert_eq!(mode(&files.next().unwrap().unwrap().path()), 0o600);
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
}

#[test]
fn ten_thousand_finished_tasks_leave_nothing_in_memory() {
    let (_folder, store) = store();
    let kept = store.open(&task("kept")).unwrap();

    for n in 0..10_000 {
        assert!(store.find(&task(&format!("t{n}"))).unwrap().is_none());
    }

    assert!(lock(&store.open).slots.len() < 200);
    let again = store.open(&task("kept")).unwrap();
    assert!(Arc::ptr_eq(&kept, &again));
}

/// The line of a marker says how many bytes it stands for.
fn left_out(lines: &[Line]) -> u64 {
    let markers = lines.iter().filter(|line| line.source == Source::Worker);
    markers
        .filter_map(|line| {
            let text = std::str::from_utf8(&line.bytes).unwrap();
            let text = text.strip_suffix(" bytes left out here")?;
            text.strip_prefix("[worker-node] ")?.parse::<u64>().ok()
        })
        .sum()
}

/// Bytes of a container's whole lines.
fn shown(lines: &[Line]) -> u64 {
    let output = lines.iter().filter(|line| line.source != Source::Worker);
    output.map(|line| line.bytes.len() as u64 + 1).sum()
}

const CAP: u64 = 64 * 1024;

/// Prints whole lines, numbered, in pieces that come one by one.
async fn flood(spool: &Arc<dyn Spool>, lines: Range<usize>) {
    for n in lines {
        print(spool, format!("line {n:>6} {:>40}\n", "")).await;
    }
}

#[tokio::test]
async fn over_the_cap_the_ends_are_kept_and_what_is_missing_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(&folder, CAP);
    let spool = store.open(&task("a")).unwrap();
    let mut late = spool.cursor();

    flood(&spool, 0..10_000).await;

    let total = spool.appended().0;
    assert_eq!(total, 10_000 * 53);
    assert!(fs::metadata(only_file(&folder)).unwrap().len() > 10 * CAP);
    let on_disk = store.total_bytes();
    assert!(on_disk < CAP + 20_000, "{on_disk}");
    let (lines, _) = read(&mut late).await;
    assert_eq!(shown(&lines) + left_out(&lines), total);
    let quarter = shown(
        &lines[..lines
            .iter()
            .position(|line| line.source == Source::Worker)
            .unwrap()],
    );
    assert!((CAP / 8..CAP / 4).contains(&quarter), "{quarter}");
    assert!(lines.last().unwrap().bytes.starts_with(b"line   9999"));

    // The same after a restart, and it still goes on.
    drop((late, spool, store));
    let store = store_in(&folder, CAP);
    let spool = store.open(&task("a")).unwrap();
    assert_eq!(spool.appended(), (total, 0));
    assert_eq!(read_all(&spool).await, lines);
    flood(&spool, 10_000..12_000).await;
    spool.close(end()).await.unwrap();
    drop((spool, store));
    let store = store_in(&folder, CAP);
    let spool = store.open(&task("a")).unwrap();
    assert_eq!(spool.end(), Some(end()));
    let lines = read_all(&spool).await;
    assert_eq!(shown(&lines) + left_out(&lines), 12_000 * 53);
    assert!(store.total_bytes() < CAP + 20_000);
}

#[tokio::test]
async fn a_reader_that_is_overtaken_learns_exactly_what_it_missed() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(&folder, CAP);
    let spool = store.open(&task("a")).unwrap();
    let mut cursor = spool.cursor();
    let mut seen = Vec::new();

    for round in 0..20 {
        flood(&spool, round * 500..(round + 1) * 500).await;
        // Now and then it reads all there is, and is overtaken again.
        if round % 7 == 3 {
            seen.extend(read(&mut cursor).await.0);
        }
    }
    seen.extend(read(&mut cursor).await.0);

    let markers = seen.iter().filter(|line| line.source == Source::Worker);
    assert!(markers.count() >= 2);
    assert_eq!(shown(&seen) + left_out(&seen), spool.appended().0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_and_the_growing_hole_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_in(&folder, CAP);
    let spool = store.open(&task("a")).unwrap();
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let mut cursor = spool.cursor();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                loop {
                    match cursor.next().await.unwrap() {
                        LogItem::Lines(lines) => seen.extend(lines),
                        LogItem::CaughtUp => cursor.grown().await,
                        LogItem::End(_) => return seen,
                    }
                }
            })
        })
        .collect();

    let text: String = (0..60_000)
        .map(|n| format!("line {n:>6} {:>40}\n", ""))
        .collect();
    for piece in text.as_bytes().chunks(53 * 100) {
        print(&spool, piece.to_vec()).await;
    }
    spool.close(end()).await.unwrap();

    for reader in readers {
        let seen = reader.await.unwrap();
        assert_eq!(shown(&seen) + left_out(&seen), spool.appended().0);
        let damaged = |line: &&Line| line.bytes.ends_with(b"damaged, and left out here");
        assert_eq!(seen.iter().find(damaged), None);
    }
}

#[tokio::test]
async fn where_the_disk_makes_no_holes_the_log_ends_at_its_cap_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(SetDisk {
        free: AtomicU64::new(u64::MAX),
        makes_holes: false,
    });
    let limits = Limits {
        cap: CAP,
        least_free: 0,
    };
    let clock = Arc::new(Ticking::default());
    let store = FileSpools::on_disk(folder.path(), limits, clock, disk).unwrap();
    let spool = store.open(&task("a")).unwrap();

    flood(&spool, 0..5_000).await;
    spool.close(end()).await.unwrap();

    let lines = read_all(&spool).await;
    assert!(store.total_bytes() < CAP + 20_000);
    assert_eq!(shown(&lines) + left_out(&lines), 5_000 * 53);
    let said = lines.iter().filter(|line| line.source == Source::Worker);
    assert_eq!(said.count(), 2, "the marker and the count");
}

#[tokio::test(start_paused = true)]
async fn on_a_full_disk_output_is_left_out_with_one_marker_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(SetDisk {
        free: AtomicU64::new(1_000),
        makes_holes: true,
    });
    let limits = Limits {
        cap: 1 << 30,
        least_free: 1_000,
    };
    let open = || {
        let clock = Arc::new(Ticking::default());
        FileSpools::on_disk(folder.path(), limits, clock, Arc::clone(&disk) as _).unwrap()
    };
    let store = open();
    let spool = store.open(&task("a")).unwrap();
    print(&spool, "before\n").await;

    disk.free.store(999, Ordering::Relaxed);
    tokio::time::advance(Duration::from_millis(999)).await;
    print(&spool, "not looked yet\n").await;
    tokio::time::advance(Duration::from_millis(1)).await;
    print(&spool, "lost\n").await;
    print(&spool, "lost too\n").await;
    spool.note("a line of ours".into()).await.unwrap();
    disk.free.store(1_000, Ordering::Relaxed);
    tokio::time::advance(Duration::from_secs(1)).await;
    print(&spool, "after\n").await;

    let lines = read_all(&spool).await;
    assert_eq!(
        texts(&lines),
        [
            "before",
            "not looked yet",
            "[worker-node] the disk is almost full: output is left out until there is room again",
            "a line of ours",
            "[worker-node] 14 bytes left out here",
            "after"
        ]
    );
    let appended = spool.appended();
    assert_eq!(appended, (7 + 15 + 14 + 6, 0));
    drop((spool, store));
    assert_eq!(open().open(&task("a")).unwrap().appended(), appended);
}

#[tokio::test]
async fn a_write_that_finds_no_space_loses_nothing_uncounted_and_leaves_no_half_record() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(SetDisk {
        free: AtomicU64::new(1),
        makes_holes: true,
    });
    let limits = Limits {
        cap: 1 << 30,
        least_free: 0,
    };
    let clock = Arc::new(Ticking::default());
    let store = FileSpools::on_disk(folder.path(), limits, clock, Arc::clone(&disk) as _).unwrap();
    let spool = store.open(&task("a")).unwrap();
    print(&spool, "before\n").await;
    let size = || fs::metadata(only_file(&folder)).unwrap().len();
    let before = size();

    disk.free.store(0, Ordering::Relaxed);
    print(&spool, "lost\n").await;
    print(&spool, "lost too\n").await;
    assert!(spool.note("ours".into()).await.is_err());
    assert!(spool.close(end()).await.is_err());
    assert_eq!(size(), before);
    assert_eq!(spool.end(), None);
    disk.free.store(1, Ordering::Relaxed);
    print(&spool, "after\n").await;
    spool.close(end()).await.unwrap();

    let expected = ["before", "[worker-node] 14 bytes left out here", "after"];
    assert_eq!(texts(&read_all(&spool).await), expected);
    assert_eq!(spool.appended(), (7 + 14 + 6, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_left_out_for_want_of_room_counts_in_the_middle_that_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(SetDisk {
        free: AtomicU64::new(u64::MAX),
        makes_holes: true,
    });
    let limits = Limits {
        cap: CAP,
        least_free: 1_000,
    };
    let open = || {
        let clock = Arc::new(Ticking::default());
        FileSpools::on_disk(folder.path(), limits, clock, Arc::clone(&disk) as _).unwrap()
    };
    let mut store = open();
    let mut spool = store.open(&task("a")).unwrap();
    let mut overtaken = spool.cursor();
    let mut seen = Vec::new();

    // Room comes and goes; the first gap lies in the quarter that is kept, later ones are dropped or at the end.
    for round in 0..24 {
        let free = if round % 3 == 1 { 0 } else { u64::MAX };
        disk.free.store(free, Ordering::Relaxed);
        tokio::time::advance(Duration::from_secs(1)).await;
        flood(&spool, round * 100..(round + 1) * 100).await;
        if round == 10 {
            seen.extend(read(&mut overtaken).await.0);
        }
    }

    seen.extend(read(&mut overtaken).await.0);
    assert_eq!(shown(&seen) + left_out(&seen), 2_400 * 53);
    drop((overtaken, spool, store));
    store = open();
    spool = store.open(&task("a")).unwrap();
    flood(&spool, 2_400..3_000).await;
    let lines = read_all(&spool).await;
    assert_eq!(spool.appended(), (3_000 * 53, 0));
    assert_eq!(shown(&lines) + left_out(&lines), 3_000 * 53);
}

/// What happens to a log: output in pieces, a line of the worker's, a restart.
#[derive(Debug, Clone)]
enum Event {
    Append(Vec<(Source, Vec<u8>)>),
    Note(String),
    Restart,
}

fn any_event() -> impl Strategy<Value = Event> {
    let source = prop_oneof![Just(Source::Stdout), Just(Source::Stderr)];
    let piece = prop_oneof![
        6 => prop::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(b'\n')], 0..40),
        1 => (0..200_000_usize, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
    ];
    prop_oneof![
        6 => prop::collection::vec((source, piece), 0..5).prop_map(Event::Append),
        1 => "[a-z ]{0,20}".prop_map(Event::Note),
        1 => Just(Event::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_comes_out_as_it_went_in(events in prop::collection::vec(any_event(), 0..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let mut store = store_in(&folder, 1 << 30);
            let mut spool = store.open(&task("a")).unwrap();
            let mut splitter = LineSplitter::new(|| true);
            let mut expected = Vec::new();
            let mut appended = (0, 0);
            for event in events {
                match event {
                    Event::Append(frames) => {
                        for (source, bytes) in &frames {
                            splitter.push(*source, 0, bytes, usize::MAX, |line| expected.push(line));
                            match source {
                                Source::Stdout => appended.0 += bytes.len() as u64,
                                _ => appended.1 += bytes.len() as u64,
                            }
                        }
                        let frames = frames.into_iter();
                        let frames = frames.map(|(source, bytes)| piece(source, bytes));
                        spool.append(frames.collect()).await.unwrap();
                    }
                    Event::Note(line) => {
                        splitter.push(Source::Worker, 0, line.as_bytes(), usize::MAX, |line| expected.push(line));
                        spool.note(line).await.unwrap();
                    }
                    Event::Restart => {
                        drop((spool, store));
                        store = store_in(&folder, 1 << 30);
                        spool = store.open(&task("a")).unwrap();
                    }
                }
            }
            splitter.finish(0, |line| expected.push(line));

            let mut seen = read_all(&spool).await;

            for line in &mut seen {
                line.micros = 0;
            }
            prop_assert_eq!(seen, expected);
            prop_assert_eq!(spool.appended(), appended);
            Ok(())
        })?;
    }

    #[test]
    fn no_damage_keeps_a_log_from_opening_and_reading(
        flips in prop::collection::vec((0.0..1.0_f64, 0..8_u8), 1..4),
        length in 0.0..1.0_f64,
        closed in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let store = store_in(&folder, 4_096);
            let spool = store.open(&task("a")).unwrap();
            flood(&spool, 0..200).await;
            if closed {
                spool.close(end()).await.unwrap();
            }
            drop((spool, store));
            let file = only_file(&folder);
            let mut bytes = fs::read(&file).unwrap();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place")]
            let place = |at: f64, length: usize| (length as f64 * at) as usize;
            for (at, bit) in flips {
                let at = place(at, bytes.len());
                bytes[at] ^= 1 << bit;
            }
            if length < 0.5 {
                bytes.truncate(place(length * 2.0, bytes.len()));
            }
            fs::write(&file, bytes).unwrap();

            let store = store_in(&folder, 4_096);
            let spool = store.open(&task("a")).unwrap();
            let lines = read_all(&spool).await;

            // What comes out is what was written, or a marker.
            for line in lines.iter().filter(|line| line.source == Source::Stdout) {
                prop_assert!(line.bytes.starts_with(b"line ") && line.bytes.len() == 52);
            }
            if spool.end().is_none() {
                print(&spool, "goes on\n").await;
                let lines = read_all(&spool).await;
                prop_assert_eq!(&lines.last().unwrap().bytes, b"goes on");
            }
            Ok(())
        })?;
    }
}
