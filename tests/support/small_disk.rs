//! A small disk of its own for one test: a tmpfs, which can be filled to the last byte.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::statvfs;
use tempfile::TempDir;

/// Mounted until it is dropped.
pub(crate) struct SmallDisk {
    mounted_at: TempDir,
}

impl SmallDisk {
    /// So many MiB.
    pub(crate) fn mount(mebibytes: u64) -> Self {
        Self::mount_with(&format!("size={mebibytes}m"))
    }

    /// With the bounds that these mount options give it: `size=` in bytes, `nr_inodes=` in files.
    pub(crate) fn mount_with(options: &str) -> Self {
        let mounted_at = tempfile::tempdir().expect("a folder to mount at");
        let options = format!("{options},mode=0755");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(mounted_at.path())
            .status();
        let is_mounted = mounted.is_ok_and(|status| status.success());
        assert!(is_mounted, "this test mounts a tmpfs, so it runs as root");
        Self { mounted_at }
    }

    pub(crate) fn path(&self) -> &Path {
        self.mounted_at.path()
    }

    /// Bytes that can still be written.
    pub(crate) fn free(&self) -> u64 {
        let disk = statvfs(self.path()).expect("the disk answers");
        disk.f_bavail * disk.f_frsize
    }

    /// Files that can still be made.
    pub(crate) fn free_files(&self) -> u64 {
        statvfs(self.path()).expect("the disk answers").f_favail
    }

    /// Makes empty files in a folder of its own until so many are left.
    pub(crate) fn fill_files_to(&self, left: u64) {
        fs::create_dir(self.files()).expect("a new folder");
        for number in 0.. {
            let file = self.files().join(number.to_string());
            if self.free_files() <= left || File::create(file).is_err() {
                return;
            }
        }
    }

    /// In percent, as `df` counts.
    #[expect(clippy::cast_precision_loss, reason = "a share for a comparison")]
    pub(crate) fn used(&self) -> f64 {
        let disk = statvfs(self.path()).expect("the disk answers");
        let used = disk.f_blocks - disk.f_bfree;
        used as f64 * 100.0 / (used + disk.f_bavail) as f64
    }

    /// Fills it until so many bytes are left.
    pub(crate) fn fill_to(&self, left: u64) {
        let mut ballast = File::options()
            .append(true)
            .create(true)
            .open(self.ballast())
            .expect("a file on the disk");
        let block = [0x55; 4_096];
        while self.free() > left {
            if ballast.write_all(&block).is_err() {
                return;
            }
        }
    }

    /// Gives the space back.
    pub(crate) fn empty(&self) {
        fs::remove_file(self.ballast()).expect("it was filled");
    }

    /// Gives the files back.
    pub(crate) fn empty_files(&self) {
        fs::remove_dir_all(self.files()).expect("it was filled");
    }

    fn files(&self) -> PathBuf {
        self.path().join("files")
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: what a container still holds goes with the container.
        let unmounted = Command::new("umount")
            .arg("-l")
            .arg(self.mounted_at.path())
            .status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("a tmpfs stays mounted at {}", self.path().display());
        }
    }
}
