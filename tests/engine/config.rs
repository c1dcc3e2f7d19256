//! What a container is given: limits, privileges, its image's own settings.

use bollard::{
    body_full,
    models::ContainerConfig,
    query_parameters::{CommitContainerOptions, CreateImageOptions},
};
use futures_util::TryStreamExt;
use worker_node::{
    domain::privileges::{Base, Capability, Privileges, Ulimit},
    engine::EngineOptions,
    ports::engine::{ContainerEngine, EngineError, Image},
};

use crate::bench::{Bench, options};

impl Bench {
    /// An image with one file and no program.
    pub(crate) async fn image_without_shell(&self) -> Image {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(0);
        archive
            .append_data(&mut header, "file", std::io::empty())
            .unwrap();
        self.imported("no-shell", archive.into_inner().unwrap())
            .await
    }

    /// An image made of that archive.
    pub(crate) async fn imported(&self, name: &str, archive: Vec<u8>) -> Image {
        let name = self.own_image(name);
        let options = CreateImageOptions {
            from_src: Some("-".into()),
            repo: Some(name.clone()),
            tag: Some("latest".into()),
            ..Default::default()
        };
        let import = self
            .docker
            .create_image(Some(options), Some(body_full(archive.into())), None);
        import.try_collect::<Vec<_>>().await.unwrap();
        let reference = self.engine.parse_image(&name).unwrap();
        self.engine.find_image(&reference).await.unwrap().unwrap()
    }

    /// Busybox for that user.
    pub(crate) async fn image_of_a_user(&self, user: &str) -> Image {
        self.configured(ContainerConfig {
            user: Some(user.into()),
            ..Default::default()
        })
        .await
    }

    /// Busybox with settings of its own.
    pub(crate) async fn configured(&self, config: ContainerConfig) -> Image {
        let container = self.created("true").await;
        let name = self.own_image("configured");
        let options = CommitContainerOptions {
            container: Some(container.0),
            repo: Some(name.clone()),
            ..Default::default()
        };
        self.docker.commit_container(options, config).await.unwrap();
        let reference = self.engine.parse_image(&name).unwrap();
        self.engine.find_image(&reference).await.unwrap().unwrap()
    }

