//! `install` and `uninstall` below a folder, as for the image of a machine; the unit as systemd's own tools see it. Written and
//! removed by the real binary.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{Ended, ended, worker};

const PROGRAM: &str = "usr/bin/worker-node";
const UNIT: &str = "etc/systemd/system/worker-node.service";
const USER: &str = "etc/systemd/system/worker-node.service.d/50-user.conf";
const CONFIGURATION: &str = "etc/worker-node/config.toml";

fn below(root: &Path, words: &[&str]) -> Ended {
    let mut command = worker(words);
    command.arg("--root").arg(root);
    if words[0] == "uninstall" {
        command.args(["--state-dir", "/var/lib/worker-node"]);
    }
    ended(command)
}

#[track_caller]
fn done(root: &Path, words: &[&str]) -> String {
    let ended = below(root, words);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    ended.stdout
}

/// All files below a folder, and what is in them but for the program.
fn files(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).expect("a folder");
    let mut found: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .flat_map(|path| match path.is_dir() {
            true => files(&path),
            false => vec![path],
        })
        .collect();
    found.sort();
    found
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path)
        .expect("it is there")
        .permissions()
        .mode()
        & 0o777
}

#[test]
fn a_dry_run_writes_nothing_and_names_what_would_be() {
    let root = tempfile::tempdir().expect("a folder");

    let told = done(root.path(), &["install", "--user", "nobody", "--dry-run"]);

    for file in [PROGRAM, UNIT, USER, CONFIGURATION] {
        assert!(
            told.contains(&format!("would write {}/{file}\n", root.path().display())),
            "{told}"
        );
    }
    assert!(files(root.path()).is_empty());
}

#[test]
fn what_install_writes_uninstall_removes_but_for_what_people_wrote() {
    let root = tempfile::tempdir().expect("a folder");
    let at = |file: &str| root.path().join(file);

    let told = done(root.path(), &["install", "--user", "nobody"]);

    assert!(
        told.contains("systemctl enable --now worker-node"),
        "{told}"
    );
    let status = "  sudo -u nobody worker-node status --state-dir /var/lib/worker-node\n";
    assert!(told.ends_with(status), "{told}");
    let laid = [UNIT, USER, CONFIGURATION, PROGRAM].map(at);
    assert_eq!(files(root.path()), laid);
    assert_eq!(
        laid.each_ref().map(|path| mode(path)),
        [0o644, 0o644, 0o644, 0o755]
    );
    let user = fs::read_to_string(at(USER)).expect("written");
    assert!(
        user.contains("\nUser=nobody\n") && user.contains("=docker\n"),
        "{user}"
    );
    let configuration = at(CONFIGURATION).display().to_string();
    let checked = ended(worker(&["config", "check", &configuration]));
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);

    fs::write(at(CONFIGURATION), "[cluster]\nid = \"w7\"\n").expect("written");
    let told = done(root.path(), &["install"]);
    assert_eq!(told.matches("unchanged").count(), 2, "{told}");
    assert!(
        told.contains(&format!("kept        {configuration}\n")),
        "{told}"
    );

    let told = done(root.path(), &["uninstall"]);
    assert!(
        told.contains(&format!("left        {configuration} (--purge")),
        "{told}"
    );
    assert_eq!(files(root.path()), [at(CONFIGURATION)]);
    done(root.path(), &["uninstall", "--purge"]);
    assert!(!at("etc/worker-node").exists());
}

#[test]
fn a_unit_that_was_edited_is_kept_until_force_is_used() {
    let root = tempfile::tempdir().expect("a folder");
    let unit = root.path().join(UNIT);
    done(root.path(), &["install"]);
    let ours = fs::read(&unit).expect("written");
    fs::write(&unit, "[Service]\nExecStart=/bin/true\n").expect("written");

    let told = done(root.path(), &["install"]);
    assert!(told.contains("it differs from this version's"), "{told}");
    assert_eq!(
        fs::read(unit.with_extension("service.new")).expect("beside"),
        ours
    );
    let told = done(root.path(), &["uninstall"]);
    assert!(
        told.contains("it was edited (--force removes it)"),
        "{told}"
    );
    assert!(
        fs::read_to_string(&unit)
            .expect("kept")
            .contains("/bin/true")
    );

    done(root.path(), &["install", "--force"]);
    assert_eq!(fs::read(&unit).expect("written"), ours);
    done(root.path(), &["uninstall"]);
    assert!(!unit.exists());
}

#[test]
fn a_service_that_a_package_looks_after_is_left_to_it() {
    let root = tempfile::tempdir().expect("a folder");
    let folder = root.path().join("lib/systemd/system");
    fs::create_dir_all(&folder).expect("made");
    fs::write(folder.join("worker-node.service"), "").expect("written");

    for words in [["install"], ["uninstall"]] {
        let ended = below(root.path(), &words);
        assert_eq!(ended.code, Some(78), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("apt remove worker-node"),
            "{}",
            ended.stderr
        );
    }
}

#[test]
fn a_user_whose_name_is_none_is_refused() {
    for name in ["a b", "x\nExecStart=/bin/sh", "-x", ""] {
        let ended = ended(worker(&["install", "--dry-run", &format!("--user={name}")]));
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    }
}

/// systemd-analyze with these words, and what it says.
fn systemd_analyze(words: &[&str], unit: &Path) -> (bool, String) {
    let output = Command::new("systemd-analyze")
        .args(words)
        .arg(unit)
        .output();
    let Output {
        status,
        stdout,
        stderr,
    } = output.expect("systemd-analyze, of the package systemd, which tests/with-docker installs");
    let said = [stdout, stderr].concat();
    (
        status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit_and_rates_it_ok() {
    let root = tempfile::tempdir().expect("a folder");
    done(root.path(), &["install"]);
    let unit = root.path().join(UNIT);
    // It looks for the program on this machine.
    let text = fs::read_to_string(&unit).expect("written");
    let here = text.replace("/usr/bin/worker-node", env!("CARGO_BIN_EXE_worker-node"));
    fs::write(&unit, here).expect("written");

    let (is_sound, said) = systemd_analyze(&["verify", "--man=no"], &unit);
    assert!(is_sound && !said.contains("worker-node.service"), "{said}");
    // Exposure, in tenths; systemd says OK up to 4.9.
    let (is_ok, said) = systemd_analyze(
        &["security", "--offline=yes", "--no-pager", "--threshold=30"],
        &unit,
    );
    assert!(is_ok, "{said}");
}
