//! Whether the engine that answers is the one that has this worker's containers. Only from that one does 'no such container' count:
//! another engine at the same address knows none of them, and they live all the same.

use std::{
    os::unix::fs::MetadataExt as _,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use super::{DockerEngine, EngineAddress};
use crate::ports::engine::{ContainerEngine as _, EngineError};

/// The place of the engine that has our containers, once it is known; shared with the part that decides which it is.
#[derive(Debug, Clone, Default)]
pub struct OwnEngine(Arc<RwLock<Option<String>>>);

impl OwnEngine {
    /// Sets the place of our engine; `None`: not known.
    pub fn set(&self, place: Option<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = place;
    }

    fn get(&self) -> Option<String> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether an engine at this place is surely not ours: both places are known and differ.
    fn is_another(&self, place: Option<&str>) -> bool {
        let own = self.get();
        matches!((own.as_deref(), place), (Some(own), Some(place)) if own != place)
    }
}

/// The socket behind which our own engine answered last: another engine that listens there has made another file.
#[derive(Debug, Default)]
pub(super) struct Met(Mutex<Option<Socket>>);

/// A socket file's device, inode, and time of its last change (seconds, nanoseconds).
type Socket = (u64, u64, (i64, i64));

impl Met {
    fn is_at(&self, socket: Option<Socket>) -> bool {
        socket.is_some() && *self.0.lock().unwrap_or_else(PoisonError::into_inner) == socket
    }

    fn set(&self, socket: Option<Socket>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = socket;
    }
}

/// The file at the engine's address, links followed; `None` for a TCP address, or where no file is there.
async fn socket_at(address: &EngineAddress) -> Option<Socket> {
    let EngineAddress::Unix(path) = address else {
        return None;
    };
    let file = tokio::fs::metadata(path).await.ok()?;
    Some((file.dev(), file.ino(), (file.ctime(), file.ctime_nsec())))
}

impl DockerEngine {
    /// Called before something is made or removed, or where 'not there' is an answer: another engine is asked for nothing. The
    /// engine is asked who it is where the socket is not the file of the last time, and each time where the address is no file.
    ///
    /// # Errors
    /// `Away`: another engine answers, or none.
    pub(super) async fn assure_own(&self) -> Result<(), EngineError> {
        let socket = socket_at(&self.line.address).await;
        if !self.met.is_at(socket) {
            self.ask_whether_own().await?;
            self.met.set(socket);
        }
        Ok(())
    }

    async fn ask_whether_own(&self) -> Result<(), EngineError> {
        let place = self.info().await?.place();
        if self.options.own.is_another(place.as_deref()) {
            return Err(EngineError::Away(
                "another engine answers in its place".into(),
            ));
        }
        Ok(())
    }

    /// Runs a call whose 'not found' counts from our own engine alone; from another one it becomes `Away`.
    pub(super) async fn of_our_own<T: Send>(
        &self,
        call: impl Future<Output = Result<T, EngineError>> + Send,
    ) -> Result<T, EngineError> {
        match call.await {
            Err(not_found @ EngineError::NotFound(_)) => {
                self.ask_whether_own().await?;
                Err(not_found)
            }
            answer => answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_engine_is_one_that_says_so() {
        let own = OwnEngine::default();
        assert!(!own.is_another(Some("A at /r")), "none is known yet");

        own.set(Some("A at /r".into()));

        assert!(!own.is_another(Some("A at /r")));
        assert!(!own.is_another(None), "it does not say");
        assert!(own.is_another(Some("A at /s")) && own.is_another(Some("B at /r")));
    }

    #[tokio::test]
    async fn a_socket_is_the_one_of_before_until_another_comes_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let address = EngineAddress::Unix(path.clone());
        let listen = || std::os::unix::net::UnixListener::bind(&path).unwrap();
        let (met, first) = (Met::default(), listen());
        assert!(!met.is_at(socket_at(&address).await), "none was met yet");

        met.set(socket_at(&address).await);

        assert!(met.is_at(socket_at(&address).await));
        // Both files are there at once, so that the second does not get the number of the first.
        std::fs::rename(&path, folder.path().join("before")).unwrap();
        assert!(!met.is_at(socket_at(&address).await), "there is none");
        let _second = listen();
        assert!(!met.is_at(socket_at(&address).await));
        drop(first);
    }

    #[tokio::test]
    async fn an_address_without_a_file_is_never_known_for_the_one_of_before() {
        let met = Met::default();
        let address = EngineAddress::Tcp("127.0.0.1:1".into());

        met.set(socket_at(&address).await);

        assert!(!met.is_at(socket_at(&address).await));
    }
}
