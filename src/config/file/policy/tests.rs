//! The policy as people write it, rightly and wrongly, and as the program writes it.

use std::{path::Path, time::Duration};

use proptest::{prelude::*, sample::select};

use super::{
    super::{
        super::{Config, policy::written, surroundings::Surroundings, written::commented},
        ConfigFile,
    },
    *,
};
use crate::config::RunArgs;

fn file(text: &str) -> ConfigFile {
    ConfigFile::of_text(Path::new("/c.toml"), text)
}

#[track_caller]
fn sound(text: &str) -> Policy {
    let file = file(text);
    assert_eq!(file.faults(), []);
    file.policy().cloned().expect("it has one")
}

/// The sample's section `[policy]`, put in force.
fn sample() -> String {
    let sample = commented();
    let (_, ours) = sample.split_once("\n[policy]\n").unwrap();
    let (ours, _) = ours.split_once("#[task_defaults]").unwrap();
    let lines = ours.lines().filter_map(|line| line.strip_prefix('#'));
    let lines = lines.filter(|line| !line.starts_with(' '));
    std::iter::once("[policy]")
        .chain(lines)
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn the_sample_shows_every_key_with_its_default_and_is_sound() {
    let sample = sample();
    for key in KEYS {
        assert!(sample.contains(&format!("\n{key} = ")), "{key}");
    }

    let said = sound(&sample);

    assert_eq!(
        said,
        Policy {
            networks: Some(vec!["none".into(), "bridge".into()]),
            ..Policy::default()
        }
    );
    assert_eq!(sound("[policy]\n"), Policy::default());
}

/// Lines below `[policy]`, and the fault that is told of them, with its line.
const FAULTS: &[(&str, &str)] = &[
    (
        "network = []",
        "2: unknown key `network` in [policy]: did you mean `networks`?",
    ),
    (
        "qqq = 1",
        "2: unknown key `qqq` in [policy]: there are environment, networks",
    ),
    (
        "environment = 1",
        "2: environment is true or false, not an integer",
    ),
    ("networks = \"none\"", "2: networks is a list, not a string"),
    (
        "networks = [\"a b\"]",
        "networks 'a b' is no network's name",
    ),
    ("networks = [\"container:a\"]", "which no task may ask for"),
    (
        "allowed_roots = [\"data\"]",
        "allowed_roots 'data' is no whole path",
    ),
    ("allowed_roots = [\"/a/../b\"]", "is no whole path"),
    ("allowed_roots = [\"/\"]", "holds the engine's socket"),
    ("allowed_roots = [\"/run\"]", "holds the engine's socket"),
    ("allowed_roots = [\"/proc/1\"]", "would show /proc to tasks"),
    ("allowed_roots = [\"/dev\"]", "would show /dev to tasks"),
    (
        "named_volumes = [1]",
        "named_volumes is a text in quotes, not an integer",
    ),
    ("named_volumes = [\"\"]", "named_volumes '' fits no name"),
    (
        "ports = [8080]",
        "ports is a text in quotes, not an integer",
    ),
    ("ports = [\"9-8\"]", "ports '9-8' are no ports"),
    ("users = true", "users is a text in quotes, not a boolean"),
    (
        "users = \"root\"",
        "users 'root' is none of 'image', 'unprivileged' and 'any'",
    ),
    (
        "capabilities = [\"A B\"]",
        "capabilities 'A B' is no capability",
    ),
    ("capabilities = [\"all\"]", "name each"),
    (
        "ulimits = [\"nofile=1\"]",
        "ulimits 'nofile=1' is no limit's name",
    ),
    (
        "max_timeout = 5",
        "max_timeout is a text in quotes, not an integer",
    ),
    ("max_timeout = \"2y\"", "max_timeout '2y' is out of range"),
    (
        "max_stop_grace = \"2h\"",
        "max_stop_grace '2h' is out of range",
    ),
    ("max_shm = \"1\"", "max_shm '1' is out of range"),
];

#[test]
fn each_fault_is_told_with_its_line_and_what_to_write() {
    for (line, told) in FAULTS {
        let file = file(&format!("[policy]\n{line}\n"));
        let faults: Vec<_> = file.faults().iter().map(|fault| &fault.sentence).collect();
        let [fault] = &faults[..] else {
            panic!("{line}: {faults:?}");
        };
        assert!(fault.starts_with("/c.toml:2: "), "{fault}");
        assert!(fault.contains(told), "{line}: {fault}");
    }
    for (text, told) in [
        ("policy = 1\n", "1: `policy` is a section"),
        ("[polcy]\n", "did you mean [policy]?"),
    ] {
        let file = file(text);
        let first = &file.faults()[0].sentence;
        assert!(first.contains(told), "{first}");
    }
}

#[test]
fn all_faults_are_told_at_once() {
    let all: String = FAULTS
        .iter()
        .filter(|(line, _)| line.starts_with("max_"))
        .map(|(line, _)| line.replace("max_timeout = 5", "users = 1") + "\n")
        .collect();

    assert_eq!(file(&format!("[policy]\n{all}")).faults().len(), 4);
}

fn config(text: &str, flags: &[&str]) -> Config {
    use clap::Parser as _;
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: RunArgs,
    }
    let line = Line::parse_from(std::iter::once(&"w").chain(flags));
    let surroundings = Surroundings {
        home: Some("/home/u".into()),
        ..Surroundings::default()
    };
    let mut config = Config::try_from((line.args, surroundings)).unwrap();
    file(text).say_of_tasks(&mut config);
    config
}

