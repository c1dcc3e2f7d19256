//! What a container writes: its streams, its engine's record of them, and its output folder.

use std::{collections::BTreeMap, io::Read, os::unix::fs::PermissionsExt, time::UNIX_EPOCH};

use futures_util::TryStreamExt as _;
use sha2::{Digest, Sha256};
use worker_node::ports::engine::{ContainerEngine, EngineError, TarStream};

use crate::bench::{Bench, collect, in_time, read};

/// Regular files of an archive, by path.
async fn files(archive: TarStream) -> BTreeMap<String, String> {
    let bytes = in_time(collect(archive)).await;
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        if entry.header().entry_type().is_file() {
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            files.insert(path, content);
        }
    }
    files
}

#[tokio::test]
async fn attached_output_is_exact_to_the_byte() {
    let bench = Bench::new();
    let command = "head -c 3000000 /dev/urandom > /tmp/x; printf '\\0\\1\\2\\3' >> /tmp/x; \
                   cat /tmp/x; sha256sum /tmp/x | cut -c -64 >&2";

    let (_, code, output) = bench.run(&bench.plan(command).await).await;

    assert_eq!((code, output.stdout.len()), (0, 3_000_004));
    let seen: String = Sha256::digest(&output.stdout)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(String::from_utf8(output.stderr).unwrap().trim(), seen);
}

#[tokio::test]
async fn short_output_without_a_newline_is_never_lost() {
    let bench = Bench::new();

    for _ in 0..10 {
        let (_, _, output) = bench
            .run(&bench.plan("printf end; printf err >&2").await)
            .await;

        assert_eq!(
            (output.stdout.as_slice(), output.stderr.as_slice()),
            (&b"end"[..], &b"err"[..])
        );
    }
}

#[tokio::test]
async fn the_engines_record_begins_at_the_beginning_each_time() {
    let bench = Bench::new();
    let command = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; printf end >&2";

    let (id, _, attached) = bench.run(&bench.plan(command).await).await;

    for _ in 0..2 {
        let recorded = in_time(read(bench.engine.logs(&id, UNIX_EPOCH).await.unwrap())).await;
        assert_eq!(recorded, attached);
    }
    assert_eq!(attached.stderr, b"end");
}

/// The engine keeps them in parts, each with a time of its own.
#[tokio::test]
async fn a_long_line_is_whole_in_the_record() {
    let bench = Bench::new();
    let command =
        "head -c 100000 /dev/zero | tr '\\0' ' '; echo; head -c 40000 /dev/zero | tr '\\0' c >&2";

    let mut plan = bench.plan(command).await;
    plan.local_log = false;

    let (id, _, attached) = bench.run(&plan).await;

    let recorded = in_time(read(bench.engine.logs(&id, UNIX_EPOCH).await.unwrap())).await;
    assert_eq!(attached.stdout.len(), 100_001);
    assert_eq!(attached.stderr.len(), 40_000);
    assert!(recorded == attached, "it differs");
}

#[tokio::test]
async fn the_record_of_a_running_container_ends_at_its_present_end() {
    let bench = Bench::new();
    let id = bench.running().await;

    let recorded = in_time(read(bench.engine.logs(&id, UNIX_EPOCH).await.unwrap())).await;

    assert_eq!(recorded.stdout, b"ready\n");
}

#[tokio::test]
async fn a_record_is_told_from_a_time_on_and_that_of_its_end() {
    let bench = Bench::new();
    let command = "for n in 1 2 3; do echo $n; sleep 0.05; done; echo end >&2";
    let (id, ..) = bench.run(&bench.plan(command).await).await;
    let frames = bench.engine.logs(&id, UNIX_EPOCH).await.unwrap();
    let all: Vec<_> = in_time(frames.try_collect()).await.unwrap();

    for (number, frame) in all.iter().enumerate() {
        let since = frame.time.unwrap();
        let frames = bench.engine.logs(&id, since).await.unwrap();
        let rest: Vec<_> = in_time(frames.try_collect()).await.unwrap();
        assert_eq!(rest, all[number..]);
    }
    assert!(all.len() >= 4, "{all:?}");
    let last = bench.engine.last_written(&id).await.unwrap();
    assert_eq!(last, all.last().unwrap().time);
    let now = bench.engine.time().await.unwrap();
    assert!(Some(now) > last, "{now:?}");
}

