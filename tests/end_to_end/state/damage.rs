//! Damage of every kind: whatever lies in the place of the journal, a start opens it or sets it aside, soon, and the next start
//! finds it well. Seeded: a failure names its seed, and `WORKER_NODE_SEED` repeats that one.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use fastrand::Rng;
use tempfile::TempDir;
use worker_node::dev_master::DevMaster;
use worker_node::journal::SqliteJournal;
use worker_node::ports::clock::SystemClock;
use worker_node::ports::journal::{JournalError, JournalStore as _};

use super::samples::{self, accepted, ended, filled, set_version};
use crate::harness::times;
use crate::harness::{PATIENCE, WorkerSetup, master_options};

/// What is done to a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    BitsOfFile,
    BitsOfHeader,
    BitsOfLog,
    FileCut,
    LogCut,
    PageOfZeros,
    ZerosInLog,
    NoLog,
    LogOfAnother,
    NoFile,
    Garbage,
    Empty,
    FolderInPlace,
    PipeInPlace,
    FolderAsLog,
    NoRights,
    RightsForAll,
    Older,
    Newer,
    IndexGarbage,
}

pub(crate) const ALL: [Damage; 20] = [
    Damage::BitsOfFile,
    Damage::BitsOfHeader,
    Damage::BitsOfLog,
    Damage::FileCut,
    Damage::LogCut,
    Damage::PageOfZeros,
    Damage::ZerosInLog,
    Damage::NoLog,
    Damage::LogOfAnother,
    Damage::NoFile,
    Damage::Garbage,
    Damage::Empty,
    Damage::FolderInPlace,
    Damage::PipeInPlace,
    Damage::FolderAsLog,
    Damage::NoRights,
    Damage::RightsForAll,
    Damage::Older,
    Damage::Newer,
    Damage::IndexGarbage,
];

/// What a worker leaves that is killed: the file, and a write-ahead log with some of what was committed.
pub(crate) struct Image {
    folder: TempDir,
    /// Of a journal of the same kind with another history.
    other: TempDir,
}

impl Image {
    pub(crate) fn make() -> Self {
        let left = || {
            let lived = tempfile::tempdir().expect("a folder");
            let left = tempfile::tempdir().expect("a folder");
            let mut journal = filled(&lived.path().join("journal.db"));
            for n in 0..20 {
                let more = vec![accepted(&format!("more-{n}"))];
                journal.commit(&[more]).expect("room");
            }
            copy_all(lived.path(), left.path());
            left
        };
        Self {
            folder: left(),
            other: left(),
        }
    }

    /// A damaged copy of it in `folder`.
    pub(crate) fn damaged(&self, folder: &Path, damage: Damage, rng: &mut Rng) {
        copy_all(self.folder.path(), folder);
        let file = folder.join("journal.db");
        let [log, index] = ["-wal", "-shm"].map(|end| folder.join(format!("journal.db{end}")));
        match damage {
            Damage::BitsOfFile => flip(&file, rng, u64::MAX),
            Damage::BitsOfHeader => flip(&file, rng, 100),
            Damage::BitsOfLog => flip(&log, rng, u64::MAX),
            Damage::FileCut => cut(&file, rng),
            Damage::LogCut => cut(&log, rng),
            Damage::PageOfZeros => zeros(&file, rng),
            Damage::ZerosInLog => zeros(&log, rng),
            Damage::NoLog => gone(&log),
            Damage::LogOfAnother => {
                fs::copy(self.other.path().join("journal.db-wal"), &log).expect("copied");
            }
            Damage::NoFile => gone(&file),
            Damage::Garbage => garbage(&file, rng),
            Damage::Empty => fs::write(&file, "").expect("written"),
            Damage::FolderInPlace => {
                gone(&file);
                fs::create_dir(&file).expect("made");
                fs::write(file.join("something"), "in it").expect("written");
            }
            Damage::PipeInPlace => {
                gone(&file);
                let mode = rustix::fs::Mode::RWXU;
                let kind = rustix::fs::FileType::Fifo;
                rustix::fs::mknodat(rustix::fs::CWD, &file, kind, mode, 0).expect("made");
            }
            Damage::FolderAsLog => {
                gone(&log);
                fs::create_dir(&log).expect("made");
            }
            Damage::NoRights => rights(&file, 0o000),
            Damage::RightsForAll => rights(&file, 0o777),
            Damage::Older => set_version(&file, 1),
            Damage::Newer => set_version(&file, samples::FORMAT + i64::from(rng.u8(1..100))),
            Damage::IndexGarbage => garbage(&index, rng),
        }
    }
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name");
        // The reserve is space, and no state.
        if name != "journal.reserve" {
            fs::copy(&path, to.join(name)).expect("copied");
        }
    }
}

