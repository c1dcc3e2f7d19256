//! Whether the engine that answers is the one that has this worker's containers. Only there is 'no such container' an answer:
//! another engine at the same address knows none of them, and they live all the same.

use std::{
    os::unix::fs::MetadataExt as _,
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use super::{DockerEngine, EngineAddress};
use crate::ports::engine::{ContainerEngine as _, EngineError};

/// The place of the engine that has our containers, once it is known; shared with whoever decides that.
#[derive(Debug, Clone, Default)]
pub struct OwnEngine(Arc<RwLock<Option<String>>>);

impl OwnEngine {
    /// From now on it is this one.
    pub fn set(&self, place: Option<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = place;
    }

    fn get(&self) -> Option<String> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether an engine at this place has none of ours.
    fn is_another(&self, place: Option<&str>) -> bool {
        let own = self.get();
        matches!((own.as_deref(), place), (Some(own), Some(place)) if own != place)
    }
}

/// The socket behind which our own engine was met last: who else listens there has made another file.
#[derive(Debug, Default)]
pub(super) struct Met(Mutex<Option<Socket>>);

/// A socket's device, number, and when it came there.
type Socket = (u64, u64, (i64, i64));

impl Met {
    fn is_at(&self, socket: Option<Socket>) -> bool {
        socket.is_some() && *self.0.lock().unwrap_or_else(PoisonError::into_inner) == socket
    }

    fn set(&self, socket: Option<Socket>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = socket;
    }
}

/// What lies at the address now, links followed; `None` where it is not a file, or none is there.
async fn socket_at(address: &EngineAddress) -> Option<Socket> {
    let EngineAddress::Unix(path) = address else {
        return None;
    };
    let file = tokio::fs::metadata(path).await.ok()?;
    Some((file.dev(), file.ino(), (file.ctime(), file.ctime_nsec())))
}

impl DockerEngine {
    /// Before something is made, or what is not there counts as much as what is: another engine is asked for nothing. It is asked
    /// who it is where the socket is not the one of the last time, and each time where there is no file to tell that by.
    ///
    /// # Errors
    /// `Away`: it is another one, or does not answer.
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

    /// Takes 'not found' for an answer from our own engine alone; from another one it is as if ours were away.
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
        // Both at once, so that the second is no file with the number of the first.
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
