//! The whole of a configuration from the words of a command line, without a process.

mod everything;

use clap::Parser;

use super::*;
use crate::domain::{
    callers::MasterNames,
    policy::Policy,
    privileges::{Base, Capability, Privileges, Ulimit},
};

/// A command line with the flags of `run` alone.
#[derive(Parser)]
struct Words {
    #[command(flatten)]
    run: RunArgs,
}

fn user() -> Surroundings {
    Surroundings {
        home: Some("/home/u".into()),
        ..Surroundings::default()
    }
}

fn config(words: &[&str]) -> Result<Config, Mistakes> {
    let argv = std::iter::once(&"worker-node").chain(words);
    let run = Words::try_parse_from(argv).unwrap().run;
    Config::try_from((run, user()))
}

#[track_caller]
fn complaint(words: &[&str]) -> String {
    let mistakes = config(words).unwrap_err();
    assert_eq!(mistakes.0.len(), 1, "{mistakes}");
    mistakes.0[0].sentence.clone()
}

#[test]
fn the_defaults_are_those_of_the_existing_worker() {
    let config = config(&[]).unwrap();

    assert_eq!(config.cluster.worker.as_str(), "worker-1");
    assert_eq!(config.advertised(50_052), "localhost:50052");
    assert_eq!(config.cluster.master.0, "localhost:50051");
    assert_eq!(config.cluster.listen.port, 50_052);
    assert_eq!(config.cluster.settle_time, None);
    assert_eq!(
        config.tasks.engine.to_string(),
        "unix:///var/run/docker.sock"
    );
    assert_eq!(config.tasks.max_tasks, 256);
    assert_eq!(config.tasks.reserve, Reserve::default());
    assert_eq!(config.tasks.output_files, 10_000);
    assert_eq!(config.tasks.output_bytes, 10 << 30);
    assert_eq!(config.tasks.engine_log, 256 << 20);
    assert_eq!(config.tasks.container.pids, 4_096);
    assert_eq!(config.tasks.container.privileges, Privileges::default());
    assert_eq!(config.tasks.container.ulimits, [Ulimit::no_core()]);
    assert_eq!(config.tasks.stop_grace, Duration::from_secs(10));
    assert_eq!(config.tasks.patience, Duration::from_secs(600));
    assert_eq!(config.state.retention, DAY);
    assert_eq!(config.state.orphan_grace, Duration::from_secs(60));
    assert_eq!(config.state.spool_cap, 1 << 30);
    assert_eq!(config.state.disk_low, 256 << 20);
    assert_eq!(config.state.state_cap, 100 << 30);
    assert_eq!(
        config.state.image_upkeep,
        Upkeep {
            max_age: Some(7 * DAY),
            high: 85,
            low: 80
        }
    );
    assert_eq!(config.process.on_stop, OnStop::Leave);
    assert_eq!(
        config.process.when_subsystem_fails,
        WhenSubsystemFails::EndProcess
    );
    assert_eq!(config.warnings(), Vec::<String>::new());
}

#[test]
fn http_is_answered_beyond_this_machine_to_those_alone_who_show_who_they_are() {
    for fine in [
        vec!["--http=127.0.0.1:9100"],
        vec!["--http=[::1]:9100"],
        vec!["--http=:9100", "--token-file=/t", "--token-in-clear"],
        vec![
            "--http=:9100",
            "--tls-cert=/c",
            "--tls-key=/k",
            "--tls-ca=/a",
        ],
    ] {
        assert!(config(&fine).is_ok(), "{fine:?}");
    }
    for open in [
        vec!["--http=9100"],
        vec!["--http=10.0.0.7:9100", "--allow-from=10.0.0.0/8"],
        vec!["--http=:9100", "--tls-cert=/c", "--tls-key=/k"],
    ] {
        let told = config(&open).unwrap_err().to_string();
        assert!(
            told.contains("give --token-file, or --tls-cert with --tls-ca"),
            "{told}"
        );
    }
}