fn length(file: &Path) -> u64 {
    fs::metadata(file).expect("it is there").len()
}

fn flip(file: &Path, rng: &mut Rng, within: u64) {
    let opened = fs::File::options().read(true).write(true).open(file);
    let opened = opened.expect("it is there");
    for _ in 0..rng.usize(1..9) {
        let at = rng.u64(..length(file).min(within));
        let mut byte = [0];
        opened.read_exact_at(&mut byte, at).expect("within it");
        byte[0] ^= 1 << rng.u8(..8);
        opened.write_all_at(&byte, at).expect("written");
    }
}

fn cut(file: &Path, rng: &mut Rng) {
    let opened = fs::File::options().write(true).open(file);
    let length = rng.u64(..length(file));
    opened.expect("it is there").set_len(length).expect("cut");
}

fn zeros(file: &Path, rng: &mut Rng) {
    let opened = fs::File::options().write(true).open(file);
    let page = rng.u64(..length(file).div_ceil(4_096));
    let written = opened
        .expect("it is there")
        .write_all_at(&[0; 4_096], page * 4_096);
    written.expect("written");
}

fn garbage(file: &Path, rng: &mut Rng) {
    let bytes: Vec<u8> = (0..rng.usize(1..20_000)).map(|_| rng.u8(..)).collect();
    fs::write(file, bytes).expect("written");
}

fn gone(file: &Path) {
    fs::remove_file(file).expect("it was there");
}

fn rights(file: &Path, mode: u32) {
    fs::set_permissions(file, Permissions::from_mode(mode)).expect("it is ours");
}

/// One start: opened, read, written. Whether something was set aside.
fn start(path: &Path) -> Result<bool, JournalError> {
    let opened = SqliteJournal::open(path, Arc::new(SystemClock))?;
    let mut journal = opened.journal;
    let tasks = journal.reader()?.unfinished()?.tasks;
    let mut requests = vec![vec![accepted(&format!("new-{}", fastrand::u64(..)))]];
    let known = tasks.iter().map(|task| vec![ended(task.spec.id.as_str())]);
    requests.extend(known);
    journal.commit(&requests)?;
    Ok(opened.set_aside.is_some())
}

/// As a process with a supervisor goes about it: a store that is damaged after all is opened anew.
fn starts_and_works(path: &Path) -> Result<bool, JournalError> {
    match start(path) {
        Err(JournalError::Damaged(_)) => start(path),
        started => started,
    }
}

/// A pipe has none, and reading it would not end.
fn bytes_of(path: &Path) -> Option<Vec<u8>> {
    let is_file = fs::metadata(path).is_ok_and(|found| found.is_file());
    is_file.then(|| fs::read(path).expect("it can be read"))
}

/// The file itself says that a newer program wrote it.
fn says_newer(path: &Path) -> bool {
    let bytes = bytes_of(path).unwrap_or_default();
    let version = bytes.get(60..64).map_or(0, |version| {
        i32::from_be_bytes(version.try_into().expect("four bytes"))
    });
    (samples::FORMAT + 1..=1_000).contains(&i64::from(version))
}