    async fn says(&self, command: &str) -> String {
        let (_, code, output) = self.run(&self.plan(command).await).await;
        assert_eq!(code, 0, "{command}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn words(list: &[&str]) -> Option<Vec<String>> {
    Some(list.iter().map(|word| (*word).to_owned()).collect())
}

#[tokio::test]
async fn without_a_command_the_images_entrypoint_runs_as_its_user() {
    let bench = Bench::new();
    let mut plan = bench.plan("").await;
    plan.image = bench
        .configured(ContainerConfig {
            entrypoint: words(&["/bin/sh", "-c", "echo $0 $(id -u)"]),
            cmd: words(&["default"]),
            user: Some("4711".into()),
            ..Default::default()
        })
        .await;

    let (_, code, output) = bench.run(&plan).await;

    assert_eq!(
        (code, output.stdout.as_slice()),
        (0, &b"default 4711\n"[..])
    );
}

#[tokio::test]
async fn a_command_works_for_an_image_with_an_entrypoint_and_a_health_check() {
    let bench = Bench::new();
    let mut plan = bench.plan("echo $(id -u) $((6 * 7))").await;
    plan.image = bench
        .configured(ContainerConfig {
            entrypoint: words(&["/bin/false"]),
            user: Some("4711".into()),
            healthcheck: Some(bollard::models::HealthConfig {
                test: words(&["CMD", "/bin/false"]),
                ..Default::default()
            }),
            ..Default::default()
        })
        .await;

    let (id, code, output) = bench.run(&plan).await;

    assert_eq!((code, output.stdout.as_slice()), (0, &b"4711 42\n"[..]));
    let inspected = bench.docker.inspect_container(&id.0, None).await.unwrap();
    let check = inspected.config.unwrap().healthcheck.unwrap();
    assert_eq!(check.test, words(&["NONE"]));
}

/// What a process of a container may do: whether a program may have more than who starts it, and its capabilities by number.
async fn privileges(bench: &Bench) -> (bool, Vec<u64>) {
    let status = bench.says("cat /proc/self/status").await;
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(field("CapBnd:"), field("CapEff:"), "it runs as root");
    let mask = u64::from_str_radix(&field("CapEff:"), 16).unwrap();
    let has = |bit: &u64| mask & 1 << bit != 0;
    (field("NoNewPrivs:") == "0", (0..64).filter(has).collect())
}

// By number: chown 0, dac_override 1, fowner 3, fsetid 4, kill 5, setgid 6, setuid 7, setpcap 8, net_bind_service 10, net_raw 13,
// sys_chroot 18, sys_ptrace 19, mknod 27, audit_write 29, setfcap 31.

#[tokio::test]
async fn a_container_has_what_the_engine_gives_but_for_raw_sockets_and_devices() {
    let bench = Bench::with_options(EngineOptions {
        network: Some("none".into()),
        ..options()
    });

    let (gains, capabilities) = privileges(&bench).await;
    let ping = bench.says("cat /proc/sys/net/ipv4/ping_group_range").await;

    assert!(gains, "sudo works");
    assert_eq!(capabilities, [0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 29, 31]);
    let groups: Vec<u64> = ping
        .split_whitespace()
        .map(|group| group.parse().unwrap())
        .collect();
    assert_eq!(
        groups,
        [0, (1 << 31) - 1],
        "everybody may open ping's own socket"
    );
}

#[tokio::test]
async fn a_restricted_container_has_only_the_capabilities_of_the_list_and_those_of_the_operator() {
    let [chown, ptrace] = ["CHOWN", "SYS_PTRACE"].map(|name| Capability::read(name).unwrap());
    let bench = Bench::with_options(EngineOptions {
        privileges: Privileges::new(Base::Restricted, &[ptrace], &[chown]),
        ..options()
    });

    let (gains, capabilities) = privileges(&bench).await;

    assert!(!gains);
    assert_eq!(capabilities, [1, 3, 4, 5, 6, 7, 8, 10, 18, 19, 29]);
}

#[tokio::test]
async fn a_capability_that_is_taken_by_default_can_be_given() {
    let raw = Capability::read("CAP_NET_RAW").unwrap();
    let bench = Bench::with_options(EngineOptions {
        privileges: Privileges::new(Base::Default, &[raw], &[]),
        ..options()
    });

    let (_, capabilities) = privileges(&bench).await;

    assert_eq!(capabilities, [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 29, 31]);
}

#[tokio::test]
async fn limits_and_settings_arrive_in_the_container() {
    let bench = Bench::with_options(EngineOptions {
        pids_limit: 77,
        privileges: Privileges::new(Base::Restricted, &[], &[Capability::read("ALL").unwrap()]),
        ulimits: vec![Ulimit::read("nofile=1234:2345").unwrap(), Ulimit::no_core()],
        ..options()
    });
    let mut plan = bench.plan("true").await;
    plan.spec.wants.cpu = 0.25;
    plan.spec.wants.memory = 0.125;
    let id = bench.engine.create(&plan).await.unwrap();

    let inspected = bench.docker.inspect_container(&id.0, None).await.unwrap();
    let host = inspected.host_config.unwrap();

    assert_eq!(host.nano_cpus, Some(250_000_000));
    assert_eq!(host.memory, Some(128 << 20));
    assert_eq!(host.memory_swap, Some(128 << 20));
    assert_eq!(host.pids_limit, Some(77));
    assert_eq!(host.privileged, Some(false));
    assert_eq!(host.auto_remove, Some(false));
    let log = host.log_config.unwrap();
    assert_eq!(log.typ.as_deref(), Some("local"));
    let options = log.config.unwrap();
    assert_eq!(options["max-size"], "65536k");
    assert_eq!(options["compress"], "false");

    let seen = bench
        .says("ulimit -n; ulimit -Hn; ulimit -c; echo $PYTHONUNBUFFERED; tr '\\0' ' ' < /proc/1/cmdline; grep CapEff /proc/self/status")
        .await;
    assert!(
        seen.starts_with("1234\n2345\n0\n1\n/sbin/docker-init"),
        "{seen}"
    );
    assert!(seen.trim().ends_with("0000000000000000"), "{seen}");
}

#[tokio::test]
async fn reserved_limits_are_not_set() {
    let bench = Bench::new();
    let mut plan = bench.plan("true").await;
    plan.spec.wants.memory = 0.125;
    plan.enforce_limits = false;
    let id = bench.engine.create(&plan).await.unwrap();

    let inspected = bench.docker.inspect_container(&id.0, None).await.unwrap();

    assert_eq!(inspected.host_config.unwrap().memory, Some(0));
}

#[tokio::test]
async fn a_missing_network_is_an_invalid_start() {
    let bench = Bench::with_options(EngineOptions {
        network: Some("there-is-no-such-network".into()),
        ..EngineOptions::default()
    });
    let plan = bench.plan("true").await;

    // Engines differ in when they look for it.
    let outcome = match bench.engine.create(&plan).await {
        Ok(id) => bench.engine.start(&id).await,
        Err(error) => Err(error),
    };

    let Err(EngineError::Invalid(said) | EngineError::NotFound(said)) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(said.contains("there-is-no-such-network"), "{said}");
}

#[tokio::test]
async fn the_engine_tells_who_it_is_and_that_it_is_here() {
    let bench = Bench::new();

    let info = bench.engine.info().await.unwrap();
    let again = bench.engine.info().await.unwrap();

    assert!(!info.id.is_empty());
    assert!(info.version.contains('.'), "{info:?}");
    assert!(info.api_version.starts_with("1."), "{info:?}");
    assert!(info.local, "these tests run beside their engine");
    assert_eq!(info, again);
}
