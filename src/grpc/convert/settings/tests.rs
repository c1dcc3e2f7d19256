//! The limits of each field of settings, and that no setting is lost on the way in and out.

use proptest::prelude::*;

use super::*;
use crate::proto::{Mount, TaskSettings as Asked};

/// Settings with every field set.
pub(in crate::grpc::convert) fn asked() -> Asked {
    let mount = |source, target: &str, read_only| Mount {
        source: Some(source),
        target: target.into(),
        read_only,
    };
    Asked {
        environment: [("A".into(), "1".into()), ("TOKEN".into(), "x=y".into())].into(),
        mounts: vec![
            mount(mount::Source::Volume("cache".into()), "/cache", false),
            mount(mount::Source::Bind("/data/sets".into()), "/data", true),
            mount(mount::Source::Tmpfs(64 << 20), "/scratch", false),
        ],
        network: "none".into(),
        ports: vec!["127.0.0.1:8080:80/tcp".into(), "0:53/udp".into()],
        workdir: "/w".into(),
        user: "7:8".into(),
        hostname: "h".into(),
        extra_hosts: vec!["r:10.0.0.5".into()],
        timeout_seconds: 7_200,
        stop_signal: "SIGINT".into(),
        stop_grace_seconds: Some(0),
        shm_size_bytes: 1 << 30,
        ulimits: vec!["nofile=1:2".into()],
        read_only_root: Some(false),
        cap_add: vec!["SYS_PTRACE".into()],
        cap_drop: vec!["CHOWN".into()],
        entrypoint: proto::Entrypoint::Keep.into(),
    }
}

#[track_caller]
fn complaint(change: impl FnOnce(&mut Asked)) -> String {
    let mut asked = asked();
    change(&mut asked);
    read(asked).unwrap_err()
}

#[test]
fn all_that_is_asked_for_comes_in_and_goes_out_as_it_was() {
    let settings = read(asked()).unwrap().unwrap();

    assert_eq!(settings.timeout, Some(Duration::from_secs(7_200)));
    assert_eq!(settings.stop_grace, Some(Duration::ZERO));
    assert_eq!(settings.read_only_root, Some(false));
    assert_eq!(settings.environment.len(), 2);
    assert_eq!(written(&settings), asked());
}

#[test]
fn what_asks_for_nothing_is_nothing() {
    assert_eq!(read(Asked::default()), Ok(None));
}

type Change = fn(&mut Asked);

/// For every field a value that is not valid, and the error that says so.
const MISTAKES: &[(Change, &str)] = &[
    (
        |asked| drop(asked.environment.insert("A B".into(), String::new())),
        "environment A B: is no variable's name",
    ),
    (
        |asked| drop(asked.environment.insert(String::new(), String::new())),
        "is no variable's name",
    ),
    (
        |asked| drop(asked.environment.insert("A=B".into(), String::new())),
        "is no variable's name",
    ),
    (
        |asked| drop(asked.environment.insert("A".into(), "\0".into())),
        "environment A: holds a NUL",
    ),
    (
        |asked| {
            drop(
                asked
                    .environment
                    .insert("TINI_KILL_PROCESS_GROUP".into(), "0".into()),
            )
        },
        "the worker's own",
    ),
    (
        |asked| asked.mounts[0].source = None,
        "mounts has one without volume, bind and tmpfs",
    ),
    (
        |asked| asked.mounts[0].source = Some(mount::Source::Volume("../x".into())),
        "mounts.volume '../x' is no name",
    ),
    (
        |asked| asked.mounts[0].source = Some(mount::Source::Bind("data".into())),
        "mounts.bind 'data' is no whole path",
    ),
    (
        |asked| asked.mounts[0].source = Some(mount::Source::Bind("/a/../b".into())),
        "is no whole path",
    ),
    (
        |asked| asked.mounts[0].source = Some(mount::Source::Bind("/run".into())),
        "holds the engine's socket",
    ),
    (
        |asked| asked.mounts[0].source = Some(mount::Source::Tmpfs(1)),
        "mounts.tmpfs is 1, which is out of range",
    ),
    (
        |asked| asked.mounts[0].target = String::new(),
        "mounts.target '' is no whole path",
    ),
    (
        |asked| asked.mounts[0].target = "/output".into(),
        "would hide /output",
    ),
    (
        |asked| asked.mounts[0].target = "/data".into(),
        "mounts has two at /data",
    ),
    (
        |asked| asked.mounts[2].read_only = true,
        "mounts has a tmpfs that is read_only",
    ),
    (
        |asked| asked.network = "a\nb".into(),
        "network 'a\\nb' is no network's name",
    ),
    (
        |asked| asked.ports = vec!["80".into()],
        "ports '80' is no port",
    ),
    (
        |asked| asked.ports = vec![String::new()],
        "ports '' is no port",
    ),
    (
        |asked| asked.workdir = "w".into(),
        "workdir 'w' is no whole path",
    ),
    (|asked| asked.user = "a b".into(), "user 'a b' is no user"),
    (
        |asked| asked.hostname = "-a".into(),
        "hostname '-a' is no host's name",
    ),
    (
        |asked| asked.extra_hosts = vec!["a".into()],
        "extra_hosts 'a' is no host with its address",
    ),
    (
        |asked| asked.timeout_seconds = 31_536_001,
        "timeout_seconds is 31536001, which is out of range",
    ),
    (|asked| asked.timeout_seconds = u64::MAX, "timeout_seconds"),
    (
        |asked| asked.stop_signal = "9".into(),
        "stop_signal '9' is no signal",
    ),
    (
        |asked| asked.stop_grace_seconds = Some(3_601),
        "stop_grace_seconds is 3601",
    ),
    (
        |asked| asked.shm_size_bytes = (1 << 40) + 1,
        "shm_size_bytes",
    ),
    (
        |asked| asked.ulimits = vec!["nofile".into()],
        "ulimits 'nofile' is no limit",
    ),
    (
        |asked| asked.ulimits.push("nofile=3".into()),
        "ulimits has two for nofile",
    ),
    (
        |asked| asked.cap_add = vec!["A B".into()],
        "cap_add 'A B' is no capability",
    ),
    (
        |asked| asked.cap_drop = vec!["".into()],
        "cap_drop '' is no capability",
    ),
    (
        |asked| asked.cap_drop = vec!["SYS_PTRACE".into()],
        "cap_add has SYS_PTRACE, and cap_drop has it, too",
    ),
    (
        |asked| asked.entrypoint = 3,
        "entrypoint is 3, which this worker does not know",
    ),
];