fn one_damage(image: &Image, seed: u64) -> Result<(), String> {
    let mut rng = Rng::with_seed(seed);
    let damage = ALL[usize::try_from(seed).unwrap_or_default() % ALL.len()];
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    image.damaged(folder.path(), damage, &mut rng);
    let path = folder.path().join("journal.db");
    let before = bytes_of(&path);
    let failed = |what: &str, error: &JournalError| format!("{damage:?}: {what}: {error}");
    match starts_and_works(&path) {
        Err(JournalError::Newer { .. }) if says_newer(&path) => {
            let is_same = bytes_of(&path) == before;
            return is_same
                .then_some(())
                .ok_or_else(|| format!("{damage:?}: it was touched"));
        }
        Err(error) => return Err(failed("the first start", &error)),
        Ok(_) if damage == Damage::Newer => return Err("a newer one was taken".into()),
        Ok(_) => {}
    }
    match start(&path) {
        Ok(false) => Ok(()),
        Ok(true) => Err(format!("{damage:?}: the second start set it aside again")),
        Err(error) => Err(failed("the second start", &error)),
    }
}

/// The seeds of this run, or the one that is to be repeated.
fn seeds(count: usize) -> Vec<u64> {
    match std::env::var("WORKER_NODE_SEED") {
        Ok(seed) => vec![seed.parse().expect("WORKER_NODE_SEED is a number")],
        Err(_) => (0..count).map(|_| fastrand::u64(..u64::MAX / 2)).collect(),
    }
}

#[test]
fn whatever_lies_in_the_journals_place_is_opened_or_set_aside() {
    let image = Arc::new(Image::make());
    let mut failed = Vec::new();
    for seed in seeds(times(300, 2_000)) {
        let (done, ended) = mpsc::channel();
        let image = Arc::clone(&image);
        std::thread::spawn(move || done.send(one_damage(&image, seed)));
        match ended.recv_timeout(PATIENCE) {
            Ok(Ok(())) => {}
            Ok(Err(why)) => {
                eprintln!("seed {seed}: {why}");
                failed.push(format!("seed {seed}: {why}"));
            }
            Err(_) => failed.push(format!("seed {seed}: it hangs, or panicked")),
        }
    }
    assert!(
        failed.is_empty(),
        "{} failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

/// Once with each kind of damage, and once more on what that start left.
#[tokio::test]
async fn a_worker_starts_on_every_kind_of_damage_and_again() {
    let image = Image::make();
    let master = DevMaster::start(master_options()).await.expect("a port");
    for (number, damage) in ALL.into_iter().enumerate() {
        let folder = tempfile::tempdir().expect("a folder");
        let seed = seeds(1)[0];
        image.damaged(folder.path(), damage, &mut Rng::with_seed(seed));
        let says_newer = says_newer(&folder.path().join("journal.db"));
        eprintln!("{number}: {damage:?} with seed {seed}");
        let nowhere: PathBuf = folder.path().join("no-engine.sock");
        let setup = WorkerSetup::new(&master)
            .state_dir(folder.path())
            .arguments(["--engine", &format!("unix://{}", nowhere.display())]);
        master.admit(setup.id());
        let mut worker = setup.start();
        let id = worker.id().to_owned();
        let registered = tokio::time::timeout(PATIENCE, master.wait_registered(&id));
        tokio::select! {
            // Not where the newest state of that page is in the write-ahead log.
            status = worker.process().wait_exit(), if says_newer => {
                assert_eq!(status.code(), Some(78), "{damage:?} with seed {seed}");
                continue;
            }
            soon = registered => {
                assert!(matches!(soon, Ok(Ok(_))), "{damage:?} with seed {seed}");
            }
        }
        worker.kill().await;
        worker.restart().await;
        let again = master.wait_registrations(worker.id(), 2).await;
        again.unwrap_or_else(|_| panic!("{damage:?} with seed {seed}: the second start"));
    }
}

#[test]
fn of_damaged_journals_the_newest_few_are_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("journal.db");
    for n in 1..=7 {
        fs::write(&path, format!("garbage {n}")).expect("written");
        fs::write(folder.path().join("journal.db-wal"), "more").expect("written");
        assert_eq!(start(&path), Ok(true));
    }

    let mut kept: Vec<_> = fs::read_dir(folder.path())
        .expect("a folder")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .filter(|name| name.contains("damaged") && !name.ends_with("-wal"))
        .collect();
    kept.sort_unstable();
    let expected = [
        "journal.db.damaged-5",
        "journal.db.damaged-6",
        "journal.db.damaged-7",
    ];
    assert_eq!(kept, expected);
}