#[test]
fn what_is_the_workers_own_is_shown_to_no_task() {
    let token = "[task_defaults]\nenvironment = { T = { file = \"/secret/t\" } }\n";
    let flags = [
        "--state-dir=/state",
        "--engine=unix:///e/sock",
        "--token-file=/k/token",
        "--token-in-clear",
    ];

    let own = config(token, &flags).tasks.policy.own;

    for place in ["/state", "/e/sock", "/k/token", "/secret/t", "/c.toml"] {
        assert!(own.iter().any(|own| own == place), "{place}: {own:?}");
    }
}

#[test]
fn the_network_that_tasks_get_may_be_asked_for_where_nothing_else_is_said() {
    let networks = |text, flags: &[&str]| config(text, flags).tasks.policy.networks;
    let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());

    assert_eq!(networks("", &[]), words(&["none", "bridge"]));
    assert_eq!(networks("", &["--network=jobs"]), words(&["none", "jobs"]));
    let said = "[policy]\nnetworks = [\"host\"]\n";
    assert_eq!(networks(said, &["--network=jobs"]), words(&["host"]));
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let texts = |text: &'static str| prop::collection::vec(text, 0..3);
    let port = (any::<u16>(), any::<u16>());
    let port = port.prop_map(|(one, other)| {
        PortRange::read(&format!("{}-{}", one.min(other), one.max(other))).unwrap()
    });
    let lists = (
        texts("[a-z]{1,8}"),
        texts("/data/[a-z]{1,8}"),
        texts("[a-z*?\"\\\\-]{1,8}"),
        prop::collection::vec(port, 0..3),
        texts("[a-z]{1,8}"),
        texts("[A-Z_]{1,8}").prop_filter("a name", |names| {
            names
                .iter()
                .all(|name| name != "ALL" && !name.starts_with("CAP_"))
        }),
    );
    let amounts = (
        (1_u64..100_000).prop_map(Duration::from_secs),
        (0_u64..3_600).prop_map(Duration::from_secs),
        (1_u64..1_024).prop_map(|mebibytes| mebibytes << 20),
    );
    let words = (any::<bool>(), select(Users::ALL.to_vec()));
    (lists, amounts, words).prop_map(
        |((networks, roots, volumes, ports, ulimits, names), amounts, (environment, users))| {
            Policy {
                environment,
                networks: Some(networks),
                allowed_roots: roots,
                named_volumes: volumes.iter().map(|text| TextPattern::new(text)).collect(),
                ports,
                users,
                capabilities: names
                    .iter()
                    .map(|name| read_capability(name).unwrap())
                    .collect(),
                ulimits,
                max_timeout: amounts.0,
                max_stop_grace: amounts.1,
                max_shm: amounts.2,
                own: Vec::new(),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_written_of_a_policy_reads_back_equal(policy in any_policy()) {
        let read = file(&written(&policy));

        prop_assert_eq!(read.faults(), &[]);
        prop_assert_eq!(read.policy(), Some(&policy));
    }
}
