//! Locks and folders on a real file system.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

#[test]
fn a_new_folder_is_its_owners_alone() {
    let parent = tempfile::tempdir().unwrap();
    let state = StateDir::open(&parent.path().join("a/b")).unwrap();
    let spools = state.folder("spools").unwrap();

    for folder in [state.path(), &spools] {
        let mode = fs::metadata(folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", folder.display());
        assert!(folder.is_absolute());
    }
}

#[test]
fn one_folder_has_one_worker_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let first = StateDir::open(folder.path()).unwrap();

    let second = StateDir::open(folder.path()).unwrap_err();

    assert_eq!(second.exit(), Exit::TryLater);
    let named = format!("(process {})", std::process::id());
    assert!(second.to_string().contains(&named), "{second}");
    drop(first);
    StateDir::open(folder.path()).unwrap();
}

#[test]
fn what_is_no_folder_is_told_so() {
    let file = tempfile::NamedTempFile::new().unwrap();

    for path in [file.path().to_owned(), file.path().join("below")] {
        let error = StateDir::open(&path).unwrap_err();
        assert_eq!(error.exit(), Exit::Configuration, "{error}");
    }
}

#[test]
fn forbidden_is_a_matter_of_permission() {
    let folder = Path::new("/state");
    for kind in [
        io::ErrorKind::PermissionDenied,
        io::ErrorKind::ReadOnlyFilesystem,
    ] {
        let error = StateDirError::new(folder, kind.into());

        assert_eq!(error.exit(), Exit::Permission);
        assert!(error.to_string().contains("/state"), "{error}");
    }
}

#[test]
fn a_link_is_not_followed() {
    let place = tempfile::tempdir().unwrap();
    let victim = place.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let state = place.path().join("state");
    fs::create_dir(&state).unwrap();
    symlink(&victim, state.join("lock")).unwrap();

    assert!(StateDir::open(&state).is_err());
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}
