//! For any settings and any policy: the policy lets pass exactly what its keys allow.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

fn any_path() -> impl Strategy<Value = String> {
    prop::collection::vec("(data|sets|srv|worker|proc|run|etc|[a-c])", 0..4)
        .prop_map(|parts| format!("/{}", parts.join("/")))
}

fn any_volume() -> impl Strategy<Value = Volume> {
    let source = prop_oneof![
        "(cache-)?[a-c]{1,2}".prop_map(Source::Named),
        any_path().prop_map(Source::Bind),
        (20_u64..34).prop_map(|shift| Source::Memory(1 << shift)),
    ];
    (source, any_path(), any::<bool>()).prop_map(|(source, target, read_only)| Volume {
        source,
        target,
        read_only,
    })
}

fn any_asked() -> impl Strategy<Value = TaskSettings> {
    let port = (
        any::<Option<IpAddr>>(),
        prop_oneof![Just(53_u16), 7_990_u16..9_010, any::<u16>()],
    )
        .prop_map(|(address, machine)| Port {
            address,
            machine,
            task: 80,
            protocol: "tcp",
        });
    let capability = prop_oneof![Just("SYS_PTRACE"), Just("SYS_ADMIN"), Just("ALL")]
        .prop_map(|name| Capability::read(name).unwrap());
    let limit = prop_oneof![Just("nofile=1:2"), Just("memlock=-1")]
        .prop_map(|text| Ulimit::read(text).unwrap());
    let lists = (
        prop::option::of(prop::collection::vec(any_volume(), 0..3)),
        prop::option::of(prop::collection::vec(port, 0..3)),
        prop::option::of(prop::collection::vec(capability, 0..2)),
        prop::option::of(prop::collection::vec(limit, 0..2)),
    );
    let words = (
        prop::option::of("(none|jobs|bridge|host|container:a)"),
        prop::option::of("(0|1|1000|root|ann)(:(0|1|ann))?"),
        any::<bool>(),
    );
    let amounts = (
        prop::option::of(0_u64..7_200),
        prop::option::of(0_u64..120),
        prop::option::of(20_u64..34),
    );
    (lists, words, amounts).prop_map(
        |(
            (volumes, ports, cap_add, ulimits),
            (network, user, has_variable),
            (timeout, grace, shm),
        )| {
            let text = Variable::Text("x".into());
            TaskSettings {
                environment: has_variable
                    .then(|| ("A".to_owned(), text))
                    .into_iter()
                    .collect(),
                volumes,
                network,
                ports,
                user,
                cap_add,
                ulimits,
                timeout: timeout.map(Duration::from_secs),
                stop_grace: grace.map(Duration::from_secs),
                shm_size: shm.map(|shift| 1 << shift),
                ..nothing()
            }
        },
    )
}

/// The test's own judgement, by other means than the policy's: whether each value is one that the policy allows.
fn is_within(policy: &Policy, asked: &TaskSettings) -> bool {
    let parts = |path: &str| -> Vec<String> {
        let parts = path.split('/').filter(|part| !part.is_empty());
        parts.map(str::to_owned).collect()
    };
    let in_it = |path: &str, above: &str| parts(path).starts_with(&parts(above));
    let never = [
        "/proc",
        "/sys",
        "/dev",
        "/run/docker.sock",
        "/run/containerd",
        "/run/podman",
        "/var/run/docker.sock",
        "/var/run/containerd",
        "/var/run/podman",
    ];
    let never = || {
        never
            .into_iter()
            .chain(policy.own.iter().map(String::as_str))
    };
    let volumes = asked.volumes.iter().flatten().all(|volume| {
        let is_free = !["/proc", "/sys", "/dev"]
            .iter()
            .any(|taken| in_it(&volume.target, taken));
        is_free
            && match &volume.source {
                Source::Named(name) => name.starts_with("cache-"),
                Source::Bind(path) => {
                    policy.allowed_roots.iter().any(|root| in_it(path, root))
                        && never().all(|never| !in_it(path, never) && !in_it(never, path))
                }
                Source::Memory(bytes) => *bytes <= 1 << 30,
            }
    });
    let ports = asked.ports.iter().flatten();
    let mut ports = ports.map(|port| port.machine);
    let user = asked.user.as_deref();
    volumes
        && ports.all(|port| port == 53 || (8_000..=8_999).contains(&port))
        && asked
            .network
            .as_deref()
            .is_none_or(|name| ["none", "jobs"].contains(&name))
        && user.is_none_or(|user| ["1:1", "1000:1"].contains(&user))
        && asked
            .cap_add
            .iter()
            .flatten()
            .all(|one| one.name() == "SYS_PTRACE")
        && asked
            .ulimits
            .iter()
            .flatten()
            .all(|limit| limit.name == "nofile")
        && asked.timeout.is_none_or(|time| time.as_secs() <= 3_600)
        && asked.stop_grace.is_none_or(|time| time.as_secs() <= 60)
        && asked.shm_size.is_none_or(|bytes| bytes <= 1 << 30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_passes_is_within_the_policy_and_what_is_within_it_passes(asked in any_asked()) {
        let policy = some();

        prop_assert_eq!(policy.refusal(&asked).is_none(), is_within(&policy, &asked));
    }

    /// A policy that allows everything that a policy can: what no policy can allow is refused all the same.
    #[test]
    fn what_no_task_sees_is_shown_to_none(path in any_path(), below in "[a-c]") {
        let policy = Policy {
            allowed_roots: words(&["/"]),
            ..some()
        };
        for never in policy.never().map(str::to_owned).collect::<Vec<_>>() {
            for bound in [format!("{never}/{below}"), never] {
                prop_assert!(policy.refusal(&bind(&bound)).is_some());
            }
        }
        let touches = policy.never().any(|never| is_at_or_above(&path, never) || is_at_or_above(never, &path));
        prop_assert_eq!(policy.refusal(&bind(&path)).is_some(), touches);
    }
}
