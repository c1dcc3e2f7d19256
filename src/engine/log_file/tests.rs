//! Files as the `local` driver writes them, and what others do to them: whatever happens, what is read is what was printed.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{entry::Written, *};

const CONTAINER: &str = "c0ffee";

/// An engine's hand: it writes as the `local` driver does.
struct Driver {
    root: TempDir,
    time: i64,
    /// Files that were renamed.
    rotations: usize,
}

impl Driver {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("containers").join(CONTAINER)).unwrap();
        Self {
            root,
            time: 1_700_000_000_000_000_000,
            rotations: 0,
        }
    }

    fn begun() -> Self {
        let driver = Self::new();
        fs::create_dir(driver.folder()).unwrap();
        driver
    }

    fn folder(&self) -> PathBuf {
        self.root
            .path()
            .join("containers")
            .join(CONTAINER)
            .join("local-logs")
    }

    fn path(&self, number: usize) -> PathBuf {
        match number {
            0 => self.folder().join("container.log"),
            _ => self.folder().join(format!("container.log.{number}")),
        }
    }

    fn reader(&self) -> LogFile {
        LogFile::new(self.root.path(), CONTAINER, 1 << 20)
    }

    fn write_bytes(&self, bytes: &[u8]) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.path(0))
            .unwrap();
        file.write_all(bytes).unwrap();
    }

    fn entry(&mut self, source: Source, line: &[u8], partial: bool) -> Vec<u8> {
        self.time += 300_000;
        let source = match source {
            Source::Stderr => "stderr",
            _ => "stdout",
        };
        entry::bytes_of(&Written {
            source: source.into(),
            time_nano: self.time,
            line: Bytes::copy_from_slice(line),
            partial,
            part: None,
        })
    }

    /// A line of stdout.
    fn line(&mut self, line: &str) {
        let entry = self.entry(Source::Stdout, line.as_bytes(), false);
        self.write_bytes(&entry);
    }

    fn rotate(&mut self) {
        for number in (1..FILES).rev() {
            if self.path(number - 1).exists() {
                fs::rename(self.path(number - 1), self.path(number)).unwrap();
            }
        }
        self.rotations += 1;
    }
}

/// What was read, per source, and what was passed over.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    torn: u64,
    cuts: usize,
}

