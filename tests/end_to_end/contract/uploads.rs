//! UploadTaskFiles: hazards 8 to 12. The order of chunks and the paths are judged by the recording master.

use sha2::{Digest as _, Sha256};
use worker_node::dev_master::{Fault, Method, Upload};
use worker_node::proto::Task;

use crate::harness::Cluster;

/// Short deadlines for an upload: without progress, and in all.
const IMPATIENT: [&str; 4] = ["--upload-inactivity", "500ms", "--upload-total", "2s"];

async fn uploaded(cluster: &Cluster, task: &str) -> Upload {
    cluster.report(task).await;
    cluster.master.wait_upload(task).await.expect("its files")
}

#[tokio::test]
async fn hazard_08_empty_files() {
    let cluster = Cluster::start().await;

    let task = cluster
        .run("touch /output/a-empty /output/z-empty; echo full > /output/b-full")
        .await;
    let upload = uploaded(&cluster, &task).await;

    for empty in ["a-empty", "z-empty"] {
        let file = upload
            .file(empty)
            .unwrap_or_else(|| panic!("{empty} is not among {:?}", upload.files));
        assert_eq!((file.size, file.chunks), (0, 1), "{empty}");
    }
    assert_eq!(
        upload.file("b-full").unwrap().bytes.as_deref(),
        Some(&b"full\n"[..])
    );
    cluster.finish().await;
}

#[tokio::test]
async fn hazard_09_files_are_not_interleaved() {
    let cluster = Cluster::start().await;
    let sizes = [1_usize, 5, 9, 2];

    let task = cluster.run("cd /output; mkdir -p sub/deep; for n in 1 5 9 2; do dd if=/dev/zero of=sub/deep/$n bs=1M count=$n; done").await;
    let upload = uploaded(&cluster, &task).await;

    assert_eq!(upload.files.len(), sizes.len(), "{:?}", upload.files);
    for size in sizes {
        let file = upload.file(&format!("sub/deep/{size}")).unwrap();
        let bytes = size << 20;
        let digest: String = Sha256::digest(vec![0; bytes])
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            (file.size, &file.sha256),
            (bytes as u64, &digest),
            "{}",
            file.path
        );
        assert!(
            file.chunks > size / 4,
            "{} came in {} chunks",
            file.path,
            file.chunks
        );
    }
    cluster.finish().await;
}

#[tokio::test]
async fn hazard_10_no_empty_upload_stream() {
    let cluster = Cluster::start().await;

    let nothing = cluster.run("true").await;
    let only_a_folder = cluster.run("mkdir -p /output/a/b").await;
    cluster.report(&nothing).await;
    cluster.report(&only_a_folder).await;

    let master = cluster.finish().await;
    assert_eq!(master.look(|record| record.calls(Method::Upload)), 0);
}

#[tokio::test]
async fn hazard_11_clean_paths_and_slash_in_task_name() {
    let cluster = Cluster::start().await;
    let command = "cd /output; mkdir 'a b'; echo 1 > 'a b/\u{fc}'; echo 2 > \"$(printf 'bad\\377')\"; \
                   ln -s /etc/passwd link; ln -s / root; mkfifo pipe";
    let named = Task {
        task_name: "team/job:1".to_owned(),
        ..cluster.task(command)
    };

    let task = cluster.submit(named).await;
    let report = cluster.report(&task).await;
    let upload = cluster.master.wait_upload(&task).await.unwrap();

    assert_eq!(upload.task_name, "team_job:1");
    let mut paths: Vec<&str> = upload.files.iter().map(|file| file.path.as_str()).collect();
    paths.sort_unstable();
    assert_eq!(
        paths.len(),
        2,
        "links and pipes are not followed: {paths:?}"
    );
    assert_eq!(paths[0], "a b/\u{fc}");
    assert!(paths[1].starts_with("bad"), "{paths:?}");
    assert!(
        report.logs.contains("link") && report.logs.contains("pipe"),
        "what was skipped is said: {:?}",
        report.logs
    );
    cluster.finish().await;
}

#[tokio::test]
async fn hazard_12_upload_deadline_while_the_master_never_answers() {
    let cluster = Cluster::start_with(|setup| setup.arguments(IMPATIENT)).await;
    cluster.master.inject(Method::Upload, Fault::Ignore);

    let unread = cluster
        .run("dd if=/dev/zero of=/output/file bs=1M count=8")
        .await;
    let first = cluster.report(&unread).await;
    cluster.master.inject(Method::Upload, Fault::NeverAnswer);
    let unanswered = cluster.run("echo small > /output/file").await;
    let second = cluster.report(&unanswered).await;
    cluster.master.heal(Method::Upload);

    for report in [first, second] {
        assert_eq!(report.status, "success", "the task itself went well");
        let trailer = report.logs.lines().next_back().unwrap_or_default();
        assert!(
            trailer.contains("upload"),
            "the trailer does not say that the upload failed: {trailer:?}"
        );
    }
    cluster.finish().await;
}
