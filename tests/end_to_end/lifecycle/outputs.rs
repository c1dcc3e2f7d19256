//! Output files: whatever a task leaves in `/output` is uploaded as it is, and nothing else.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bollard::models::ContainerConfig;
use worker_node::dev_master::{Fault, Method, ReportCopy, Upload};
use worker_node::proto::Task;

use super::endings::{log_of, trailer};
use crate::harness::{Cluster, TestImage};

/// What a report's log may have.
const LOG_LIMIT: usize = 3_670_016;

/// The name under which a log that is too long goes along.
const FULL_LOG: &str = "worker-node-full-log.txt";

async fn uploaded(cluster: &Cluster, command: &str) -> (ReportCopy, Upload) {
    let task = cluster.run(command).await;
    let report = cluster.report(&task).await;
    let upload = cluster.master.wait_upload(&task).await;
    (report, upload.expect("its files"))
}

fn paths(upload: &Upload) -> BTreeSet<&str> {
    upload.files.iter().map(|file| file.path.as_str()).collect()
}

#[track_caller]
fn content<'a>(upload: &'a Upload, path: &str) -> &'a [u8] {
    let file = upload.file(path);
    let file = file.unwrap_or_else(|| panic!("{path:?} is not among {:?}", paths(upload)));
    file.bytes.as_deref().expect("it is small")
}

#[tokio::test]
async fn files_of_every_name_and_size_arrive_as_they_are() {
    let cluster = Cluster::start().await;

    let (report, upload) = uploaded(
        &cluster,
        "cd /output; touch empty; mkdir -p a/b/c; echo deep > a/b/c/file; \
         echo 1 > 'two words'; echo 2 > \"$(printf 'two\\nlines')\"; echo 3 > '-rf'; \
         echo 4 > \u{fc}n\u{ef}-\u{65e5}\u{672c}; echo 5 > .hidden; printf 'a\\0b\\377' > binary; \
         echo 6 > locked; chmod 000 locked; mkdir shut; echo 7 > shut/in; chmod 000 shut; \
         dd if=/dev/urandom of=big bs=1M count=20 2> /dev/null; sha256sum big",
    )
    .await;

    assert_eq!(report.status, "success", "{}", report.logs);
    assert_eq!(content(&upload, "empty"), b"");
    for (path, expected) in [
        ("a/b/c/file", "deep\n"),
        ("two words", "1\n"),
        ("two\nlines", "2\n"),
        ("-rf", "3\n"),
        ("\u{fc}n\u{ef}-\u{65e5}\u{672c}", "4\n"),
        (".hidden", "5\n"),
        ("locked", "6\n"),
        ("shut/in", "7\n"),
    ] {
        assert_eq!(content(&upload, path), expected.as_bytes(), "{path:?}");
    }
    assert_eq!(content(&upload, "binary"), b"a\0b\xff");
    let big = upload.file("big").unwrap();
    assert_eq!(big.size, 20 << 20);
    assert_eq!(log_of(&report), format!("{}  big\n", big.sha256));
    let listed: BTreeSet<&str> = report.output_files.iter().map(String::as_str).collect();
    assert_eq!(listed, paths(&upload), "the report lists what was uploaded");
    assert_eq!(listed.len(), 11);
    cluster.finish().await;
}

/// While a result waits for its master the files lie there, root's most of them.
#[tokio::test]
async fn no_file_of_a_task_that_has_ended_is_set_user_id_or_set_group_id() {
    let cluster = Cluster::start().await;
    cluster.master.inject(Method::Report, Fault::Hold);

    let task = cluster
        .run("cd /output; mkdir sub; cp /bin/busybox sub/u; touch g both plain; chmod 4755 sub/u; chmod 2711 g; chmod 6777 both; chmod 640 plain")
        .await;
    let upload = cluster.master.wait_upload(&task).await.unwrap();

    assert_eq!(
        paths(&upload),
        BTreeSet::from(["both", "g", "plain", "sub/u"])
    );
    let left = cluster.worker.outputs_left();
    let [folder] = &left[..] else {
        panic!("one folder: {left:?}")
    };
    let folder = cluster.worker.state_dir().join("outputs").join(folder);
    for (path, mode) in [
        ("sub/u", 0o755),
        ("g", 0o711),
        ("both", 0o777),
        ("plain", 0o640),
    ] {
        let found = std::fs::metadata(folder.join(path)).unwrap().permissions();
        assert_eq!(found.mode() & 0o7777, mode, "{path}");
    }
    cluster.master.heal(Method::Report);
    assert_eq!(cluster.report(&task).await.status, "success");
    cluster.finish().await;
}

