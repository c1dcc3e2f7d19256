//! Configuration files as people write them, rightly and wrongly, and as the program writes them.

use std::os::unix::fs::{PermissionsExt as _, chown};

use proptest::prelude::*;

use super::{
    super::{
        keys::Kind,
        settings::{Origin, Setting},
        written::commented,
    },
    *,
};

fn user() -> Surroundings {
    Surroundings {
        home: Some("/home/u".into()),
        ..Surroundings::default()
    }
}

fn file(text: &str) -> ConfigFile {
    ConfigFile::of_text(Path::new("/c.toml"), text)
}

/// The sentences of all mistakes in a file with this text.
fn told(text: &str) -> Vec<String> {
    let mistakes = file(text).mistakes(&user());
    assert!(mistakes.0.iter().all(|mistake| mistake.is_in_file));
    let sentences = mistakes.0.into_iter().map(|mistake| mistake.sentence);
    sentences.collect()
}

fn config(file: &ConfigFile) -> Config {
    let command = RunArgs::augment_args(Command::new("w"));
    file.judged(command, &user()).unwrap()
}

#[test]
fn a_file_sets_what_the_flags_would() {
    let set = file(
        "[cluster]\nid = \"w7\"\nport = 7001\n\n[tasks]\nmax_tasks = 1_000\nallow_image = [\"docker.io/*\", '*/b']\nrequire_digest = true\n\
         cap_add = []\n[state]\nretention = \"2h\"\n",
    );

    assert_eq!(set.faults(), []);
    let config = config(&set);
    assert_eq!(config.cluster.worker.as_str(), "w7");
    assert_eq!(config.cluster.listen.port, 7_001);
    assert_eq!(config.tasks.max_tasks, 1_000);
    assert_eq!(config.state.retention.as_secs(), 7_200);
    assert_ne!(config.tasks.images, super::super::ImageRules::default());
}

/// Texts of a file, and the faults that are told of them.
const FAULTS: &[(&str, &str)] = &[
    (
        "[tasks]\ntasl_pids = 1",
        "2: unknown key `tasl_pids` in [tasks]: did you mean `task_pids`?",
    ),
    (
        "[tasks]\nmax-tasks = 1",
        "2: unknown key `max-tasks` in [tasks]: did you mean `max_tasks`?",
    ),
    (
        "[state]\n\nmax_tasks = 1",
        "3: unknown key `max_tasks` in [state]: it stands in [tasks]",
    ),
    (
        "[state]\nmax_taks = 1",
        "did you mean `max_tasks` in [tasks]?",
    ),
    (
        "[state]\nzzzz = 1",
        "`worker-node config init` shows those that there are",
    ),
    (
        "[task]\nmax_tasks = 1",
        "1: unknown section [task]: did you mean [tasks]?",
    ),
    (
        "[x]",
        "there are [cluster], [closed_doors], [tasks], [state], [process]",
    ),
    (
        "max_tasks = 1",
        "1: the key `max_tasks` stands in no section: write it below [tasks]",
    ),
    (
        "max_task = 1",
        "did you mean `max_tasks`? Each stands in its section",
    ),
    ("zzzz = 1", "each key stands in its section"),
    (
        "tasks = 1",
        "1: `tasks` is a section; write [tasks] on a line of its own",
    ),
    ("[[tasks]]\nmax_tasks = 1", "`tasks` is a section"),
    (
        "[tasks]\nmax_tasks = \"1\"",
        "2: max_tasks is a whole number, not a string",
    ),
    (
        "[tasks]\nmax_tasks = 1.5",
        "2: max_tasks is a whole number, not a float",
    ),
    (
        "[process]\nsupervise = 1",
        "2: supervise is true or false, not an integer",
    ),
    (
        "[process]\nsupervise = \"yes\"",
        "2: supervise is true or false, not a string",
    ),
    (
        "[cluster]\nid = true",
        "2: id is a text in quotes, not a boolean",
    ),
    (
        "[tasks]\nallow_image = \"a\"",
        "2: allow_image is a list of texts, such as [\"a\", \"b\"], not a string",
    ),
    (
        "[tasks]\nallow_image = [1]",
        "2: allow_image is a list of texts",
    ),
    (
        "[tasks]\nmax_tasks = -1",
        "2: max_tasks '-1' is no number from 1 to 10000",
    ),
    (
        "[state]\nretention = 5",
        "2: retention '5' is no time; write a number with its unit",
    ),
    (
        "[state]\nretention = \"5s\"",
        "2: retention '5s' is out of range; give 1m to 365d",
    ),
    (
        "[tasks]\nulimit = [\n \"core=1\",\n \"core=2\"]",
        "2: ulimit 'core=2' is a second one for core",
    ),
    (
        "[closed_doors]\ntls_cert = \"/c\"",
        "2: tls_cert: --tls-cert is of no use without its key",
    ),
    (
        "[tasks]\nmax_tasks = 1\nmax_tasks = 2",
        "3: no TOML: duplicate key",
    ),
    ("[tasks]\nmax_tasks = ", "2: no TOML:"),
    ("[tasks\nmax_tasks = 1", "1: no TOML:"),
    ("[cluster]\nid = \"a\u{7}\"", "2: no TOML:"),
    ("[cluster]\nid = \"a\\nb\"", "2: id 'a\\nb'"),
    ("[tasks]\n\"\\u001b[31m\" = 1", "unknown key `\\u{1b}[31m`"),
];

