//! Output folders as hostile as they can be made, with a canary beside them.

use std::{
    ffi::OsStr,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, symlink},
        net::UnixListener,
    },
};

use proptest::prelude::*;
use rustix::fs::{CWD, FileType, OFlags, mknodat, openat};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use super::*;

/// Lies outside every task's folder; nobody may ever read it through one.
const CANARY: &[u8] = b"the canary sings";

struct Place {
    outside: TempDir,
    store: OutputFolders,
    folder: PathBuf,
}

fn task() -> TaskId {
    TaskId::new("../../x").unwrap()
}

fn place() -> Place {
    place_with(Quotas::default())
}

fn place_with(quotas: Quotas) -> Place {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), CANARY).unwrap();
    let store = OutputFolders::open(&outside.path().join("outputs"), quotas).unwrap();
    let folder = store.prepare(&task()).unwrap();
    Place {
        outside,
        store,
        folder,
    }
}

impl Place {
    fn list(&self) -> Outputs {
        self.store.list(&task()).unwrap()
    }

    fn read(&self, file: &OutputFile) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.store.open(&task(), file)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn secret(&self) -> PathBuf {
        self.outside.path().join("secret")
    }

    fn tell(&self, path: &str, text: &str) {
        let path = self.folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// The canary is alive, and nothing else is beside the root.
    #[track_caller]
    fn assert_untouched(&self) {
        assert_eq!(fs::read(self.secret()).unwrap(), CANARY);
        assert_eq!(fs::read_dir(self.outside.path()).unwrap().count(), 2);
    }
}

fn paths(outputs: &Outputs) -> Vec<&str> {
    outputs
        .files
        .iter()
        .map(|file| file.path.as_str())
        .collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn anybody_may_write_to_a_folder_and_nobody_sees_whose_are_there() {
    let place = place();

    assert_eq!(mode(&place.folder), 0o1777);
    assert_eq!(mode(place.folder.parent().unwrap()), 0o700);
    assert_eq!(
        place.folder.parent().unwrap(),
        place.outside.path().join("outputs")
    );
    place.tell("kept", "x");
    assert_eq!(place.store.prepare(&task()).unwrap(), place.folder);
    assert_eq!(paths(&place.list()), ["kept"]);
}

#[test]
fn files_are_listed_by_path_with_their_sizes_and_read_back() {
    let place = place();
    for path in [
        "b",
        "a/z/deep.txt",
        "a/b",
        "new\nline",
        "a.txt",
        "..x",
        "back\\slash",
        " ",
    ] {
        place.tell(path, path);
    }
    fs::create_dir(place.folder.join("empty")).unwrap();

    let outputs = place.list();

    let expected = [
        " ",
        "..x",
        "a.txt",
        "a/b",
        "a/z/deep.txt",
        "b",
        "back\\slash",
        "new\nline",
    ];
    assert_eq!(paths(&outputs), expected);
    assert_eq!(outputs.skipped, <[String; 0]>::default());
    for file in &outputs.files {
        assert_eq!(file.size, file.path.len() as u64);
        assert_eq!(place.read(file).unwrap(), file.path.as_bytes());
    }
}

#[test]
fn a_folder_that_was_never_made_is_empty_and_can_be_removed() {
    let place = place();
    let other = TaskId::new("other").unwrap();

    assert_eq!(place.store.list(&other).unwrap(), Outputs::default());
    place.store.remove(&other).unwrap();
}

/// Puts one of everything that is no regular file into the folder; returns how many there are.
fn fill_with_traps(place: &Place) -> usize {
    let at = |name: &str| place.folder.join(name);
    symlink(place.secret(), at("link-absolute")).unwrap();
    symlink("../../secret", at("link-relative")).unwrap();
    symlink(place.outside.path(), at("link-folder")).unwrap();
    symlink("/proc/self/root/etc/passwd", at("link-magic")).unwrap();
    symlink("loop-b", at("loop-a")).unwrap();
    symlink("loop-a", at("loop-b")).unwrap();
    symlink(".", at("loop-self")).unwrap();
    mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let _bound = UnixListener::bind(at("socket")).unwrap();
    let mut traps = 9;
    // Only a privileged user can make a device; 1, 5 is the one that reads as zeros without end.
    let zeros = rustix::fs::makedev(1, 5);
    if mknodat(
        CWD,
        at("device"),
        FileType::CharacterDevice,
        Mode::RUSR,
        zeros,
    )
    .is_ok()
    {
        traps += 1;
    }
    traps
}

#[test]
fn a_folder_that_outlives_the_end_of_its_task_is_nobodys() {
    let place = place();
    let known = |unfinished: &[TaskId], finished: &[TaskId]| Known {
        unfinished: unfinished.iter().cloned().collect(),
        finished: finished.iter().cloned().collect(),
    };
    let nobodys = |known| place.store.strangers(&known).unwrap();

    assert_eq!(nobodys(known(&[task()], &[])), [""; 0]);
    let [name] = &nobodys(known(&[], &[task()]))[..] else {
        panic!("one folder");
    };
    place.store.remove_stranger(name).unwrap();
    assert!(!place.folder.exists());
}

#[test]
fn nothing_but_regular_files_is_taken_and_each_trap_is_told() {
    let place = place();
    let traps = fill_with_traps(&place);
    place.tell("sub/fine", "ok");
    symlink("../../../secret", place.folder.join("sub/link\n\x1b[2J")).unwrap();

    let outputs = place.list();

    assert_eq!(paths(&outputs), ["sub/fine"]);
    assert_eq!(outputs.skipped.len(), traps + 1, "{:?}", outputs.skipped);
    assert!(outputs.skipped.contains(&"\"fifo\" is a FIFO".to_owned()));
    let escaped = "\"sub/link\\n\\u{1b}[2J\" is a symbolic link".to_owned();
    assert!(outputs.skipped.contains(&escaped));
}

#[test]
fn what_takes_a_listed_files_place_is_never_read() {
    let place = place();
    for name in ["a", "b", "c", "d/secret", "e", "f"] {
        place.tell(name, "harmless");
    }
    let outputs = place.list();
    let at = |name: &str| place.folder.join(name);
    for name in ["a", "b", "c", "e", "f"] {
        fs::remove_file(at(name)).unwrap();
    }
    symlink(place.secret(), at("a")).unwrap();
    mknodat(CWD, at("b"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    fs::create_dir(at("c")).unwrap();
    fs::rename(at("d"), at("moved")).unwrap();
    symlink(place.outside.path(), at("d")).unwrap();
    let _bound = UnixListener::bind(at("e")).unwrap();

    for file in &outputs.files {
        assert!(place.read(file).is_err(), "{}", file.path);
    }
    assert_eq!(outputs.files.len(), 6);
}

#[test]
fn a_path_that_leads_out_is_refused_whoever_asks() {
    let place = place();
    place.tell("a", "x");
    let absolute = place.secret().into_os_string().into_encoded_bytes();
    for source in [
        &b"../../secret"[..],
        b"/etc/passwd",
        b"a/../../../secret",
        b"",
        b".",
        b"a/",
        &absolute,
    ] {
        let file = OutputFile {
            path: "a".into(),
            source: source.to_vec(),
            size: 1,
        };
        assert!(place.read(&file).is_err(), "{}", source.escape_ascii());
    }
}

#[test]
fn a_folder_that_became_a_link_is_neither_listed_nor_filled() {
    let place = place();
    fs::remove_dir(&place.folder).unwrap();
    symlink(place.outside.path(), &place.folder).unwrap();

    assert!(place.store.list(&task()).is_err());
    assert!(place.store.prepare(&task()).is_err());
    assert!(place.store.unpack(&task(), &mut &archive(&[])[..]).is_err());
    place.store.remove(&task()).unwrap();

    assert!(fs::symlink_metadata(&place.folder).is_err());
    place.assert_untouched();
}

#[test]
fn names_that_are_no_text_are_repaired_to_different_paths() {
    let place = place();
    let name = |bytes: &'static [u8]| place.folder.join(OsStr::from_bytes(bytes));
    let long: &'static [u8] = &[0xfe; 255];
    fs::create_dir(name(b"dir\xff")).unwrap();
    for bytes in [&b"a\xfe"[..], b"a\xff", b"dir\xff/x", long] {
        fs::write(name(bytes), bytes).unwrap();
    }
    // Somebody may even guess what a repaired name looks like.
    let guessed = names::repaired(b"a\xff");
    place.tell(&guessed, &guessed);

    let outputs = place.list();

    let mut distinct = paths(&outputs);
    assert!(
        distinct
            .iter()
            .all(|path| path.split('/').all(|name| name.len() <= 255))
    );
    distinct.dedup();
    assert_eq!(distinct.len(), 5, "{distinct:?}");
    for file in &outputs.files {
        assert_eq!(place.read(file).unwrap(), file.source);
    }
}

#[test]
fn over_the_quotas_the_first_files_are_taken_and_the_rest_is_told() {
    let place = place_with(Quotas {
        files: 5,
        bytes: 10,
        depth: 3,
        ..Quotas::default()
    });
    place.tell("1/2/3/too-deep", "x");
    place.tell("1/2/as-deep-as-may-be", "x");
    for (name, size) in [("a", 4), ("b", 100), ("c", 5), ("d", 1), ("e", 1), ("f", 1)] {
        place.tell(name, &"x".repeat(size));
    }
    let sparse = File::create(place.folder.join("b")).unwrap();
    sparse.set_len(1 << 40).unwrap();

    let outputs = place.list();

    assert_eq!(paths(&outputs), ["1/2/as-deep-as-may-be", "a", "c"]);
    assert_eq!(
        outputs.skipped,
        [
            "\"1/2/3/\" lies too deep: 3 folders are gone into",
            "\"b\" has 1099511627776 bytes: all files may have 10 together (--output-bytes)",
            "\"d\" has 1 bytes: all files may have 10 together (--output-bytes)",
            "2 files over the limit of 5 (--output-files) were left out"
        ]
    );
}

#[test]
fn names_of_any_kind_take_no_more_than_their_limit_and_what_is_left_out_is_counted() {
    let controls: String = std::iter::repeat_n('\u{1}', 250).collect();
    for (name, bytes) in [("x".repeat(250), 250), (controls, 6 * 250)] {
        let place = place_with(Quotas {
            names: 10 * bytes,
            ..Quotas::default()
        });
        for n in 0..20 {
            place.tell(&format!("{}{n:02}", &name[2..]), "");
        }

        let outputs = place.list();

        assert!((9..=10).contains(&outputs.files.len()), "{outputs:?}");
        let left_out = 20 - outputs.files.len();
        let told = &outputs.skipped[0];
        assert!(
            told.starts_with(&format!("{left_out} files were left out")),
            "{told}"
        );
    }
}

#[test]
fn a_path_that_no_kernel_takes_is_left_out_and_told() {
    let place = place();
    // Step by step: the whole path is longer than the kernel takes in one call.
    let mut inner = OwnedFd::from(File::open(&place.folder).unwrap());
    for _ in 0..18 {
        let name = "f".repeat(250);
        rustix::fs::mkdirat(&inner, &name, Mode::RWXU).unwrap();
        inner = beneath::open_folder(&inner, name.as_bytes()).unwrap();
    }

    let outputs = place.list();

    assert_eq!(outputs.files, []);
    assert!(
        outputs.skipped[0].ends_with("has a path of more than 4096 bytes"),
        "{outputs:?}"
    );
}

#[test]
fn a_thousand_traps_are_told_in_few_sentences() {
    let place = place();
    for n in 0..1_000 {
        symlink("/", place.folder.join(format!("link-{n}"))).unwrap();
    }

    let skipped = place.list().skipped;

    assert_eq!(skipped.len(), 21);
    assert_eq!(skipped[20], "980 more were left out");
}

#[test]
fn a_tree_without_end_is_looked_at_for_a_while_only() {
    let place = place_with(Quotas {
        files: 2,
        ..Quotas::default()
    });
    for n in 0..300 {
        place.tell(&format!("{n}"), "x");
    }

    let outputs = place.list();

    assert_eq!(outputs.files.len(), 2);
    assert!(
        outputs
            .skipped
            .iter()
            .any(|said| said.ends_with("and what follows was not looked at"))
    );
    assert!(
        outputs
            .skipped
            .contains(&"198 files over the limit of 2 (--output-files) were left out".to_owned())
    );
}

/// Makes folders in folders, deeper than any path can name.
fn dig(folder: &Path, depth: usize) {
    let mut parent: OwnedFd = File::open(folder).unwrap().into();
    for _ in 0..depth {
        mkdirat(&parent, "deep", Mode::RWXU).unwrap();
        parent = openat(&parent, "deep", OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let flags = OFlags::CREATE | OFlags::WRONLY;
    openat(&parent, "at-the-bottom", flags, Mode::RUSR).unwrap();
}

#[test]
fn a_tree_of_any_depth_is_listed_without_its_depths_and_removed_with_them() {
    let place = place();
    dig(&place.folder, 3_000);

    let outputs = place.list();
    place.store.remove(&task()).unwrap();

    assert_eq!(paths(&outputs), <[&str; 0]>::default());
    assert_eq!(outputs.skipped.len(), 1);
    assert!(!place.folder.exists());
    place.assert_untouched();
}

#[test]
fn removing_takes_everything_and_follows_nothing() {
    let place = place();
    fill_with_traps(&place);
    place.tell("a/b/c", "x");
    place.tell(".removed-1", "a name that the removal would use");
    place.tell("x/.removed-2/y", "another");
    symlink(place.outside.path(), place.folder.join("a/link")).unwrap();
    fs::hard_link(place.secret(), place.folder.join("a/hard")).unwrap();
    for n in 0..3_000 {
        place.tell(&format!("many/{n}"), "");
    }
    for closed in ["a/b", "a", "many"] {
        fs::set_permissions(place.folder.join(closed), Permissions::from_mode(0o000)).unwrap();
    }

    place.store.remove(&task()).unwrap();
    place.store.remove(&task()).unwrap();

    assert!(!place.folder.exists());
    place.assert_untouched();
    assert_eq!(fs::metadata(place.secret()).unwrap().nlink(), 1);
}

/// An archive as the engine sends it, and as it never would.
fn archive(entries: &[(EntryType, &[u8], &[u8])]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    for (kind, path, content) in entries {
        let mut header = Header::new_gnu();
        // Not `set_path`, which takes no bad ones.
        header.as_mut_bytes()[..path.len()].copy_from_slice(path);
        let mut content = *content;
        header.set_entry_type(*kind);
        header.set_mode(0o777);
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            let target = if content.is_empty() {
                b"../../secret"
            } else {
                content
            };
            header
                .set_link_name(std::str::from_utf8(target).unwrap())
                .unwrap();
            content = b"";
        }
        header.set_size(content.len() as u64);
        header.set_cksum();
        archive.append(&header, content).unwrap();
    }
    archive.into_inner().unwrap()
}

#[test]
fn an_archive_is_unpacked_without_its_first_folder_and_its_traps() {
    let place = place();
    let (file, folder) = (EntryType::Regular, EntryType::Directory);
    let stream = archive(&[
        (folder, b"output/", b""),
        (file, b"output/a", b"one"),
        (folder, b"output/sub/", b""),
        (EntryType::Symlink, b"output/sub/link", b""),
        (EntryType::Link, b"output/hard", b""),
        (EntryType::Fifo, b"output/fifo", b""),
        (EntryType::Block, b"output/device", b""),
        (file, b"output/sub/no\xfftext", b"two"),
        (file, b"output/new/b", b"three"),
        (file, b"output/../../../escaped", b"bad"),
        (file, b"../escaped", b"bad"),
        (file, b"/etc/escaped", b"kept inside"),
        (file, b"alone", b"bad"),
    ]);

    let skipped = place.store.unpack(&task(), &mut &stream[..]).unwrap();
    let outputs = place.list();

    assert_eq!(paths(&outputs)[..3], ["a", "escaped", "etc/escaped"]);
    assert_eq!(outputs.files.len(), 5, "{:?}", paths(&outputs));
    assert_eq!(skipped.len(), 5, "{skipped:?}");
    assert!(skipped.contains(&"\"sub/link\" is a symbolic link".to_owned()));
    assert!(skipped.contains(&"\"../../../escaped\" has no clean path".to_owned()));
    assert_eq!(place.read(&outputs.files[0]).unwrap(), b"one");
    place.assert_untouched();
    let again = place.store.unpack(&task(), &mut &stream[..]).unwrap();
    assert_eq!(again, skipped);
    assert_eq!(place.list(), outputs);
}

#[test]
fn hard_links_survive_the_archive_and_lead_nowhere_else() {
    let place = place();
    symlink(place.secret(), place.folder.join("trap")).unwrap();
    let (file, link) = (EntryType::Regular, EntryType::Link);
    let stream = archive(&[
        (file, b"output/d/best.bin", b"weights"),
        (link, b"output/latest.bin", b"output/d/best.bin"),
        (link, b"output/e/model-9.bin", b"output/latest.bin"),
        (link, b"output/out", b"output/../../secret"),
        (link, b"output/through", b"output/trap"),
        (link, b"output/folder", b"output/d"),
        (link, b"output/late", b"output/later"),
    ]);

    let skipped = place.store.unpack(&task(), &mut &stream[..]).unwrap();
    let outputs = place.list();

    assert_eq!(
        paths(&outputs),
        ["d/best.bin", "e/model-9.bin", "latest.bin"]
    );
    for file in &outputs.files {
        assert_eq!(place.read(file).unwrap(), b"weights");
    }
    assert_eq!(skipped.len(), 4, "{skipped:?}");
    place.assert_untouched();
    let again = place.store.unpack(&task(), &mut &stream[..]).unwrap();
    assert_eq!(again, skipped);
    assert_eq!(place.list(), outputs);
}

#[test]
fn an_archive_cannot_write_through_what_lies_in_the_folder() {
    for name in ["a", "d"] {
        let place = place();
        symlink(place.secret(), place.folder.join("a")).unwrap();
        symlink(place.outside.path(), place.folder.join("d")).unwrap();
        let path = if name == "a" {
            "output/a"
        } else {
            "output/d/secret"
        };
        let stream = archive(&[(EntryType::Regular, path.as_bytes(), b"overwritten")]);

        assert!(place.store.unpack(&task(), &mut &stream[..]).is_err());

        place.assert_untouched();
    }
}

#[test]
fn an_archive_that_breaks_off_is_an_error() {
    let place = place();
    let content = vec![7; 100_000];
    let stream = archive(&[(EntryType::Regular, b"output/a", &content)]);

    let broken = place.store.unpack(&task(), &mut &stream[..50_000]);

    assert_eq!(broken.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn an_archive_is_kept_within_the_quotas_and_its_zeros_take_no_space() {
    let place = place_with(Quotas {
        files: 2,
        bytes: 3_000_000,
        depth: 3,
        ..Quotas::default()
    });
    let mut zeros = vec![0; 2_000_000];
    zeros[1_000_000] = 1;
    let stream = archive(&[
        (EntryType::Regular, b"output/sparse", &zeros),
        (EntryType::Regular, b"output/too-large", &zeros),
        (EntryType::Regular, b"output/1/2/3/too-deep", b"x"),
        (EntryType::Regular, b"output/fits", b"x"),
        (EntryType::Regular, b"output/too-many", b"x"),
    ]);

    let skipped = place.store.unpack(&task(), &mut &stream[..]).unwrap();
    let outputs = place.list();

    assert_eq!(skipped.len(), 3, "{skipped:?}");
    assert_eq!(paths(&outputs), ["fits", "sparse"]);
    assert_eq!(place.read(&outputs.files[1]).unwrap(), zeros);
    let on_disk = fs::metadata(place.folder.join("sparse")).unwrap().blocks() * 512;
    assert!(on_disk <= 128 * 1024, "{on_disk}");
}

/// Something to put at a place in the tree.
#[derive(Debug, Clone)]
enum Thing {
    File,
    Folder,
    LinkToSecret,
    LinkToOutside,
    LinkUp,
    HardLink,
    Fifo,
}

fn any_tree() -> impl Strategy<Value = Vec<(Vec<u8>, Thing)>> {
    let thing = prop_oneof![
        4 => Just(Thing::File),
        3 => Just(Thing::Folder),
        1 => Just(Thing::LinkToSecret),
        1 => Just(Thing::LinkToOutside),
        1 => Just(Thing::LinkUp),
        1 => Just(Thing::HardLink),
        1 => Just(Thing::Fifo),
    ];
    let name = prop_oneof![
        3 => "[a-c]{1,2}".prop_map(String::into_bytes),
        1 => prop::collection::vec((1..=255_u8).prop_filter("one name", |byte| !b"/.".contains(byte)), 1..4),
    ];
    let path = prop::collection::vec(name, 1..5).prop_map(|names| names.join(&b'/'));
    prop::collection::vec((path, thing), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_in_the_folder_the_canary_is_neither_read_nor_harmed(tree in any_tree()) {
        let place = place();
        let mut files = 0;
        for (path, thing) in tree {
            // A path through a link, or onto something: refused by the disk, and no matter.
            let at = place.folder.join(OsStr::from_bytes(&path));
            let parent_is_inside = at
                .parent()
                .and_then(|parent| parent.canonicalize().ok())
                .is_some_and(|parent| parent.is_dir() && parent.starts_with(&place.folder));
            if !parent_is_inside || fs::symlink_metadata(&at).is_ok() {
                continue;
            }
            let made = match thing {
                Thing::File => fs::write(&at, &path).map(|()| files += 1),
                Thing::Folder => fs::create_dir(&at),
                Thing::LinkToSecret => symlink(place.secret(), &at),
                Thing::LinkToOutside => symlink(place.outside.path(), &at),
                Thing::LinkUp => symlink("..", &at),
                Thing::HardLink => {
                    let own = place.folder.join("own");
                    fs::write(&own, b"own").and_then(|()| fs::hard_link(&own, &at)).map(|()| files += 1)
                }
                Thing::Fifo => mknodat(CWD, &at, FileType::Fifo, Mode::RUSR, 0).map_err(io::Error::from),
            };
            prop_assert!(made.is_ok(), "{:?}", made);
        }
        files += usize::from(place.folder.join("own").exists());

        let outputs = place.list();

        prop_assert_eq!(outputs.files.len(), files);
        for file in &outputs.files {
            let bytes = place.read(file).unwrap();
            prop_assert_eq!(bytes.len() as u64, file.size);
            prop_assert_ne!(bytes, CANARY);
            prop_assert!(names::split(file.path.as_bytes()).is_ok());
        }
        place.store.remove(&task()).unwrap();
        prop_assert!(!place.folder.exists());
        place.assert_untouched();
    }
}