#[test]
fn a_mistake_names_its_flag_its_value_and_the_way_out() {
    for (flag, value, way_out) in [
        ("--port", "99999", "write 50052, :50052 or 127.0.0.1:50052"),
        ("--port", ":abc", "write 50052, :50052 or 127.0.0.1:50052"),
        ("--http", "x", "write 50052, :50052 or 127.0.0.1:50052"),
        ("--id", "", "give a name such as worker-1"),
        ("--id", "a/b", "letters, digits"),
        (
            "--master",
            "localhost",
            "add one, such as 'localhost:50051'",
        ),
        ("--settle-time", "soon", "such as 250ms, 10s or 1h, or auto"),
        ("--settle-time", "2h", "give 0s to 1m"),
        (
            "--ip",
            "0.0.0.0",
            "give the one at which the master reaches",
        ),
        ("--max-tasks", "0", "1 to 10000"),
        ("--reserve-cpu", "half", "such as 2 or 0.5"),
        ("--reserve-memory", "1.5g", "such as 512MiB or 2GiB"),
        ("--output-files", "0", "1 to 100000"),
        ("--task-pids", "1", "16 to 4194304"),
        ("--privileges", "none", "default, restricted"),
        ("--cap-add", "NET-RAW", "such as NET_RAW"),
        ("--ulimit", "nofile", "nofile=4096:65536"),
        ("--output-bytes", "10GB", "such as 512MiB"),
        ("--engine-log", "1MiB", "give 4MiB to"),
        ("--limits", "soft", "enforce, reserve"),
        ("--image-gc-high", "101", "give 0 to 100"),
        ("--image-gc-low", "85", "is not below --image-gc-high, 85"),
        ("--pull", "sometimes", "auto, missing, always, never"),
        ("--on-stop", "die", "leave, drain, stop"),
        ("--log-format", "xml", "text, json"),
        ("--engine", "ssh://a", "tcp://host:2375"),
        ("--network", "a b", "docker network ls"),
        ("--retention", "1s", "give 1m to"),
        ("--spool-cap", "1MB", "such as 512MiB"),
        ("--state-dir", "", "give a folder"),
        ("--state-dir", "~/x", "give the folder's whole path"),
        ("--state-dir", "~", "give the folder's whole path"),
        ("--tls-cert", "", "give a file"),
        ("--tls-key", "~/k", "give the file's whole path"),
        ("--tls-ca", "", "give a file"),
        ("--allow-master-name", " ", "such as master.example.org"),
        ("--master-tls", "maybe", "neither true nor false"),
        ("--token-file", "", "give a file"),
        ("--token-overlap", "soon", "is no time"),
        ("--token-in-clear", "maybe", "neither true nor false"),
        ("--supervise", "maybe", "neither true nor false"),
        ("--restart-intensity", "-1", "is no number from 0 to 1000"),
        ("--restart-period", "0s", "out of range"),
        ("--restart-backoff", "soon", "is no time"),
        ("--restart-backoff-max", "10ms", "give 100ms to 1h"),
    ] {
        let sentence = complaint(&[&format!("{flag}={value}")]);

        let begin = format!("{flag} '{value}' (or WORKER_NODE_");
        assert!(sentence.starts_with(&begin), "{sentence}");
        assert!(sentence.contains(way_out), "{sentence}");
    }
}

