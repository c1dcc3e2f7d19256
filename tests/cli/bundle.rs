//! A bundle of a worker that does not run.

use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use flate2::read::GzDecoder;

use super::{Ended, ended, worker};

fn bundle(file: &Path, state: &Path) -> Ended {
    let words = ["bundle", file.to_str().expect("UTF-8"), "--state-dir"];
    let mut command = worker(&words);
    command.arg(state);
    ended(command)
}

fn entry(file: &Path, name: &str) -> String {
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(file).expect("it is there")));
    let mut entries = archive.entries().expect("an archive");
    let entry = entries.find_map(|entry| {
        let entry = entry.expect("an entry");
        let path = entry.path().expect("a name").into_owned();
        path.ends_with(name).then_some(entry)
    });
    let mut text = String::new();
    let mut entry = entry.expect(name);
    entry.read_to_string(&mut text).expect("UTF-8");
    text
}

#[test]
fn a_bundle_is_made_without_a_worker_and_says_what_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("b.tar.gz");

    let made = bundle(&file, folder.path());

    assert_eq!(made.code, Some(0), "{}", made.stderr);
    assert!(
        made.stdout.contains("not to be had: status.txt, "),
        "{}",
        made.stdout
    );
    let found = fs::metadata(&file).expect("it is there");
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    assert!(entry(&file, "version.txt").starts_with("worker-node 0."));
    assert!(entry(&file, "config.toml").contains("[cluster]"));
    assert!(entry(&file, "status.txt").contains("no worker runs"));
    let contents = entry(&file, "README.txt");
    assert!(
        contents.contains("worker-node status --state-dir "),
        "{contents}"
    );
    assert!(contents.contains(": exit code 3\n"), "{contents}");
}

#[test]
fn what_tasks_have_in_their_variables_is_in_no_bundle() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, config) = (folder.path().join("b.tar.gz"), folder.path().join("c.toml"));
    let text = "task_defaults.environment = { MODE = 'hunter2' }\n\
                [[profile]]\nname = 'p'\nmatch = { user = 'a' }\nenvironment = { TOKEN = 'hunter2' }\n";
    fs::write(&config, text).expect("it can be written");
    let words = ["bundle", file.to_str().expect("UTF-8"), "--config"];
    let mut command = worker(&words);
    command.arg(&config).arg("--state-dir").arg(folder.path());

    let made = ended(command);

    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let told = entry(&file, "config.toml");
    assert!(told.contains("TOKEN") && told.contains("MODE"), "{told}");
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(&file).expect("it is there")));
    for entry in archive.entries().expect("an archive") {
        let mut text = String::new();
        let mut entry = entry.expect("an entry");
        entry.read_to_string(&mut text).expect("UTF-8");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_file_that_is_there_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("b.tar.gz");
    fs::write(&file, "mine").expect("it can be written");

    let refused = bundle(&file, folder.path());

    assert_eq!(refused.code, Some(2));
    assert!(
        refused
            .stderr
            .contains("is there already; give another name"),
        "{}",
        refused.stderr
    );
    assert_eq!(fs::read_to_string(&file).expect("it is there"), "mine");
}
