//! Finds a container's deleted files that are still open: they take disk space until they are closed, and no folder lists them.
//! They are found among the open files of the container's processes.

use std::{
    collections::HashSet,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FileType, stat};

use super::walk::Sum;

/// The most open files of one container that are looked at; the files beyond that are not counted.
const LOOKS: usize = 100_000;

/// What the kernel writes behind the last name of a deleted file.
const DELETED: &[u8] = b" (deleted)";

/// Adds the deleted files that these processes have open, each once: those of their root's file system, and those in one of
/// `places`. `processes` are their folders below `/proc`.
pub(super) fn add(processes: &[PathBuf], places: &[String], sum: &mut Sum) {
    let mut seen = HashSet::new();
    let files = processes.iter().flat_map(|process| {
        let root = stat(process.join("root").join(".")).ok();
        let files = fs::read_dir(process.join("fd")).ok();
        let files = files.into_iter().flatten().flatten();
        files.map(move |file| (file.path(), root.map(|root| root.st_dev)))
    });
    for (file, root) in files.take(LOOKS) {
        // Reading the link asks no file system, so that one that hangs cannot hold this up.
        let Ok(name) = fs::read_link(&file) else {
            continue;
        };
        if !name.as_os_str().as_bytes().ends_with(DELETED) {
            continue;
        }
        let Ok(stat) = stat(&file) else { continue };
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        let is_own = root == Some(stat.st_dev) || lies_in(&name, places);
        if is_file && stat.st_nlink == 0 && is_own && seen.insert((stat.st_dev, stat.st_ino)) {
            sum.add(&stat);
        }
    }
}

fn lies_in(name: &Path, places: &[String]) -> bool {
    places.iter().any(|place| name.starts_with(place))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader},
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn a_file_that_was_deleted_counts_once_for_as_long_as_it_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let script = "exec 3>gone 4>&3 5>here; rm gone; head -c 3145728 /dev/zero >&3; \
                      head -c 9000000 /dev/zero >&5; echo ready; read -r end";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut output = BufReader::new(shell.stdout.take().unwrap());
        output.read_line(&mut said).unwrap();
        let processes = [PathBuf::from(format!("/proc/{}", shell.id()))];

        let mut sum = Sum::default();
        let place = folder.path().to_str().unwrap().to_owned();
        add(&processes, &[place], &mut sum);

        assert_eq!(said, "ready\n");
        assert_eq!(sum.inodes(), 1);
        assert!((3 << 20..4 << 20).contains(&sum.bytes), "{}", sum.bytes);
        drop(shell.stdin.take());
        shell.wait().unwrap();
        let mut after = Sum::default();
        add(&processes, &[], &mut after);
        assert_eq!(after.bytes, 0, "it is gone with the process");
    }

    #[test]
    fn what_lies_elsewhere_is_not_its_own() {
        let places = ["/output".to_owned()];

        assert!(lies_in(Path::new("/output/x (deleted)"), &places));
        assert!(!lies_in(Path::new("/outputs/x (deleted)"), &places));
        assert!(!lies_in(Path::new("/memfd:x (deleted)"), &places));
    }
}