#[test]
fn flags_that_need_others_are_refused_with_what_to_type() {
    for (words, name, way_out) in [
        (&["--tls-cert=/c"][..], "--tls-cert", "--tls-key FILE"),
        (&["--tls-key=/k"], "--tls-key", "--tls-cert FILE"),
        (&["--tls-ca=/a"], "--tls-ca", "--tls-cert FILE"),
        (
            &["--allow-master-name=m", "--tls-cert=/c", "--tls-key=/k"],
            "--allow-master-name",
            "--tls-ca FILE",
        ),
        (
            &["--allow-master-name=m", "--tls-ca=/a", "--master-tls"],
            "--allow-master-name",
            "--tls-cert FILE",
        ),
        (
            &["--token-file=/t"],
            "--token-file",
            "--tls-cert FILE --tls-key FILE and --master-tls too, or --token-in-clear",
        ),
        (
            &["--token-file=/t", "--master-tls"],
            "--token-file",
            "callers would",
        ),
        (
            &["--token-file=/t", "--tls-cert=/c", "--tls-key=/k"],
            "--token-file",
            "give --master-tls",
        ),
    ] {
        let mistakes = config(words).unwrap_err();

        assert!(mistakes.are_of_configuration(), "{mistakes}");
        assert_eq!(mistakes.0.len(), 1, "{mistakes}");
        assert_eq!(mistakes.0[0].name, name);
        let sentence = &mistakes.0[0].sentence;
        assert!(sentence.contains(way_out), "{sentence}");
    }
    for words in [
        &["--tls-ca=/a", "--master-tls"][..],
        &["--master-tls"],
        &["--tls-cert=/c", "--tls-key=/k"],
        &[
            "--tls-cert=/c",
            "--tls-key=/k",
            "--tls-ca=/a",
            "--allow-master-name=m",
        ],
    ] {
        assert!(config(words).is_ok(), "{words:?}");
    }
}

#[test]
fn a_door_is_open_until_callers_must_show_who_they_are() {
    let is_open = |words: &[&str]| config(words).unwrap().cluster.door.is_open();
    let tls = ["--tls-cert=/c", "--tls-key=/k"];

    assert!(is_open(&[]));
    assert!(is_open(&tls), "anybody can speak TLS");
    assert!(
        is_open(&["--tls-ca=/a", "--master-tls"]),
        "who calls is not asked"
    );
    assert!(!is_open(&[tls[0], tls[1], "--tls-ca=/a"]));
    assert!(!is_open(&["--allow-from=master"]));
    assert!(!is_open(&["--token-file=/t", "--token-in-clear"]));
}

#[test]
fn all_mistakes_are_told_together() {
    let mistakes = config(&[
        "--id=",
        "--port=x",
        "--pull=x",
        "--retention=x",
        "--supervise=x",
    ])
    .unwrap_err();

    let names: Vec<_> = mistakes.0.iter().map(|mistake| mistake.name).collect();
    assert_eq!(
        names,
        ["--id", "--port", "--pull", "--retention", "--supervise"]
    );
    assert_eq!(mistakes.to_string().lines().count(), 5);
}

#[test]
fn what_is_said_twice_of_a_container_is_a_mistake() {
    let both = complaint(&["--cap-add", "net_raw", "--cap-drop", "CAP_NET_RAW"]);
    let twice = complaint(&["--ulimit", "core=1", "--ulimit", "core=2"]);

    assert!(both.contains("is given by --cap-add"), "{both}");
    assert!(twice.contains("a second one for core"), "{twice}");
}

#[test]
fn a_wrong_value_cannot_forge_a_line() {
    assert!(complaint(&["--pull=a\nb"]).contains("'a\\nb'"));
}

#[test]
fn a_password_in_an_address_is_refused_and_not_repeated() {
    for (flag, value, shown) in [
        ("--engine", "tcp://u:hidden@e:1", "tcp://***@e:1"),
        ("--engine", "ssh://u:hidden@e", "ssh://***@e"),
        ("--engine", "u:hidden@e", "***@e"),
        ("--master", "u:hidden@m:1", "***@m:1"),
        ("--ip", "u:hidden@i", "***@i"),
        ("--port", "u:hidden@p", "***@p"),
        ("--allow-from", "u:hidden@a", "***@a"),
    ] {
        let sentence = complaint(&[&format!("{flag}={value}")]);

        assert!(
            sentence.starts_with(&format!("{flag} '{shown}'")),
            "{sentence}"
        );
        assert!(!sentence.contains("hidden"), "{sentence}");
    }
}

#[test]
fn docker_host_counts_where_no_engine_is_named() {
    let docker = || Surroundings {
        docker_host: Some("tcp://d:1".into()),
        ..user()
    };
    let read = |words: &[&str], surroundings| {
        let run = Words::try_parse_from(words).unwrap().run;
        Config::try_from((run, surroundings)).map(|config| config.tasks.engine.to_string())
    };

    assert_eq!(read(&["w"], docker()).unwrap(), "tcp://d:1");
    assert_eq!(read(&["w", "--engine=/e"], docker()).unwrap(), "unix:///e");
    let wrong = Surroundings {
        docker_host: Some("ssh://d".into()),
        ..user()
    };
    assert_eq!(read(&["w"], wrong).unwrap_err().0[0].name, "DOCKER_HOST");
}

