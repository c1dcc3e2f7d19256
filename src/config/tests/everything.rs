//! Every flag at once, none at its default.

use super::*;

/// Every flag, none at its default.
const EVERYTHING: &str = "--id=w --ip=10.0.0.7:1 --master=[::1]:2 --port=[::1]:3 --http=:9 --reflection --pin-master --allow-from=master,10.0.0.0/8 --tls-cert=/c --tls-key=/k --tls-ca=/a --master-tls --allow-master-name=m.example,m2 --token-file=/t --token-overlap=1m --token-in-clear --settle-time=2s --upload-inactivity=3s --upload-total=1m --report-timeout=4s --report-doubt=5s \
    --engine=tcp://e:1 --max-tasks=1 --reserve-cpu=0.5 --reserve-memory=1g --limits=reserve --pull=never --allow-image=docker.io/* --allow-image=r.example/a --require-digest --network=none --task-pids=99 --privileges=restricted --cap-add=sys_ptrace,NET_RAW --cap-drop=CHOWN --ulimit=nofile=5:6 --ulimit=core=-1 --stop-grace=0s --output-files=7 --output-bytes=5g --engine-log=6m --patience=7s --state-dir=/s \
    --retention=90m --orphan-grace=5s --spool-cap=2m --disk-low=3m --state-cap=4g --image-max-age=0s --image-gc-high=70 --image-gc-low=60 --supervise --fail-fast=true --on-stop=drain --log-format=json \
    --restart-intensity=2 --restart-period=1m --restart-backoff=1s --restart-backoff-max=2s";

#[test]
fn everything_about_the_cluster_can_be_set() {
    let words: Vec<_> = EVERYTHING.split_whitespace().collect();

    let config = config(&words).unwrap();

    assert_eq!(
        config.cluster,
        ClusterConfig {
            worker: WorkerId::new("w").unwrap(),
            reach: Reach {
                host: "10.0.0.7".into(),
                port: Some(1)
            },
            listen: ListenAddress {
                address: Some("::1".parse().unwrap()),
                port: 3
            },
            http: Some(ListenAddress {
                address: None,
                port: 9
            }),
            reflection: true,
            master: MasterAddress("[::1]:2".into()),
            master_moves: MasterMoves::Refused,
            door: DoorConfig {
                allow_from: "master,10.0.0.0/8".parse().unwrap(),
                identity: Some(("/c".into(), "/k".into())),
                authorities: Some("/a".into()),
                dial: MasterDial::Tls,
                master_names: MasterNames::new(vec!["m.example".into(), "m2".into()]),
                token: Some(TokenConfig {
                    file: "/t".into(),
                    overlap: Duration::from_secs(60),
                    way: TokenWay::Hidden,
                }),
            },
            settle_time: Some(Duration::from_secs(2)),
            upload: UploadPatience {
                inactivity: Duration::from_secs(3),
                total: Duration::from_secs(60),
            },
            report: ReportPatience {
                timeout: Duration::from_secs(4),
                doubt: Duration::from_secs(5),
            },
        }
    );
}

#[test]
fn everything_about_tasks_can_be_set() {
    let words: Vec<_> = EVERYTHING.split_whitespace().collect();

    let config = config(&words).unwrap();

    assert_eq!(
        config.tasks,
        TaskConfig {
            engine: EngineAddress::Tcp(HostPort {
                host: "e".into(),
                port: 1
            }),
            new_engine: NewEngine::Refused,
            max_tasks: 1,
            reserve: Reserve {
                cpu: 0.5,
                memory: 1 << 30,
            },
            limits: Limits::Reserve,
            pull: PullPolicy::Never,
            images: ImageRules::new(
                ["docker.io/*", "r.example/a"]
                    .map(|text| Pattern::read(text).unwrap())
                    .into(),
                true,
            ),
            network: Some("none".into()),
            container: ContainerConfig {
                pids: 99,
                privileges: Privileges::new(
                    Base::Restricted,
                    &["SYS_PTRACE", "NET_RAW"].map(|name| Capability::read(name).unwrap()),
                    &[Capability::read("CHOWN").unwrap()],
                ),
                ulimits: ["nofile=5:6", "core=-1"]
                    .map(|text| Ulimit::read(text).unwrap())
                    .into(),
            },
            profiles: Profiles::default(),
            policy: Policy::default(),
            stop_grace: Duration::ZERO,
            output_files: 7,
            output_bytes: 5 << 30,
            engine_log: 6 << 20,
            patience: Duration::from_secs(7),
        }
    );
}

#[test]
fn everything_about_state_and_process_can_be_set() {
    let words: Vec<_> = EVERYTHING.split_whitespace().collect();

    let config = config(&words).unwrap();

    assert_eq!(
        config.state,
        StateConfig {
            folder: "/s".into(),
            retention: Duration::from_secs(5_400),
            orphan_grace: Duration::from_secs(5),
            spool_cap: 2 << 20,
            disk_low: 3 << 20,
            state_cap: 4 << 30,
            image_upkeep: Upkeep {
                max_age: None,
                high: 70,
                low: 60,
            },
        }
    );
    assert_eq!(
        config.process,
        ProcessConfig {
            when_subsystem_fails: WhenSubsystemFails::Restart,
            restarts: RestartLimits {
                intensity: 2,
                period: Duration::from_secs(60),
                backoff: Duration::from_secs(1),
                backoff_max: Duration::from_secs(2),
            },
            when_away: WhenAway::EndProcess,
            on_stop: OnStop::Drain,
            log_format: LogFormat::Json,
        }
    );
}