#[test]
fn each_fault_is_told_with_its_line_and_what_to_write() {
    for (text, expected) in FAULTS {
        let told = told(text);

        assert!(!told.is_empty(), "{text}");
        assert!(told[0].starts_with("/c.toml:"), "{told:?}");
        assert!(told[0].contains(expected), "{text}: {told:?}");
        assert!(!told.concat().chars().any(char::is_control), "{told:?}");
    }
}

#[test]
fn all_faults_of_a_file_are_told_in_the_order_of_its_lines() {
    let told =
        told("[tasks]\nmax_tasks = true\nnope_ = 1\n[stat]\nx = 1\n[process]\non_stop = \"now\"\n");

    let lines: Vec<_> = told
        .iter()
        .map(|told| told.split(':').nth(1).unwrap())
        .collect();
    assert_eq!(lines, ["2", "3", "4", "7"], "{told:?}");
}

#[test]
fn what_has_no_bottom_ends() {
    let deep = format!("[tasks]\nallow_image = {}", "[".repeat(100_000));
    let long = format!("[tasks]\n{} = 1", "x".repeat(500_000));

    for text in [deep, long] {
        let told = told(&text);
        assert!(!told.is_empty());
        assert!(told.iter().all(|told| told.len() < 1_000), "{told:?}");
    }
}

#[test]
fn the_sample_sets_nothing_and_has_every_default() {
    let sample = commented();
    let set = file(&sample);
    assert_eq!((set.faults(), set.len()), (&[][..], 0));

    let without_default: Vec<_> = keys::all()
        .into_iter()
        .filter(|key| key.default.is_empty() && key.kind != Kind::List)
        .map(|key| format!("#{} =", key.name))
        .collect();
    let is_open = |line: &&str| !without_default.iter().any(|name| line.starts_with(name));
    let (of_flags, _) = sample.split_once("#[task_defaults]").unwrap();
    let lines = of_flags.lines().filter(is_open);
    let all: Vec<_> = lines
        .map(|line| match line.starts_with("# ") {
            true => line,
            false => line.trim_start_matches('#'),
        })
        .collect();
    let all = file(&all.join("\n"));

    assert_eq!(all.faults(), []);
    assert_eq!(all.len() + without_default.len(), keys::all().len());
    assert_eq!(config(&all), config(&file("")));
    assert!(sample.lines().all(|line| line.len() <= 130), "wide");
}