#[test]
fn without_a_place_for_the_state_one_is_asked_for() {
    let run = Words::try_parse_from(["w"]).unwrap().run;
    let mistakes = Config::try_from((run, Surroundings::default())).unwrap_err();

    assert_eq!(mistakes.0[0].name, "--state-dir");
}

#[test]
fn a_worker_that_cannot_be_reached_is_warned_about() {
    let warnings = |words: &[&str]| config(words).unwrap().warnings().len();

    assert_eq!(warnings(&["--master=10.0.0.1:1"]), 1);
    assert_eq!(warnings(&["--master=10.0.0.1:1", "--ip=10.0.0.7"]), 0);
    assert_eq!(warnings(&["--master=127.0.0.1:1", "--ip=::1"]), 0);
    assert_eq!(warnings(&["--ip=10.0.0.7", "--port=127.0.0.1:1"]), 1);
}

#[test]
fn where_tls_is_spoken_a_master_is_followed_only_if_callers_show_who_they_are() {
    let moves = |words: &[&str]| config(words).unwrap().cluster.master_moves;
    let tls = ["--tls-cert=/c", "--tls-key=/k"];

    assert_eq!(
        moves(&[]),
        MasterMoves::Followed,
        "as the existing worker does"
    );
    assert_eq!(moves(&tls), MasterMoves::OfNobody);
    for way in [
        &["--tls-ca=/a"][..],
        &["--allow-from=master"],
        &["--token-file=/t", "--master-tls"],
    ] {
        let words = [&tls[..], way].concat();
        assert_eq!(moves(&words), MasterMoves::Followed, "{way:?}");
        let pinned = [&words[..], &["--pin-master"]].concat();
        assert_eq!(moves(&pinned), MasterMoves::Refused);
    }
}

#[test]
fn a_token_in_clear_is_warned_about_and_a_hidden_one_is_not() {
    let warnings = |words: &[&str]| config(words).unwrap().warnings().len();
    let tls = ["--token-file=/t", "--tls-cert=/c", "--tls-key=/k"];

    assert_eq!(warnings(&["--token-file=/t", "--token-in-clear"]), 1);
    assert_eq!(warnings(&[tls[0], tls[1], tls[2], "--master-tls"]), 0);
    assert_eq!(warnings(&["--token-in-clear"]), 0, "there is none");
}

#[test]
fn what_the_dockers_own_tools_understand_and_this_worker_does_not_is_refused() {
    let told = |engine: Option<&str>, surroundings: Surroundings| {
        let mistakes = engine_address(engine, &surroundings).err()?;
        assert!(mistakes.are_of_configuration(), "{mistakes}");
        Some(mistakes.to_string())
    };
    let around = |host: &str, tls: bool, context: &str| Surroundings {
        docker_host: Some(host.into()),
        docker_tls: tls,
        docker_context: Some(context.into()),
        ..Surroundings::default()
    };

    for (engine, surroundings) in [
        (None, around("tcp://10.0.0.9:2376", true, "")),
        (Some("tcp://a:2375"), around("", true, "")),
        (
            Some("http://a:2375"),
            around("unix:///run/d.sock", true, "remote"),
        ),
    ] {
        let told = told(engine, surroundings).unwrap();
        assert!(
            told.contains("TLS to the engine is not supported"),
            "{told}"
        );
    }
    let context = told(None, around("", false, "remote")).unwrap();
    assert!(
        context.contains("DOCKER_CONTEXT 'remote' is not supported"),
        "{context}"
    );
    for (engine, surroundings) in [
        (None, around("", true, "default")),
        (None, around("unix:///run/d.sock", true, "remote")),
        (Some("/run/d.sock"), around("", true, "remote")),
        (Some("tcp://a:2375"), around("", false, "")),
    ] {
        assert_eq!(told(engine, surroundings), None);
    }
}