#[tokio::test]
async fn a_container_that_wrote_nothing_has_an_empty_record() {
    let bench = Bench::new();

    let (id, _, attached) = bench.run(&bench.plan("true").await).await;

    let recorded = in_time(read(bench.engine.logs(&id, UNIX_EPOCH).await.unwrap())).await;
    assert_eq!(recorded, attached);
    assert!(recorded.stdout.is_empty() && recorded.stderr.is_empty());
}

#[tokio::test]
async fn a_folder_inside_is_there_for_every_user_and_comes_out() {
    let bench = Bench::new();
    let command = "stat -c %a /output; mkdir /output/deep; echo result > /output/deep/file; \
                   su -s /bin/sh nobody -c 'echo mine > /output/nobody'";

    let (id, code, output) = bench.run(&bench.plan(command).await).await;

    assert_eq!(
        (code, output.stdout.as_slice()),
        (0, &b"1777\n"[..]),
        "{output:?}"
    );
    let archive = bench.engine.download_output(&id).await.unwrap();
    let expected = [
        ("output/deep/file", "result\n"),
        ("output/nobody", "mine\n"),
    ];
    let expected = expected.map(|(path, content)| (path.to_owned(), content.to_owned()));
    assert_eq!(files(archive).await, BTreeMap::from(expected));
}

#[tokio::test]
async fn a_link_in_place_of_the_folder_leads_nowhere() {
    let bench = Bench::new();
    let command = "rmdir /output; ln -s /etc /output";

    let (id, ..) = bench.run(&bench.plan(command).await).await;

    let archive = bench.engine.download_output(&id).await.unwrap();
    assert_eq!(files(archive).await, BTreeMap::new());
}

#[tokio::test]
async fn a_folder_that_was_taken_away_is_missing() {
    let bench = Bench::new();

    let (id, ..) = bench.run(&bench.plan("rmdir /output").await).await;

    let outcome = bench.engine.download_output(&id).await.err();
    assert!(
        matches!(outcome, Some(EngineError::NotFound(_))),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_folder_of_the_host_is_bound() {
    let bench = Bench::new();
    let folder = tempfile::Builder::new()
        .prefix("out:put ")
        .tempdir()
        .unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o1777)).unwrap();
    let mut plan = bench.plan("echo result > /output/file").await;
    plan.output_folder = Some(folder.path().to_owned());

    let (_, code, output) = bench.run(&plan).await;

    assert_eq!(code, 0, "{output:?}");
    let file = folder.path().join("file");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "result\n");
}

#[tokio::test]
async fn a_missing_folder_of_the_host_is_not_made_up() {
    let bench = Bench::new();
    let folder = tempfile::tempdir().unwrap();
    let mut plan = bench.plan("true").await;
    plan.output_folder = Some(folder.path().join("missing"));

    let outcome = bench.engine.create(&plan).await;

    assert!(
        matches!(outcome, Err(EngineError::Invalid(_))),
        "{outcome:?}"
    );
    assert!(!folder.path().join("missing").exists());
}

#[tokio::test]
async fn a_create_that_was_cut_off_before_its_folder_is_completed_by_the_next() {
    let bench = Bench::new();
    let plan = bench.plan("touch /output/file").await;
    let whole = bench.engine.create(&plan).await.unwrap();
    let half = bench.replaced_without_folder(&whole, &plan.name.0).await;

    let again = bench.engine.create(&plan).await;

    assert!(matches!(again, Err(EngineError::Conflict(_))), "{again:?}");
    bench.engine.start(&half).await.unwrap();
    assert_eq!(in_time(bench.engine.wait(&half)).await, Ok(0));
}
