//! The operator's socket in the state folder: made for the folder's owner alone, found by the folder. Only the holder of the
//! folder's lock binds it, so a file of a worker that was killed is a leftover and is replaced. A path that is too long for the
//! kernel's socket addresses is reached through the folder's descriptor.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, fchmod},
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
    },
    process::geteuid,
};
use tokio::net::{UnixListener, UnixStream};

/// The socket's name in the state folder.
const NAME: &str = "worker.sock";

/// How many connections the kernel keeps while nobody accepts.
const BACKLOG: i32 = 64;

/// The bound socket of the operator's door.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    folder: PathBuf,
    owner: u32,
}

impl Door {
    /// Binds the socket in a state folder whose lock the caller holds, in place of the file that a killed worker left there. Needs
    /// a runtime.
    ///
    /// # Errors
    /// An error of the system.
    pub fn open(folder: &Path) -> io::Result<Self> {
        remove(folder)?;
        let socket = socket()?;
        // Before it has a name: there is no moment at which the file is open to others.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        at_address(folder, |address| bind(&socket, address))?;
        listen(&socket, BACKLOG)?;
        Ok(Self {
            listener: UnixListener::from_std(socket.into())?,
            folder: folder.to_owned(),
            owner: geteuid().as_raw(),
        })
    }

    /// The next connection.
    ///
    /// # Errors
    /// `PermissionDenied` when the caller is another user, who is turned away unheard; else an error of the system.
    pub(super) async fn accept(&self) -> io::Result<UnixStream> {
        let (stream, _) = self.listener.accept().await?;
        let visitor = stream.peer_cred()?.uid();
        if visitor == self.owner {
            return Ok(stream);
        }
        let words = format!("user {visitor} is not user {}", self.owner);
        Err(io::Error::new(io::ErrorKind::PermissionDenied, words))
    }

    /// Takes the socket out of the folder, before the folder's lock is let go.
    ///
    /// # Errors
    /// An error of the system; the next worker replaces the file then.
    pub fn remove(&self) -> io::Result<()> {
        remove(&self.folder)
    }
}

/// Connects to the worker of a state folder; for a moment this blocks, since it is the kernel that answers.
pub(super) fn knock(folder: &Path) -> io::Result<UnixStream> {
    let socket = socket()?;
    at_address(folder, |address| connect(&socket, address))?;
    UnixStream::from_std(socket.into())
}

/// Whether the socket belongs to this process's user.
pub(super) fn is_ours(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(folder.join(NAME)).is_ok_and(|file| file.uid() == geteuid().as_raw())
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_file(folder.join(NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Calls `act` with the socket's address; where the path is too long for one (107 bytes), with a short path through a descriptor.
fn at_address(
    folder: &Path,
    act: impl Fn(&SocketAddrUnix) -> rustix::io::Result<()>,
) -> io::Result<()> {
    match SocketAddrUnix::new(folder.join(NAME)) {
        Ok(address) => Ok(act(&address)?),
        Err(rustix::io::Errno::NAMETOOLONG) => {
            let folder = handle(folder)?;
            let mut short = OsString::from(format!("/proc/self/fd/{}/", folder.as_raw_fd()));
            short.push(NAME);
            Ok(act(&SocketAddrUnix::new(&*short)?)?)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// A handle of the folder that needs no right to read it.
fn handle(folder: &Path) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::PermissionsExt, net::UnixListener as StaleListener};

    use super::*;

    async fn visited(folder: &Path) {
        let door = Door::open(folder).unwrap();
        let (_knocking, accepted) = (knock(folder).unwrap(), door.accept().await);
        assert!(accepted.is_ok(), "{accepted:?}");
    }

    #[tokio::test]
    async fn the_socket_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let _door = Door::open(folder.path()).unwrap();

        let file = fs::metadata(folder.path().join(NAME)).unwrap();

        assert_eq!(file.permissions().mode() & 0o777, 0o600);
        assert!(is_ours(folder.path()));
    }

    #[tokio::test]
    async fn what_a_killed_worker_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        drop(StaleListener::bind(folder.path().join(NAME)).unwrap());
        assert!(knock(folder.path()).is_err(), "nobody serves it any more");

        visited(folder.path()).await;
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_for_a_socket_is_reached() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a".repeat(200));
        fs::create_dir(&deep).unwrap();

        visited(&deep).await;
    }

    #[tokio::test]
    async fn another_user_is_turned_away() {
        let folder = tempfile::tempdir().unwrap();
        let mut door = Door::open(folder.path()).unwrap();
        door.owner += 1;
        let _knocking = knock(folder.path()).unwrap();

        let error = door.accept().await.unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[tokio::test]
    async fn a_door_that_is_removed_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let door = Door::open(folder.path()).unwrap();

        door.remove().unwrap();
        door.remove().unwrap();

        assert!(!folder.path().join(NAME).exists());
    }
}