impl Seen {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

fn read_on(log: &mut LogFile, seen: &mut Seen) {
    loop {
        match log.next().unwrap() {
            Step::Frames(frames) => {
                for frame in frames {
                    match frame.source {
                        Source::Stderr => seen.stderr.extend_from_slice(&frame.bytes),
                        _ => seen.stdout.extend_from_slice(&frame.bytes),
                    }
                }
            }
            Step::Torn(bytes) => seen.torn += bytes,
            Step::Cut => seen.cuts += 1,
            Step::End => return,
        }
    }
}

fn all_of(driver: &Driver) -> Seen {
    let (mut log, mut seen) = (driver.reader(), Seen::default());
    read_on(&mut log, &mut seen);
    seen
}

#[test]
fn a_container_that_was_not_started_has_nothing_yet() {
    let mut driver = Driver::new();
    let (mut log, mut seen) = (driver.reader(), Seen::default());
    read_on(&mut log, &mut seen);
    assert_eq!(log.place(), None);

    fs::create_dir(driver.folder()).unwrap();
    driver.line("first");
    read_on(&mut log, &mut seen);

    assert_eq!(seen.text(), "first\n");
    assert!(log.begins_at_the_first_byte().unwrap());
}

#[test]
fn a_reader_that_lags_reads_files_that_are_gone() {
    let mut driver = Driver::begun();
    let (mut log, mut seen) = (driver.reader(), Seen::default());
    driver.line("0");
    read_on(&mut log, &mut seen);

    for number in 1..10 {
        driver.rotate();
        driver.line(&number.to_string());
        // The new files are opened, and not read.
        log.look().unwrap();
    }
    read_on(&mut log, &mut seen);

    assert_eq!(seen.text(), "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    assert_eq!(all_of(&driver).text(), "6\n7\n8\n9\n");
}

#[test]
fn files_that_were_rotated_away_before_are_known_to_be_missing() {
    let mut driver = Driver::begun();
    for number in 0..FILES {
        let mut log = driver.reader();
        driver.line("some line");
        log.look().unwrap();
        assert_eq!(log.begins_at_the_first_byte().unwrap(), number < FILES - 1);
        driver.rotate();
    }
}

#[test]
fn a_place_is_found_again_in_a_file_that_was_renamed() {
    let mut driver = Driver::begun();
    let (mut log, mut seen) = (driver.reader(), Seen::default());
    driver.line("before");
    read_on(&mut log, &mut seen);
    let place = log.place().unwrap();
    driver.line("then");
    driver.rotate();
    driver.line("after");

    let (mut again, mut rest) = (driver.reader(), Seen::default());

    assert!(again.seek(place).unwrap());
    read_on(&mut again, &mut rest);
    assert_eq!(rest.text(), "then\nafter\n");
}

#[test]
fn a_place_in_a_file_that_is_gone_is_not_found() {
    let mut driver = Driver::begun();
    driver.line("before");
    let mut log = driver.reader();
    read_on(&mut log, &mut Seen::default());
    let place = log.place().unwrap();

    for elsewhere in [
        Place {
            inode: place.inode + 1,
            ..place
        },
        Place {
            offset: place.offset + 1,
            ..place
        },
        Place {
            offset: place.offset - 1,
            ..place
        },
        Place {
            written: place.written + 1,
            ..place
        },
    ] {
        let mut again = driver.reader();
        assert!(!again.seek(elsewhere).unwrap(), "{elsewhere:?}");
        let mut seen = Seen::default();
        read_on(&mut again, &mut seen);
        assert_eq!(seen.text(), "before\n");
    }
    assert!(
        driver
            .reader()
            .seek(Place {
                offset: 0,
                written: 0,
                ..place
            })
            .unwrap()
    );
}

#[test]
fn half_an_entry_costs_that_entry_alone() {
    let mut driver = Driver::begun();
    driver.line("before");
    let half = driver.entry(Source::Stdout, b"it died within this", false);
    let half = &half[..half.len() - 7];
    driver.write_bytes(half);
    driver.line("after");

    let seen = all_of(&driver);

    assert_eq!(seen.text(), "before\nafter\n");
    assert_eq!(seen.torn, half.len() as u64);
}

/// The half entry's length says that it is longer than all that follows.
#[test]
fn half_an_entry_does_not_hold_up_the_lines_behind_it() {
    let mut driver = Driver::begun();
    let half = driver.entry(Source::Stdout, &[b'x'; 16_000], false);
    driver.write_bytes(&half[..100]);
    let (mut log, mut seen) = (driver.reader(), Seen::default());
    read_on(&mut log, &mut seen);
    assert_eq!(log.rest().unwrap(), 100);
    assert_eq!(seen, Seen::default());

    driver.line("after");
    read_on(&mut log, &mut seen);

    assert_eq!((seen.text(), seen.torn), ("after\n", 100));
}

#[test]
fn an_entry_that_is_being_written_is_waited_for() {
    let mut driver = Driver::begun();
    driver.line("before");
    let entry = driver.entry(Source::Stdout, b"slowly", false);
    let (mut log, mut seen) = (driver.reader(), Seen::default());
    driver.write_bytes(&entry[..9]);
    for _ in 0..3 {
        read_on(&mut log, &mut seen);
    }
    driver.write_bytes(&entry[9..]);
    read_on(&mut log, &mut seen);

    assert_eq!((seen.text(), seen.torn), ("before\nslowly\n", 0));
}

#[test]
fn zeros_after_a_power_cut_are_passed_over() {
    let mut driver = Driver::begun();
    driver.line("before");
    driver.write_bytes(&vec![0; 700_000]);
    assert_eq!(all_of(&driver).text(), "before\n");
    driver.line("after");

    let seen = all_of(&driver);

    assert_eq!((seen.text(), seen.torn), ("before\nafter\n", 700_000));
}

#[test]
fn what_a_full_disk_has_cut_off_at_a_files_end_is_told() {
    let mut driver = Driver::begun();
    driver.line("before");
    let half = driver.entry(Source::Stdout, b"it was cut", false);
    driver.write_bytes(&half[..20]);
    driver.rotate();
    driver.line("after");

    let seen = all_of(&driver);

    assert_eq!((seen.text(), seen.torn), ("before\nafter\n", 20));
}

#[test]
fn a_file_that_was_cut_short_goes_on_at_its_beginning() {
    let mut driver = Driver::begun();
    let (mut log, mut seen) = (driver.reader(), Seen::default());
    driver.line("before it was cut");
    read_on(&mut log, &mut seen);

    OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(driver.path(0))
        .unwrap();
    driver.line("after");
    read_on(&mut log, &mut seen);

    assert_eq!((seen.text(), seen.cuts), ("before it was cut\nafter\n", 1));
}

/// As `logrotate` does with `create`: the engine goes on writing to the file that was moved away, until it is restarted.
#[test]
fn a_file_that_was_exchanged_is_read_on_until_the_engine_writes_to_the_new_one() {
    let mut driver = Driver::begun();
    driver.line("before");
    let (mut log, mut seen) = (driver.reader(), Seen::default());
    read_on(&mut log, &mut seen);
    let moved = driver.folder().join("container.log-2026");
    fs::rename(driver.path(0), &moved).unwrap();
    fs::write(driver.path(0), "").unwrap();
    let on = driver.entry(Source::Stdout, b"on", false);
    let mut old = OpenOptions::new().append(true).open(&moved).unwrap();

    read_on(&mut log, &mut seen);
    old.write_all(&on).unwrap();
    read_on(&mut log, &mut seen);
    driver.line("after");
    read_on(&mut log, &mut seen);

    assert_eq!(seen.text(), "before\non\nafter\n");
}

#[test]
fn entries_of_one_source_and_millisecond_share_a_frame() {
    let mut driver = Driver::begun();
    driver.time = 1_700_000_000_000_000_000;
    for line in ["one", "two", "three", "four"] {
        driver.line(line);
    }
    let error = driver.entry(Source::Stderr, b"five", true);
    driver.write_bytes(&error);

    let Step::Frames(frames) = driver.reader().next().unwrap() else {
        panic!("there are some");
    };

    let seen: Vec<_> = frames.iter().map(|frame| &frame.bytes[..]).collect();
    assert_eq!(seen, [&b"one\ntwo\nthree\n"[..], b"four\n", b"five"]);
    let first = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    assert_eq!(frames[0].time, Some(first));
    assert_eq!(frames[1].time, Some(first + Duration::from_millis(1)));
}

#[test]
fn what_is_given_back_is_read_again() {
    let mut driver = Driver::begun();
    driver.line("first");
    let mut log = driver.reader();
    log.next().unwrap();
    let place = log.place();
    driver.rotate();
    driver.line("second");
    let step = log.next().unwrap();

    log.unread();

    assert_ne!(log.place(), place, "it is in the next file");
    assert_eq!(log.next().unwrap(), step);
}

#[tokio::test]
async fn what_was_written_meanwhile_is_not_waited_for() {
    let mut driver = Driver::begun();
    driver.line("before");
    let mut log = driver.reader();
    read_on(&mut log, &mut Seen::default());

    let waiting = log.changed();
    driver.line("after");
    waiting.await;
    log.changed().await;
}

/// What an engine, and others, do to a container's files.
#[derive(Debug, Clone)]
enum Deed {
    Write(bool, Vec<u8>, bool),
    Rotate,
    /// Half an entry is written, as far as there; the engine dies of it.
    Tear(Vec<u8>, prop::sample::Index),
    Zeros(u16),
    Read,
    /// Another reader goes on at the place of this one.
    Reopen,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let bytes = || {
        prop_oneof![
            8 => prop::collection::vec(any::<u8>(), 0..200),
            1 => (16_000_usize..16_384).prop_map(|size| vec![b'x'; size]),
        ]
    };
    let deed = prop_oneof![
        12 => (any::<bool>(), bytes(), any::<bool>()).prop_map(|(err, line, part)| Deed::Write(err, line, part)),
        2 => Just(Deed::Rotate),
        1 => (bytes(), any::<prop::sample::Index>()).prop_map(|(line, at)| Deed::Tear(line, at)),
        1 => (1_u16..5_000).prop_map(Deed::Zeros),
        4 => Just(Deed::Read),
        2 => Just(Deed::Reopen),
    ];
    prop::collection::vec(deed, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever happens to the files, a reader that keeps up sees what was written, in order and once, and nothing else.
    #[test]
    fn what_is_read_is_what_was_written(deeds in deeds()) {
        let mut driver = Driver::begun();
        let (mut log, mut seen, mut written) = (driver.reader(), Seen::default(), Seen::default());
        for deed in deeds {
            match deed {
                Deed::Write(is_err, line, partial) => {
                    let source = if is_err { Source::Stderr } else { Source::Stdout };
                    let entry = driver.entry(source, &line, partial);
                    driver.write_bytes(&entry);
                    let its = if is_err { &mut written.stderr } else { &mut written.stdout };
                    its.extend_from_slice(&line);
                    its.extend((!partial).then_some(b'\n'));
                }
                Deed::Rotate => {
                    // A full file is renamed when the next entry is written.
                    if driver.path(0).exists() {
                        driver.rotate();
                        driver.line("rotated");
                        written.stdout.extend_from_slice(b"rotated\n");
                        read_on(&mut log, &mut seen);
                    }
                }
                Deed::Tear(line, at) => {
                    let entry = driver.entry(Source::Stdout, &line, false);
                    driver.write_bytes(&entry[..at.index(entry.len())]);
                    read_on(&mut log, &mut seen);
                }
                Deed::Zeros(count) => driver.write_bytes(&vec![0; count.into()]),
                Deed::Read => read_on(&mut log, &mut seen),
                Deed::Reopen => {
                    if let Some(place) = log.place() {
                        log = driver.reader();
                        prop_assert!(log.seek(place).unwrap());
                    }
                }
            }
        }
        driver.line("the last");
        written.stdout.extend_from_slice(b"the last\n");
        read_on(&mut log, &mut seen);
        driver.line("really");
        written.stdout.extend_from_slice(b"really\n");
        read_on(&mut log, &mut seen);
        prop_assert_eq!(seen.stdout, written.stdout);
        prop_assert_eq!(seen.stderr, written.stderr);
    }
}
