//! A way to an engine as from another machine: over tcp alone.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixStream};
use tokio::task::JoinHandle;

/// Passes on what comes to the engine's socket. Its connections end with the engine's.
#[derive(Debug)]
pub(crate) struct FarDoor {
    address: String,
    passing: JoinHandle<()>,
}

impl FarDoor {
    /// To the engine behind that socket.
    pub(crate) async fn to(socket: impl Into<PathBuf>) -> Self {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("it listens");
        Self {
            address: format!("tcp://{address}"),
            passing: tokio::spawn(pass_on(listener, socket.into())),
        }
    }

    /// To the usual engine.
    pub(crate) async fn to_the_usual_one() -> Self {
        Self::to("/var/run/docker.sock").await
    }

    /// For `--engine`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for FarDoor {
    fn drop(&mut self) {
        self.passing.abort();
    }
}

async fn pass_on(listener: TcpListener, socket: PathBuf) {
    while let Ok((mut caller, _)) = listener.accept().await {
        let socket = socket.clone();
        tokio::spawn(async move {
            if let Ok(mut engine) = UnixStream::connect(socket).await {
                let _over = copy_bidirectional(&mut caller, &mut engine).await;
            }
        });
    }
}