fn scratch(bytes: &[u8], mode: u32) -> tempfile::TempPath {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    file.into_temp_path()
}

#[track_caller]
fn unread(path: &Path, root: bool) -> String {
    let surroundings = Surroundings { root, ..user() };
    let mistakes = ConfigFile::read(path, &surroundings).unwrap_err();
    assert!(mistakes.are_of_configuration());
    assert_eq!(mistakes.0.len(), 1);
    mistakes.0[0].sentence.clone()
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();

    for (path, why) in [
        (folder.path().join("missing").as_path(), "No such file"),
        (folder.path(), "is no file"),
        (&pipe, "is no file"),
        (Path::new("/dev/zero"), "is no file"),
        (
            &scratch(b"[tasks]\n\xff", 0o600),
            "is no UTF-8 text (line 2)",
        ),
        (
            &scratch(&vec![b'\n'; 2 << 20], 0o600),
            "is larger than 1024 KiB",
        ),
    ] {
        let told = unread(path, false);
        assert!(told.contains(why), "{told}");
        assert!(told.starts_with("the configuration file /"), "{told}");
    }
}

#[test]
fn root_takes_no_file_that_others_may_write() {
    let open = scratch(b"", 0o664);
    let closed = scratch(b"", 0o644);
    let root = Surroundings {
        root: true,
        ..user()
    };

    if rustix::process::geteuid().is_root() {
        assert!(ConfigFile::read(&closed, &root).is_ok());
        assert!(unread(&open, true).contains("may be written by others (mode 0664)"));
        chown(&closed, Some(1), None).unwrap();
    }
    assert!(unread(&closed, true).contains("who would decide what root does; chown root it"));
    assert!(ConfigFile::read(&open, &user()).is_ok());
}

#[test]
fn a_machine_without_a_file_has_none_and_an_empty_name_is_no_file() {
    let surroundings = Surroundings {
        config_file: Some("/nowhere/config.toml".into()),
        ..user()
    };

    assert_eq!(
        ConfigFile::find(None, &surroundings),
        Ok(ConfigFile::default())
    );
    for given in ["", "~/c.toml"] {
        assert!(ConfigFile::find(Some(given.as_ref()), &surroundings).is_err());
    }
}

/// Random settings: any texts that keys of their kind can have.
fn settings() -> impl Strategy<Value = Settings> {
    let keys = keys::all();
    let texts: Vec<_> = keys
        .iter()
        .map(|key| match key.kind {
            Kind::Switch => any::<bool>().prop_map(|on| vec![on.to_string()]).boxed(),
            Kind::Number => (0..=i64::MAX)
                .prop_map(|number| vec![number.to_string()])
                .boxed(),
            Kind::Text => prop::collection::vec(any::<String>(), 0..=1).boxed(),
            Kind::List => prop::collection::vec(any::<String>(), 0..4).boxed(),
        })
        .collect();
    texts.prop_map(move |texts| Settings {
        file: None,
        all: keys
            .iter()
            .cloned()
            .zip(texts)
            .map(|(key, texts)| Setting {
                key,
                texts,
                origin: Origin::Flag,
            })
            .collect(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_written_reads_back_equal(settings in settings(), origins in any::<bool>()) {
        let read = file(&settings.written(origins));

        prop_assert_eq!(read.faults(), &[]);
        for setting in &settings.all {
            let value = read.values.iter().find(|value| value.key == setting.key);
            let is_set = setting.key.kind == Kind::List || !setting.texts.is_empty();
            prop_assert_eq!(value.map(|value| &value.texts), is_set.then_some(&setting.texts));
        }
    }

    #[test]
    fn no_text_makes_the_reader_fall(text in "(\\[[a-z_]{0,7}\\]|[a-z_]{1,9} ?= ?|[\"'\\[\\]{}#,.\n0-9]|true|\\PC){0,60}") {
        for told in told(&text) {
            prop_assert!(told.starts_with("/c.toml:"), "{}", told);
        }
    }
}
