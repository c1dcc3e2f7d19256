//! Checks that a state folder is this user's alone: its owner, its mode, the folders above it, and that no entry of it is a link.
//! Done at every start: a mode that was right when the folder was made says nothing about today.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::Path,
};

use rustix::fs::OFlags;

use super::StateDirError;

/// The mode bits of group and others.
const OF_OTHERS: u32 = 0o077;
/// The mode bit by which every user may write.
const OTHERS_WRITE: u32 = 0o002;
/// The mode bit by which a file in the folder can be renamed or removed by its owner only.
const STICKY: u32 = 0o1000;

/// Checks that the folder, whose path is without links, is this user's alone. A mode that is too wide is set to 0700.
///
/// # Errors
/// The folder or something in it is another user's, others could exchange the folder, or something in it is a link.
pub(super) fn claim(folder: &Path) -> Result<(), StateDirError> {
    let error = |source| StateDirError::new(folder, source);
    let file = open_folder(folder).map_err(error)?;
    let found = file.metadata().map_err(error)?;
    is_ours(folder, found.uid())?;
    way_to(folder)?;
    let mode = found.permissions().mode();
    if mode & OF_OTHERS != 0 {
        file.set_permissions(Permissions::from_mode(0o700))
            .map_err(error)?;
        let was = format!("{:04o}", mode & 0o7777);
        log::info!(folder:? = folder, was; "the state folder was open to other users; its mode is 0700 now");
    }
    for entry in fs::read_dir(folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => return Err(StateDirError::Link { path }),
            Ok(found) => is_ours(&path, found.uid())?,
            // A socket, removed just now by a worker that is ending.
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(error(source)),
        }
    }
    Ok(())
}

/// Sets the mode of a folder within the state folder to 0700 where others have access.
///
/// # Errors
/// The path is a link, or no folder; or the disk's.
pub(super) fn make_private(folder: &Path) -> io::Result<()> {
    let file = open_folder(folder)?;
    if file.metadata()?.permissions().mode() & OF_OTHERS != 0 {
        file.set_permissions(Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn open_folder(folder: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::DIRECTORY;
    File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(folder)
}

fn is_ours(path: &Path, owner: u32) -> Result<(), StateDirError> {
    let us = rustix::process::geteuid().as_raw();
    if owner == us {
        return Ok(());
    }
    let path = path.to_owned();
    Err(StateDirError::Foreign { path, owner, us })
}

/// Checks that no other user can exchange the folder: no folder above it may be writable for all, unless it is sticky. Write
/// access for a group is accepted: its members were chosen.
fn way_to(folder: &Path) -> Result<(), StateDirError> {
    for parent in folder.ancestors().skip(1) {
        // A parent that this user cannot look at is skipped.
        let mode = fs::metadata(parent).map_or(0, |found| found.permissions().mode());
        if mode & OTHERS_WRITE != 0 && mode & STICKY == 0 {
            return Err(StateDirError::Exposed {
                folder: folder.to_owned(),
                parent: parent.to_owned(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{chown, symlink};

    use super::*;
    use crate::exit::Exit;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_mode_that_is_too_wide_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        for wide in [0o755, 0o777, 0o1777, 0o710] {
            set(folder.path(), wide);
            claim(folder.path()).unwrap();
            assert_eq!(mode(folder.path()), 0o700, "{wide:o}");
        }
        let within = folder.path().join("logs");
        fs::create_dir(&within).unwrap();
        set(&within, 0o755);
        make_private(&within).unwrap();
        assert_eq!(mode(&within), 0o700);
    }

    #[test]
    fn a_way_on_which_others_may_exchange_it_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("state");
        fs::create_dir(&folder).unwrap();
        set(parent.path(), 0o777);

        let error = claim(&folder).unwrap_err();

        assert_eq!(error.exit(), Exit::Configuration);
        let said = error.to_string();
        let typed = format!("chmod o-w {}", parent.path().display());
        assert!(said.contains(&typed), "{said}");
        for fine in [0o1777, 0o775, 0o755] {
            set(parent.path(), fine);
            claim(&folder).unwrap();
        }
    }

    #[test]
    fn a_link_in_it_is_refused_and_not_followed() {
        let parent = tempfile::tempdir().unwrap();
        let (folder, victim) = (parent.path().join("state"), parent.path().join("victim"));
        fs::create_dir(&folder).unwrap();
        fs::create_dir(&victim).unwrap();
        set(&victim, 0o755);
        for name in ["outputs", "journal.db", "lifecycle.jsonl"] {
            symlink(&victim, folder.join(name)).unwrap();

            let error = claim(&folder).unwrap_err();

            assert_eq!(error.exit(), Exit::Configuration);
            assert!(error.to_string().contains(name), "{error}");
            assert!(make_private(&folder.join(name)).is_err());
            fs::remove_file(folder.join(name)).unwrap();
        }
        assert_eq!(mode(&victim), 0o755);
    }

    /// Only root can give a folder to another user; under other users this test checks the error's text alone.
    #[test]
    fn a_folder_of_somebody_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("journal.reserve");
        fs::write(&file, "").unwrap();
        for path in [folder.path(), &file] {
            if chown(path, Some(65_534), None).is_ok() {
                let error = claim(folder.path()).unwrap_err();
                assert_eq!(error.exit(), Exit::Configuration);
                assert!(error.to_string().contains("user 65534"), "{error}");
                chown(path, Some(0), None).unwrap();
            }
        }
        let error = is_ours(Path::new("/s"), u32::MAX - 1).unwrap_err();
        assert!(error.to_string().contains("chown -R"), "{error}");
    }
}