#[test]
fn what_is_no_value_is_told_with_its_field() {
    for (change, told) in MISTAKES {
        let complaint = complaint(*change);
        assert!(complaint.contains(told), "{told}: {complaint}");
    }
}

#[test]
fn each_field_has_its_limit() {
    let many = |count: usize, entry: fn(usize) -> String| (0..count).map(entry).collect::<Vec<_>>();
    let long = || "x".repeat(LONGEST + 1);
    let lists: [fn(&mut Asked, Vec<String>); 5] = [
        |asked, list| asked.ports = list,
        |asked, list| asked.extra_hosts = list,
        |asked, list| asked.ulimits = list,
        |asked, list| asked.cap_add = list,
        |asked, list| asked.cap_drop = list,
    ];
    for set in lists {
        let told = complaint(|asked| set(asked, many(65, |at| at.to_string())));
        assert!(
            told.contains("has 65 entries; at most 64 are taken"),
            "{told}"
        );
        let told = complaint(|asked| set(asked, vec![long()]));
        assert!(told.contains("has 4097 bytes; give at most 4096"), "{told}");
    }
    let texts: [fn(&mut Asked, String); 6] = [
        |asked, text| asked.network = text,
        |asked, text| asked.workdir = text,
        |asked, text| asked.user = text,
        |asked, text| asked.hostname = text,
        |asked, text| asked.stop_signal = text,
        |asked, text| asked.mounts[0].target = text,
    ];
    for set in texts {
        let told = complaint(|asked| set(asked, long()));
        assert!(told.contains("has 4097 bytes; give at most 4096"), "{told}");
    }
    let mounts = |asked: &mut Asked| asked.mounts = vec![asked.mounts[0].clone(); 65];
    assert!(complaint(mounts).contains("mounts has 65 entries"));
}

#[test]
fn variables_have_limits_of_their_own() {
    let variables = |count: usize, length: usize| {
        let value = "x".repeat(length);
        let all = (0..count).map(|at| (format!("V{at}"), value.clone()));
        read(Asked {
            environment: all.collect(),
            ..Asked::default()
        })
    };

    assert!(variables(256, 512).is_ok() && variables(4, 32_768).is_ok());
    for (count, length, told) in [
        (257, 1, "environment has 257 entries; at most 256 are taken"),
        (
            1,
            32_769,
            "environment V0: has 32769 bytes; give at most 32768",
        ),
        (
            5,
            32_768,
            "environment has values of 163840 bytes; at most 131072 are taken",
        ),
    ] {
        assert_eq!(variables(count, length).unwrap_err(), told);
    }
}

#[test]
fn all_but_the_values_together_fits_into_a_label() {
    let told = complaint(|asked| asked.extra_hosts = vec!["x".repeat(LONGEST); 9]);

    assert!(
        told.starts_with("all but the values of variables has"),
        "{told}"
    );
}

#[test]
fn no_complaint_tells_a_value_of_a_variable() {
    let secret = "hunter2\0";
    let told = complaint(|asked| drop(asked.environment.insert("A".into(), secret.into())));
    assert!(!told.contains("hunter2"), "{told}");
}

proptest! {
    #[test]
    fn whatever_is_taken_is_written_so_that_it_is_taken_as_the_same(
        names in prop::collection::btree_map("[A-Z_]{0,3}", "[ -~]{0,5}", 0..3),
        texts in prop::collection::vec("[a-z0-9:/.\\[\\]-]{0,12}", 8),
        numbers in prop::collection::vec(prop_oneof![0_u64..10, any::<u64>()], 4),
        entrypoint in -1..4,
    ) {
        let mut texts = texts.into_iter();
        let mut text = || texts.next().unwrap_or_default();
        let asked = Asked {
            environment: names,
            mounts: vec![Mount { source: Some(mount::Source::Volume(text())), target: format!("/{}", text()), read_only: true }],
            network: text(),
            ports: vec![format!("{}:{}", numbers[0], numbers[1])],
            workdir: text(),
            user: text(),
            hostname: text(),
            extra_hosts: vec![text(), text()],
            timeout_seconds: numbers[2],
            stop_grace_seconds: Some(numbers[3]),
            entrypoint,
            ..Asked::default()
        };
        if let Ok(Some(settings)) = read(asked) {
            prop_assert_eq!(read(written(&settings)), Ok(Some(settings)));
        }
    }
}
