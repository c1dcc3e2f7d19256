//! What a policy refuses, with the key that an operator looks for, and what it allows.

mod within;

use super::*;
use crate::domain::{privileges::Ulimit, task_settings::Entrypoint};

fn words(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// A policy that allows a little of everything.
fn some() -> Policy {
    Policy {
        networks: Some(words(&["none", "jobs"])),
        allowed_roots: words(&["/data/sets", "/srv"]),
        named_volumes: vec![TextPattern::new("cache-*")],
        ports: vec![
            PortRange::read("8000-8999").unwrap(),
            PortRange::read("53").unwrap(),
        ],
        capabilities: vec![Capability::read("SYS_PTRACE").unwrap()],
        max_timeout: Duration::from_secs(3_600),
        max_shm: 1 << 30,
        own: words(&[
            "/srv/worker",
            "/etc/worker-node/config.toml",
            "/opt/engine.sock",
        ]),
        ..Policy::default()
    }
}

fn nothing() -> TaskSettings {
    TaskSettings::default()
}

fn with(source: Source) -> TaskSettings {
    TaskSettings {
        volumes: Some(vec![Volume {
            source,
            target: "/x".into(),
            read_only: false,
        }]),
        ..nothing()
    }
}

fn bind(path: &str) -> TaskSettings {
    with(Source::Bind(path.into()))
}

fn volume(name: &str) -> TaskSettings {
    with(Source::Named(name.into()))
}

fn at(target: &str) -> TaskSettings {
    let mut settings = with(Source::Memory(1 << 20));
    let volumes = settings.volumes.iter_mut().flatten();
    volumes.for_each(|volume| volume.target = target.into());
    settings
}

fn network(name: &str) -> TaskSettings {
    TaskSettings {
        network: Some(name.into()),
        ..nothing()
    }
}

fn port(text: &str) -> TaskSettings {
    TaskSettings {
        ports: Some(vec![Port::read(text).unwrap()]),
        ..nothing()
    }
}

fn user(text: &str) -> TaskSettings {
    TaskSettings {
        user: Some(text.into()),
        ..nothing()
    }
}

fn capability(name: &str) -> TaskSettings {
    TaskSettings {
        cap_add: Some(vec![Capability::read(name).unwrap()]),
        ..nothing()
    }
}

fn ulimit(text: &str) -> TaskSettings {
    TaskSettings {
        ulimits: Some(vec![Ulimit::read(text).unwrap()]),
        ..nothing()
    }
}

fn timeout(seconds: u64) -> TaskSettings {
    TaskSettings {
        timeout: Some(Duration::from_secs(seconds)),
        ..nothing()
    }
}

fn stop_grace(seconds: u64) -> TaskSettings {
    TaskSettings {
        stop_grace: Some(Duration::from_secs(seconds)),
        ..nothing()
    }
}

fn shm(bytes: u64) -> TaskSettings {
    TaskSettings {
        shm_size: Some(bytes),
        ..nothing()
    }
}

fn variable(variable: Variable) -> TaskSettings {
    TaskSettings {
        environment: [("A".to_owned(), variable)].into(),
        ..nothing()
    }
}

fn runtime() -> TaskSettings {
    TaskSettings {
        runtime: Some("sysbox".into()),
        ..nothing()
    }
}

#[track_caller]
fn refused(policy: &Policy, table: Vec<(TaskSettings, &str)>) -> usize {
    let rows = table.len();
    for (asked, word) in table {
        let why = policy.refusal(&asked);
        let why = why.unwrap_or_else(|| panic!("{asked:?} is allowed"));
        assert!(why.contains(word), "{asked:?}: {why}");
    }
    rows
}

/// A specification that is refused, and the words of its reason.
type Row = (TaskSettings, &'static str);

/// Networks and places that even this policy does not allow.
fn places_over_some() -> Vec<Row> {
    vec![
        (network("bridge"), "networks in [policy] is none, jobs"),
        (network("host"), "networks"),
        (network("default"), "networks"),
        (network("Jobs"), "networks"),
        (network("jobs2"), "networks"),
        (network("container:other"), "another container's network"),
        (network("container:"), "another container's network"),
        (network("ns:/proc/1/ns/net"), "another container's network"),
        (
            bind("/data"),
            "allowed_roots in [policy] is /data/sets, /srv",
        ),
        (bind("/data/set"), "allowed_roots"),
        (bind("/data/sets2"), "allowed_roots"),
        (bind("/home/u"), "allowed_roots"),
        (bind("/etc/passwd"), "allowed_roots"),
        (bind("/root/.ssh"), "allowed_roots"),
        (bind("/var/lib/docker/volumes"), "allowed_roots"),
        (bind("/"), "no [policy] can allow"),
        (bind("/proc"), "would show /proc"),
        (bind("/proc/1/root"), "would show /proc"),
        (bind("/sys"), "would show /sys"),
        (bind("/sys/fs/cgroup"), "would show /sys"),
        (bind("/dev"), "would show /dev"),
        (bind("/dev/sda"), "would show /dev"),
        (bind("/run"), "would show /run/docker.sock"),
        (bind("/run/docker.sock"), "would show /run/docker.sock"),
        (
            bind("/var/run/docker.sock"),
            "would show /var/run/docker.sock",
        ),
        (bind("/var"), "would show /var/run/docker.sock"),
        (
            bind("/run/containerd/containerd.sock"),
            "would show /run/containerd",
        ),
        (bind("/run/podman/podman.sock"), "would show /run/podman"),
        (bind("/opt/engine.sock"), "would show /opt/engine.sock"),
        (bind("/opt"), "would show /opt/engine.sock"),
        (bind("/srv"), "would show /srv/worker"),
        (bind("/srv/worker"), "would show /srv/worker"),
        (bind("/srv/worker/journal.db"), "would show /srv/worker"),
        (
            bind("/etc/worker-node/config.toml"),
            "would show /etc/worker-node",
        ),
        (bind("/etc/worker-node"), "would show /etc/worker-node"),
        (bind("/etc"), "would show /etc/worker-node"),
    ]
}

/// Ports and users that even this policy does not allow.
fn names_over_some() -> Vec<Row> {
    vec![
        (volume("cache"), "named_volumes in [policy] is cache-*"),
        (volume("a-cache-1"), "named_volumes"),
        (volume("Cache-1"), "named_volumes"),
        (with(Source::Memory((1 << 30) + 1)), "max_shm"),
        (at("/proc"), "the engine fills that place"),
        (at("/proc/sys"), "the engine fills that place"),
        (at("/sys/fs"), "the engine fills that place"),
        (at("/dev/shm"), "the engine fills that place"),
        (port("80:80"), "ports in [policy] is 8000-8999, 53"),
        (port("7999:80"), "ports"),
        (port("9000:80"), "ports"),
        (port("127.0.0.1:22:22"), "ports"),
        (port("0:80"), "ports"),
        (port("54:53/udp"), "ports"),
        (user("0"), "users in [policy] is unprivileged"),
        (user("root"), "users"),
        (user("ann"), "users"),
        (user("1000"), "users"),
        (user("0:1000"), "users"),
        (user("1000:0"), "users"),
        (user("000:1000"), "users"),
        (user("1000:ann"), "users"),
        (user("2147483648:1"), "users"),
        (user("4294967296:1"), "users"),
    ]
}

/// Wishes of every other kind that this policy does not allow.
fn more_over_some() -> Vec<Row> {
    vec![
        (
            capability("SYS_ADMIN"),
            "capabilities in [policy] is SYS_PTRACE",
        ),
        (capability("CAP_NET_ADMIN"), "capabilities"),
        (capability("CHOWN"), "capabilities"),
        (capability("ALL"), "no [policy] can allow"),
        (ulimit("memlock=-1"), "ulimits in [policy] is nofile"),
        (ulimit("core=-1"), "ulimits"),
        (ulimit("rtprio=99"), "ulimits"),
        (timeout(3_601), "max_timeout in [policy] is 3600 s"),
        (stop_grace(61), "max_stop_grace"),
        (
            shm((1 << 30) + 1),
            "max_shm in [policy] is 1073741824 bytes",
        ),
        (
            variable(Variable::File("/etc/shadow".into())),
            "the operator's alone",
        ),
        (runtime(), "the operator's alone"),
    ]
}

#[test]
fn what_is_forbidden_is_told_with_the_key_that_an_operator_would_change() {
    let parts = [places_over_some(), names_over_some(), more_over_some()];
    let rows = parts.into_iter().map(|rows| refused(&some(), rows));

    assert!(rows.sum::<usize>() >= 60);
}

#[test]
fn where_nothing_is_said_a_task_may_not_reach_beyond_its_container() {
    refused(
        &Policy::default(),
        vec![
            (bind("/data"), "allowed_roots in [policy] is empty"),
            (bind("/tmp"), "allowed_roots"),
            (volume("cache"), "named_volumes in [policy] is empty"),
            (network("host"), "networks in [policy] is none, bridge"),
            (network("jobs"), "networks"),
            (port("8080:80"), "ports in [policy] is empty"),
            (user("0:0"), "users"),
            (capability("NET_RAW"), "capabilities in [policy] is empty"),
            (ulimit("memlock=-1"), "ulimits"),
            (stop_grace(3_600), "max_stop_grace in [policy] is 60 s"),
        ],
    );
    let closed = Policy {
        environment: false,
        users: Users::Image,
        ulimits: Vec::new(),
        ..Policy::default()
    };
    refused(
        &closed,
        vec![
            (
                variable(Variable::Text("secret".into())),
                "environment in [policy] is false",
            ),
            (user("1000:1000"), "users in [policy] is image"),
            (ulimit("nofile=10"), "ulimits in [policy] is empty"),
        ],
    );
}

#[test]
fn no_reason_tells_what_a_variable_is_set_to() {
    let closed = Policy {
        environment: false,
        ..Policy::default()
    };

    let why = closed.refusal(&variable(Variable::Text("hunter2".into())));

    assert!(!why.unwrap().contains("hunter2"));
}

#[test]
fn what_a_policy_says_may_be_asked_for() {
    let policy = some();
    let entrypoint = TaskSettings {
        entrypoint: Some(Entrypoint::Keep),
        hostname: Some("h".into()),
        workdir: Some("/w".into()),
        stop_signal: Some("SIGINT".into()),
        extra_hosts: Some(words(&["a:1.2.3.4"])),
        read_only_root: Some(true),
        cap_drop: Some(vec![Capability::read("ALL").unwrap()]),
        ..nothing()
    };
    let root = Policy {
        users: Users::Any,
        ..some()
    };
    for asked in [
        entrypoint,
        nothing(),
        variable(Variable::Text("x".into())),
        network("none"),
        network("jobs"),
        bind("/data/sets"),
        bind("/data/sets/a/b"),
        bind("/srv/workers"),
        volume("cache-1"),
        with(Source::Memory(1 << 30)),
        at("/proc2"),
        port("8000:80"),
        port("[::1]:8999:1"),
        port("53:53/udp"),
        user("1000:1000"),
        capability("cap_sys_ptrace"),
        ulimit("nofile=1:2"),
        timeout(3_600),
        stop_grace(60),
        shm(1 << 30),
    ] {
        assert_eq!(policy.refusal(&asked), None, "{asked:?}");
    }
    assert_eq!(root.refusal(&user("root")), None);
    assert_eq!(Policy::default().refusal(&network("bridge")), None);
    let host = Policy {
        networks: Some(words(&["host"])),
        ..Policy::default()
    };
    assert_eq!(host.refusal(&network("host")), None);
}

#[test]
fn where_tasks_get_another_network_it_stands_in_the_place_of_the_engines_own() {
    for (network, allowed) in [
        (None, vec!["none", "bridge"]),
        (Some("jobs"), vec!["none", "jobs"]),
        (Some("none"), vec!["none"]),
        (Some("container:x"), vec!["none"]),
    ] {
        let policy = Policy::default().where_tasks_get(network);
        assert_eq!(policy.networks(), allowed);
        // Networks that a policy names are left as they are.
        assert_eq!(some().where_tasks_get(network).networks(), ["none", "jobs"]);
    }
}

#[test]
fn what_was_the_workers_own_stays_so_while_it_runs() {
    let moved = Policy {
        own: words(&["/srv/new", "/srv/worker"]),
        ..some()
    };

    let policy = moved.clone().in_place_of(&some());

    refused(
        &policy,
        vec![
            (bind("/srv/worker"), "would show /srv/worker"),
            (bind("/srv/new"), "would show /srv/new"),
        ],
    );
    assert_eq!(moved.in_place_of(&policy), policy);
}

#[test]
fn ports_are_one_or_a_range() {
    for (text, shown) in [
        ("0", "0"),
        ("80", "80"),
        ("80-80", "80"),
        ("1-65535", "1-65535"),
    ] {
        assert_eq!(PortRange::read(text).unwrap().to_string(), shown);
    }
    for bad in ["", "-", "80-", "-80", "81-80", "65536", "1-2-3", "+1", "a"] {
        assert!(PortRange::read(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_root_shows_nothing_that_no_task_may_see() {
    for bad in [
        "/",
        "/run",
        "/var",
        "/proc/1",
        "/dev/shm",
        "/sys",
        "/run/containerd/x",
        "data",
        "/a/..",
    ] {
        assert!(read_root(bad).is_err(), "{bad}");
    }
    for good in ["/data", "/srv/a", "/var/lib/sets", "/tmp"] {
        assert_eq!(read_root(good), Ok(good.to_owned()));
    }
    assert!(read_network("container:a").is_err() && read_network("host").is_ok());
    assert!(read_capability("all").is_err() && read_capability("chown").is_ok());
}
