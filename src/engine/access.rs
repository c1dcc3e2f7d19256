//! Why a socket that is there cannot be used, in words that say what to type: the client's own say only that it failed.

use std::{
    io::ErrorKind,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use rustix::process::geteuid;
use tokio::net::UnixStream;

use super::{EngineAddress, accounts};

/// What to do where this user may not use the engine's socket; `None` where it may, or where something else is wrong.
pub async fn refusal(address: &EngineAddress) -> Option<String> {
    let EngineAddress::Unix(path) = address else {
        return None;
    };
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Some(words(path).await),
        Ok(_) | Err(_) => None,
    }
}

async fn words(path: &Path) -> String {
    let user = accounts::user_name(geteuid().as_raw()).await;
    let shown = path.display();
    let Ok(found) = tokio::fs::metadata(path).await else {
        return format!(
            "{user} may not use {shown}: a folder on the way to it is closed to {user}"
        );
    };
    let owner = accounts::user_name(found.uid()).await;
    let group = accounts::group_name(found.gid()).await;
    let mode = found.permissions().mode() & 0o7777;
    let advice = if mode & 0o020 == 0 {
        format!("run the worker as {owner}, or let others write to the socket")
    } else {
        format!(
            "add the user to the group {group} (sudo usermod -aG {group} {user}) and log in again"
        )
    };
    format!("{user} may not use {shown} ({owner}:{group}, {mode:04o}): {advice}")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn a_socket_that_others_own_is_told_with_its_group_and_what_to_type() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o660)).unwrap();

        let said = words(&path).await;

        let me = accounts::user_name(geteuid().as_raw()).await;
        assert!(
            said.starts_with(&format!("{me} may not use {}", path.display())),
            "{said}"
        );
        assert!(
            said.contains(", 0660): add the user to the group"),
            "{said}"
        );
        assert!(said.contains("sudo usermod -aG"), "{said}");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        assert!(words(&path).await.contains(", 0600): run the worker as"));
    }

    #[tokio::test]
    async fn what_is_not_there_or_far_away_is_no_matter_of_rights() {
        for address in ["/no/such.sock", "tcp://127.0.0.1:1"] {
            assert_eq!(refusal(&address.parse().unwrap()).await, None, "{address}");
        }
    }
}
