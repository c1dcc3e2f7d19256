//! A TCP proxy that takes connections and lets nothing through until it is opened: a pull through it is under way for as
//! long as a test needs.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::PATIENCE;

/// A running proxy; its connections end with it.
#[derive(Debug)]
pub(crate) struct Gate {
    address: SocketAddr,
    open: watch::Sender<bool>,
    knocks: watch::Receiver<usize>,
    accepting: JoinHandle<()>,
}

impl Gate {
    /// In front of `behind`, and shut.
    pub(crate) async fn shut(behind: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let open = watch::Sender::new(false);
        let (knocked, knocks) = watch::channel(0);
        let gate = open.subscribe();
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                knocked.send_modify(|count| *count += 1);
                connections.spawn(pass(stream, behind.clone(), gate.clone()));
            }
        });
        Self {
            address,
            open,
            knocks,
            accepting,
        }
    }

    /// The reference of an image behind it.
    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/{name}:1", self.address)
    }

    /// Waits until somebody has connected.
    pub(crate) async fn wait_knock(&self) {
        let mut knocks = self.knocks.clone();
        let knocked = tokio::time::timeout(PATIENCE, knocks.wait_for(|count| *count > 0)).await;
        assert!(matches!(knocked, Ok(Ok(_))), "nobody connected to the gate");
    }

    /// Lets everything through from now on.
    pub(crate) fn open(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn pass(mut near: TcpStream, behind: String, mut gate: watch::Receiver<bool>) {
    if gate.wait_for(|open| *open).await.is_err() {
        return;
    }
    if let Ok(mut far) = TcpStream::connect(behind).await {
        // Either end may hang up: that is how connections end.
        let _hung_up = tokio::io::copy_bidirectional(&mut near, &mut far).await;
    }
}