#[tokio::test]
async fn links_and_pipes_lead_nowhere_and_are_told() {
    let cluster = Cluster::start().await;

    let (report, upload) = uploaded(
        &cluster,
        "cd /output; echo mine > file; ln file twin; ln -s /etc/passwd passwd; ln -s / root; ln -s nowhere dangling; \
         ln -s file near; ln -s ../.. up; mkfifo pipe; mknod null c 1 3 2> /dev/null; mkdir sub; ln -s /etc sub/etc",
    )
    .await;

    assert_eq!(report.status, "success", "a pipe holds nobody up");
    assert_eq!(paths(&upload), BTreeSet::from(["file", "twin"]));
    assert_eq!(content(&upload, "twin"), b"mine\n");
    for skipped in [
        "passwd", "root", "dangling", "near", "up", "pipe", "sub/etc",
    ] {
        assert!(
            trailer(&report).contains(skipped),
            "{skipped} is not told: {}",
            trailer(&report)
        );
    }
    assert!(!report.logs.contains("root:x:0"), "{}", report.logs);
    cluster.finish().await;
}

#[tokio::test]
async fn an_output_folder_that_is_exchanged_for_a_link_leads_nowhere() {
    let cluster = Cluster::start().await;

    // It is a mount: it cannot be exchanged as a whole, only emptied.
    let task = cluster
        .run("rm -rf /output 2> /dev/null; ln -s /etc /output 2> /dev/null; rmdir /output 2> /dev/null; echo tried")
        .await;
    let report = cluster.report(&task).await;

    assert_eq!(report.output_files, Vec::<String>::new(), "{}", report.logs);
    cluster.finish().await;
}

#[tokio::test]
async fn a_log_that_is_too_long_for_the_report_goes_along_as_a_file() {
    let cluster = Cluster::start().await;

    let (report, upload) = uploaded(
        &cluster,
        "echo begin; seq 100000 700000; echo end; echo mine > /output/mine",
    )
    .await;

    let lines = |from: usize, to: usize| (from..=to).map(|number| format!("{number}\n"));
    let whole: String = std::iter::once("begin\n".to_owned())
        .chain(lines(100_000, 700_000))
        .chain(std::iter::once("end\n".to_owned()))
        .collect();
    let full = upload.file(FULL_LOG).expect("the whole log");
    assert_eq!(full.size, whole.len() as u64);
    assert_eq!(full.sha256, sha256(whole.as_bytes()));
    assert_eq!(content(&upload, "mine"), b"mine\n");
    assert_eq!(report.output_files.len(), 2, "{:?}", report.output_files);
    assert!(report.logs.len() <= LOG_LIMIT);
    assert!(report.logs.starts_with("begin\n100000\n"));
    assert!(log_of(&report).ends_with("\n700000\nend\n"));
    assert!(
        trailer(&report).contains("bytes of log left out"),
        "{}",
        trailer(&report)
    );
    cluster.finish().await;
}

#[tokio::test]
async fn a_name_that_the_worker_needs_is_not_followed_where_a_task_leads_it() {
    let cluster = Cluster::start().await;
    let trap = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(trap.path(), "untouched").unwrap();

    let (report, upload) = uploaded(
        &cluster,
        &format!(
            "ln -s {} /output/{FULL_LOG}; seq 100000 700000; echo mine > /output/mine",
            trap.path().display()
        ),
    )
    .await;

    assert_eq!(report.status, "success");
    assert_eq!(std::fs::read(trap.path()).unwrap(), b"untouched");
    assert!(upload.file("mine").is_some(), "{:?}", paths(&upload));
    assert!(
        trailer(&report).contains("the full log could not be added"),
        "{}",
        trailer(&report)
    );
    cluster.finish().await;
}

#[tokio::test]
async fn a_task_of_another_user_writes_files_too() {
    let cluster = Cluster::start().await;
    let config = ContainerConfig {
        user: Some("4711:4712".to_owned()),
        ..ContainerConfig::default()
    };
    let image = TestImage::from_busybox(cluster.engine.docker(), config).await;
    let task = Task {
        docker_image: image.name.clone(),
        ..cluster.task("umask 077; mkdir /output/own; id -u > /output/own/user")
    };

    let task = cluster.submit(task).await;
    let report = cluster.report(&task).await;
    let upload = cluster.master.wait_upload(&task).await.unwrap();

    assert_eq!(report.status, "success", "{}", report.logs);
    assert_eq!(content(&upload, "own/user"), b"4711\n");
    cluster.finish().await;
}

#[tokio::test]
async fn output_lies_in_the_state_folder_and_nowhere_else() {
    let cluster = Cluster::start().await;
    let task = cluster
        .run("echo here > /output/file; echo up; exec sleep 600")
        .await;
    cluster
        .master
        .watch_log(&task)
        .wait_line("up")
        .await
        .unwrap();

    let folders = cluster.worker.outputs_left();
    let [folder] = folders.as_slice() else {
        panic!("{folders:?}");
    };
    let path = cluster.worker.state_dir().join("outputs").join(folder);
    assert_eq!(read(&path.join("file")), "here\n");
    assert!(
        folder.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "nothing of the task's id is in a path: {folder}"
    );
    cluster.master.cancel(&task).await.unwrap();
    cluster.report(&task).await;
    cluster.finish().await;
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
