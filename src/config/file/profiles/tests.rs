//! Profiles as people write them, rightly and wrongly, and as the program writes them.

use std::path::Path;

use proptest::prelude::*;

use super::{
    super::{
        super::{profiles::written, surroundings::Surroundings, written::commented},
        ConfigFile,
    },
    *,
};
use crate::domain::{profile::Profiles, task_settings::Entrypoint};

fn file(text: &str) -> ConfigFile {
    ConfigFile::of_text(Path::new("/c.toml"), text)
}

#[track_caller]
fn sound(text: &str) -> Profiles {
    let file = file(text);
    assert_eq!(file.faults(), []);
    file.profiles().clone()
}

/// The part of the sample that is about the settings of tasks, put in force.
fn sample() -> String {
    let sample = commented();
    let (_, ours) = sample.split_once("#[task_defaults]").unwrap();
    let lines = format!("#[task_defaults]{ours}");
    let set = lines.lines().filter_map(|line| line.strip_prefix('#'));
    let set = set.filter(|line| !line.starts_with(' ') || line.starts_with("  "));
    set.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_sample_shows_every_setting_and_is_sound() {
    let profiles = sound(&sample());

    let training = &profiles.profiles[0];
    assert_eq!(training.name, "training");
    assert!(!training.matching.is_empty());
    let shown = super::super::super::profiles::told(&training.settings);
    for setting in SETTINGS {
        let known = shown.iter().any(|(key, _)| key.starts_with(setting));
        assert!(known, "{setting}");
    }
    let settings = &training.settings;
    assert_eq!(settings.timeout, Some(Duration::from_secs(7_200)));
    assert_eq!(settings.shm_size, Some(1 << 30));
    assert_eq!(settings.volumes.as_ref().unwrap().len(), 3);
    let token = Variable::File("/etc/worker-node/token".into());
    assert_eq!(settings.environment["TOKEN"], token);
}

#[test]
fn every_example_of_the_readme_is_sound() {
    let readme = include_str!("../../../../README.md");
    let parts = readme.split("```toml\n").skip(1);
    let examples: Vec<_> = parts.filter_map(|part| part.split("```").next()).collect();

    let sound = examples.iter().map(|example| {
        let surroundings = Surroundings {
            home: Some("/home/u".into()),
            ..Surroundings::default()
        };
        assert_eq!(file(example).mistakes(&surroundings).0, [], "{example}");
        file(example).profiles().profiles.len()
    });

    assert!(sound.sum::<usize>() > 0, "none has a profile");
}

/// Lines below `[[profile]]`, and the fault that is told of them, with its line.
const FAULTS: &[(&str, &str)] = &[
    (
        "enviroment = {}",
        "4: unknown key `enviroment` in profile p: did you mean `environment`?",
    ),
    (
        "qqq = 1",
        "4: unknown key `qqq` in profile p: there are environment, volumes",
    ),
    (
        "environment = { \"A B\" = \"\" }",
        "4: profile p: environment A B: is no variable's name",
    ),
    (
        "environment = { A = 1 }",
        "4: profile p: environment A: is a text or { file",
    ),
    (
        "environment = { A = { file = \"token\" } }",
        "environment A: 'token' is no whole path",
    ),
    (
        "environment = { TINI_KILL_PROCESS_GROUP = \"0\" }",
        "the worker's own",
    ),
    (
        "network = \"a b\"",
        "4: profile p: network 'a b' is no network's name",
    ),
    (
        "ports = [\"80\"]",
        "ports '80' is no port; write MACHINE:TASK",
    ),
    ("workdir = \"work\"", "workdir 'work' is no whole path"),
    ("user = \"a b\"", "user 'a b' is no user"),
    ("hostname = \"-a\"", "hostname '-a' is no host's name"),
    (
        "extra_hosts = [\"a\"]",
        "extra_hosts 'a' is no host with its address",
    ),
    ("timeout = 5", "timeout is a text in quotes, not an integer"),
    ("timeout = \"5\"", "timeout '5' is no time"),
    (
        "timeout = \"0s\"",
        "timeout '0s' is out of range; give 1s to 365d",
    ),
    (
        "stop_signal = \"SIGFOO\"",
        "stop_signal 'SIGFOO' is no signal",
    ),
    (
        "shm_size = \"1\"",
        "shm_size '1' is out of range; give 1MiB",
    ),
    ("ulimits = [\"nofile\"]", "ulimits 'nofile' is no limit"),
    (
        "ulimits = [\"core=1\", \"core=2\"]",
        "ulimits has two for core",
    ),
    (
        "read_only_root = 1",
        "read_only_root is true or false, not an integer",
    ),
    ("cap_add = [\"A B\"]", "cap_add 'A B' is no capability"),
    (
        "cap_add = [\"CHOWN\"]\ncap_drop = [\"cap_chown\"]",
        "5: profile p: CHOWN is in cap_add and in cap_drop",
    ),
    (
        "entrypoint = \"keeps\"",
        "'keeps' is neither 'replace' nor 'keep'",
    ),
    ("volumes = {}", "volumes is a list, not a table"),
    ("volumes = [\"a:b\"]", "volumes is a list of tables"),
    ("volumes = [{ volume = \"a\" }]", "volumes needs a target"),
    (
        "volumes = [{ target = \"/a\" }]",
        "volumes needs one of volume, bind and tmpfs",
    ),
    (
        "volumes = [{ volume = \"a\", bind = \"/a\", target = \"/a\" }]",
        "volumes needs one of",
    ),
    (
        "volumes = [{ bnid = \"/a\", target = \"/a\" }]",
        "volumes knows no `bnid`, did you mean `bind`?",
    ),
    (
        "volumes = [{ volume = \"a\", target = \"/a\" }, { volume = \"b\", target = \"/a\" }]",
        "volumes has two at /a",
    ),
    (
        "volumes = [{ tmpfs = \"1MiB\", target = \"/a\", read_only = true }]",
        "for ever empty",
    ),
    (
        "volumes = [{ volume = \"a\", target = \"a\" }]",
        "'a' is no whole path",
    ),
    (
        "volumes = [{ volume = \"a\", target = \"/b/../output\" }]",
        "is no whole path",
    ),
    (
        "volumes = [{ volume = \"a\", target = \"/output\" }]",
        "would hide /output",
    ),
    (
        "volumes = [{ volume = \"a\", target = \"/output/x\" }]",
        "would hide /output",
    ),
    (
        "volumes = [{ volume = \"a\", target = \"/\" }]",
        "would hide /output",
    ),
    (
        "volumes = [{ bind = \"/var/run/docker.sock\", target = \"/s\" }]",
        "holds the engine's socket",
    ),
    (
        "volumes = [{ bind = \"/run\", target = \"/s\" }]",
        "holds the engine's socket",
    ),
    (
        "volumes = [{ bind = \"/\", target = \"/s\" }]",
        "holds the engine's socket",
    ),
    ("match = \"x\"", "no TOML: duplicate key"),
];

#[test]
fn each_fault_is_told_with_its_line_its_profile_and_what_to_write() {
    for (setting, told) in FAULTS {
        let text = format!("[[profile]]\nname = \"p\"\nmatch = {{ user = \"u\" }}\n{setting}\n");
        let file = file(&text);
        let faults: Vec<_> = file.faults().iter().map(|fault| &fault.sentence).collect();
        let [fault] = &faults[..] else {
            panic!("{setting}: {faults:?}");
        };
        assert!(fault.starts_with("/c.toml:"), "{fault}");
        assert!(fault.contains(told), "{setting}: {fault}");
    }
}

#[test]
fn a_profile_has_a_name_of_its_own_and_tasks_that_it_is_for() {
    let profile = |name: &str, matching: &str| format!("[[profile]]\n{name}\n{matching}\n");
    let fit = "match = { user = \"u\" }";
    for (text, told) in [
        (profile("", fit), "1: a profile has no name"),
        (profile("name = 1", fit), "1: a profile's name is a text"),
        (
            profile("name = \"a b\"", fit),
            "1: a profile's name 'a b' is no name",
        ),
        (
            profile("name = \"a\"", ""),
            "1: profile a: it has no `match`",
        ),
        (
            profile("name = \"a\"", "match = {}"),
            "1: profile a: it has no `match`",
        ),
        (
            profile("name = \"a\"", "match = 1"),
            "3: profile a: match is a table",
        ),
        (
            profile("name = \"a\"", "match = { usr = \"u\" }"),
            "3: unknown key `usr` in match of profile a: did you mean `user`?",
        ),
        (
            profile("name = \"a\"", "match = { image = \"busybox\" }"),
            "3: profile a: match: image 'busybox' the engine knows busybox as",
        ),
        (
            profile("name = \"a\"", fit) + &profile("name = \"a\"", fit),
            "4: profile a: another one has this name",
        ),
        ("[profile]\nname = \"a\"\n".into(), "1: write [[profile]]"),
        (
            "[[profiles]]\nname = \"a\"\n".into(),
            "did you mean [[profile]]?",
        ),
        (
            "task_defaults = 1\n".into(),
            "1: `task_defaults` is a section",
        ),
        (
            "[task_default]\nuser = \"0\"\n".into(),
            "did you mean [task_defaults]?",
        ),
    ] {
        let mistakes = file(&text).mistakes(&Surroundings {
            home: Some("/home/u".into()),
            ..Surroundings::default()
        });
        let first = &mistakes.0.first().expect(&text).sentence;
        assert!(first.contains(told), "{text}: {first}");
    }
}

#[test]
fn nothing_is_without_bounds() {
    let many = |entry: &str, count: usize| entry.repeat(count);
    let one = "[[profile]]\nname = \"p\"\nmatch = { user = \"u\" }\n";
    let hosts = many("\"a:1.2.3.4\",", MOST_ENTRIES + 1);
    let long = "x".repeat(LONGEST_VALUE + 1);
    for (text, told) in [
        (many(one, MOST_PROFILES + 1), "65 profiles; give at most 64"),
        (
            format!("{one}extra_hosts = [{hosts}]"),
            "has 129 entries; give at most 128",
        ),
        (
            format!("{one}environment.A = \"{long}\""),
            "has 32769 bytes; give at most 32768",
        ),
        (format!("{one}workdir = \"/{long}\""), "give at most 4096"),
    ] {
        let file = file(&text);
        let first = &file.faults()[0].sentence;
        assert!(first.contains(told), "{first}");
    }
}

fn volumes() -> impl Strategy<Value = Vec<Volume>> {
    let source = prop_oneof![
        "[a-z][a-z0-9_.-]{0,8}".prop_map(Source::Named),
        "/data/[a-z]{1,8}".prop_map(Source::Bind),
        (1_u64..1 << 20).prop_map(|mebibytes| Source::Memory(mebibytes << 20)),
    ];
    let volumes = prop::collection::btree_map("/[a-c]{1,3}", (source, any::<bool>()), 0..4);
    volumes.prop_map(|rows| {
        let rows = rows.into_iter();
        let rows = rows.map(|(target, (source, read_only))| Volume {
            read_only: read_only && !matches!(source, Source::Memory(_)),
            source,
            target,
        });
        rows.collect::<Vec<_>>()
    })
}

fn settings() -> impl Strategy<Value = TaskSettings> {
    let variable = prop_oneof![
        any::<String>()
            .prop_filter("no NUL", |text| !text.contains('\0'))
            .prop_map(Variable::Text),
        "/[a-z]{1,8}".prop_map(|path| Variable::File(path.into())),
    ];
    let port = (any::<Option<std::net::IpAddr>>(), any::<u16>(), 1_u16..);
    let port = port.prop_map(|(address, machine, task)| Port {
        address,
        machine,
        task,
        protocol: "udp",
    });
    let limit = (0_i64..9, 9_i64..99).prop_map(|(soft, hard)| Ulimit {
        name: "nofile".into(),
        soft,
        hard,
    });
    let capability = Just(Capability::read("NET_RAW").unwrap());
    let entrypoint = prop_oneof![Just(Entrypoint::Keep), Just(Entrypoint::Replace)];
    let optional = (
        prop::option::of(volumes()),
        prop::option::of(prop::collection::vec(port, 0..3)),
        prop::option::of(prop::collection::vec(limit, 0..2)),
        prop::option::of(prop::collection::vec(capability, 0..2)),
        prop::option::of(entrypoint),
        prop::option::of((1_u64..100_000).prop_map(Duration::from_secs)),
        prop::option::of("[a-z]{1,8}"),
    );
    let environment = prop::collection::btree_map("[A-Z_][A-Z0-9_]{0,5}", variable, 0..4);
    (environment, optional, any::<Option<bool>>()).prop_map(
        |(environment, (volumes, ports, ulimits, cap_add, entrypoint, timeout, word), root)| {
            TaskSettings {
                environment,
                volumes,
                network: word.clone(),
                ports,
                workdir: word.as_ref().map(|word| format!("/{word}")),
                user: word.clone(),
                hostname: word.clone(),
                extra_hosts: word.as_ref().map(|word| vec![format!("{word}:::1")]),
                timeout,
                stop_signal: word.as_ref().map(|_| "SIGINT".into()),
                stop_grace: timeout.map(|time| time.min(*STOP_GRACE.end())),
                shm_size: timeout.map(|time| time.as_secs() << 20),
                ulimits,
                runtime: word,
                read_only_root: root,
                cap_add,
                cap_drop: None,
                entrypoint,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_written_of_tasks_reads_back_equal(
        defaults in settings(),
        own in prop::collection::vec(settings(), 0..3),
        user in "[a-z*?]{1,5}",
    ) {
        let own = own.into_iter().enumerate();
        let profiles = Profiles {
            defaults,
            profiles: own
                .map(|(at, settings)| Profile {
                    name: format!("p{at}"),
                    matching: Matching {
                        image: Some(Pattern::read("*/a").unwrap()),
                        user: Some(TextPattern::new(&user)),
                        ..Matching::default()
                    },
                    settings,
                })
                .collect(),
        };

        let read = file(&written(&profiles));

        prop_assert_eq!(read.faults(), &[]);
        prop_assert_eq!(read.profiles(), &profiles);
    }
}
